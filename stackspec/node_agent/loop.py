"""Answers the messages of the controlling machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import boot, disks, files, holding, in_use, packaging, shell, systemd, waits

if TYPE_CHECKING:
    from execnet import Channel


def facts(queries: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
    """Answers in the order of `queries` ([op, args]); all units, and all packages, are read at once."""
    names = {kind: [args[0] for op, args in queries if op == kind] for kind in ("unit", "package")}
    units = systemd.settled_units(names["unit"]) if names["unit"] else {}
    packages = packaging.read_packages(names["package"]) if names["package"] else {}
    answers: list[Any] = []
    for op, args in queries:
        if op == "unit":
            unknown: dict[str, Any] = {"load": "unknown", "active": "", "sub": "", "enabled": "", "started": 0.0}
            unknown.update(invocation="", outdated=False)
            answers.append({**units.get(args[0], unknown), "started_with": systemd.started_with(args[0])})
        elif op == "package":
            answers.append(packages[args[0]])
        else:
            answers.append(QUERIES[op](*args))
    return answers


# In addition to "unit" and "package", which are read all at once.
QUERIES: dict[str, Callable[..., Any]] = {
    "file": lambda path: files.portable(files.read_file(path)),
    "bytes": files.read_bytes,
    "disk": disks.read_disk,
    "http": waits.get,
    "unfinished": packaging.unfinished,
    "uses": in_use.uses,
    "run": lambda argv, stdin, user: shell.execute(argv, stdin, user, timeout=60.0),
}

OPERATIONS: dict[str, Callable[..., object]] = {
    "write": systemd.write,
    "outdate": systemd.outdate,
    "directory": files.directory,
    "command": shell.command,
    "systemctl": systemd.systemctl,
    "await_active": waits.await_active,
    "await_http": waits.await_http,
    "await_command": waits.await_command,
    "apt": packaging.apt,
    "in_service": boot.in_service,
    "finish_apt": packaging.finish_apt,
    "append_line": holding.append_line,
    "hold": holding.hold,
    "remove": lambda path: os.unlink(path) if os.path.lexists(path) else None,
}


def serve(channel: Channel) -> None:
    """Answer messages until the channel closes."""
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            channel.send(message)

    at_work: set[int] = set()

    def answer(number: int, kind: str, items: Sequence[Any]) -> None:
        """Answer one message; `kind` is facts or apply."""
        at_work.add(number)
        try:
            if kind == "facts":
                send(number, "done", facts(items))
                return
            for index, item in enumerate(items):
                arguments = {key: value for key, value in item.items() if key != "op"}
                if item["op"] in ("apt", "hold"):
                    arguments["say"] = lambda text: send(number, "says", text)
                OPERATIONS[item["op"]](**arguments)
                send(number, "applied", index)
            send(number, "done", None)
        except shell.Failed as error:
            send(number, "failed", error.answer)
        except Exception as error:
            send(number, "failed", {"what": f"{type(error).__name__}: {error}", "output": ""})
        finally:
            at_work.discard(number)

    def beat(seconds: float) -> None:
        """Send heartbeats, even while operations run; ends with the connection."""
        with contextlib.suppress(OSError):
            while True:
                time.sleep(seconds)
                send(0, "alive", None)

    for message in channel:
        if message[1] == "beat":
            threading.Thread(target=beat, args=message[2:], daemon=True).start()
            continue
        threading.Thread(target=answer, args=message, daemon=True).start()
    # When idle, release the lock even if a daemon started by a command has inherited it.
    if not at_work:
        for descriptor in shell.LOCKS:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
