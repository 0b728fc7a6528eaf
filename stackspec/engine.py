"""The engine: reads the declarations of steps as a plan, as a check, or to make them true, on all nodes at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from .errors import StackspecError
from .ledger import Ledger
from .resources.base import Query, Shared, package
from .resources.service import Service
from .secrets import redact
from .site import Site
from .step import STEPS, closure
from .task import Task, changes_of
from .transport import Connections

Event = dict[str, Any]
WORKERS = 12
"""Tasks at once; most of them wait for a node."""


class Engine:
    """Plans, checks and applies steps on a site.

    :param site: the site
    :param steps: names of the steps that are asked for; what they need is added
    :param listen: called with each event (a dict that JSON can hold), from any thread
    """

    def __init__(self, site: Site, steps: Iterable[str], listen: Callable[[Event], None] = lambda event: None) -> None:
        self.site = site
        self.steps = closure(steps)
        self.connections = Connections(site.inventory.ssh, site.nodes.values())
        self.shared = Shared(site, self.connections)
        self.tasks = [
            Task(STEPS[name], node, STEPS[name].resources(site, node))
            for name in self.steps
            for node in STEPS[name].nodes(site)
        ]
        self._listen = listen
        self._ledger = Ledger(site.state)
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._surveyed = False
        self._stopping = False

    # ---- reading

    def survey(self) -> None:
        """Look at every task with one round trip a node; `Task.findings` then hold what differs.

        :raises InputError: a node cannot be used
        """
        if self._surveyed:
            return
        self.connections.open()

        def read(node: str) -> dict[Query, Any]:
            queries = (query for task in self.tasks if task.node.name == node for query in task.queries(self.site))
            return self.connections[node].facts(queries)

        with ThreadPoolExecutor(WORKERS) as pool:
            facts = dict(zip(self.site.nodes, pool.map(read, self.site.nodes), strict=True))
        for task in self.tasks:
            task.look(self.site, facts[task.node.name], self.shared)
        self._surveyed = True

    def check_nodes(self) -> None:
        """Connect, and see that every node is of the release that the inventory names and that nothing forbids a step.

        :raises InputError: naming the nodes, before anything is touched
        """
        from .precheck import check_obstacles, precheck

        self.connections.open()
        precheck(self.site, self.connections)
        check_obstacles(self.tasks, self.site, self.connections, self.shared)

    # ---- applying

    def start(self) -> None:
        """Begin to apply, in the background."""
        self._thread = threading.Thread(target=self._run, name="stackspec-engine", daemon=True)
        self._thread.start()

    def wait(self, step: str) -> list[Task]:
        """Wait until `step` is done, failed or blocked on all its nodes, and return its tasks."""
        tasks = [task for task in self.tasks if task.step.name == step]
        with self._ready:
            self._ready.wait_for(lambda: all(task.state in ("done", "failed", "blocked") for task in tasks))
        return tasks

    def settling(self, step: str) -> list[str]:
        """`step` and the planned steps that restart its units: a test that ran between them would meet a restart."""
        mine = {(task.node.name, unit) for task in self.tasks if task.step.name == step for unit in self._units(task)}
        others = (task for task in self.tasks if any((task.node.name, unit) in mine for unit in self._units(task)))
        return list(dict.fromkeys([step, *(task.step.name for task in others)]))

    def _units(self, task: Task) -> list[str]:
        return [unit for each in task.resources if isinstance(each, Service) for unit in each.units(self.site)]

    def failure(self, step: str) -> Task | None:
        """The task whose failure keeps `step` from being done, if there is one. Waits for the step."""
        return next((task.cause for task in self.wait(step) if task.cause is not None), None)

    def join(self) -> None:
        """Wait for the end of everything."""
        if self._thread is not None:
            self._thread.join()

    def halt(self) -> None:
        """Start no further task and do not wait for the running ones: a step can be killed at any moment."""
        self._stopping = True

    def _run(self) -> None:
        try:
            self.survey()
            self._settle_unchanged()
            with ThreadPoolExecutor(WORKERS) as pool:
                self._schedule(pool)
        except Exception as error:
            self._fail_rest(redact(f"{type(error).__name__}: {error}"))
        finally:
            changes = sum(len(task.made) for task in self.tasks)
            self._listen({"event": "deployed", "changes": changes, "states": [task.state for task in self.tasks]})

    def _settle_unchanged(self) -> None:
        """Tasks without a difference, that need nothing which has one, are done: they are not read a second time."""
        changed: set[str] = set()
        for name in self.steps:
            tasks = [task for task in self.tasks if task.step.name == name]
            if any(changes_of(task.findings) for task in tasks) or any(
                changed & set(task.step.needs) for task in tasks
            ):
                changed.add(name)
            else:
                for task in tasks:
                    self._finish(task, "done")

    def _schedule(self, pool: ThreadPoolExecutor) -> None:
        running: dict[Future[None], Task | str] = {}
        pooled: set[str] = set()
        while True:
            for node in self.site.nodes:
                roots = [task for task in self.tasks if task.node.name == node and not task.step.needs]
                if node not in pooled and all(task.state in ("done", "failed") for task in roots):
                    pooled.add(node)
                    running[pool.submit(self._install_pool, node)] = node
            pooling = {name for name in running.values() if isinstance(name, str)}
            for task in self.tasks:
                if task.state != "waiting":
                    continue
                if self._stopping:
                    self._block(task, "the run was stopped", task)
                    continue
                needed = [each for each in self.tasks if each.step.name in task.step.needs]
                broken = next((each for each in needed if each.cause is not None), None)
                if broken is not None and broken.cause is not None:
                    self._block(task, f"blocked by {broken.cause.name}", broken.cause)
                elif all(each.state == "done" for each in needed) and (
                    not task.step.needs or (task.node.name in pooled and task.node.name not in pooling)
                ):
                    task.state = "running"
                    running[pool.submit(self._apply, task)] = task
            if not running:
                return
            done, _ = wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                future.result()
                del running[future]

    def _install_pool(self, node: str) -> None:
        """Install what all tasks of the node want in one transaction; a failure is left to the step that meets it."""
        wanted = [name for task in self.tasks if task.node.name == node for name in task.packages(self.site)]
        try:
            found = self.connections[node].facts(package(name) for name in wanted)
        except StackspecError:
            return  # a lost node fails its own steps, not those of the others
        missing = [name for name in dict.fromkeys(wanted) if found[package(name)] is None]
        if not missing:
            return
        started = time.time()
        event = {"event": "packages", "node": node, "count": len(missing), "time": started}
        self._listen({**event, "state": "running"})
        try:
            self.connections[node].apply(
                [{"op": "apt", "packages": missing, "update": True}],
                lambda kind, text: (
                    self._listen({"event": "says", "node": node, "text": str(text)}) if kind == "says" else None
                ),
            )
            state, error = "done", ""
        except StackspecError as problem:
            state, error = "failed", redact(str(problem))
        self._listen({**event, "state": state, "error": error, "seconds": time.time() - started})

    def _apply(self, task: Task) -> None:
        task.started = time.time()
        self._listen(self._event(task))
        self._ledger.write(self._event(task), task.digest)
        try:
            task.apply(self.site, self.connections[task.node.name], self.shared)
            if task.made:
                line = self._ledger.line(self._event(task, "done"), task.digest)
                self.connections[task.node.name].apply([{"op": "record", "path": Ledger.ON_NODE, "line": line}])
            self._finish(task, "done")
        except Exception as error:
            text = str(error) if isinstance(error, StackspecError) else f"{type(error).__name__}: {error}"
            task.error = redact(text)
            task.cause = task
            self._finish(task, "failed")

    def _finish(self, task: Task, state: str) -> None:
        task.seconds = time.time() - task.started if task.started else 0.0
        with self._ready:
            task.state = state
            self._ready.notify_all()
        event = self._event(task)
        if task.started:
            self._ledger.write(event, task.digest)
        self._listen(event)

    def _block(self, task: Task, error: str, cause: Task) -> None:
        task.error, task.cause = error, cause
        self._finish(task, "blocked")

    def _fail_rest(self, error: str) -> None:
        for task in self.tasks:
            if task.state not in ("done", "failed", "blocked"):
                task.error, task.cause = error, task
                self._finish(task, "failed")

    def _event(self, task: Task, state: str = "") -> Event:
        return {
            "event": "step",
            "step": task.step.name,
            "node": task.node.name,
            "state": state or task.state,
            "time": task.started or time.time(),
            "seconds": round(task.seconds, 3),
            "error": task.error,
            "failed_at": task.failed_at,
            "cause": task.cause.name if task.cause else "",
            "changes": [{"title": redact(change.title), "diff": redact(change.diff)} for change in task.made],
        }
