"""One way to wait: patient while something moves, told on the terminal, and an error that says what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from .pace import pace

T = TypeVar("T")
Listener = Callable[[str], None]

TOLD_EVERY = 30.0
"""Seconds of one wait between two lines about it."""

LOOKS = 20
"""A wait that has gone on for so many seconds looks once a second; a longer one, which has time, less often."""
RAREST = 5.0
"""Seconds between two looks at most."""

NOTHING = ("", "None", "False", "''", "[]", "{}", "()", "0", "set()")
"""What a condition returned, written out, when it tells a reader nothing."""

LONGEST = 4
"""How many times its limit a wait may take while things move: a guest that boots for ever moves, too."""

_listeners: list[Listener] = []
_now = time.monotonic


class NotInTime(AssertionError):
    """Something that was waited for did not happen, and nothing moves any more."""


def add_listener(listener: Listener) -> None:
    """Let `listener` hear, every 30 s, what is waited for; the last one that was added is the one that hears.

    :param listener: called in the thread that waits
    """
    _listeners.append(listener)


def remove_listener(listener: Listener) -> None:
    """Undo `add_listener`; a listener that is not there is no error."""
    if listener in _listeners:
        _listeners.remove(listener)


class Teller:
    """Tells what is waited for, when it takes long.

    :param what: what is waited for
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._told = _now()

    def tell(self, limit: float | None = None) -> None:
        """Say it, when it is time to.

        :param limit: seconds after which it is given up; None: it is not
        """
        now = _now()
        if _listeners and now - self._told >= TOLD_EVERY:
            self._told = now
            of = f" of {limit:.0f} s" if limit is not None else ""
            _listeners[-1](f"{now - self._began:.0f} s{of}: {self._what}")


class _Patience:
    """When a wait is over: its limit has passed and, since half of it, `detail` tells nothing new."""

    def __init__(self, what: str, seconds: float, detail: Callable[[], str] | None) -> None:
        self.text = ""
        self._seconds, self._detail = seconds, detail
        self._began = _now()
        self._longer = 0.0
        self._teller = Teller(what)
        self._known: str | None = None

    @property
    def limit(self) -> float:
        """Seconds after which it is over: others may learn meanwhile that all is slow."""
        return max(self._longer, pace.seconds(self._seconds))

    def stop(self, _state: tenacity.RetryCallState) -> bool:
        """Whether the wait is over; tenacity asks after each attempt."""
        waited = _now() - self._began
        if self._known is None and waited >= self.limit / 2:
            self._known = self._look()
        if waited < self.limit:
            return False
        if self._detail is None:
            return True
        self.text = self._look()
        if self.text == self._known or waited >= LONGEST * self._seconds:
            return True
        self._known, self._longer = self.text, waited + self._seconds
        return False

    def pause(self, _state: tenacity.RetryCallState) -> float:
        """Seconds until the next look."""
        return min(max(1.0, (_now() - self._began) / LOOKS), RAREST)

    def came(self) -> None:
        """What was waited for is there: the pace is as it took."""
        pace.learn(_now() - self._began, self._seconds)

    def tell(self, _state: tenacity.RetryCallState) -> None:
        """Say what is waited for, when it is time to."""
        self._teller.tell(self.limit)

    def _look(self) -> str:
        if self._detail is None:
            return ""
        try:
            return self._detail()
        except Exception as error:  # what cannot be told must not hide what was waited for
            return f"no more is known: {type(error).__name__}: {error}"


def wait_for(
    what: str,
    condition: Callable[[], T | None],
    seconds: float,
    *,
    every: float | None = None,
    retry_on: tuple[type[BaseException], ...] = (),
    detail: Callable[[], str] | None = None,
) -> T:
    """Call `condition` until it returns something true, and return that.

    A machine may be slow: the limit is a multiple of the run's pace, and while `detail` tells something new the wait
    goes on after it, up to LONGEST times `seconds`.

    :param what: what is waited for, as the terminal and the error will say it
    :param condition: returns something true when it is so; an exception that is not in `retry_on` ends the wait
    :param seconds: the limit at the usual pace
    :param every: seconds between two calls; None: one, and more when it takes long, since each call is work for a cloud
    :param retry_on: exceptions that mean "not yet"
    :param detail: tells what a reader of the error needs; called when half of the limit and when the limit has passed
    :raises NotInTime: the limit has passed and nothing moves
    """
    last: list[Any] = [""]

    def attempt() -> T | None:
        try:
            result = condition()
        except retry_on as error:
            last[0] = f"{type(error).__name__}: {error}"
            raise
        last[0] = repr(result)
        return result

    patience = _Patience(what, seconds, detail)
    retrying = tenacity.Retrying(
        stop=patience.stop,
        wait=patience.pause if every is None else tenacity.wait_fixed(every),
        retry=tenacity.retry_if_result(lambda result: not result) | tenacity.retry_if_exception_type(retry_on),
        before_sleep=patience.tell,
    )
    try:
        result: T | None = retrying(attempt)
    except tenacity.RetryError:
        text = f"timed out after {patience.limit:g} s waiting for: {what}"
        if last[0] not in NOTHING:
            text += f"; last seen: {last[0]}"
        if patience.text:
            # What is known belongs into the line that is read first.
            text += "; " + patience.text
        # The attempts' own tracebacks say nothing that `last` does not say.
        raise NotInTime(text) from None
    assert result is not None
    patience.came()
    return result
