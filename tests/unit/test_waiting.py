"""A wait is patient while something moves, ends when nothing does, and says what it waits for meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest

from stackspec import waiting
from stackspec.pace import SLOWEST, pace
from stackspec.waiting import LONGEST, NotInTime

from .plugin_runs import Runs

wait_for = partial(waiting.wait_for, every=1)
"""Looks each second, so that times are known to the second."""


class Clock:
    """Time that passes only while somebody sleeps."""

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


def test_returns_what_became_true() -> None:
    answers = iter([None, 0, "here"])
    assert wait_for("an answer", lambda: next(answers), 5, every=0) == "here"


def test_says_what_it_waited_for_and_what_it_saw_last(clock: Clock) -> None:
    def attempt() -> None:
        raise ConnectionError("refused")

    with pytest.raises(NotInTime) as raised:
        wait_for("the door", attempt, 20, retry_on=(ConnectionError,), detail=lambda: "it is locked")
    message = str(raised.value)
    assert "timed out after 20 s waiting for: the door" in message
    assert "ConnectionError: refused" in message
    assert message.endswith("it is locked")


def test_lets_other_errors_out() -> None:
    def attempt() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        wait_for("the door", attempt, 1)


@pytest.mark.parametrize("detail", [None, lambda: "the same"])
def test_ends_at_its_limit_when_nothing_moves(clock: Clock, detail: Callable[[], str] | None) -> None:
    with pytest.raises(NotInTime):
        wait_for("the door", lambda: False, 100, detail=detail)
    assert clock.now == 100


def test_goes_on_after_its_limit_while_something_moves(clock: Clock) -> None:
    """A guest that boots on a slow machine has new lines on its console."""
    assert wait_for("the guest", lambda: clock.now >= 250, 100, detail=lambda: f"booted up to {clock.now}")


def test_ends_when_what_moved_has_come_to_a_stop(clock: Clock) -> None:
    with pytest.raises(NotInTime, match="timed out after 200 s waiting for: the guest"):
        wait_for("the guest", lambda: False, 100, detail=lambda: f"booted up to {min(clock.now, 90)}")
    assert clock.now == 200


def test_ends_although_something_moves_for_ever(clock: Clock) -> None:
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100, detail=lambda: f"restarted {clock.now} times")
    assert clock.now == LONGEST * 100


def test_limits_grow_with_what_was_slow(clock: Clock) -> None:
    """On a slow machine the first guest that boots tells how patient later waits have to be."""
    wait_for("the first guest", lambda: clock.now >= 80, 160)
    assert pace.times == 2
    began = clock.now
    with pytest.raises(NotInTime, match="timed out after 200 s waiting for: the second guest"):
        wait_for("the second guest", lambda: False, 100)
    assert clock.now - began == 200


def test_a_wait_learns_meanwhile_that_all_is_slow(clock: Clock) -> None:
    """A slower pace measured by others also applies to a wait in progress."""

    def condition() -> bool:
        if clock.now == 90:
            pace.learn(75, 100)
        return clock.now >= 250

    assert wait_for("the guest", condition, 100)


def test_what_hangs_ends_however_slow_all_is(clock: Clock) -> None:
    """A pace is believed up to a bound only, and a thing that never came teaches nothing."""
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100)
    assert pace.times == 1
    pace.learn(10_000, 100)
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100, detail=lambda: f"restarted {clock.now} times")
    assert clock.now == 100 + SLOWEST * 100


def test_looks_less_often_when_it_takes_long(clock: Clock) -> None:
    """What takes a minute is seen at most 3 s later, and is not asked for 60 times."""
    looks: list[float] = []

    def condition() -> bool:
        looks.append(clock.now)
        return clock.now >= 300

    waiting.wait_for("the load balancer", condition, 1000)
    assert looks[:20] == list(range(20))
    assert max(later - earlier for earlier, later in itertools.pairwise(looks)) == pytest.approx(5)
    assert len(looks) < 100


def test_asks_for_details_only_when_it_takes_long(clock: Clock) -> None:
    asked: list[float] = []

    def detail() -> str:
        asked.append(clock.now)
        return "the same"

    wait_for("the guest", lambda: clock.now >= 25, 100, detail=detail)
    assert asked == []
    with pytest.raises(NotInTime):
        wait_for("the guest", lambda: False, 100, detail=detail)
    assert asked == [75, 125]


def test_a_detail_that_fails_does_not_hide_the_cause(clock: Clock) -> None:
    def detail() -> str:
        raise OSError("no answer")

    with pytest.raises(NotInTime, match=r"(?s)timed out after 10 s waiting for: the guest.*OSError: no answer"):
        wait_for("the guest", lambda: False, 10, detail=detail)


def test_tells_every_half_minute_what_is_waited_for(clock: Clock) -> None:
    told: list[tuple[float, str]] = []

    def listener(text: str) -> None:
        told.append((clock.now, text))

    waiting.add_listener(listener)
    try:
        wait_for("the guest", lambda: clock.now >= 70, 100)
    finally:
        waiting.remove_listener(listener)
    assert told == [(30, "30 s of 100 s: the guest"), (60, "60 s of 100 s: the guest")]


def test_a_listener_that_left_hears_nothing(clock: Clock) -> None:
    told: list[str] = []
    waiting.add_listener(told.append)
    waiting.remove_listener(told.append)
    wait_for("the guest", lambda: clock.now >= 70, 100)
    assert told == []


def test_waits_of_a_test_and_of_the_runs_end_are_on_the_terminal(runs: Runs) -> None:
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
