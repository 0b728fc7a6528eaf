"""The pace of a run: how slow the machine and the cloud turned out to be; limits of time are multiples of it."""

from __future__ import annotations

USUAL = 0.25
"""The part of its limit in which a thing comes at the usual pace; the README's machine needs less."""
SLOWEST = 4.0
"""A slower pace than this is not believed: what hangs has to end."""


class Pace:
    """How many times as long things take as their limits were made for: 1 at first, and what was slowest since."""

    def __init__(self) -> None:
        self.times = 1.0

    def learn(self, took: float, limit: float) -> None:
        """Take note of a thing that came.

        :param took: seconds that it took
        :param limit: seconds that it may take at the usual pace
        """
        if limit > 0:
            self.times = max(self.times, min(SLOWEST, took / (limit * USUAL)))

    def seconds(self, limit: float) -> float:
        """What `limit` is at this pace.

        :param limit: seconds at the usual pace
        """
        return limit * self.times

    def milliseconds(self, limit: float) -> float:
        """The same in thousandths, as browsers count.

        :param limit: seconds at the usual pace
        """
        return 1000 * self.seconds(limit)


pace = Pace()
"""This process's: who waits learns and asks here."""
