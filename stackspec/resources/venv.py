"""A Python application that the distribution lacks: in its own virtual environment, from wheels."""

from __future__ import annotations

import functools
import hashlib
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import ActionError, InputError
from ..inventory import Node
from ..secrets import redact
from ..site import Site, cache_directory
from ..store import Part, is_kept, keep
from .actions import Execute, Write
from .base import Change, Context, Difference, Query, Resource, file, run

_PLATFORM = (
    "python3",
    "-c",
    "import platform, sys; print(*sys.version_info[:2], platform.machine(), platform.libc_ver()[1])",
)
_VERSIONS = (
    "import sys; from importlib.metadata import distribution as d\n"
    "print('python ' + '.'.join(map(str, sys.version_info[:2])))\n"
    "for name in sys.argv[1:]: print(name + '==' + d(name).version)"
)
_MACHINE = "x86_64"
"""Machine type of the nodes of a bundle."""
_STAMP = ".stackspec"
_OLDEST_GLIBC = 5
"""glibc minor version of manylinux_2_5, the oldest platform."""
FETCHED_WITHIN = 1800
"""Timeout of pip in seconds for the wheels of an environment, for slow connections."""
_FETCHING = threading.Lock()


@dataclass(frozen=True)
class Venv(Resource):
    """A virtual environment with these applications and their dependencies; nothing is compiled.

    The controlling machine's pip downloads the wheels for the node's Python and platform, so the node needs neither a
    compiler nor access to a registry; libraries of other applications are not affected.

    :param path: the environment
    :param requirements: ``name==version``, as pip takes them
    :param system: whether modules of the distribution are visible, after those of the environment
    """

    path: str
    requirements: tuple[str, ...]
    system: bool = False
    read_again: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return f"{self.path} with {' '.join(self.requirements)}"

    @property
    def stamp(self) -> str:
        """Written last, so it is newer than processes started before the environment was created."""
        return f"{self.path}/{_STAMP}"

    def paths(self, site: Site) -> tuple[str, ...]:
        return (self.stamp,)

    def _installed(self) -> Query:
        return run(f"{self.path}/bin/python", "-c", _VERSIONS, *(each.split("==")[0] for each in self.requirements))

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [self._installed(), run(*_PLATFORM), file(self.stamp)]

    def _part(self, site: Site, platform: list[str]) -> Part:
        python, system = ".".join(platform[:2]), " with glibc ".join(platform[2:])
        return Part(
            f"wheels/{_file_name(self.requirements, platform)}",
            f"wheels of {' '.join(self.requirements)} for Python {python} on {system}",
            lambda: site.outside(lambda: wheels(self.requirements, platform)),
        )

    def parts(self, site: Site) -> list[Part]:
        """Platform of the nodes according to the release table.

        :raises InputError: the table does not define it
        """
        distribution = site.release.distribution
        if not distribution.python or not distribution.glibc:
            raise InputError(
                f"releases/{site.release.name}.yaml: distribution: python and glibc are missing, which select the "
                "wheels of a bundle"
            )
        return [self._part(site, [*distribution.python.split("."), _MACHINE, distribution.glibc])]

    def obstacles(self, context: Context) -> list[str]:
        return context.site.store.lacks(self._part(context.site, _platform(context)))

    def changes(self, context: Context) -> list[Change]:
        platform = _platform(context)
        python = ".".join(platform[:2])
        found = str(context.facts[self._installed()]["out"]).splitlines()
        # A killed installation may have its applications, but has no stamp.
        done = str(context.facts[file(self.stamp)]["content"]) == self._done
        wanted = [f"python {python}", *self.requirements]
        differences = [Difference(self.path, each, "absent") for each in wanted if each not in found]
        if not differences and not done:
            differences.append(Difference(self.path, "fully installed", "interrupted"))
        if not differences:
            return []
        # Downloaded separately first, so that nothing is sent to the node if it fails.
        part = self._part(context.site, platform)
        fetch = functools.cache(lambda: context.site.store.take(part).read_bytes())
        bundle = Write(f"{self.path}.tar", fetch, 0o600)
        what = f"install {' '.join(self.requirements)}"
        install = Execute(("sh", "-c", self._script), timeout=900.0, what=what, show=self._script)
        stamp = Write(self.stamp, self._done, 0o644)
        return [Change(f"create {self.path}", tuple(differences), "", (fetch, bundle, install, stamp), (self.stamp,))]

    @property
    def _done(self) -> str:
        return "".join(f"{each}\n" for each in (*self.requirements, *(("system",) if self.system else ())))

    @property
    def _script(self) -> str:
        path, folder = shlex.quote(self.path), shlex.quote(f"{self.path}.wheels")
        options = "--system-site-packages" if self.system else ""
        pip = f"{path}/bin/python -m pip --isolated --disable-pip-version-check install --quiet --no-index"
        return (
            f"set -e; umask 022; rm -rf {folder}; mkdir {folder}; tar -xf {path}.tar -C {folder}; "
            f"python3 -m venv --clear {options} {path}; "
            f"{pip} --ignore-installed --only-binary :all: --find-links {folder} {shlex.join(self.requirements)}; "
            f"rm -rf {folder} {path}.tar"
        )


