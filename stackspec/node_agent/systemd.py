"""Units of systemd: their states, what they were started with, starts and restarts."""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from . import files, shell

UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,ExecMainStartTimestamp,ActiveEnterTimestamp,MainPID,Result,"
    "InvocationID,NeedDaemonReload"
)

# What changes which units start at boot. systemctl then makes systemd read all units again, seconds on a slow node, and
# until that has happened every unit looks outdated; OFFLINE it only changes the links.
AT_BOOT = ("enable", "unmask", "mask")

OFFLINE = {"SYSTEMD_OFFLINE": "1"}

# One file per unit that was started here: the id of that start, and the digests of the unit's files.
STARTED = "/var/lib/stackspec/started"

# Seconds for which a unit may look outdated because another process makes systemd read all units.
RELOADED_WITHIN = 5.0

RECORD_LOCK = threading.Lock()


def settled_units(names: Sequence[str], timeout: float = 60.0) -> dict[str, dict[str, Any]]:
    """States of units, waiting for those that are starting: right after power-on, states are not final.

    The same while another process makes systemd reload its unit files, which may affect any unit.
    """
    began = time.monotonic()
    while True:
        states, waited = read_units(names), time.monotonic() - began
        activating = any(state["active"] == "activating" for state in states.values())
        outdated = any(state["outdated"] for state in states.values())
        if not ((activating and waited <= timeout) or (outdated and waited <= RELOADED_WITHIN)):
            return states
        time.sleep(0.5)


def read_units(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The current state of each unit."""
    argv = ["systemctl", "show", "--no-pager", "--timestamp=us+utc", "--property=" + UNIT_PROPERTIES, "--"]
    blocks = shell.execute(argv + [n if "." in n else n + ".service" for n in names])["out"].split("\n\n")
    answers = {}
    for name, block in zip(names, blocks):
        found = dict(line.split("=", 1) for line in block.strip().splitlines() if "=" in line)
        answers[name] = {
            "load": found.get("LoadState", ""),
            "active": found.get("ActiveState", ""),
            "sub": found.get("SubState", ""),
            "enabled": found.get("UnitFileState", ""),
            "result": found.get("Result", ""),
            "pid": int(found.get("MainPID") or 0),
            "invocation": found.get("InvocationID", ""),
            "outdated": found.get("NeedDaemonReload") == "yes",
            "started": _moment(found.get("ExecMainStartTimestamp") or found.get("ActiveEnterTimestamp", "")),
        }
    return answers


def started_with(name: str) -> dict[str, Any]:
    """The record of a unit's last start here: {invocation, files}; the digest of a file that we changed since is ""."""
    text = files.read_file(f"{STARTED}/{name}")["content"]
    return json.loads(text) if text else {"invocation": "", "files": {}}


def _moment(text: str) -> float:
    """A time of systemd in seconds since the epoch, 0.0 if there is none."""
    try:
        moment = datetime.datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def write(
    path: str, content: str | bytes, mode: int | None = None, owner: str | None = None, group: str | None = None
) -> None:
    """Write a file, text or bytes, atomically. Unset attributes stay; a new file is owned by root with mode 0644."""
    outdate([path])
    files.replace(path, content, mode, owner, group)


def outdate(names: Sequence[str]) -> None:
    """Record, before the change, that files or other inputs of units change: running units count as started before it.

    The record outlives this run: a content that is restored later does not show what a unit has read in between.
    """
    with RECORD_LOCK:
        for unit in os.listdir(STARTED) if os.path.isdir(STARTED) else ():
            # With a dot: a partly written record of a killed run.
            kept = started_with(unit) if unit[0] != "." else {"files": {}}
            outdated = [name for name in names if kept["files"].get(name)]
            if outdated:
                kept["files"].update(dict.fromkeys(outdated, ""))
                files.replace(f"{STARTED}/{unit}", json.dumps(kept), 0o600)


def systemctl(verb: str, units: Sequence[str], timeout: float = 300.0, reads: Sequence[str] = ()) -> None:
    """One systemctl call for all `units`; restart and start wait until they are active.

    After a restart, records the content with which the units were started: of `reads`, and of their files from before.
    What enables or masks them only changes links.
    """
    read = {name: {*reads, *started_with(name)["files"]} for name in units} if verb == "restart" else {}
    # Read before they start: a later change may or may not be effective.
    now = {path: files.digest(files.read_file(path)) for paths in read.values() for path in paths}
    if verb in ("start", "restart"):
        shell.execute(["systemctl", "reset-failed", "--", *units])
    done = shell.execute(["systemctl", verb, "--", *units], timeout=timeout, env=OFFLINE if verb in AT_BOOT else None)
    if done["status"]:
        show = f"systemctl {verb} {' '.join(units)}"
        raise shell.Failed(f"{verb} {', '.join(units)}", done["status"], done["err"] + done["out"], show, units)
    if verb in AT_BOOT and verb != "unmask":
        _show_links(units)
    if now:
        states = read_units(list(units))
        with RECORD_LOCK:
            os.makedirs(STARTED, mode=0o700, exist_ok=True)
            for name, paths in read.items():
                kept = {"invocation": states[name]["invocation"], "files": {path: now[path] for path in sorted(paths)}}
                files.replace(f"{STARTED}/{name}", json.dumps(kept), 0o600)


def _show_links(units: Sequence[str]) -> None:
    """Make systemd read all units again if it shows other links than there are: it has read these units before."""
    there = shell.execute(["systemctl", "is-enabled", "--", *units], env=OFFLINE)["out"].split()
    if there != [state["enabled"] for state in read_units(units).values()]:
        shell.execute(["systemctl", "daemon-reload"])
