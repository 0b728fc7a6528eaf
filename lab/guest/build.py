"""Builds the test guest image and keeps it in a cache.

The guest stands in for cirros where nothing may be downloaded but Debian packages: user ``cirros`` (password
``gocubsgo`` on the console, keys only by ssh), config drive or metadata service, ``#!`` user data once per instance,
DHCP with classless routes and MTU, ACPI power button, hot-plugged disks, busybox tools.

The build unpacks a handful of packages of Debian 13 with mmdebstrap (nothing of them is installed or started) and
runs ``build.sh`` in that tree. It needs root, an amd64 machine, loop devices, and the package mmdebstrap.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.error import LabError, require, run
from lab.mirror import SUITE, of_machine

PREFIX = "ss-guest-"
RECIPE = Path(__file__).parent
TIMEOUT = 900.0
ADVICE = (
    "It needs the Debian archive with its keys (package debian-archive-keyring) and a loop device; another archive can "
    "be named in $STACKSPEC_MIRROR."
)

# tiny-initramfs is the smallest package that satisfies the kernel's dependency; it is never run.
PACKAGES = (
    *("linux-image-cloud-amd64", "tiny-initramfs", "dropbear-bin", "busybox-static"),
    *("base-files", "dash", "coreutils", "findutils", "grep", "sed", "mawk", "mount", "fdisk", "e2fsprogs"),
    *("kmod", "binutils", "cpio", "lz4", "xz-utils", "extlinux", "syslinux-common", "qemu-utils"),
)
ENTER = """\
PATH=$PATH:/usr/sbin:/sbin
mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh /recipe/build.sh
"""
UNUSED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


class GuestError(LabError):
    """The test guest could not be built; the message names the command and ends with the end of its output."""


def recipe_key(recipe: Path = RECIPE) -> str:
    """Give the key of a recipe: a hash over the names and the contents of its files.

    :param recipe: the folder that holds ``build.py``, ``build.sh`` and ``files/``
    :return: twelve hexadecimal digits; they change when any file of the recipe is changed, added, renamed or removed
    """
    digest = hashlib.sha256()
    for path in sorted(recipe.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(recipe).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


def build_test_guest(cache: Path, say: Callable[[str], None] = print, mirror: str | None = None) -> Path:
    """Build the test guest image, or find the one built before from the same recipe.

    Safe to call from several processes at once: one builds, the others wait for it. A build that was killed leaves
    only a folder ``ss-guest-*`` in the cache, which the next build removes: mounts and loop devices live in a
    namespace that ends with the process.

    :param cache: the folder that keeps the image; made if it is missing
    :param say: receives a line of progress
    :param mirror: URI of a Debian archive; without it $STACKSPEC_MIRROR, then the one this machine's apt uses
    :return: the path of ``test-guest-<key>.qcow2`` in the cache
    :raises GuestError: not root, a missing command, a failing command
    """
    image = cache / f"test-guest-{recipe_key()}.qcow2"
    if image.exists():
        return image
    _check_host()
    mirror = mirror or os.environ.get("STACKSPEC_MIRROR") or _apt_archive()
    cache.mkdir(parents=True, exist_ok=True)
    with _only_builder(cache):
        if image.exists():
            return image
        for leftover in cache.glob(f"{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=PREFIX, dir=cache))
        try:
            _build(work, image, say, mirror)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return image


def _build(work: Path, image: Path, say: Callable[[str], None], mirror: str | None) -> None:
    tools = work / "tools"
    say(f"test guest: unpacking tools of Debian {SUITE}")
    _run(_unpack_command(tools, mirror))
    shutil.copytree(RECIPE, tools / "recipe", ignore=shutil.ignore_patterns("__pycache__"))
    (tools / "out").mkdir()
    say("test guest: building the image")
    _run(["/bin/sh", "-c", ENTER, "build-guest", str(tools)])
    os.replace(tools / "out" / "guest.qcow2", image)
    say(f"test guest: {image} ({image.stat().st_size / 1e6:.0f} MB)")


def _unpack_command(tools: Path, mirror: str | None) -> list[str]:
    command = [
        *("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", "--architectures=amd64"),
        *('--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        *(f"--dpkgopt=path-exclude={path}" for path in UNUSED_PATHS),
        f"--include={','.join(PACKAGES)}",
        SUITE,
        str(tools),
    ]
    return [*command, mirror] if mirror else command


def _run(command: Sequence[str]) -> None:
    # A namespace of its own that is killed with this process, so that no mount, loop device or child outlives it.
    guard = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    try:
        run([*guard, *command], "build the test guest", timeout=TIMEOUT, advice=ADVICE)
    except LabError as error:
        raise GuestError(str(error)) from error


def _apt_archive() -> str | None:
    found = of_machine()
    return found.archive if found else None


def _check_host() -> None:
    if os.geteuid() != 0:
        raise GuestError("Building the test guest needs root: it mounts a disk image")
    try:
        require("mmdebstrap")
    except LabError as error:
        raise GuestError(str(error)) from error


@contextmanager
def _only_builder(cache: Path) -> Iterator[None]:
    with (cache / "test-guest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
