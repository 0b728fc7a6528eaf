"""Injects and undoes faults on a node. Sent to nodes as one file: standard library only, Python 3.9 or newer.

The undo of an operation is on the node's disk before the operation starts, so that a fault can be undone whatever
happened to the run that injected it.

Sent with a call of `main` at its end, with {"do": "break" or "undo", "name": fault, "operations": [...]}; to undo
without a name is to undo all that is there.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

KEPT = "/var/lib/stackspec/faults"
PATIENCE = 300
READY = 20
LOOP = "stackspec-fault-loop"
UNITS = ("stop", "mask", "disable", "freeze", "kill", "restart")
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def call(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command; the caller checks its exit status."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"timed out after {PATIENCE} s")


def shell(script: str) -> None:
    """Run a script that must succeed."""
    done = call("sh", "-euc", script)
    if done.returncode:
        sys.exit(f"{script}\nended with {done.returncode}: {(done.stderr or done.stdout).strip()}")


class Journal:
    """The undo operations of a fault, in the order of its operations.

    :param name: the fault's
    """

    def __init__(self, name: str) -> None:
        self.folder = os.path.join(KEPT, name)
        self.path = os.path.join(self.folder, "journal")
        self.entries: list[list[str]] = []
        if os.path.exists(self.path):
            with open(self.path) as stream:
                self.entries = json.load(stream)

    def note(self, kind: str, *values: str) -> None:
        """Write down how to undo an operation that is about to start."""
        self.entries.append([kind, *values])
        self._write()

    def forget(self) -> None:
        """Drop the last entry: there is nothing to undo."""
        self.entries.pop()
        self._write()

    def _write(self) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        with open(self.path + ".new", "w") as stream:
            json.dump(self.entries, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self.path + ".new", self.path)

    def keep(self, path: str) -> None:
        """Save a file or folder, or note that it does not exist."""
        copy = os.path.join(self.folder, str(len(self.entries)))
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if os.path.lexists(path):
            if call("cp", "-aT", path, copy).returncode:
                sys.exit(f"{path} cannot be backed up")
            self.note("file", path, copy)
        else:
            self.note("none", path)


def read(path: str) -> str:
    with open(path) as stream:
        return stream.read()


def write(path: str, text: str) -> None:
    """Change only the content of a file."""
    with open(path, "w") as stream:
        stream.write(text)


def set_option(text: str, section: str, option: str, value: str | None) -> str:
    """The text of an INI file with one option set, or removed if the value is None; the rest unchanged."""
    lines: list[str] = []
    here, found = False, False
    end: int | None = None
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("["):
            here = bare == f"[{section}]"
        if here and not bare.startswith(("#", ";")) and bare.partition("=")[0].strip() == option:
            if value is not None and not found:
                lines.append(f"{option} = {value}")
            found = True
            continue
        lines.append(line)
        if here and bare:
            end = len(lines)
    if not found:
        if value is None:
            sys.exit(f"[{section}] has no option {option}; the fault does not fit this site")
        if end is None:
            lines += [f"[{section}]"]
            end = len(lines)
        lines.insert(end, f"{option} = {value}")
    return "\n".join(lines) + "\n"


def active(units: Sequence[str]) -> Sequence[str]:
    """The active units; all of them must be active."""
    for unit in units:
        if call("systemctl", "is-active", unit).returncode:
            sys.exit(f"{unit} is not running; the fault does not fit this site")
    return units


def do_stop(journal: Journal, units: Sequence[str]) -> None:
    journal.note("start", *active(units))
    call("systemctl", "stop", *units)


def do_mask(journal: Journal, units: Sequence[str]) -> None:
    journal.note("unmask", *active(units))
    call("systemctl", "stop", *units)
    call("systemctl", "mask", *units)


def do_disable(journal: Journal, units: Sequence[str]) -> None:
    journal.note("enable", *units)
    call("systemctl", "disable", *units)


def do_freeze(journal: Journal, units: Sequence[str]) -> None:
    """Stop the processes of units, which systemd does not notice."""
    journal.note("thaw", *active(units))
    call("systemctl", "kill", "--signal=SIGSTOP", *units)


def do_kill(journal: Journal, units: Sequence[str]) -> None:
    """Kill units repeatedly."""
    journal.note("loop", *active(units))
    script = f"while :; do systemctl kill --signal=SIGKILL {' '.join(units)}; sleep 1; done"
    call("systemd-run", f"--unit={LOOP}", "sh", "-c", script)


def do_restart(journal: Journal, units: Sequence[str]) -> None:
    """Restart units, and wait a little until they are active."""
    journal.note("restart", *units)
    before = starts(units)
    # A service that fails to start, or takes minutes, is a valid fault as well.
    call("systemctl", "restart", "--no-block", *units)
    until = time.monotonic() + READY
    while time.monotonic() < until:
        time.sleep(1)
        now = starts(units)
        new = all(not old or now[unit] != old for unit, old in before.items())
        if new and call("systemctl", "is-active", *units).returncode == 0:
            break


def starts(units: Sequence[str]) -> dict[str, str]:
    """systemd's id of the last start of each unit; empty if it was never started."""
    show = ("systemctl", "show", "--property=InvocationID", "--value")
    return {unit: call(*show, unit).stdout.strip() for unit in units}


def do_option(journal: Journal, change: dict[str, str]) -> None:
    """Set or remove an option of an INI file."""
    path = change["file"]
    journal.keep(path)
    write(path, set_option(read(path), change["section"], change["option"], change.get("value")))


