"""Builds a disk image from Debian packages and caches it.

A recipe is a folder with ``build.sh`` and the files that it puts into the image. The build unpacks tools of Debian 13
with mmdebstrap (without installing or starting them), installs a system next to them if the recipe has one, and runs
``build.sh`` in the tools' tree. It needs root, an amd64 machine, loop devices, and the package mmdebstrap.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..error import LabError, require, run
from ..lock import locked
from ..mirror import SUITE, Mirror
from ..service import for_build

COMMON = Path(__file__).parent
TIMEOUT = 1800.0
ADVICE = (
    "It needs the Debian archive with its keys (package debian-archive-keyring) and a loop device; set another archive "
    "as `mirror` in the inventory's `lab` section or in $STACKSPEC_MIRROR."
)

# Called by boot.sh. tiny-initramfs is the smallest package that satisfies the kernel's dependency; it is never run.
TOOLS = (
    *("linux-image-cloud-amd64", "tiny-initramfs", "busybox-static"),
    *("base-files", "dash", "coreutils", "findutils", "grep", "sed", "mawk", "mount", "fdisk", "e2fsprogs"),
    *("kmod", "binutils", "cpio", "lz4", "xz-utils", "extlinux", "syslinux-common", "qemu-utils"),
)
ENTER = """\
PATH=$PATH:/usr/sbin:/sbin
mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh /recipe/build.sh
"""
# Each package with Python modules starts Python twice and dpkg once to compile them, most of the installation's time;
# build.sh compiles those that stay in the image.
COMPILE_LATER = (
    'chroot "$1" dpkg-divert --quiet --local --rename --divert /usr/bin/py3compile.distrib --add /usr/bin/py3compile'
    ' && ln -s /bin/true "$1/usr/bin/py3compile"'
)
UNUSED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


class ImageError(LabError):
    """An image could not be built; the message has the command and the end of its output."""


@dataclass(frozen=True)
class Recipe:
    """How an image is built.

    :param name: name of its files; with spaces instead of hyphens, its name in messages
    :param folder: contains ``build.sh`` and its files; it runs with the folder at /recipe, the shared ``boot.sh`` at
        /common and the system, if any, at /out/root, and writes /out/image.qcow2
    :param tools: packages that it needs in addition to TOOLS
    :param system: packages of the system that is installed for it; empty: no system
    """

    name: str
    folder: Path
    tools: tuple[str, ...] = ()
    system: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The image's name in messages."""
        return self.name.replace("-", " ")

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change when any file of the recipe is changed, added, renamed or removed."""
        digest = hashlib.sha256()
        for folder in (COMMON, self.folder):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    content = path.read_bytes()
                    digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
                    digest.update(content)
        return digest.hexdigest()[:12]

    def path(self, cache: Path) -> Path:
        """The path of the image in the cache, whether it exists or not."""
        return cache / f"{self.name}-{self.key}.qcow2"

    def build(self, cache: Path, say: Callable[[str], None] = print, mirror: Mirror | None = None) -> Path:
        """Build the image, or find the one built before from the same recipe.

        Safe to call from several processes at once: one builds, the others wait for it. A killed build leaves only a
        folder in the cache, which the next build removes: mounts and loop devices are in a namespace that ends with
        the process.

        :param cache: the folder for the image; created if missing
        :param say: receives a line of progress
        :param mirror: package source, None: mmdebstrap's default
        :return: the path of the image in the cache
        :raises ImageError: not root, a missing command, a failing command
        """
        image = self.path(cache)
        if image.exists():
            return image
        self._check_host()
        with locked(cache / f"{self.name}.lock"):
            if image.exists():
                return image
            for leftover in cache.glob(f"{self._prefix}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=self._prefix, dir=cache))
            try:
                with for_build(cache, mirror, image.stem) as through:
                    self._build(work, image, say, mirror.line(mirror.archive, SUITE) if mirror else None, through)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return image

    @property
    def _prefix(self) -> str:
        return f"ss-{self.name}-"

    def _build(
        self, work: Path, image: Path, say: Callable[[str], None], source: str | None, through: Sequence[str]
    ) -> None:
        started = time.monotonic()
        tools, system = work / "tools", work / "system"
        say(f"{self.title}: unpacking tools of Debian {SUITE}")
        self._run([*through, *unpack_command("extract", (*TOOLS, *self.tools), tools, source)])
        for name, folder in (("recipe", self.folder), ("common", COMMON)):
            shutil.copytree(folder, tools / name, ignore=shutil.ignore_patterns("__pycache__"))
        (tools / "out").mkdir()
        if self.system:
            say(f"{self.title}: installing its system (one to three minutes)")
            later = f"--essential-hook={COMPILE_LATER}"
            self._run([*through, *unpack_command("minbase", self.system, system, source, options=[later])])
            system.rename(tools / "out" / "root")
        say(f"{self.title}: building the image")
        self._run(["/bin/sh", "-c", ENTER, f"build-{self.name}", str(tools)])
        os.replace(tools / "out" / "image.qcow2", image)
        took = time.monotonic() - started
        say(f"{self.title}: {image} ({image.stat().st_size / 1e6:.0f} MB, {took:.0f} s)")

    def _run(self, command: Sequence[str]) -> None:
        # In its own namespace, which ends with this process, so that no mount, loop device or child outlives it.
        guard = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        try:
            run([*guard, *command], f"build the {self.title}", timeout=TIMEOUT, advice=ADVICE)
        except LabError as error:
            raise ImageError(str(error)) from error

    def _check_host(self) -> None:
        if os.geteuid() != 0:
            raise ImageError(f"Building the {self.title} needs root: it mounts a disk image")
        try:
            require("mmdebstrap")
        except LabError as error:
            raise ImageError(str(error)) from error


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
