"""One way to wait: patient while something moves, told on the terminal, and an error that says what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

T = TypeVar("T")
Listener = Callable[[str], None]

TOLD_EVERY = 30.0
"""Seconds of one wait between two lines about it."""

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


class _Patience:
    """When a wait is over: its limit has passed and, since half of it, `detail` tells nothing new."""

    def __init__(self, what: str, seconds: float, detail: Callable[[], str] | None) -> None:
        self.limit = seconds
        self.text = ""
        self._what, self._seconds, self._detail = what, seconds, detail
        self._began = self._told = _now()
        self._known: str | None = None

    def stop(self, _state: tenacity.RetryCallState) -> bool:
        """Whether the wait is over; tenacity asks after each attempt."""
        waited = _now() - self._began
        if self._known is None and waited >= self._seconds / 2:
            self._known = self._look()
        if waited < self.limit:
            return False
        if self._detail is None:
            return True
        self.text = self._look()
        if self.text == self._known or waited >= LONGEST * self._seconds:
            return True
        self._known, self.limit = self.text, waited + self._seconds
        return False

    def tell(self, _state: tenacity.RetryCallState) -> None:
        """Say what is waited for, when it is time to."""
        now = _now()
        if _listeners and now - self._told >= TOLD_EVERY:
            self._told = now
            _listeners[-1](f"{now - self._began:.0f} s of {self.limit:.0f} s: {self._what}")

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
    every: float = 1.0,
    retry_on: tuple[type[BaseException], ...] = (),
    detail: Callable[[], str] | None = None,
) -> T:
    """Call `condition` until it returns something true, and return that.

    A machine may be slow: while `detail` tells something new the wait goes on after its limit, up to LONGEST times it.

    :param what: what is waited for, as the terminal and the error will say it
    :param condition: returns something true when it is so; an exception that is not in `retry_on` ends the wait
    :param seconds: the limit
    :param every: seconds between two calls
    :param retry_on: exceptions that mean "not yet"
    :param detail: tells what a reader of the error needs; called when half of the limit and when the limit has passed
    :raises NotInTime: the limit has passed and nothing moves
    """
    last: list[Any] = ["nothing"]

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
        wait=tenacity.wait_fixed(every),
        retry=tenacity.retry_if_result(lambda result: not result) | tenacity.retry_if_exception_type(retry_on),
        before_sleep=patience.tell,
    )
    try:
        result: T | None = retrying(attempt)
    except tenacity.RetryError:
        text = f"not within {patience.limit:g} s: {what}; seen last: {last[0]}"
        if patience.text:
            text += "\n" + patience.text
        # The attempts' own tracebacks say nothing that `last` does not say.
        raise NotInTime(text) from None
    assert result is not None
    return result
