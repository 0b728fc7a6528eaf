"""The order of tasks: counts what each task still waits for, and returns those that can start."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .task import Task


class Schedule:
    """Tasks with their open dependencies. Each task and dependency is counted once, however many nodes there are.

    A task can start when all tasks of the steps that it needs are done and its node has its packages; tasks of steps
    without needs start at once.

    :param tasks: all tasks, including those that are already done
    :param needs: the steps that each step needs
    :param nodes: names of the nodes
    """

    def __init__(self, tasks: Sequence[Task], needs: Mapping[str, Sequence[str]], nodes: Iterable[str]) -> None:
        self._tasks: dict[str, list[Task]] = {name: [] for name in needs}
        self._needing: dict[str, list[str]] = {name: [] for name in needs}
        self._missing = {name: len(set(each)) for name, each in needs.items()}
        for task in tasks:
            self._tasks[task.step.name].append(task)
        for name, each in needs.items():
            for need in set(each):
                self._needing[need].append(name)
        todo = [task for task in tasks if task.state != "done"]
        self._undone = Counter(task.step.name for task in todo)
        self._roots = Counter(task.node.name for task in todo if not task.step.needs)
        self._poolable = [name for name in nodes if not self._roots[name]]
        self._pooled: set[str] = set()
        self._held: dict[str, list[Task]] = defaultdict(list)
        self._ready: list[Task] = []
        for name, each in needs.items():
            if not each:
                self._release(name)

    def ready(self) -> list[Task]:
        """Tasks that can start; each is returned once."""
        ready, self._ready = self._ready, []
        return ready

    def poolable(self) -> list[str]:
        """Nodes whose packages can be installed, since their steps without needs are done; each is returned once."""
        poolable, self._poolable = self._poolable, []
        return poolable

    def pooled(self, node: str) -> None:
        """Record that a node has its packages."""
        self._pooled.add(node)
        self._ready += self._held.pop(node, [])

    def ended(self, task: Task) -> list[Task]:
        """Record that a task is done or failed.

        :returns: after a failure, the waiting tasks that need it, directly or indirectly
        """
        step, node = task.step.name, task.node.name
        if not task.step.needs:
            self._roots[node] -= 1
            if not self._roots[node]:
                self._poolable.append(node)
        if task.state != "done":
            return self._dependents(step)
        self._undone[step] -= 1
        if not self._undone[step]:
            self._complete(step)
        return []

    def _complete(self, step: str) -> None:
        for name in self._needing[step]:
            self._missing[name] -= 1
            if not self._missing[name]:
                self._release(name)

    def _release(self, step: str) -> None:
        for task in self._tasks[step]:
            if task.state == "waiting":
                at_once = not task.step.needs or task.node.name in self._pooled
                (self._ready if at_once else self._held[task.node.name]).append(task)
        # A step without nodes, or whose tasks are already done.
        if not self._undone[step]:
            self._complete(step)

    def _dependents(self, step: str) -> list[Task]:
        names, todo = dict.fromkeys(self._needing[step]), list(self._needing[step])
        while todo:
            new = [name for name in self._needing[todo.pop()] if name not in names]
            names |= dict.fromkeys(new)
            todo += new
        return [task for name in names for task in self._tasks[name] if task.state == "waiting"]
