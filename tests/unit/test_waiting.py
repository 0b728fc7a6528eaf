"""A wait continues while something progresses, ends when nothing does, and reports what it waits for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest

from stackspec import waiting
from stackspec.pace import SLOWEST, pace
from stackspec.waiting import MAX_EXTENSION, NotInTime

from .plugin_runs import Runs

wait_for = partial(waiting.wait_for, every=1)
"""Polls once a second, so that times are known to the second."""


class Clock:
    """Simulated time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "times", 1.0)
    monkeypatch.setattr(waiting, "_now", lambda: clock.now)
    monkeypatch.setattr("tenacity.nap.time.sleep", clock.sleep)
    return clock


def test_returns_the_value_of_the_condition() -> None:
    answers = iter([None, 0, "here"])
    assert wait_for("an answer", lambda: next(answers), 5, every=0) == "here"


def test_timeout_names_the_condition_and_the_last_state(clock: Clock) -> None:
    def attempt() -> None:
        raise ConnectionError("refused")

    with pytest.raises(NotInTime) as raised:
        wait_for("the door", attempt, 20, retry_on=(ConnectionError,), detail=lambda: "it is locked")
    message = str(raised.value)
    assert "timed out after 20 s waiting for: the door" in message
    assert "ConnectionError: refused" in message
    assert message.endswith("it is locked")


def test_other_exceptions_pass() -> None:
    def attempt() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        wait_for("the door", attempt, 1)


@pytest.mark.parametrize("detail", [None, lambda: "the same"])
def test_ends_at_its_limit_without_progress(clock: Clock, detail: Callable[[], str] | None) -> None:
    with pytest.raises(NotInTime):
        wait_for("the door", lambda: False, 100, detail=detail)
    assert clock.now == 100


def test_continues_after_its_limit_during_progress(clock: Clock) -> None:
    """A guest that boots on a slow machine adds lines to its console."""
    assert wait_for("the guest", lambda: clock.now >= 250, 100, detail=lambda: f"booted up to {clock.now}")


def test_ends_when_progress_stops(clock: Clock) -> None:
    with pytest.raises(NotInTime, match="timed out after 200 s waiting for: the guest"):
        wait_for("the guest", lambda: False, 100, detail=lambda: f"booted up to {min(clock.now, 90)}")
    assert clock.now == 200


def test_ends_despite_endless_progress(clock: Clock) -> None:
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100, detail=lambda: f"restarted {clock.now} times")
    assert clock.now == MAX_EXTENSION * 100


def test_limits_grow_on_a_slow_machine(clock: Clock) -> None:
    """The first guest that boots on a slow machine shows how long later waits may take."""
    wait_for("the first guest", lambda: clock.now >= 80, 160)
    assert pace.times == 2
    began = clock.now
    with pytest.raises(NotInTime, match="timed out after 200 s waiting for: the second guest"):
        wait_for("the second guest", lambda: False, 100)
    assert clock.now - began == 200


def test_running_wait_uses_a_new_pace(clock: Clock) -> None:
    """A slower pace measured by others also applies to a wait in progress."""

    def condition() -> bool:
        if clock.now == 90:
            pace.learn(75, 100)
        return clock.now >= 250

    assert wait_for("the guest", condition, 100)


def test_hanging_wait_ends_even_on_a_slow_machine(clock: Clock) -> None:
    """The pace is limited, and a wait that failed does not change it."""
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100)
    assert pace.times == 1
    pace.learn(10_000, 100)
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100, detail=lambda: f"restarted {clock.now} times")
    assert clock.now == 100 + SLOWEST * 100


def test_long_wait_polls_less_often(clock: Clock) -> None:
    """The end of a one-minute wait is seen at most 3 s later, without polling 60 times."""
    looks: list[float] = []

    def condition() -> bool:
        looks.append(clock.now)
        return clock.now >= 300

    waiting.wait_for("the load balancer", condition, 1000)
    assert looks[:20] == list(range(20))
    assert max(later - earlier for earlier, later in itertools.pairwise(looks)) == pytest.approx(5)
    assert len(looks) < 100


def test_details_are_read_only_in_a_long_wait(clock: Clock) -> None:
    polls: list[float] = []

    def detail() -> str:
        polls.append(clock.now)
        return "the same"

    wait_for("the guest", lambda: clock.now >= 25, 100, detail=detail)
    assert polls == []
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100, detail=detail)
    assert polls == [75, 125]


def test_failed_detail_does_not_hide_the_cause(clock: Clock) -> None:
    def detail() -> str:
        raise OSError("no answer")

    with pytest.raises(NotInTime, match=r"(?s)timed out after 10 s waiting for: the guest.*OSError: no answer"):
        wait_for("the guest", lambda: False, 10, detail=detail)


def test_reports_every_half_minute(clock: Clock) -> None:
    reports: list[tuple[float, str]] = []

    def listener(text: str) -> None:
        reports.append((clock.now, text))

    waiting.add_listener(listener)
    try:
        wait_for("the guest", lambda: clock.now >= 70, 100)
    finally:
        waiting.remove_listener(listener)
    assert reports == [(30, "30 s of 100 s: the guest"), (60, "60 s of 100 s: the guest")]


def test_removed_listener_gets_no_reports(clock: Clock) -> None:
    reports: list[str] = []
    waiting.add_listener(reports.append)
    waiting.remove_listener(reports.append)
    wait_for("the guest", lambda: clock.now >= 70, 100)
    assert reports == []


def test_waits_of_tests_and_of_the_end_are_on_the_terminal(runs: Runs) -> None:
    runs.tests(
        """
        import pytest
        from stackspec import waiting

        @pytest.fixture
        def flood(monkeypatch):
            monkeypatch.setattr(waiting, "TOLD_EVERY", 0)
            yield
            waits("the ebb")

        def waits(what):
            answers = iter([False, True])
            assert waiting.wait_for(what, lambda: next(answers), 60, every=0)

        def test_waits(flood):
            waits("the flood")
        """
    )
    result = runs.pytest(spawn=True)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*waiting*0 s of 60 s: the flood", "*waiting*0 s of 60 s: the ebb"])
