"""Threads that stay in the machine's own network while others are in a lab's."""

from __future__ import annotations

import threading

import pytest

from stackspec import reach


def test_outside_uses_one_early_thread() -> None:
    """Threads enter a lab's network; calls made in this thread stay in the machine's own network."""
    outside = reach._outside()
    assert outside(threading.current_thread) is outside(threading.current_thread)
    assert outside(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        outside(lambda: 1 // 0)
