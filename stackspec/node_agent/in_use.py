"""What on the node uses a path."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator

from . import files

COMMANDS, ETC = "/usr/bin", "/etc"


def uses(pattern: str, kept: str) -> dict[str, list[str]]:
    """What uses each path that matches a glob pattern, of those that do not begin with `kept`.

    These are processes that were started from below it, run in it, or have a file there mapped or open; and commands
    that are links into it, and files and links in /etc that name it.
    """
    found: dict[str, list[str]] = {path: [] for path in sorted(glob.glob(pattern)) if not path.startswith(kept)}
    for name, text in (*_processes(), *_references()) if found else ():
        for path, users in found.items():
            if path.encode() in text:
                users.append(name)
    return found


def _processes() -> Iterator[tuple[str, bytes]]:
    """Each process of the node, in words, and all paths that tell what it uses."""
    for here in glob.glob("/proc/[0-9]*"):
        links = (f"{here}/cwd", f"{here}/exe", *glob.glob(f"{here}/fd/*"))
        paths = [_known(each) for each in (f"{here}/cmdline", f"{here}/environ", f"{here}/maps", *links)]
        yield (
            f"{_known(f'{here}/comm').decode(errors='replace').strip()} (process {os.path.basename(here)})",
            b"\0".join(paths),
        )


def _references() -> Iterator[tuple[str, bytes]]:
    """Each link in /usr/bin and /etc with its target, each file in /etc with its content."""
    for top in (COMMANDS, ETC):
        for folder, folders, names in os.walk(top):
            for path in (f"{folder}/{name}" for name in (*folders, *names)):
                if os.path.islink(path) or (top == ETC and os.path.isfile(path)):
                    yield path, _known(path)


def _known(path: str) -> bytes:
    """The target of a link, or the content of a file, which both may be gone by now."""
    with contextlib.suppress(OSError):
        return os.fsencode(os.readlink(path)) if os.path.islink(path) else files.read_bytes(path) or b""
    return b""
