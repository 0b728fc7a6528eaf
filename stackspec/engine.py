"""The engine: uses the declarations of steps to plan, check or apply changes, on all nodes in parallel."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from .errors import StackspecError
from .ledger import Ledger
from .node_agent.boot import HELD
from .node_connections import NodeConnections
from .precheck import check_obstacles, precheck
from .resources.actions import AppendLine, Apt, InService
from .resources.base import Query, Shared, file, package
from .resources.service import Service
from .schedule import Schedule
from .secrets import redact
from .site import Site
from .step import STEPS, closure
from .task import Task, changes_of

Event = dict[str, Any]
STOPPED = "the run was stopped"
"""The error of tasks that were not started because of it."""
UNRECORDED = (
    "the record or the output of the run cannot be written, so nothing new is started: {}; "
    "correct that, then run --deploy again"
)
"""The error of tasks that were not started because the ledger, the events or the terminal cannot be written."""
_HELD = file(HELD)
"""Where a node lists the units that are not started at boot yet."""
SAY_EVERY = 20.0
"""Interval in seconds for reporting nodes that have not responded yet."""
WORKERS = 12
"""Maximum number of parallel tasks; most of them wait for a node."""


class Engine:
    """Plans, checks and applies steps on a site.

    :param site: the site
    :param plan: all tasks of the site
    :param steps: names of the requested steps; the steps they need are added
    :param listen: called with each event (a JSON-serializable dict), from any thread

    `surveyed` is set once all tasks have been checked, `on_node` has the tasks by node and step, `unrecorded` is the
    reason if the ledger or `listen` failed.
    """

    def __init__(
        self,
        site: Site,
        plan: Iterable[Task],
        steps: Iterable[str],
        listen: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.site = site
        self.steps = closure(steps)
        self.connections = NodeConnections(site.inventory.ssh, site.nodes.values())
        self.connections.when_lost = lambda node: self._says(node, "says", f"the connection to {node} was lost")
        self.shared = Shared(site, self.connections)
        self.unrecorded = ""
        self._listen = listen
        self._ledger = Ledger(site.state)
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self.surveyed = False
        self._held: set[str] = set()
        self._stopping = ""
        self._of_step: dict[str, list[Task]] = {name: [] for name in self.steps}
        self.on_node: dict[str, dict[str, Task]] = {name: {} for name in site.nodes}
        for task in plan:
            if task.step.name in self._of_step:
                self._of_step[task.step.name].append(task)
                self.on_node[task.node.name][task.step.name] = task
        self.tasks = [task for tasks in self._of_step.values() for task in tasks]
        self._settling: dict[str, list[str]] = {}

    # ---- reading

    def survey(self) -> None:
        """Check every task with one round trip per node; `Task.findings` then has the differences.

        :raises InputError: a node is unusable
        """
        if self.surveyed:
            return
        self.connections.open()

        def read(node: str) -> dict[Query, Any]:
            queries = [query for task in self.on_node[node].values() for query in task.queries(self.site)]
            return self.connections[node].facts([*queries, _HELD])

        facts: dict[str, dict[Query, Any]] = {}
        pool = ThreadPoolExecutor(WORKERS)
        asked = {pool.submit(read, node): node for node in self.site.nodes}
        silent = set(asked)
        try:
            while silent:
                answered, silent = wait(silent, timeout=SAY_EVERY, return_when=FIRST_COMPLETED)
                facts |= {asked[each]: each.result() for each in answered}
                for each in () if answered else silent:
                    self._says(asked[each], "says", "has not answered the first query yet")
        finally:
            # A lost node is an error now; other nodes may take long.
            pool.shutdown(wait=False, cancel_futures=True)
        for task in self.tasks:
            task.look(self.site, facts[task.node.name], self.shared)
        self._held = {node for node, known in facts.items() if known[_HELD]["exists"]}
        self.surveyed = True

    def check_nodes(self) -> None:
        """Connect, and check that every node runs the inventory's release and that no resource finds an obstacle.

        :raises InputError: naming the nodes, before anything is changed
        """
        self.connections.open()
        precheck(self.site, self.connections)
        check_obstacles(self.tasks, self.site, self.connections, self.shared)

    # ---- applying

    def start(self) -> None:
        """Start to apply, in the background."""
        self._thread = threading.Thread(target=self._run, name="stackspec-engine", daemon=True)
        self._thread.start()

    def wait(self, step: str) -> list[Task]:
        """Wait until `step` is done, failed or blocked on all its nodes, and return its tasks."""
        tasks = self._of_step.get(step, [])
        with self._ready:
            self._ready.wait_for(lambda: all(task.state in ("done", "failed", "blocked") for task in tasks))
        return tasks

    def settling(self, step: str) -> list[str]:
        """`step` and the planned steps that restart its units: a test running between them would see a restart."""
        if not self._settling:
            users: dict[tuple[str, str], list[str]] = defaultdict(list)
            for task in self.tasks:
                for unit in self._units(task):
                    users[task.node.name, unit].append(task.step.name)
            sharing: dict[str, set[str]] = {name: set() for name in self.steps}
            for names in users.values():
                for name in names:
                    sharing[name].update(names)
            self._settling = {
                name: [name, *(each for each in self.steps if each in others and each != name)]
                for name, others in sharing.items()
            }
        return self._settling.get(step, [step])

    def _units(self, task: Task) -> list[str]:
        return [unit for each in task.resources if isinstance(each, Service) for unit in each.units(self.site)]

    def failure(self, step: str) -> Task | None:
        """The task whose failure prevents `step`, if any. Waits for the step."""
        return next((task.cause for task in self.wait(step) if task.cause is not None), None)

    def join(self) -> None:
        """Wait until all tasks have ended."""
        if self._thread is not None:
            self._thread.join()

    def done(self, step: str) -> bool:
        """Whether `step` is done on all its nodes."""
        return all(task.state == "done" for task in self._of_step.get(step, ()))

    def halt(self, reason: str = STOPPED) -> None:
        """Start no further task and do not wait for the running ones: a step can be killed at any moment.

        :param reason: the error of tasks that are not started because of it
        """
        self._stopping = self._stopping or reason

    def _run(self) -> None:
        try:
            self.survey()
            self._settle_unchanged()
            with ThreadPoolExecutor(WORKERS) as pool:
                self._schedule(pool)
                list(pool.map(self._put_in_service, self.on_node))
                list(pool.map(self._make_last, self.on_node))
        except Exception as error:
            self._fail_rest(redact(f"{type(error).__name__}: {error}"))
        finally:
            changes = sum(len(task.made) for task in self.tasks)
            self._tell({"event": "deployed", "changes": changes, "states": [task.state for task in self.tasks]})

    def _tell(self, event: Event, task: Task | None = None) -> bool:
        """Send an event, and record a task's in the ledger; the state is set before, so nobody waits for that.

        :returns: whether it could be written; if not, the run ends after the running operations
        """
        try:
            if task is not None:
                self._ledger.write(event, task.digest)
            self._listen(event)
        except Exception as error:
            self.unrecorded = self.unrecorded or UNRECORDED.format(redact(f"{type(error).__name__}: {error}"))
            self._stopping = self._stopping or self.unrecorded
            return False
        return True

    def _settle_unchanged(self) -> None:
        """Tasks without differences that need no task with differences are done: they are not checked a second time."""
        changed: set[str] = set()
        for name in self.steps:
            tasks = self._of_step[name]
            if changed & set(STEPS[name].needs) or any(changes_of(task.findings) for task in tasks):
                changed.add(name)
            else:
                for task in tasks:
                    self._finish(task, "done")

    def _put_in_service(self, node: str) -> None:
        """Release held units of all finished steps, including those of killed runs: they start at boot again."""
        tasks = self.on_node[node].values()
        if node not in self._held and not any(task.made for task in tasks):
            return
        units = tuple(unit for task in tasks if task.state == "done" for unit in self._units(task))
        with contextlib.suppress(StackspecError):  # A lost node has failed its steps already.
            self.connections[node].apply([InService(units)])

    def _make_last(self, node: str) -> None:
        """Make what comes after all steps of a node; a failure is told, and the next run tries again."""
        tasks = self.on_node[node].values()
        if self._stopping or any(task.state != "done" for task in tasks):
            return
        connection = self.connections[node]
        for task in (task for task in tasks if any(each.last for each in task.resources)):
            made = len(task.made)
            try:
                task.apply(self.site, connection, self.shared, last=True)
                told = [change.title for change in task.made[made:]]
                if told := [*told, *task.kept(self.site, connection, self.shared)]:
                    self._says(node, "says", "; ".join(told))
                if len(task.made) > made:
                    connection.apply([AppendLine(Ledger.ON_NODE, self._ledger.line(self.event(task), task.digest))])
            except StackspecError as error:
                self._says(node, "says", redact(f"{task.name}: {error}"))
            if len(task.made) > made:
                self._tell(self.event(task), task)

    def _schedule(self, pool: ThreadPoolExecutor) -> None:
        schedule = Schedule(self.tasks, {name: STEPS[name].needs for name in self.steps}, self.site.nodes)
        running: dict[Future[None], Task | str] = {}
        ended: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()

        def submit(work: Callable[[Any], None], what: Task | str) -> None:
            future = pool.submit(work, what)
            running[future] = what
            future.add_done_callback(ended.put)

        while True:
            if self._stopping:
                for task in self.tasks:
                    if task.state == "waiting":
                        self._block(task, self._stopping, task)
            else:
                for node in schedule.poolable():
                    submit(self._install_pool, node)
                for task in schedule.ready():
                    task.state = "running"
                    submit(self._apply, task)
            if not running:
                return
            future = ended.get()
            future.result()
            what = running.pop(future)
            if isinstance(what, str):
                schedule.pooled(what)
                continue
            for task in schedule.ended(what):
                self._block(task, f"blocked by {what.name}", what)

    def _install_pool(self, node: str) -> None:
        """Install the packages of all the node's tasks in one transaction; the step that needs one reports failures."""
        tasks = self.on_node[node].values()
        wanted = [name for task in tasks for name in task.packages(self.site)]
        try:
            found = self.connections[node].facts(package(name) for name in wanted)
        except StackspecError:
            return  # a lost node fails only its own steps
        missing = [name for name in dict.fromkeys(wanted) if found[package(name)] is None]
        shared = {each: task for task in tasks if task.state != "done" for each in task.resources if each.with_packages}
        if not missing and not shared:
            return
        started = time.time()
        event = {"event": "packages", "node": node, "count": len(missing), "time": started}
        if missing and not self._tell({**event, "state": "running"}):
            return
        try:
            if missing:
                units = dict.fromkeys(name for task in tasks for name in self._units(task))
                self.connections[node].apply(
                    [Apt(tuple(missing), update=True, off=tuple(units))],
                    lambda kind, text: self._says(node, kind, text),
                )
            for each, task in shared.items():
                Task(task.step, task.node, [each]).apply(self.site, self.connections[node], self.shared)
            if not missing:
                return
            state, error = "done", ""
        except StackspecError as problem:
            state, error = "failed", redact(str(problem))
        self._tell({**event, "state": state, "error": error, "seconds": time.time() - started})

    def _says(self, node: str, kind: str, text: Any) -> None:
        if kind == "says":
            self._tell({"event": "says", "node": node, "text": str(text)})

    def _apply(self, task: Task) -> None:
        if self._stopping:
            self._block(task, self._stopping, task)
            return
        task.started = time.time()
        if not self._tell(self.event(task), task):
            self._block(task, self.unrecorded, task)
            return
        try:
            task.apply(self.site, self.connections[task.node.name], self.shared)
            if task.made:
                line = self._ledger.line(self.event(task, "done"), task.digest)
                done = [AppendLine(Ledger.ON_NODE, line), InService(tuple(self._units(task)))]
                self.connections[task.node.name].apply(done)
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
        self._tell(self.event(task), task if task.started else None)

    def _block(self, task: Task, error: str, cause: Task) -> None:
        task.error, task.cause = error, cause
        self._finish(task, "blocked")

    def _fail_rest(self, error: str) -> None:
        for task in self.tasks:
            if task.state not in ("done", "failed", "blocked"):
                task.error, task.cause = error, task
                self._finish(task, "failed")

    def event(self, task: Task, state: str = "") -> Event:
        """The event and ledger data of a task, without secrets.

        :param state: its state, if not yet set
        """
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
            "changes": [{"title": redact(change.title), "diff": redact(change.text)} for change in task.made],
        }
