"""Services: units that run, are enabled, and have read their configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .. import node_agent
from ..inventory import Node
from ..site import Site
from .actions import AwaitActive, Execute, NodeAction, Systemctl
from .base import Change, Context, Difference, Query, Resource, file, unit

UNITS = "/etc/systemd/system/"
"""Where the files of units are that are not a package's."""


@dataclass(frozen=True, init=False)
class Service(Resource):
    """Units that run, start at boot, and were started with what they read as it is now.

    A node keeps with what content each unit was started here, so that a run which was killed between writing a file and
    restarting its service leaves a difference that the next run sees, and a file that was only touched is none.

    :param names: as the guide names them; the release table translates
    :param reads: files that they read, and titles of changes that they have to be started after; when not given, every
        file that the step manages up to here
    """

    names: tuple[str, ...]
    reads: tuple[str, ...] | None

    def __init__(self, *names: str, reads: tuple[str, ...] | None = None) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "reads", reads)

    @property
    def title(self) -> str:
        return f"service {' '.join(self.names)}"

    def units(self, site: Site) -> list[str]:
        """Units in the release of `site`."""
        return list(dict.fromkeys(real for name in self.names for real in site.release.unit(name)))

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        files = [file(path) for path in self.reads or () if path.startswith("/")]
        return [*(unit(name) for name in self.units(site)), *files]

    def changes(self, context: Context) -> list[Change]:
        differences: list[Difference] = []
        restart: list[str] = []
        enable: list[str] = []
        reload = False
        follows = True
        watched = context.watched if self.reads is None else self.reads
        pending = context.pending if self.reads is None else context.pending & set(self.reads)
        for name in self.units(context.site):
            state = context.facts[unit(name)]
            if state["enabled"] not in ("enabled", "enabled-runtime", "static", "indirect", "generated", "alias"):
                differences.append(Difference(f"{name} at boot", "enabled", state["enabled"] or "no such unit"))
                enable.append(name)
            if state["outdated"]:
                differences.append(Difference(f"{name} as systemd knows it", "as its files say", "as they were"))
                reload = True
            if state["active"] != "active":
                differences.append(Difference(name, "active", state["active"] or "no such unit"))
                restart.append(name)
                follows = False
                continue
            late = [path for path in watched if _is_late(path, state, _found(context, path))]
            if state["outdated"]:
                # By whomever it was started after they were written: it runs as they were.
                late += [path for path in watched if path.startswith(UNITS)]
            if late or pending:
                cause = (late or sorted(pending))[0]
                differences.append(Difference(name, f"started after {cause} was written", "started before"))
                restart.append(name)
                follows = follows and pending.issuperset(late)
        if not differences:
            return []
        actions: list[NodeAction] = []
        if reload:
            # A run was killed between writing a unit's file and this, or an operator forgot it.
            actions.append(Execute(("systemctl", "daemon-reload")))
        if enable:
            # Units that ship disabled on purpose are often masked or preset off, and enabling is one call for all.
            actions.append(Systemctl("unmask", tuple(enable)))
            actions.append(Systemctl("enable", tuple(enable)))
        if restart:
            actions.append(Systemctl("restart", tuple(restart), reads=watched))
            actions.append(AwaitActive(tuple(restart)))
        words = [f"restart {' '.join(restart)}"] if restart else []
        words += [f"enable {' '.join(enable)}"] if enable else []
        words += ["let systemd read its files"] if reload else []
        follows = follows and not enable and not reload
        return [Change(", ".join(words), tuple(differences), "", tuple(actions), follows=follows)]


def _found(context: Context, name: str) -> dict[str, Any]:
    """A file as it is; a title of a change, which has no content, counts as one that is not there."""
    absent = {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
    return context.facts[file(name)] if name.startswith("/") else absent


def _is_late(path: str, state: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether a unit runs with another content of `path` than there is now."""
    kept = state["started_with"]
    known = kept["files"].get(path)
    if known is None:
        # It was not started here, or by a version that kept nothing: times are all there is.
        return bool(found["mtime"] > state["started"])
    if known == node_agent.digest(found):
        return False
    if kept["invocation"] == state["invocation"]:
        return True
    # Somebody else started it since. A backup that is put back has an old time of change, but not of its inode.
    return bool(max(found["mtime"], found["ctime"]) > state["started"])


@dataclass(frozen=True)
class Unwanted(Resource):
    """Units that a package enables and the guide does not want: stopped and masked."""

    names: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"no service {' '.join(self.names)}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [unit(name) for name in self.names]

    def changes(self, context: Context) -> list[Change]:
        states = {name: context.facts[unit(name)] for name in self.names}
        found = {
            name: state
            for name, state in states.items()
            if state["load"] != "not-found"
            and (state["active"] == "active" or state["enabled"] not in ("masked", "disabled"))
        }
        if not found:
            return []
        differences = tuple(Difference(name, "masked", f"{s['enabled']}, {s['active']}") for name, s in found.items())
        actions = (Systemctl("stop", tuple(found)), Systemctl("mask", tuple(found)))
        return [Change(f"mask {' '.join(found)}", differences, "", actions)]
