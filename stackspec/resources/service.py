"""Services: units that are running, enabled, and use their current configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..node_agent.files import UNITS, digest
from ..site import Site
from .actions import AwaitActive, Execute, NodeAction, Systemctl
from .base import Change, Context, Difference, Query, Resource, file, unit


@dataclass(frozen=True, init=False)
class Service(Resource):
    """Units that are running, enabled at boot, and were started with the current content of their files.

    The node records with which content each unit was started. So if a run is killed between writing a file and
    restarting its service, the next run sees a difference, while merely touching a file makes none.

    :param names: the guide's names; the release table translates them
    :param reads: files that they read, and titles of changes that require a restart; default: all files that the step
        manages up to here
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
        """Units for the release of `site`."""
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
                differences.append(Difference(f"{name} as loaded by systemd", "current unit files", "outdated"))
                reload = True
            if state["active"] != "active":
                differences.append(Difference(name, "active", state["active"] or "no such unit"))
                restart.append(name)
                follows = False
                continue
            late = [path for path in watched if _is_late(path, state, _found(context, path))]
            if state["outdated"]:
                # Even if it was started after they were written, it runs with the outdated unit.
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
            # A run was killed between writing a unit file and daemon-reload, or an operator forgot it.
            actions.append(Execute(("systemctl", "daemon-reload")))
        if enable:
            # Units that are disabled on purpose are often masked or preset off; all are enabled in one call.
            actions.append(Systemctl("unmask", tuple(enable)))
            actions.append(Systemctl("enable", tuple(enable)))
        if restart:
            actions.append(Systemctl("restart", tuple(restart), reads=watched))
            actions.append(AwaitActive(tuple(restart)))
        words = [f"restart {' '.join(restart)}"] if restart else []
        words += [f"enable {' '.join(enable)}"] if enable else []
        words += ["reload systemd"] if reload else []
        follows = follows and not enable and not reload
        return [Change(", ".join(words), tuple(differences), "", tuple(actions), follows=follows)]


def _found(context: Context, name: str) -> dict[str, Any]:
    """A file; a title of a change, which has no content, counts as a missing file."""
    absent = {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
    return context.facts[file(name)] if name.startswith("/") else absent


def _is_late(path: str, state: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether a unit was started with a different content of `path`."""
    kept = state["started_with"]
    known = kept["files"].get(path)
    if known is None:
        # It was not started by us, or by a version without records: only times are available.
        return bool(found["mtime"] > state["started"])
    if known == digest(found):
        return False
    if kept["invocation"] == state["invocation"]:
        return True
    # Somebody else has restarted it. A restored backup has an old mtime, but a new ctime.
    return bool(max(found["mtime"], found["ctime"]) > state["started"])


@dataclass(frozen=True)
class Unwanted(Resource):
    """Units that a package enables but the guide does not use: stopped and masked."""

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
