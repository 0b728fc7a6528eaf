"""Status of a run: what is done, running and left; a line on the terminal every 30 s, from the controlling process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

TOLD_EVERY = 30.0
"""Seconds between two lines."""
SHOWN = 4
"""Maximum number of running tests or tasks named in a line."""
Event = dict[str, Any]


class Status:
    """Counts tests and tasks, and prints the status.

    A pytest plugin: pytest-xdist calls these hooks in the controlling process for the tests of its workers.

    :param tell: called with each line, from a separate thread
    :param now: the clock, in seconds
    """

    def __init__(self, tell: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._now = tell, now
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._selected = self._done = self._failed = 0
        self._tests: dict[str, float] = {}
        self._tasks: dict[str, float] = {}
        self._planned = 0
        self._settled: set[str] = set()

    def start(self) -> None:
        """Start printing."""
        threading.Thread(target=self._run, name="stackspec-status", daemon=True).start()

    def stop(self) -> None:
        """Stop printing."""
        self._ended.set()

    def plan(self, tasks: int) -> None:
        """Set the number of tasks of the deployment."""
        self._planned = tasks

    def hear(self, event: Event) -> None:
        """Process an event of the engine."""
        if event.get("event") != "step":
            return
        name = f"{event['step']} on {event['node']}"
        with self._lock:
            if event["state"] == "running":
                self._tasks[name] = self._now()
            else:
                self._tasks.pop(name, None)
                self._settled.add(name)

    def running(self) -> set[str]:
        """Node ids of the tests that run: those that wait for their turn or for a step have not started yet."""
        with self._lock:
            return set(self._tests)

    def line(self) -> str:
        """What is done, running and left; empty if there is nothing to report yet."""
        with self._lock:
            parts = []
            if self._selected:
                failed = f", {self._failed} failed" if self._failed else ""
                parts.append(f"{self._done} of {self._selected} tests done{failed}{self._running(self._tests)}")
            if self._planned > len(self._settled):
                parts.append(f"{len(self._settled)} of {self._planned} tasks done{self._running(self._tasks)}")
        return "; ".join(parts)

    def _running(self, begun: dict[str, float]) -> str:
        now, names = self._now(), list(begun)
        shown = ", ".join(f"{name.rsplit('/', 1)[-1]} ({now - begun[name]:.0f} s)" for name in names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f", running: {shown}{more}" if names else ""

    def _run(self) -> None:
        while not self._ended.wait(TOLD_EVERY):
            if line := self.line():
                self._tell(line)

    # ---- hooks of pytest

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tests of this process."""
        self._selected = max(self._selected, len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Tests of the workers."""
        self._selected = max(self._selected, len(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test starts."""
        with self._lock:
            self._tests[nodeid] = self._now()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test has ended."""
        with self._lock:
            self._failed += report.failed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test has ended."""
        with self._lock:
            self._done += self._tests.pop(nodeid, None) is not None
