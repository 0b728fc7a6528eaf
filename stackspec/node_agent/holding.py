"""Who deploys on this node, and the record of its steps."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time

from . import boot, files, shell, systemd


def append_line(path: str, line: str, limit: int = 1000) -> None:
    """Append a line to the node's ledger, which keeps the last `limit` lines, and the last line of each step."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with systemd.RECORD_LOCK:
        lines = files.read_file(path)["content"].splitlines()
        last = {_step_of(each): number for number, each in enumerate(lines)}
        kept = {*last.values(), *range(len(lines) - limit, len(lines))}
        lines = [each for number, each in enumerate(lines) if number in kept]
        files.replace(path, "\n".join([*lines, line]) + "\n", mode=0o600)


def _step_of(line: str) -> object:
    """The step that a line of the ledger is about, None if it is no such line."""
    with contextlib.suppress(ValueError, AttributeError):
        return json.loads(line).get("step")
    return None


def hold(
    path: str, holder: str, run_timeout: float = 20.0, command_timeout: float = 900.0, say: shell.Say | None = None
) -> None:
    """Lock the node for this interpreter. A live run is waited for briefly, operations of a dead one until they end."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    began, told = time.monotonic(), 0.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            text, _, agent = files.read_file(path)["content"].partition("\n")
            holders = holders_of(path)
        lives = agent.strip() in holders
        if lives and text == holder:
            # Our own interpreter of a lost connection; its operations hold the lock, so wait for them.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(agent), signal.SIGKILL)
        commands = "; ".join(f"{pid} {argv}" for pid, argv in holders.items() if pid != agent.strip())
        busy = (
            f"{text} is deploying on this node"
            if lives
            else f"a command started by {text} is still running on this node: {commands}"
        )
        now = time.monotonic()
        if now - began > (run_timeout if lives else command_timeout):
            os.close(descriptor)
            raise shell.Failed(f"{busy}; wait until it ends, or stop it, then deploy again")
        if say and now - told > 10.0:
            told = now
            say("waiting: " + busy)
        time.sleep(0.3)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{holder}\n{os.getpid()}\n".encode(), 0)
    shell.LOCKS.append(descriptor)
    boot.let_start()


def holders_of(path: str) -> dict[str, str]:
    """Other processes that have the file open: id -> command line."""
    found = {}
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if any(os.path.realpath(f"/proc/{pid}/fd/{n}") == path for n in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/cmdline") as stream:
                    found[pid] = stream.read().replace("\0", " ").strip()[:100]
    return found
