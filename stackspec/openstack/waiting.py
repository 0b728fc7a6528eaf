"""One way to wait: with a deadline, and an error that says what was waited for and what was seen last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

T = TypeVar("T")


class NotInTime(AssertionError):
    """Something that was waited for did not happen within its deadline."""


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

    :param what: what is waited for, as the error will say it
    :param condition: returns something true when it is so; an exception that is not in `retry_on` ends the wait
    :param seconds: the deadline
    :param every: seconds between two calls
    :param retry_on: exceptions that mean "not yet"
    :param detail: called once when the deadline has passed, for what a reader of the error needs
    :raises NotInTime: the deadline has passed
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

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_fixed(every),
        retry=tenacity.retry_if_result(lambda result: not result) | tenacity.retry_if_exception_type(retry_on),
    )
    try:
        result: T | None = retrying(attempt)
    except tenacity.RetryError:
        text = f"not within {seconds:g} s: {what}; seen last: {last[0]}"
        if detail is not None:
            text += "\n" + detail()
        # The attempts' own tracebacks say nothing that `last` does not say.
        raise NotInTime(text) from None
    assert result is not None
    return result
