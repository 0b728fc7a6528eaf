"""The Debian programs that build images, unpacked (not installed or started) once for all recipes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ..error import run
from ..made_once import made_once
from ..mirror import SUITE, Mirror
from ..service import for_build

TIMEOUT = 1800.0
ADVICE = (
    "It needs the Debian archive with its keys (package debian-archive-keyring) and a loop device; set another archive "
    "as `mirror` in the inventory's `lab` section or in $STACKSPEC_MIRROR."
)

# Called by boot.sh and recipes. tiny-initramfs is the smallest package that satisfies the kernel's dependency; it is
# never run.
PACKAGES = (
    *("linux-image-cloud-amd64", "tiny-initramfs", "busybox-static", "dropbear-bin"),
    *("base-files", "dash", "coreutils", "findutils", "grep", "sed", "mawk", "mount", "fdisk", "e2fsprogs"),
    *("kmod", "binutils", "cpio", "lz4", "xz-utils", "extlinux", "syslinux-common", "qemu-utils"),
)
UNUSED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def key() -> str:
    """Name of the tree that this recipe makes: another recipe, another name."""
    return f"tools-{SUITE}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"


def ensure(cache: Path, mirror: Mirror | None, say: Callable[[str], None]) -> Path:
    """Unpack the tools unless the cache has them.

    :param cache: the lab's cache directory
    :param mirror: package source, None: mmdebstrap's default
    :param say: called with a line before the work starts and after
    :returns: the tree; nothing may be written to it
    :raises LabError: when mmdebstrap fails
    """

    def make(tree: Path) -> None:
        with for_build(cache, mirror, key()) as through:
            source = mirror.line(mirror.archive, SUITE) if mirror else None
            guarded([*through, *unpack_command("extract", PACKAGES, tree, source)], "unpack the tools of images")

    return made_once(cache / "tools" / key(), "images", f"unpacking tools of Debian {SUITE}", make, say)


def guarded(command: Sequence[str], what: str) -> None:
    """Run a command in a namespace that ends with this process: no mount, loop device or child outlives it.

    :param what: what it does, for the error: "Could not ..."
    :raises LabError: when it fails
    """
    guard = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    run([*guard, *command], what, timeout=TIMEOUT, advice=ADVICE)


def unpack_command(
    variant: str,
    packages: Sequence[str],
    target: Path,
    source: str | None,
    suite: str = SUITE,
    options: Sequence[str] = (),
) -> list[str]:
    """The mmdebstrap command that creates a tree.

    :param variant: `extract` unpacks the packages only, `minbase` installs a system
    :param packages: what it holds
    :param target: the folder to make
    :param source: a line of apt's sources, or None: mmdebstrap's own choice
    :param suite: the release of Debian
    :param options: more options of mmdebstrap
    """
    command = [
        *("mmdebstrap", "--mode=root", f"--variant={variant}", "--format=directory", "--architectures=amd64"),
        *('--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}" for path in UNUSED_PATHS),
        *options,
        f"--include={','.join(packages)}",
        suite,
        str(target),
    ]
    return [*command, source] if source else command
