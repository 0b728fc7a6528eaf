"""The pace of a run: how slow the machine and the cloud are; timeouts are multiples of it."""

from __future__ import annotations

USUAL = 0.25
"""Normal duration as a fraction of the timeout; the README's machine needs less."""
SLOWEST = 4.0
"""Upper bound of the pace: a hang must still end."""


class Pace:
    """Slowdown compared with normal speed: 1 at first, then the highest value measured."""

    def __init__(self) -> None:
        self.times = 1.0

    def learn(self, took: float, limit: float) -> None:
        """Record a completed wait.

        :param took: its duration in seconds
        :param limit: its timeout in seconds at normal speed
        """
        if limit > 0:
            self.times = max(self.times, min(SLOWEST, took / (limit * USUAL)))

    def seconds(self, limit: float) -> float:
        """`limit` scaled by the current pace.

        :param limit: seconds at the usual pace
        """
        return limit * self.times

    def milliseconds(self, limit: float) -> float:
        """The same in milliseconds, for browsers.

        :param limit: seconds at the usual pace
        """
        return 1000 * self.seconds(limit)


pace = Pace()
"""The pace of this process, shared by all waits."""
