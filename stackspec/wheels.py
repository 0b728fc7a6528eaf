"""An environment of Python applications, built on the controlling machine for nodes with a possibly different Python.

uv resolves and unpacks for the node's Python and platform, independent of this machine. The result is one archive,
cached under a name derived from its inputs; nodes unpack it at the path for which its scripts were written.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import uv

from .errors import ActionError, InputError
from .release import Wheels
from .secrets import redact
from .site import cache_directory
from .store import is_kept, keep

RECIPE = 1
"""Increased when environments are built differently, so that nodes get new ones."""
COMMANDS = "commands"
"""File of the environment: the commands for the node's path, one per line."""
COMPILED = "compiled"
"""File of the environment that exists once its modules are compiled."""
_MADE_WITHIN = 3600
"""Timeout of uv in seconds, for slow connections."""
_MAKING = threading.Lock()
_CHECKED: dict[str, str] = {}
"""Environment -> why it cannot be resolved: all nodes need the same one."""
_SCRIPT = re.compile(rb"\A#!([^\n]*python[^\n]*\n|/bin/sh\n'''exec' [^\n]*\n' '''\n)")
"""The first lines of a script, which select the Python; a long path is on a separate line."""
_NOT_BUILT = re.compile(r"Failed to (?:build|download and build)|Call to `\S+` failed")
"""uv's message about a project that is on the index only as source, and needs a compiler or a library here."""
_EXCLUDE = (
    "a project must be compiled: list it under wheels.excluded in the release table, and the distribution's package "
    "that has it under wheels.needs"
)
_NOT_PORTABLE = re.compile(r"^Tag: \S*-linux_\S+$", re.MULTILINE)
"""Tag of a wheel that was compiled on this machine: it may need this machine's libraries."""


def folder_of(wheels: Wheels) -> str:
    """The path of an environment on its nodes, which changes with its content.

    :param wheels: its content
    """
    made_of = [RECIPE, wheels.path, wheels.python, wheels.platform, wheels.constraints_text()]
    made_of += map(list, (wheels.projects, wheels.libraries, wheels.excluded, wheels.build, wheels.commands))
    return f"{wheels.path}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}"


def library_of(wheels: Wheels) -> str:
    """The path of an environment's Python modules on its nodes.

    :param wheels: its content
    """
    return f"{folder_of(wheels)}/lib/python{wheels.python}/site-packages"


def check_requirements(wheels: Wheels) -> None:
    """Check that the environment can be resolved, before any node is changed; immediate if it is cached.

    What is downloaded for it is used again by `archive`.

    :param wheels: its content
    :raises InputError: the requirements cannot be resolved, or no package index answers
    """
    name = folder_of(wheels)
    with _making() as folder:
        if name not in _CHECKED:
            _CHECKED[name] = "" if is_kept(_cached(wheels)) else _unsolvable(wheels, folder)
        if _CHECKED[name]:
            raise InputError(_CHECKED[name])


def _unsolvable(wheels: Wheels, folder: Path) -> str:
    """Why the requirements cannot be resolved; empty if they can."""
    with tempfile.TemporaryDirectory(prefix=".check-", dir=folder, ignore_cleanup_errors=True) as work:
        try:
            _install(wheels, Path(work), Path(work, "tree"), "--dry-run")
        except ActionError as error:
            return str(error)
    return ""


