"""The one way to wait: patient while there is progress, reported on the terminal, with the last state in the error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from .pace import pace

T = TypeVar("T")
Listener = Callable[[str], None]

TOLD_EVERY = 30.0
"""Seconds between two terminal lines about one wait."""

LOOKS = 20
"""Up to this many seconds, poll once a second; after that, less often."""
RAREST = 5.0
"""Maximum seconds between two polls."""

NOTHING = ("", "None", "False", "''", "[]", "{}", "()", "0", "set()")
"""Return values of a condition that are not worth printing."""

MAX_EXTENSION = 4
"""Maximum multiple of the timeout while there is progress: a guest that boots for ever also makes progress."""

_listeners: list[Listener] = []
_now = time.monotonic


class NotInTime(AssertionError):
    """A wait timed out, and there is no more progress."""


def add_listener(listener: Listener) -> None:
    """Report to `listener`, every 30 s, what is waited for; only the latest listener is called.

    :param listener: called in the thread that waits
    """
    _listeners.append(listener)


def remove_listener(listener: Listener) -> None:
    """Undo `add_listener`; an unknown listener is ignored."""
    if listener in _listeners:
        _listeners.remove(listener)


class Teller:
    """Reports a wait that takes long.

    :param what: what is waited for
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._told = _now()

    def tell(self, limit: float | None = None) -> None:
        """Report it, if due.

        :param limit: the timeout in seconds; None: no timeout
        """
        now = _now()
        if _listeners and now - self._told >= TOLD_EVERY:
            self._told = now
            of = f" of {limit:.0f} s" if limit is not None else ""
            _listeners[-1](f"{now - self._began:.0f} s{of}: {self._what}")


class _Patience:
    """Decides when a wait is over: the timeout has passed and `detail` has not changed since half of it."""

    def __init__(self, what: str, seconds: float, detail: Callable[[], str] | None) -> None:
        self.text = ""
        self._seconds, self._detail = seconds, detail
        self._began = _now()
        self._longer = 0.0
        self._teller = Teller(what)
        self._known: str | None = None

    @property
    def limit(self) -> float:
        """The timeout in seconds; it may grow when other waits measure a slower pace."""
        return max(self._longer, pace.seconds(self._seconds))

    def stop(self, _state: tenacity.RetryCallState) -> bool:
        """Whether the wait is over; called by tenacity after each attempt."""
        waited = _now() - self._began
        if self._known is None and waited >= self.limit / 2:
            self._known = self._look()
        if waited < self.limit:
            return False
        if self._detail is None:
            return True
        self.text = self._look()
        if self.text == self._known or waited >= MAX_EXTENSION * self._seconds:
            return True
        self._known, self._longer = self.text, waited + self._seconds
        return False

    def pause(self, _state: tenacity.RetryCallState) -> float:
        """Seconds until the next poll."""
        return min(max(1.0, (_now() - self._began) / LOOKS), RAREST)

    def came(self) -> None:
        """The wait succeeded: record the pace."""
        pace.learn(_now() - self._began, self._seconds)

    def tell(self, _state: tenacity.RetryCallState) -> None:
        """Report what is waited for, if due."""
        self._teller.tell(self.limit)

    def _look(self) -> str:
        if self._detail is None:
            return ""
        try:
            return self._detail()
        except Exception as error:  # an error here must not hide what was waited for
            return f"no details: {type(error).__name__}: {error}"


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

    Machines may be slow: the timeout is scaled by the run's pace, and while `detail` changes the wait continues past
    it, up to MAX_EXTENSION times `seconds`.

    :param what: what is waited for, for terminal and error
    :param condition: returns a true value on success; an exception that is not in `retry_on` ends the wait
    :param seconds: the timeout at normal speed
    :param every: seconds between two calls; None: one, and more in long waits, since each call is load on the cloud
    :param retry_on: exceptions that mean "not yet"
    :param detail: returns details for the error; called after half of the timeout and when it has passed
    :raises NotInTime: the timeout has passed without progress
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
            # Details belong in the first line.
            text += "; " + patience.text
        # The attempts' tracebacks add nothing to `last`.
        raise NotInTime(text) from None
    assert result is not None
    patience.came()
    return result
