"""The kernel of nodes with their own kernel: User-Mode Linux, which runs as a process on the host.

Debian's package is unpacked, not installed, into a tree with the C library that it was built for, so that it runs on
hosts with another one. Debian 13's package (6.12) only supports ptrace, which makes each system call of a node 50 %
slower; the next Debian's supports seccomp.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ..error import require, run
from ..image.tools import unpack_command
from ..made_once import made_once
from ..mirror import Mirror
from ..service import for_build

SUITE = "forky"
PACKAGES = ("user-mode-linux", "gcc", "libc6-dev")

MODULES = "modules"
"""Files below the tree that are copied onto a node's root file system."""
LIBRARY = "usr/local/lib/lab-kernel.so"
"""For all programs of a node: what is slow on this kernel, done faster."""
PYTHON = "usr/local/lib/lab-python"
"""Folder of a module that Python imports at each start on a node."""
_SOURCES = (Path(__file__).with_name("clock.c"), Path(__file__).with_name("memory.c"))
_MODULE = Path(__file__).with_name("sitecustomize.py")
_COMPILE = f"/usr/bin/gcc -O2 -Wall -Werror -shared -fPIC -o /library.so {' '.join(path.name for path in _SOURCES)}"
_ENTER = f'mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh -c "{_COMPILE}"'
# Only needed by the compiler.
_UNUSED = ("usr/lib/gcc", "usr/libexec", "usr/include", "usr/share", "var", *(path.name for path in _SOURCES))


def key() -> str:
    """Name of the tree that this recipe makes: another recipe, another name."""
    recipe = json.dumps([SUITE, PACKAGES, *(path.read_text() for path in (*_SOURCES, _MODULE, Path(__file__)))])
    return f"uml-{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def path_of(cache: Path, name: str) -> Path:
    """The path of the tree of that name."""
    return cache / "kernel" / name


def ensure(cache: Path, mirror: Mirror, say: Callable[[str], None]) -> Path:
    """Unpack the kernel and build what its nodes need, unless the cache has it.

    :param cache: the lab's cache directory
    :param mirror: package source
    :param say: called with a line before the work starts and after
    :returns: the tree; the kernel is usr/bin/linux.uml in it, and its modules, the library and the Python module are
        below MODULES
    :raises LabError: when a command fails
    """
    doing = f"unpacking User-Mode Linux of Debian {SUITE}"
    return made_once(path_of(cache, key()), "kernel", doing, lambda tree: _build(tree, mirror, cache), say)


def _build(tree: Path, mirror: Mirror, cache: Path) -> None:
    require("mmdebstrap")
    # The next Debian's index expires after some days, and a mirror that stands still for longer is as good for a lab.
    # Its signature is checked as any other's.
    source = mirror.line(mirror.archive, SUITE, stale=True)
    with for_build(cache, mirror, key()) as through:
        run(
            [*through, *unpack_command("extract", (*PACKAGES, "dash", "base-files"), tree, source, suite=SUITE)],
            "unpack the kernel of nodes",
            timeout=900,
            advice=f"It needs the suite {SUITE} of the Debian archive {mirror.archive}.",
        )
    for folder in ("proc", "dev", "node"):
        (tree / folder).mkdir(exist_ok=True)
    for path in _SOURCES:
        shutil.copy(path, tree)
    guard = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(tree)]
    run(guard, "compile the library of nodes with a kernel of their own")
    over = tree / MODULES
    (over / LIBRARY).parent.mkdir(parents=True)
    (tree / "library.so").rename(over / LIBRARY)
    (over / PYTHON).mkdir()
    shutil.copy(_MODULE, over / PYTHON)
    modules = over / "usr/lib/modules"
    modules.parent.mkdir(parents=True, exist_ok=True)
    (tree / "usr/lib/uml/modules").rename(modules)
    for name in _UNUSED:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