def archive(wheels: Wheels) -> Path:
    """The archive of the environment, a compressed tar file; built once and cached.

    :param wheels: its content
    :raises ActionError: the requirements cannot be resolved or downloaded, or one had to be compiled
    """
    final = _cached(wheels)
    with _making() as folder:
        if not is_kept(final):
            work = Path(tempfile.mkdtemp(prefix=".make-", dir=folder))
            try:
                _make(wheels, folder_of(wheels), work)
                keep(work / "archive", final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return final


def _cached(wheels: Wheels) -> Path:
    return cache_directory() / "environments" / f"{Path(folder_of(wheels)).name}.tar.gz"


@contextlib.contextmanager
def _making() -> Iterator[Path]:
    """The folder of the archives, which no other thread or run changes meanwhile."""
    folder = cache_directory() / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    with _MAKING, (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _make(wheels: Wheels, folder: str, work: Path) -> None:
    """Make `work`/archive."""
    library = work / "tree" / Path(library_of(wheels)).relative_to(folder)
    library.mkdir(parents=True)
    _install(wheels, work, library)
    _refuse_compiled(library)
    commands = _commands(wheels, library)
    for name in ("bin", "etc", "share"):
        if (library / name).is_dir():
            (library / name).rename(work / "tree" / name)
    shutil.rmtree(library / "include", ignore_errors=True)
    for tests in [path for path in library.rglob("tests") if path.is_dir()]:
        # The projects' own tests, a quarter of the total.
        shutil.rmtree(tests, ignore_errors=True)
    scripts = work / "tree" / "bin"
    for script in scripts.iterdir():
        text = script.read_bytes()
        script.write_bytes(_SCRIPT.sub(f"#!{folder}/bin/python\n".encode(), text, count=1))
        script.chmod(0o755)
    for name in ("python", "python3", f"python{wheels.python}"):
        (scripts / name).symlink_to(f"/usr/bin/python{wheels.python}")
    (work / "tree" / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")
    (work / "tree" / COMMANDS).write_text("".join(f"{name}\n" for name in commands))
    if wheels.python == ".".join(map(str, sys.version_info[:2])):
        # Modules for other Python versions do not compile, but are never imported: not an error.
        command = [sys.executable, "-W", "ignore", "-m", "compileall", "-q", "-q", "-j", "0"]
        command += ["-s", str(work / "tree"), "-p", folder, str(work / "tree" / "lib")]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        (work / "tree" / COMPILED).touch()
    with (
        (work / "archive").open("wb") as out,
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=3, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        tar.add(work / "tree", ".", filter=_as_root)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _install(wheels: Wheels, work: Path, target: Path, *options: str) -> None:
    (work / "constraints").write_text(wheels.constraints_text())
    (work / "excluded").write_text("".join(f'{name}; python_version < "3"\n' for name in wheels.excluded))
    (work / "build").write_text("".join(f"{each}\n" for each in wheels.build))
    requirements = [*wheels.projects, *wheels.libraries]
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(target), "--link-mode", "copy"]
    command += ["--python", sys.executable, "--python-version", wheels.python, "--python-platform", wheels.platform]
    command += ["--constraints", str(work / "constraints"), "--overrides", str(work / "excluded")]
    command += ["--build-constraints", str(work / "build"), *options, *requirements]
    shown = shlex.join(["uv", "pip", "install", *requirements])
    what = f"build an environment with {len(requirements)} applications for Python {wheels.python}"
    environment = {**os.environ, "UV_CACHE_DIR": str(cache_directory() / "uv")}
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MADE_WITHIN,
        )
    except subprocess.TimeoutExpired:
        raise ActionError(
            what,
            command=shown,
            output=f"timed out after {_MADE_WITHIN} s",
            advice="the controlling machine needs access to a package index (set $UV_DEFAULT_INDEX for another one)",
        ) from None
    if done.returncode:
        raise ActionError(
            what,
            command=shown,
            exit_status=done.returncode,
            output=redact(done.stderr + done.stdout),
            advice=_EXCLUDE
            if _NOT_BUILT.search(done.stderr)
            else f"the constraints are in {wheels.constraints} next to the release table; the controlling machine "
            "needs access to a package index (set $UV_DEFAULT_INDEX for another one)",
        )


def _refuse_compiled(library: Path) -> None:
    """Check that nothing was compiled here: nodes have neither this machine's libraries nor a compiler.

    :raises ActionError: naming the projects
    """
    found = [each.parent.name for each in library.glob("*.dist-info/WHEEL") if _NOT_PORTABLE.search(each.read_text())]
    if found:
        names = ", ".join(sorted(name.removesuffix(".dist-info") for name in found))
        raise ActionError(
            f"build an environment without a compiler: {names} is on the index only as source and was compiled here",
            advice=_EXCLUDE,
        )


def _commands(wheels: Wheels, library: Path) -> list[str]:
    """Commands of the projects, and those of others that the table lists."""
    found = set(wheels.commands)
    wanted = {_normal(name.split("==")[0]) for name in wheels.projects}
    for record in library.glob("*.dist-info/RECORD"):
        project = record.parent.name.removesuffix(".dist-info").rsplit("-", 1)[0]
        if _normal(project) in wanted:
            with record.open(newline="") as rows:
                names = [Path(row[0]) for row in csv.reader(rows) if row]
            found |= {name.name for name in names if name.parent.name == "bin"}
    return sorted(name for name in found if (library / "bin" / name).is_file())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
