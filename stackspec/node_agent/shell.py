"""Commands on the node, and how their failures are reported."""

from __future__ import annotations

import grp
import pwd
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}

# Locks of the node; commands inherit them, so a command that outlives its connection keeps them.
LOCKS: list[int] = []

# Sends a line of progress.
Say = Callable[[str], None]


class Done(TypedDict):
    """A command that has ended."""

    status: int
    out: str
    err: str


class Failed(Exception):
    """A failed operation, with the details that the controlling machine shows."""

    def __init__(
        self, what: str, status: int | None = None, output: str = "", command: str = "", units: Sequence[str] = ()
    ) -> None:
        super().__init__(what)
        self.answer = {
            "what": what,
            "exit_status": status,
            # The dots tell the masking code that the first word may be the end of a secret.
            "output": output if len(output) <= 6000 else "..." + output[-5997:],
            "command": command,
            "journal": journal(units) if units else "",
        }


def execute(
    argv: Sequence[str], stdin: str = "", user: str = "", env: Mapping[str, str] | None = None, timeout: float = 600.0
) -> Done:
    """Run a command; secrets are passed in `stdin` or `env` (of its own process), never in argv."""
    options: dict[str, Any] = {}
    environment = dict(ENVIRONMENT, **(env or {}))
    if user:
        entry = pwd.getpwnam(user)
        groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
        options = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups, "cwd": "/"}
        environment["HOME"] = entry.pw_dir
    try:
        done = subprocess.run(
            list(argv),
            input=stdin.encode(),
            capture_output=True,
            env=environment,
            timeout=timeout,
            pass_fds=LOCKS,
            **options,
        )
    except FileNotFoundError:
        return {"status": 127, "out": "", "err": f"{argv[0]}: no such command"}
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"") + (error.stderr or b"")
        return {"status": 124, "out": "", "err": f"timed out after {timeout:g} s\n{text.decode(errors='replace')}"}
    return {
        "status": done.returncode,
        "out": done.stdout.decode(errors="replace"),
        "err": done.stderr.decode(errors="replace"),
    }


def journal(units: Sequence[str], lines: int = 25) -> str:
    """The end of the journal of `units`."""
    argv = ["journalctl", "--no-pager", "-q", "-o", "short-precise", "-n", str(lines)]
    for name in units:
        argv += ["-u", name]
    return execute(argv)["out"][-6000:]


def command(
    argv: Sequence[str],
    stdin: str = "",
    user: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float = 600.0,
    expect: Sequence[int] = (0,),
    what: str = "",
    units: Sequence[str] = (),
    show: str = "",
    repair: Sequence[dict[str, Any]] = (),
) -> str:
    """Run a command that changes something; `show` is its text without secrets.

    If it fails and there is something to `repair`, it is run once more after these operations.
    """
    done = execute(argv, stdin, user, env, timeout)
    if done["status"] not in expect and repair:
        for item in repair:
            command(**{key: value for key, value in item.items() if key != "op"})
        done = execute(argv, stdin, user, env, timeout)
    if done["status"] not in expect:
        text = show or " ".join(argv)
        raise Failed(what or text, done["status"], done["err"] + done["out"], text, units)
    return done["out"]