def do_replace(journal: Journal, change: dict[str, str]) -> None:
    """Replace the first place of a text in a file."""
    path = change["file"]
    text = read(path)
    if text.count(change["old"]) < 1:
        sys.exit(f"{path} does not have {change['old']!r}; the fault does not fit this site")
    journal.keep(path)
    write(path, text.replace(change["old"], change["new"], 1))


def do_begins(journal: Journal, change: dict[str, str]) -> None:
    """Insert a statement at the start of a function: a raise or a return."""
    path = change["file"]
    text = read(path)
    body = ast.parse(text).body
    for name in change["function"].split("."):
        found = [each for each in body if isinstance(each, NAMED) and each.name == name]
        if not found:
            sys.exit(f"{path} has no {change['function']}; the fault does not fit this site")
        body = found[-1].body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(body) > 1:
        first = body[1]  # after the docstring
    lines = text.splitlines()
    number = min([first.lineno, *(each.lineno for each in getattr(first, "decorator_list", []))]) - 1
    lines.insert(number, " " * first.col_offset + change["with"])
    journal.keep(path)
    write(path, "\n".join(lines) + "\n")


def do_append(journal: Journal, change: dict[str, str]) -> None:
    path = change["file"]
    journal.keep(path)
    with open(path, "a") as stream:
        stream.write(change["text"])


def do_write(journal: Journal, change: dict[str, str]) -> None:
    path = change["file"]
    journal.keep(path)
    write(path, change["text"])
    if "mode" in change:
        os.chmod(path, int(change["mode"], 8))


def do_remove(journal: Journal, path: str) -> None:
    if not os.path.lexists(path):
        sys.exit(f"{path} does not exist; the fault does not fit this site")
    journal.keep(path)
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def do_mode(journal: Journal, change: dict[str, str]) -> None:
    path = change["file"]
    journal.keep(path)
    os.chmod(path, int(change["mode"], 8))


def do_owner(journal: Journal, change: dict[str, str]) -> None:
    path = change["file"]
    journal.keep(path)
    shutil.chown(path, *change["owner"].split(":"))


def do_run(journal: Journal, change: dict[str, str]) -> None:
    """Run a script, which has a script that undoes it."""
    journal.note("run", change["undo"])
    done = call("sh", "-euc", change["do"])
    if done.returncode:
        # It may be half done. Its undo may fail on the missing part, and is not retried.
        call("sh", "-uc", change["undo"])
        journal.forget()
        sys.exit(f"{change['do']}\nended with {done.returncode}: {(done.stderr or done.stdout).strip()}")


def break_it(name: str, operations: list[dict[str, Any]]) -> None:
    """Do the operations of a fault, one after the other."""
    journal = Journal(name)
    if journal.entries:
        sys.exit("the fault is already active; undo it first")
    for operation in operations:
        ((kind, values),) = operation.items()
        globals()[f"do_{kind}"](journal, values.split() if kind in UNITS else values)


def restore(path: str, copy: str) -> None:
    """Restore the backup of a path."""
    if os.path.isdir(copy) and not os.path.islink(copy):
        shutil.rmtree(path, ignore_errors=True)
    done = call("cp", "-aT", "--remove-destination", copy, path)
    if done.returncode:
        sys.exit(f"{path} cannot be restored from {copy}: {done.stderr.strip()}")


def undo(name: str) -> None:
    """Undo a fault: first what it changed, then the services that read it."""
    journal = Journal(name)
    for kind, *values in reversed(journal.entries):
        if kind == "file":
            restore(*values)
        elif kind == "none" and os.path.lexists(values[0]):
            os.unlink(values[0])
        elif kind == "run":
            shell(values[0])
    for kind, *units in journal.entries:
        if kind == "thaw":
            call("systemctl", "kill", "--signal=SIGCONT", *units)
        elif kind == "unmask":
            call("systemctl", "unmask", *units)
        elif kind == "enable":
            call("systemctl", "enable", *units)
        elif kind == "loop":
            call("systemctl", "stop", LOOP)
    again = [unit for kind, *units in journal.entries if kind == "restart" for unit in units]
    start = [unit for kind, *units in journal.entries if kind in ("start", "unmask", "loop") for unit in units]
    for verb, units in (("restart", again), ("start", start)):
        if units:
            call("systemctl", "reset-failed", *units)
            await_started(verb, units)
    shutil.rmtree(journal.folder, ignore_errors=True)


def await_started(verb: str, units: Sequence[str]) -> None:
    """Start units, with retries in case a dependency is not ready yet."""
    until = time.monotonic() + PATIENCE
    while call("systemctl", verb, *units).returncode:
        if time.monotonic() > until:
            sys.exit(f"failed to {verb}: {' '.join(units)}; see systemctl status {shlex.join(units)}")
        time.sleep(1)


def left() -> list[str]:
    """Names of the active faults of the node."""
    return sorted(os.listdir(KEPT)) if os.path.isdir(KEPT) else []


def main(message: dict[str, Any]) -> None:
    """Break a node, or undo that, as the message says."""
    if message["do"] == "break":
        break_it(message["name"], message["operations"])
    else:
        errors = []
        for name in [message["name"]] if message["name"] else left():
            try:
                undo(name)
                print(name)
            except SystemExit as error:
                errors.append(f"{name} cannot be undone, see {KEPT}/{name}/journal: {error}")
        if errors:
            sys.exit("\n".join(errors))
