"""Lanes: what the workers of pytest-xdist test beside each other, and what they must agree on.

A lane is made of whole files. A file takes turns on the steps that it uses, with others, or alone where a test disturbs
one; a free worker takes a lane that need not wait for its turn, if there is one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..waiting import Teller

if TYPE_CHECKING:
    import pytest

LOOK_EVERY = 0.3
"""Seconds between two looks at a turn."""


def lane_of(item: pytest.Item) -> str:
    """What a test must be in one lane with: that of its mark `lane`, else its file."""
    mark = item.get_closest_marker("lane")
    return str(mark.args[0]) if mark is not None else _file_of(item)


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


@dataclass(frozen=True)
class Needs:
    """What a test needs of the site while it runs.

    :param uses: steps that its whole file uses, together with others
    :param disturbs: steps whose services the test stops or breaks, alone
    """

    uses: frozenset[str]
    disturbs: frozenset[str]

    def bars(self, other: Needs) -> bool:
        """Whether the two tests cannot run at the same time."""
        return bool(self.disturbs & (other.uses | other.disturbs) or other.disturbs & self.uses)


def needs_of(items: Sequence[pytest.Item], steps_of: Callable[[pytest.Item], Iterable[str]]) -> dict[str, Needs]:
    """What each of `items` needs, by node id.

    :param steps_of: the steps that a test needs
    """
    uses: dict[str, set[str]] = {}
    for item in items:
        uses.setdefault(_file_of(item), set()).update(steps_of(item))
    shared = {file: frozenset(steps) for file, steps in uses.items()}
    return {
        item.nodeid: Needs(
            shared[_file_of(item)], frozenset(name for mark in item.iter_markers("disturbs") for name in mark.args)
        )
        for item in items
    }


def late(items: Iterable[pytest.Item]) -> set[str]:
    """Node ids of the tests that disturb a step while others of their lane disturb none.

    They come last: in the middle of a run other lanes use what they disturb, and all of their lane would wait for them.
    """
    disturbing: dict[str, set[str]] = {}
    peaceful = set()
    for item in items:
        if item.get_closest_marker("disturbs"):
            disturbing.setdefault(lane_of(item), set()).add(item.nodeid)
        else:
            peaceful.add(lane_of(item))
    return {nodeid for lane in peaceful for nodeid in disturbing.get(lane, ())}


def next_lane(
    waiting: Mapping[str, Collection[str]],
    running: Iterable[str],
    needs: Mapping[str, Needs],
    is_done: Callable[[str], bool],
) -> str:
    """The lane that a free worker takes: one that need not wait, neither for another worker nor for a step.

    Of several the one of most files, which is a long one. If all must wait, the first that waits for steps only. It is
    looked at its first test: its later files take their turns.

    :param waiting: the tests of each lane that nobody has taken, in their order
    :param running: the tests that other workers run now
    :param needs: what each test needs
    :param is_done: whether a step is done
    """
    first = {lane: needs[next(iter(tests))] for lane, tests in waiting.items()}
    free = [lane for lane in waiting if not any(first[lane].bars(needs[test]) for test in running)]
    ready = [lane for lane in free if all(is_done(step) for step in first[lane].uses)]
    if ready:
        return max(ready, key=lambda lane: len({test.split("::")[0] for test in waiting[lane]}))
    return next(iter(free or waiting))


class Claims:
    """Names that one process only may claim, as a cause that is told once.

    :param folder: where the claims of this run are, shared by its processes; None: there is one process only
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def claim(self, name: str) -> bool:
        """Whether nobody has claimed `name` before."""
        if self._folder is None:
            new = name not in self._names
            self._names.add(name)
            return new
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._folder / name.replace("/", "_"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        except OSError:
            # No room: told twice rather than not at all.
            return True
        return True

    def __contains__(self, name: str) -> bool:
        if self._folder is None:
            return name in self._names
        return (self._folder / name.replace("/", "_")).exists()


class Turns:
    """Turns of a worker's tests: what one disturbs, no other lane uses meanwhile.

    :param folder: where the locks of this run are
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._needs: Needs | None = None
        self._held: list[int] = []

    def take(self, test: str, needs: Needs) -> None:
        """Give the last test's turn back, and wait for one of `test`; nothing when it needs the same."""
        if needs == self._needs:
            return
        self.give_back()
        modes = dict.fromkeys(needs.uses, fcntl.LOCK_SH) | dict.fromkeys(needs.disturbs, fcntl.LOCK_EX)
        teller = Teller(f"{test}: others are done with {', '.join(sorted(needs.disturbs)) or 'what they disturb'}")
        # All or none: who waits holds nothing that another one waits for.
        while not self._try(modes):
            time.sleep(LOOK_EVERY)
            teller.tell()
        self._needs = needs

    def give_back(self) -> None:
        """Let others have what this worker's test used."""
        for each in self._held:
            os.close(each)
        self._held, self._needs = [], None

    def _try(self, modes: dict[str, int]) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, mode in sorted(modes.items()):
            # Not inherited by ssh or a browser, which would keep the lock.
            descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._held.append(descriptor)
            try:
                fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                self.give_back()
                return False
        return True
