"""The record of a run: one line of JSON per event, intact after a kill, without secrets."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..lines import append_line
from ..masking import mask_tree
from ..site import state_directory

FILE = "events.jsonl"


class EventLog:
    """Appends events to a file, which is created with the first event.

    :param path: the file, usually ``<state of the site>/runs/<run id>/events.jsonl``
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def write(self, event: dict[str, Any]) -> None:
        """Append `event`, masked, adding the time if missing. Safe from any thread and process.

        :raises OSError: the file cannot be written
        """
        entry = mask_tree({"time": time.time(), **event})
        with self._lock:
            append_line(self.path, json.dumps(entry, default=str))

    def read(self) -> list[dict[str, Any]]:
        """All events so far; none when the file does not exist."""
        return read(self.path) if self.path.exists() else []


def forget_runs(folder: Path, days: float, at_work: Collection[str]) -> list[str]:
    """Remove the folders of old runs.

    :param folder: folder of a site's runs
    :param days: how long a run is kept after its last event; 0 keeps all
    :param at_work: ids of active runs, which are never removed
    :returns: the ids of the removed runs
    """
    limit, removed = time.time() - days * 24 * 3600, []
    for record in sorted(folder.glob(f"*/{FILE}")) if days > 0 else ():
        run = record.parent
        if run.name not in at_work and record.stat().st_mtime < limit:
            shutil.rmtree(run, ignore_errors=True)
            removed.append(run.name)
    return removed


class Tail:
    """Reads new events from a file, whichever process writes them.

    :param path: the file, which may not exist yet
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._at)
            whole, _, _ = stream.read().rpartition(b"\n")
        self._at += len(whole) + 1 if whole else 0
        return list(_events(whole.decode(errors="replace").splitlines()))


def read(path: Path) -> list[dict[str, Any]]:
    """The events in `path`, in order; torn and unknown lines are ignored.

    :raises OSError: the file cannot be read
    """
    return list(_parse(path))


def _parse(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        yield from _events(stream)


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def runs() -> list[Path]:
    """The event files of all runs of all sites, the newest last."""
    state = state_directory()
    found = [*state.glob(f"runs/*/{FILE}"), *state.glob(f"sites/*/runs/*/{FILE}")]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def latest_run() -> Path | None:
    """The most recently written event file; None if there is none."""
    return next(reversed(runs()), None)


def find_run(name: str | None) -> Path:
    """The event file of a run.

    :param name: run id, or path of its file or folder; None for the latest run
    :raises InputError: there is no such run
    """
    if name is None:
        if (latest := latest_run()) is None:
            raise InputError(f"no run has left events in {state_directory()}")
        return latest
    path = Path(name)
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    for known in reversed(runs()):
        if known.parent.name == name:
            return known
    raise InputError(f"no run {name}: neither a path nor one of the runs in {state_directory()}")
