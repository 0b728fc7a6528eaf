"""An environment of Python applications, made on the controlling machine for nodes that may have another Python.

uv resolves and unpacks for the node's Python and platform, whatever runs here. The result is one archive, kept in the
cache under a name that tells what it was made of; nodes unpack it at the path for which its scripts were written.
"""

from __future__ import annotations

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
from pathlib import Path

import uv

from .errors import ActionError
from .release import Wheels
from .secrets import redact
from .site import cache_directory

RECIPE = 1
"""Goes up when environments are made otherwise, so that nodes get new ones."""
COMMANDS = "commands"
"""File of the environment: the commands that are to be found on the node's path, one a line."""
COMPILED = "compiled"
"""File of the environment that is there when its modules are compiled already."""
_MADE_WITHIN = 3600
"""Seconds that uv may take, on a slow line."""
_MAKING = threading.Lock()
_SCRIPT = re.compile(rb"\A#!([^\n]*python[^\n]*\n|/bin/sh\n'''exec' [^\n]*\n' '''\n)")
"""The first lines of a script, which say with which Python it runs; a long path is put into a line of its own."""
_NOT_PORTABLE = re.compile(r"^Tag: \S*-linux_\S+$", re.MULTILINE)
"""What a wheel says of itself that was compiled where it was unpacked: it may need libraries of that machine."""


def folder_of(wheels: Wheels) -> str:
    """Where an environment is on its nodes: other applications, another folder.

    :param wheels: what it is made of
    """
    made_of = [RECIPE, wheels.path, wheels.python, wheels.platform, wheels.constraints_text()]
    made_of += map(list, (wheels.projects, wheels.beside, wheels.elsewhere, wheels.build, wheels.commands))
    return f"{wheels.path}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}"


def archive(wheels: Wheels) -> Path:
    """The file of the environment, a compressed tar archive; made once and kept in the cache.

    :param wheels: what it is made of
    :raises ActionError: the requirements do not resolve, cannot be fetched, or one of them had to be compiled
    """
    folder = folder_of(wheels)
    final = cache_directory() / "environments" / f"{Path(folder).name}.tar.gz"
    final.parent.mkdir(parents=True, exist_ok=True)
    with _MAKING, (final.parent / "lock").open("w") as lock:
        # Another run may be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_file():
            work = Path(tempfile.mkdtemp(prefix=".make-", dir=final.parent))
            try:
                _make(wheels, folder, work)
                (work / "archive").rename(final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return final


def _make(wheels: Wheels, folder: str, work: Path) -> None:
    """Make `work`/archive."""
    library = work / "tree" / "lib" / f"python{wheels.python}" / "site-packages"
    library.mkdir(parents=True)
    _install(wheels, work, library)
    _refuse_compiled(library)
    commands = _commands(wheels, library)
    for name in ("bin", "etc", "share"):
        if (library / name).is_dir():
            (library / name).rename(work / "tree" / name)
    shutil.rmtree(library / "include", ignore_errors=True)
    for tests in [path for path in library.rglob("tests") if path.is_dir()]:
        # Of the projects themselves, a quarter of it all.
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
        # Modules for other versions of Python do not compile, and nobody imports them: that is no error.
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


def _install(wheels: Wheels, work: Path, target: Path) -> None:
    (work / "constraints").write_text(wheels.constraints_text())
    (work / "elsewhere").write_text("".join(f'{name}; python_version < "3"\n' for name in wheels.elsewhere))
    (work / "build").write_text("".join(f"{each}\n" for each in wheels.build))
    requirements = [*wheels.projects, *wheels.beside]
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(target), "--link-mode", "copy"]
    command += ["--python", sys.executable, "--python-version", wheels.python, "--python-platform", wheels.platform]
    command += ["--constraints", str(work / "constraints"), "--overrides", str(work / "elsewhere")]
    command += ["--build-constraints", str(work / "build"), *requirements]
    shown = shlex.join(["uv", "pip", "install", *requirements])
    what = f"make an environment with {len(requirements)} applications for Python {wheels.python}"
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
            output=f"it did not end within {_MADE_WITHIN} s",
            advice="the controlling machine has to reach a package index ($UV_DEFAULT_INDEX names another one)",
        ) from None
    if done.returncode:
        raise ActionError(
            what,
            command=shown,
            exit_status=done.returncode,
            output=redact(done.stderr + done.stdout),
            advice=f"the constraints are in {wheels.constraints} beside the release table; the controlling machine has "
            "to reach a package index ($UV_DEFAULT_INDEX names another one)",
        )


def _refuse_compiled(library: Path) -> None:
    """See that nothing was compiled here: nodes have neither this machine's libraries nor a compiler.

    :raises ActionError: naming the projects
    """
    found = [each.parent.name for each in library.glob("*.dist-info/WHEEL") if _NOT_PORTABLE.search(each.read_text())]
    if found:
        names = ", ".join(sorted(name.removesuffix(".dist-info") for name in found))
        raise ActionError(
            f"make an environment without a compiler: {names} is on the index as source only and was compiled here",
            advice="name it in the release table at wheels.elsewhere, with a package of the distribution that has it",
        )


def _commands(wheels: Wheels, library: Path) -> list[str]:
    """Commands of the projects themselves, and those of others that the table names."""
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