def _platform(context: Context) -> list[str]:
    """The node's Python version (two numbers), machine type and glibc version."""
    return str(context.facts[run(*_PLATFORM)]["out"]).split()


def _file_name(requirements: Iterable[str], platform: list[str]) -> str:
    asked = list(requirements)
    name = hashlib.sha256("\n".join([*asked, *platform]).encode()).hexdigest()[:12]
    return f"{asked[0].split('==')[0]}-{name}.tar"


def wheels(requirements: Iterable[str], platform: list[str]) -> Path:
    """A tar archive with wheels of the requirements and their dependencies; downloaded once and cached.

    :param platform: the node's Python version (two numbers), machine type and glibc version
    :raises ActionError: pip failed
    """
    asked = list(requirements)
    if len(platform) != 4:
        raise ActionError(
            f"choose wheels of {' '.join(asked)}",
            output=f"the node's python3 reports {' '.join(platform) or 'nothing'}",
            advice="wheels are for CPython on a Linux with glibc; install python3 there",
        )
    final = cache_directory() / "wheels" / _file_name(asked, platform)
    with _FETCHING:
        if not is_kept(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
            try:
                (work / "wheels").mkdir()
                _download(asked, platform, work / "wheels")
                with tarfile.open(work / final.name, mode="w") as archive:
                    for wheel in sorted((work / "wheels").iterdir()):
                        archive.add(wheel, wheel.name)
                keep(work / final.name, final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return final


def _download(requirements: list[str], platform: list[str], folder: Path) -> None:
    major, minor, machine, glibc = platform
    newest = int(glibc.split(".")[1])
    platforms = [f"manylinux_2_{each}_{machine}" for each in range(newest, _OLDEST_GLIBC - 1, -1)]
    platforms += [f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--only-binary=:all:", "--python-version", f"{major}.{minor}", "--implementation", "cp"]
    command += [word for abi in (f"cp{major}{minor}", "abi3", "none") for word in ("--abi", abi)]
    command += [word for each in platforms for word in ("--platform", each)]
    try:
        done = subprocess.run(
            [*command, *requirements], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=FETCHED_WITHIN
        )
    except subprocess.TimeoutExpired:
        raise ActionError(
            f"download wheels of {' '.join(requirements)}",
            command=shlex.join(["pip", "download", *requirements]),
            output=f"timed out after {FETCHED_WITHIN} s",
            advice="the controlling machine's pip needs access to its index (see pip config list)",
        ) from None
    if done.returncode:
        raise ActionError(
            f"download wheels of {' '.join(requirements)}",
            command=shlex.join(["pip", "download", *requirements]),
            exit_status=done.returncode,
            output=redact(done.stderr + done.stdout),
            advice="the controlling machine's pip needs access to its index (see pip config list)",
        )
