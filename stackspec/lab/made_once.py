"""Cached directory trees: the nodes' root file system, and the UML kernel."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .lock import locked


def made_once(final: Path, what: str, doing: str, make: Callable[[Path], None], say: Callable[[str], None]) -> Path:
    """Create a tree unless it exists; one of several processes creates it, the others wait.

    :param final: its path, in a folder only for such trees, where leftovers of killed processes are removed
    :param what: its name in messages
    :param doing: what is being done, for the line before the work starts
    :param make: creates the tree at the given path
    :param say: called with a line before the work starts and after
    :returns: `final`
    :raises LabError: when `make` fails
    """
    with locked(final.parent / "lock"):
        if final.is_dir():
            return final
        for leftover in final.parent.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        started = time.monotonic()
        say(f"{what}: {doing} (once, about half a minute)")
        tree = final.with_name(f".{final.name}.{os.getpid()}")
        try:
            make(tree)
            tree.chmod(0o755)
            tree.rename(final)
        finally:
            shutil.rmtree(tree, ignore_errors=True)
        say(f"{what}: made in {time.monotonic() - started:.0f} s")
    return final
