"""A run, reconstructed from its events: the latest state of each step and test, the verdict, the causes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
BAD_STEPS = ("failed", "drift")
FLAKY = "flaky: "
"""Property of a test that needed a second attempt: `record_property("flaky", what)`."""
BAD_TESTS = ("failed", "error")
ENDS = {2: "INTERRUPTED", 3: "INTERNAL ERROR", 4: "NOT STARTED", 5: "NO TESTS"}
"""Words for pytest's exit statuses other than passed and failed."""


@dataclass
class Cause:
    """A root cause of failure, and what it blocked.

    :param title: step and node, or the test's node id
    :param brief: the first line of its error
    :param text: the whole error
    :param at: the resource at which a step failed
    :param blocked: names of the steps and tests that it blocked
    :param nodeid: the test whose logs and pictures belong to it
    :param kind: where to look first: cloud, node, suite or time
    :param again: the command that runs the test again
    """

    title: str
    brief: str
    text: str
    at: str = ""
    blocked: list[str] = field(default_factory=list)
    nodeid: str = ""
    kind: str = ""
    again: str = ""


@dataclass
class RunReport:
    """The state of a run after some events.

    :param about: the run event
    :param steps: the latest event of each (step, node), in order of their first
    :param packages: the latest event of each package transaction by node
    :param tests: the latest event of each test by node id
    :param versions: the versions event of each node
    :param evidence: texts and pictures by node id of their test
    :param samples: seconds measured by tests, by what was measured, in order of their first
    :param end: the end event; None if the run was killed or is still running
    :param last: time of the last sign of life, seconds since the epoch
    """

    about: Event = field(default_factory=dict)
    steps: dict[tuple[str, str], Event] = field(default_factory=dict)
    packages: dict[str, Event] = field(default_factory=dict)
    tests: dict[str, Event] = field(default_factory=dict)
    versions: dict[str, Event] = field(default_factory=dict)
    evidence: dict[str, list[Event]] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    end: Event | None = None
    last: float = 0.0

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunReport:
        """Read `events` in order; unknown kinds are ignored."""
        run = cls()
        for event in events:
            run.last = max(run.last, _ended(event))
            kind, nodeid = event.get("event"), str(event.get("nodeid", ""))
            if kind == "run":
                run.about = event
            elif kind == "step":
                run.steps[str(event.get("step")), str(event.get("node"))] = event
            elif kind == "packages":
                run.packages[str(event.get("node"))] = event
            elif kind == "test":
                run.tests[nodeid] = event
            elif kind == "versions":
                run.versions[str(event.get("node"))] = event
            elif kind == "evidence":
                run.evidence.setdefault(nodeid, []).append(event)
            elif kind == "measured":
                run.samples.setdefault(str(event.get("what")), []).append(number(event.get("seconds")))
            elif kind == "end":
                run.end = event
        return run

    @property
    def changes(self) -> int:
        """How many changes were made."""
        return sum(len(event.get("changes") or []) for event in self.steps.values())

    @property
    def states(self) -> Counter[str]:
        """Number of (step, node) by state."""
        return Counter(str(event.get("state")) for event in self.steps.values())

    @property
    def outcomes(self) -> Counter[str]:
        """Number of tests by outcome; `blocked` are those skipped because a step failed."""
        return Counter("blocked" if is_blocked(event) else str(event.get("outcome")) for event in self.tests.values())

    @property
    def flaky(self) -> list[str]:
        """Tests that passed but reported that something failed at the first attempt."""
        return [
            nodeid
            for nodeid, event in self.tests.items()
            if event.get("outcome") == "passed"
            and any(str(each).startswith(FLAKY) for each in event.get("notes") or ())
        ]

    @property
    def causes(self) -> list[Cause]:
        """The root causes, steps first; tests that only report a step's failure are listed under the step."""
        found: list[Cause] = []
        for (step, node), event in self.steps.items():
            if event.get("state") in BAD_STEPS:
                name, text = f"{step} on {node}", str(event.get("error") or "")
                blocked = [
                    f"{other} on {where}"
                    for (other, where), each in self.steps.items()
                    if each.get("state") == "blocked" and each.get("cause") == name
                ]
                title = name if event["state"] == "failed" else f"{name} differs"
                found.append(Cause(title, first_line(text), text, str(event.get("failed_at") or ""), blocked))
        by_steps = len(found)
        for nodeid, event in self.tests.items():
            reason = str(event.get("reason") or "")
            owner = next((each for each in found[:by_steps] if each.title in reason), None)
            if owner is not None and (is_blocked(event) or event.get("outcome") in BAD_TESTS):
                owner.blocked.append(nodeid)
            elif event.get("outcome") in BAD_TESTS:
                text = str(event.get("longrepr") or reason)
                brief = first_line(reason) or first_line(text)
                kind, again = str(event.get("kind") or ""), str(event.get("again") or "")
                found.append(Cause(nodeid, brief, text, nodeid=nodeid, kind=kind, again=again))
        return found

    @property
    def unfinished(self) -> list[str]:
        """What was still running at the last event."""
        found = [f"{step} on {node}" for (step, node), event in self.steps.items() if event.get("state") == "running"]
        found += [f"packages on {node}" for node, event in self.packages.items() if event.get("state") == "running"]
        return found + [nodeid for nodeid, event in self.tests.items() if event.get("outcome") == "running"]

    def verdict(self) -> tuple[str, str]:
        """One word for the run, and the line that explains it: the cause first, then counts."""
        causes = self.causes
        if self.end is None:
            word = "DID NOT FINISH"
        else:
            status = int(self.end.get("exit_status") or 0)
            failed = bool(causes) or status == 1
            word = "FAILED" if failed and status in (0, 1) else ENDS.get(status, "PASSED" if status == 0 else "FAILED")
        parts = []
        if causes:
            first = causes[0]
            more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
            parts.append(f"{first.title}: {first.brief}{more}" if first.brief else first.title + more)
        if self.end is None and (unfinished := self.unfinished):
            parts.append(f"in the middle of {', '.join(unfinished[:3])}{' ...' if len(unfinished) > 3 else ''}")
        return word, ", ".join([*parts, *self._counts()]) or "nothing ran"

    def _counts(self) -> list[str]:
        tests, steps = self.outcomes, self.states
        order = ("failed", "error", "blocked", "skipped", "passed")
        names = {"error": "errors" if tests["error"] > 1 else "error"}
        found = [f"{tests[each]} {names.get(each, each)}" for each in order if tests[each]]
        if self.flaky:
            found.append(f"{len(self.flaky)} flaky")
        if steps["blocked"]:
            found.append(f"{steps['blocked']} {plural(steps['blocked'], 'step')} blocked")
        if self.steps:
            found.append(f"{self.changes} {plural(self.changes, 'change')}")
        return found


def is_blocked(test: Event) -> bool:
    """Whether a test was skipped because a step that it needs has failed."""
    return test.get("outcome") == "skipped" and str(test.get("reason") or "").startswith("blocked by ")


def first_line(text: str) -> str:
    """The first non-empty line of `text`."""
    return next((line.strip() for line in text[:5000].splitlines() if line.strip()), "")


def plural(count: int, noun: str) -> str:
    """`noun`, with an s unless `count` is 1."""
    return noun if count == 1 else noun + "s"


def number(value: Any) -> float:
    """`value` as a number; 0 for anything else, since events may come from another version."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _ended(event: Event) -> float:
    """The end time of an event's subject. A test's `time` is when its line was written, its `start` when it began."""
    start = number(event.get("start")) or number(event.get("time"))
    return start + number(event.get("seconds"))
