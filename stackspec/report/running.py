"""The active runs on this machine: each holds a lock, which the kernel releases even after a kill."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from ..site import state_directory

FILE = "running"


def hold(folder: Path) -> IO[str]:
    """Mark a run as active while the returned file is open; all processes of a run may do so.

    :param folder: the run's folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    stream = (folder / FILE).open("a")
    fcntl.flock(stream, fcntl.LOCK_SH)
    return stream


def running() -> set[str]:
    """Ids of active runs, of all sites with their state on this machine."""
    state = state_directory()
    return {
        path.parent.name
        for pattern in (f"runs/*/{FILE}", f"sites/*/runs/*/{FILE}")
        for path in state.glob(pattern)
        if _is_held(path)
    }


def _is_held(path: Path) -> bool:
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
