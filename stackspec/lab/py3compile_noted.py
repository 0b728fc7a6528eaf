#!/usr/bin/python3
"""Runs on the nodes of a lab, after dpkg: compiles the Python modules of packages that py3compile has noted.

Nodes share the results in a directory of the host: most packages are on several nodes. It is only standard library.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import py_compile
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

SHARED = "/var/cache/compiled"
"""The shared directory; without it, everything is compiled here."""
NOTED = "var/lib/dpkg/py3compile.noted"
MODULES = "/usr/lib/python3/dist-packages/"
UNUSED = "/tests/"
"""Packages list their tests, but they are not unpacked: nobody imports them, and they are a third of all modules."""
HEADER = 16
"""Bytes of a compiled module before its code."""


def modules(root: Path) -> Iterator[str]:
    """Public modules of the noted packages, with their absolute paths on the node.

    :param root: the node's root directory
    """
    lists = root / "var/lib/dpkg/info"
    for package in sorted(set((root / NOTED).read_text().split())):
        # The file list of a multi-arch package has the architecture in its name, and dpkg passes the name with it.
        for file in {
            lists / f"{package}.list",
            lists / f"{package.split(':')[0]}.list",
            *lists.glob(f"{package}:*.list"),
        }:
            if file.exists():
                for path in file.read_text().split("\n"):
                    if path.startswith(MODULES) and path.endswith(".py") and UNUSED not in path:
                        yield path


def compile_module(root: Path, path: str) -> None:
    """Compile one module, unless a node has done so: then its result is copied.

    :param root: the node's root directory
    :param path: the module's path on the node
    :raises OSError: the module is not readable, or its directory not writable
    :raises py_compile.PyCompileError: it is no Python of this version
    """
    source = root / path[1:]
    compiled = importlib.util.cache_from_source(str(source))
    shared = root / SHARED[1:] / importlib.util.cache_from_source(path)[1:]
    found = source.stat()
    # What Python itself compares before it uses a compiled module.
    header = struct.pack("<4sLLL", importlib.util.MAGIC_NUMBER, 0, int(found.st_mtime) & 0xFFFFFFFF, found.st_size)
    with contextlib.suppress(OSError):
        content = shared.read_bytes()
        if content[:HEADER] == header:
            os.makedirs(os.path.dirname(compiled), exist_ok=True)
            Path(compiled).write_bytes(content)
            return
    py_compile.compile(str(source), doraise=True)
    with contextlib.suppress(OSError):
        if (root / SHARED[1:]).is_dir():
            shared.parent.mkdir(parents=True, exist_ok=True)
            # Never visible in parts: another node may read it now, and this one may be killed.
            new = shared.with_name(f"{shared.name}.{os.uname().nodename}")
            new.write_bytes(Path(compiled).read_bytes())
            new.replace(shared)


def main(root: Path) -> None:
    """Compile the modules of all noted packages; the note survives a kill.

    :param root: the node's root directory
    """
    if not (root / NOTED).exists():
        return
    for path in modules(root):
        # As py3compile: a module that cannot be compiled does not stop an installation.
        with contextlib.suppress(OSError, py_compile.PyCompileError):
            compile_module(root, path)
    (root / NOTED).unlink()


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["/"]))
