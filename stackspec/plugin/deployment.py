"""The deployment that tests wait for: made by this process, followed by a worker, or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..engine import Engine
from ..errors import StackspecError
from ..lock import Lock
from ..report.events import Tail
from ..secrets import redact
from ..waiting import Teller

LOOK_EVERY = 0.3
"""Seconds between two looks at what the controlling process has written."""
BEGUN, ENDED = "deploying", "deployed"
"""Events: the site can be used and its secrets are stored; every step is done, failed or blocked."""
LEADS = "leads"
"""The lock, next to the events, of the process that writes them: if free before the last event, no more will come."""
Event = dict[str, Any]


@dataclass(frozen=True)
class FailedStep:
    """The failure for which a step is not done.

    :param name: the task that failed, `step on node`
    :param first: the first line of its error
    :param text: the whole error
    """

    name: str
    first: str
    text: str


class Deployment(Protocol):
    """What tests ask a deployment."""

    def wait(self, step: str) -> None:
        """Wait until `step` and those that restart its services are done, failed or blocked on all their nodes."""

    def done(self, step: str) -> bool:
        """Whether `step` is done on all its nodes."""

    def failure(self, step: str) -> FailedStep | None:
        """The cause that prevents `step`, if any. Waits for the step."""

    def halt(self) -> None:
        """Begin no more steps."""

    def join(self) -> None:
        """Wait for the end of the deployment."""


class NoDeployment:
    """Nothing is deployed: the steps of a site or cloud that exists count as done."""

    def wait(self, step: str) -> None:
        """Nothing to wait for."""

    def done(self, step: str) -> bool:
        """It is."""
        return True

    def failure(self, step: str) -> FailedStep | None:
        """There is none."""
        return None

    def halt(self) -> None:
        """Nothing runs."""

    def join(self) -> None:
        """Nothing to wait for."""


class OwnDeployment:
    """A deployment that this process makes.

    :param engine: the engine that makes it
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wait(self, step: str) -> None:
        """Wait until `step` and those that restart its services are done, failed or blocked on all their nodes."""
        for name in self._engine.settling(step):
            self._engine.wait(name)

    def done(self, step: str) -> bool:
        """Whether `step` is done on all its nodes."""
        return self._engine.done(step)

    def failure(self, step: str) -> FailedStep | None:
        """The cause that prevents `step`, if any. Waits for the step."""
        task = self._engine.failure(step)
        return None if task is None else cause_of(self._engine.event(task))

    def halt(self) -> None:
        """Begin no more steps."""
        self._engine.halt()

    def join(self) -> None:
        """Wait for the end of the deployment."""
        self._engine.join()


class Followed:
    """A deployment by another process, as reported by its events.

    Waiting for it raises StackspecError if that process has ended, or cannot write events any more.

    :param path: the file of events
    :param nodes: the nodes of each step
    :param settling: a step, and those that restart its services
    """

    def __init__(self, path: Path, nodes: dict[str, list[str]], settling: Callable[[str], list[str]]) -> None:
        self._tail, self._nodes, self._settling = Tail(path), nodes, settling
        self._leads = Lock(path.with_name(LEADS))
        self._seen: set[str] = set()
        self._tasks: dict[str, Event] = {}

    def wait_begun(self) -> None:
        """Wait until the site can be used."""
        self._wait("the deployment begins", lambda: BEGUN in self._seen)

    def wait(self, step: str) -> None:
        """Wait until `step` and those that restart its services are done, failed or blocked on all their nodes."""
        for name in self._settling(step):
            self._wait_for(name)

    def join(self) -> None:
        """Wait for the end of the deployment."""
        self._wait("the end of the deployment", lambda: ENDED in self._seen)

    def done(self, step: str) -> bool:
        """Whether `step` is done on all its nodes, as far as known."""
        return all(self._state(step, node) == "done" for node in self._nodes[step])

    def failure(self, step: str) -> FailedStep | None:
        """The cause that prevents `step`, if any. Waits for the step."""
        self._wait_for(step)
        for node in self._nodes[step]:
            event = self._tasks.get(f"{step} on {node}", {})
            if event.get("state") in ("failed", "blocked"):
                cause = self._tasks.get(str(event.get("cause")), event)
                return cause_of(cause)
        return None

    def halt(self) -> None:
        """Nothing: the other process begins no more steps by itself."""

    def _wait_for(self, step: str) -> None:
        self._wait(f"step {step}", lambda: ENDED in self._seen or all(self._settled(step)))

    def _settled(self, step: str) -> list[bool]:
        return [self._state(step, node) in ("done", "failed", "blocked") for node in self._nodes[step]]

    def _state(self, step: str, node: str) -> str:
        return str(self._tasks.get(f"{step} on {node}", {}).get("state", ""))

    def _wait(self, what: str, condition: Any) -> None:
        teller = Teller(what)
        self._read()
        while not condition():
            time.sleep(LOOK_EVERY)
            # Checked first: events written before the lock was released are read below.
            gone = BEGUN in self._seen and not self._leads.is_taken()
            self._read()
            if gone and not condition():
                raise StackspecError(
                    f"{what} cannot be waited for: the deploying process has ended, or cannot write its record;"
                    " see its last lines, then start again"
                )
            teller.tell()

    def _read(self) -> None:
        for event in self._tail.read():
            self._seen.add(event["event"])
            if event["event"] == "step":
                self._tasks[f"{event['step']} on {event['node']}"] = event


def cause_of(event: Event) -> FailedStep:
    """The cause in the event of a failed step."""
    where = f" at {event['failed_at']}" if event.get("failed_at") else ""
    name, error = f"{event['step']} on {event['node']}", redact(str(event.get("error") or ""))
    text = (
        f"step {name} failed{where}\n{error}\n"
        f"changes made before: {len(event.get('changes') or ())}; the next --deploy resumes here"
    )
    return FailedStep(name, error.splitlines()[0] if error else "", text)
