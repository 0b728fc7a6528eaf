"""Services: units that run, are enabled, and have read their configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..site import Site
from .base import Change, Context, Difference, NodeAction, Query, Resource, file, unit


@dataclass(frozen=True, init=False)
class Service(Resource):
    """Units that run, start at boot, and started after the files that they read were written.

    The last is read from the unit's start time and the files' times: a run that was killed between writing a file and
    restarting its service leaves a difference that the next run sees.

    :param names: as the guide names them; the release table translates
    :param reads: what they read; when not given, every file that the step manages up to here
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
        follows = True
        watched = context.watched if self.reads is None else self.reads
        pending = context.pending if self.reads is None else context.pending & set(self.reads)
        for name in self.units(context.site):
            state = context.facts[unit(name)]
            if state["enabled"] not in ("enabled", "enabled-runtime", "static", "indirect", "generated", "alias"):
                differences.append(Difference(f"{name} at boot", "enabled", state["enabled"] or "no such unit"))
                enable.append(name)
            if state["active"] != "active":
                differences.append(Difference(name, "active", state["active"] or "no such unit"))
                restart.append(name)
                follows = False
                continue
            files = (path for path in watched if path.startswith("/"))
            late = [path for path in files if context.facts[file(path)]["mtime"] > state["started"]]
            if late or pending:
                cause = (late or sorted(pending))[0]
                differences.append(Difference(name, f"started after {cause} was written", "started before"))
                restart.append(name)
                follows = follows and pending.issuperset(late)
        if not differences:
            return []
        actions: list[NodeAction] = []
        if enable:
            # Units that ship disabled on purpose are often masked or preset off, and enabling is one call for all.
            actions.append({"op": "systemctl", "verb": "unmask", "units": enable})
            actions.append({"op": "systemctl", "verb": "enable", "units": enable})
        if restart:
            actions.append({"op": "systemctl", "verb": "restart", "units": restart})
            actions.append({"op": "await_active", "units": restart})
        words = [f"restart {' '.join(restart)}"] if restart else []
        words += [f"enable {' '.join(enable)}"] if enable else []
        follows = follows and not enable
        return [Change(", ".join(words), tuple(differences), "", tuple(actions), follows=follows)]


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
        actions = (
            {"op": "systemctl", "verb": "stop", "units": list(found)},
            {"op": "systemctl", "verb": "mask", "units": list(found)},
        )
        return [Change(f"mask {' '.join(found)}", differences, "", actions)]
