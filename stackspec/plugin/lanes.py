"""Lanes: what the workers of pytest-xdist test at the same time, and what they must agree on.

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
    """Tests with the same value are in one lane: the value of the mark `lane`, otherwise the file."""
    mark = item.get_closest_marker("lane")
    return str(mark.args[0]) if mark is not None else _file_of(item)


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


@dataclass(frozen=True)
class Needs:
    """What a test uses of the site while it runs.

    :param uses: steps that its file uses, shared with others
    :param disturbs: steps whose services the test stops or breaks, exclusively
    """

    uses: frozenset[str]
    disturbs: frozenset[str]

    def bars(self, other: Needs) -> bool:
        """Whether the two tests cannot run in parallel."""
        return bool(self.disturbs & (other.uses | other.disturbs) or other.disturbs & self.uses)


def needs_of(items: Sequence[pytest.Item], steps_of: Callable[[pytest.Item], Iterable[str]]) -> dict[str, Needs]:
    """The needs of each of `items`, by node id.

    :param steps_of: the steps that a test uses
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
    """Node ids of tests that disturb a step while other tests of their lane disturb none.

    They run last: earlier, other lanes use what they disturb, and their whole lane would wait for those.
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
    busy: Sequence[Sequence[str]],
    needs: Mapping[str, Needs],
    is_done: Callable[[str], bool],
    has_turn: Callable[[str], bool] = lambda _test: True,
) -> str:
    """The lane that a free worker takes: one that need not wait, neither for another worker nor for a step.

    Of several, one that would keep a later test of another worker waiting; of those, the one with the most files, which
    takes long. A test that waits for its turn counts as a later one: what it disturbs is used by others first, since it
    must wait anyway, and they would wait for it afterwards. If all must wait, the first that only waits for steps. Only
    the first test of a lane is considered: its later files take their own turns.

    :param waiting: the remaining tests of each lane, in order
    :param busy: the remaining tests of each other worker, the current one first
    :param needs: the needs of each test
    :param is_done: whether a step is done
    :param has_turn: whether a worker's current test certainly has its turn
    """
    first = {lane: needs[next(iter(tests))] for lane, tests in waiting.items()}
    current = [test for test, *_ in busy]
    turns = [test for test in current if has_turn(test)]
    later = {test for test in current if test not in turns and any(needs[test].bars(needs[each]) for each in turns)}
    now = [needs[test] for test in current if test not in later]
    free = [lane for lane in waiting if not any(first[lane].bars(each) for each in now)]
    ready = [lane for lane in free if all(is_done(step) for step in first[lane].uses)]
    coming = {needs[test] for test in [*later, *(test for _, *rest in busy for test in rest)]}

    def urgency(lane: str) -> tuple[bool, int]:
        files = {test.split("::")[0] for test in waiting[lane]}
        return any(first[lane].bars(each) for each in coming), len(files)

    if ready:
        return max(ready, key=urgency)
    return next(iter(free or waiting))


class Claims:
    """Names that only one process can claim, so that each cause is reported once.

    :param folder: folder for the claims of this run, shared by its processes; None: there is only one process
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def claim(self, name: str) -> bool:
        """Claim `name`; whether nobody has claimed it before."""
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
            # Disk full: report it twice rather than never.
            return True
        return True

    def __contains__(self, name: str) -> bool:
        if self._folder is None:
            return name in self._names
        return (self._folder / name.replace("/", "_")).exists()


class Turns:
    """Turns of a worker's tests: steps that one test disturbs are not used by other lanes meanwhile.

    :param folder: folder for the locks of this run
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._needs: Needs | None = None
        self._held: list[int] = []

    def take(self, test: str, needs: Needs) -> None:
        """Release the last test's turn, and wait for the turn of `test`; nothing to do if it has the same needs."""
        if needs == self._needs:
            return
        self.give_back()
        modes = dict.fromkeys(needs.uses, fcntl.LOCK_SH) | dict.fromkeys(needs.disturbs, fcntl.LOCK_EX)
        teller = Teller(f"{test}: others are done with {', '.join(sorted(needs.disturbs)) or 'what they disturb'}")
        # All or none: a waiting test holds nothing that another one waits for.
        while not self._try(modes):
            time.sleep(LOOK_EVERY)
            teller.tell()
        self._needs = needs

    def give_back(self) -> None:
        """Release the steps that this worker's test used."""
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
