"""Waits for services: patient while a service works on its start."""

from __future__ import annotations

import http.client
import os
import time
import urllib.parse
from collections.abc import Sequence

from . import shell, systemd

PROC = "/proc"

# The part of a CPU's time that a service uses at least while it works on its start.
AT_WORK = 0.05

# A start is waited for up to this multiple of its timeout.
MAX_EXTENSION = 8


def get(url: str, timeout: float = 10.0) -> int | str:
    """Status of a GET without following redirects, or the error as text."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", (parts.path or "/") + ("?" + parts.query if parts.query else ""))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def cpu_time(units: Sequence[str]) -> dict[tuple[str, str], float]:
    """Seconds of CPU time of each process of `units`, by process id and start."""
    names = [f"/{name if '.' in name else name + '.service'}" for name in units]
    used: dict[tuple[str, str], float] = {}
    for pid in filter(str.isdigit, os.listdir(PROC)):
        try:
            with open(f"{PROC}/{pid}/cgroup") as lines:
                groups = lines.read()
            if any(name in groups for name in names):
                with open(f"{PROC}/{pid}/stat") as line:
                    fields = line.read().rpartition(")")[2].split()
                used[pid, fields[19]] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        except OSError:  # it has ended
            continue
    return used


class Patience:
    """Ends a wait for a service when `timeout` has passed and it does not work on its start any more.

    A service at work uses CPU time; on a slow machine its start takes long. One that ends and starts over and over is
    not at work: only processes that live on count.
    """

    def __init__(self, timeout: float, units: Sequence[str]) -> None:
        self._units, self._timeout, self._began = units, timeout, time.monotonic()
        self._until = timeout
        self._before: dict[tuple[str, str], float] | None = None

    def over(self) -> bool:
        """Whether to give up."""
        waited = time.monotonic() - self._began
        if self._before is None and waited >= self._until - self._timeout / 2:
            self._before = cpu_time(self._units)
        if self._before is None or waited < self._until:
            return False
        now = cpu_time(self._units)
        used = sum(max(now[each] - self._before[each], 0) for each in now.keys() & self._before.keys())
        if used < AT_WORK * self._timeout / 2 or waited >= MAX_EXTENSION * self._timeout:
            return True
        self._until, self._before = self._until + self._timeout, None
        return False

    def __str__(self) -> str:
        return f"{self._until:g} s"


def await_active(units: Sequence[str], timeout: float = 60.0) -> None:
    """Wait until `units` are active and not restarting."""
    patience = Patience(timeout, units)
    while True:
        states = systemd.read_units(list(units))
        waiting = [name for name, state in states.items() if state["active"] != "active"]
        if not waiting:
            return
        if patience.over():
            found = ", ".join(f"{name} is {states[name]['active']} ({states[name]['sub']})" for name in waiting)
            raise shell.Failed(f"{', '.join(waiting)} not active after {patience}: {found}", units=waiting)
        time.sleep(0.1)


def await_http(url: str, statuses: Sequence[int], timeout: float = 90.0, units: Sequence[str] = ()) -> None:
    """Wait until a GET of `url` returns one of `statuses`."""
    patience = Patience(timeout, units)
    while True:
        answer = get(url)
        if answer in statuses:
            return
        if patience.over():
            raise shell.Failed(f"{url} answers {answer!r} after {patience}, wanted {list(statuses)}", units=units)
        time.sleep(0.2)


def await_command(
    argv: Sequence[str],
    stdin: str = "",
    user: str = "",
    timeout: float = 60.0,
    what: str = "",
    units: Sequence[str] = (),
) -> None:
    """Wait until a read-only command exits with 0."""
    patience = Patience(timeout, units)
    while True:
        done = shell.execute(argv, stdin, user, timeout=timeout)
        if done["status"] == 0:
            return
        if patience.over():
            shown = " ".join(argv)
            raise shell.Failed(what or shown, done["status"], done["err"] + done["out"], shown, units)
        time.sleep(0.3)
