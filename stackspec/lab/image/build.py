"""Builds a disk image from Debian packages and caches it.

A recipe is a folder with ``build.sh`` and the files that it puts into the image. The build installs a system with
mmdebstrap if the recipe has one, and runs ``build.sh`` in a layer on top of the tools' tree. It needs root, an amd64
machine, loop devices, overlayfs, and the package mmdebstrap.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..error import LabError, require
from ..lock import locked
from ..mirror import SUITE, Mirror
from ..service import for_build
from . import tools

COMMON = Path(__file__).parent
ENTER = """\
PATH=$PATH:/usr/sbin:/sbin
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" && cd "$2/root" &&
mount --rbind /dev dev && mount -t proc proc proc && exec chroot . /bin/sh /recipe/build.sh
"""
# Each package with Python modules starts Python twice and dpkg once to compile them, most of the installation's time;
# build.sh compiles those that stay in the image.
COMPILE_LATER = (
    'chroot "$1" dpkg-divert --quiet --local --rename --divert /usr/bin/py3compile.distrib --add /usr/bin/py3compile'
    ' && ln -s /bin/true "$1/usr/bin/py3compile"'
)


class ImageError(LabError):
    """An image could not be built; the message has the command and the end of its output."""


@dataclass(frozen=True)
class Recipe:
    """How an image is built.

    :param name: name of its files; with spaces instead of hyphens, its name in messages
    :param folder: contains ``build.sh`` and its files; it runs with the folder at /recipe, the shared ``boot.sh`` at
        /common and the system, if any, at /out/root, and writes /out/image.qcow2
    :param system: packages of the system that is installed for it; empty: no system
    """

    name: str
    folder: Path
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

    def records(self, cache: Path) -> tuple[str, ...]:
        """The names of the records of packages that it is made from."""
        return (tools.key(), *((self.path(cache).stem,) if self.system else ()))

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
                self._build(work, image, say, mirror)
            except LabError as error:
                raise ImageError(str(error)) from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return image

    @property
    def _prefix(self) -> str:
        return f"ss-{self.name}-"

    def _build(self, work: Path, image: Path, say: Callable[[str], None], mirror: Mirror | None) -> None:
        started = time.monotonic()
        cache, upper = image.parent, work / "upper"
        for folder in (upper / "out", work / "work", work / "root"):
            folder.mkdir(parents=True)
        for name, folder in (("recipe", self.folder), ("common", COMMON)):
            shutil.copytree(folder, upper / name, ignore=shutil.ignore_patterns("__pycache__"))
        what = f"build the {self.title}"
        if self.system:
            say(f"{self.title}: installing its system (one to three minutes)")
            later = f"--essential-hook={COMPILE_LATER}"
            source = mirror.line(mirror.archive, SUITE) if mirror else None
            command = tools.unpack_command("minbase", self.system, upper / "out/root", source, options=[later])
            with for_build(cache, mirror, image.stem) as through:
                tools.guarded([*through, *command], what)
        tree = tools.ensure(cache, mirror, say)
        say(f"{self.title}: building the image")
        tools.guarded(["/bin/sh", "-c", ENTER, f"build-{self.name}", str(tree), str(work)], what)
        os.replace(upper / "out/image.qcow2", image)
        took = time.monotonic() - started
        say(f"{self.title}: {image} ({image.stat().st_size / 1e6:.0f} MB, {took:.0f} s)")

    def _check_host(self) -> None:
        if os.geteuid() != 0:
            raise ImageError(f"Building the {self.title} needs root: it mounts a disk image")
        try:
            require("mmdebstrap")
        except LabError as error:
            raise ImageError(str(error)) from error
