"""Each node belongs to one site, identified by a mark; an unmarked node must not have anything installed yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..ledger import Ledger
from ..site import Site
from .actions import Write
from .base import Change, Context, Difference, Query, Resource, file, refusal, run

MARK = "/var/lib/stackspec/site"
REACHED_BY = (
    "pid=$$; "
    'while [ "${pid:-0}" -gt 1 ]; do '
    "tr '\\0' '\\n' </proc/$pid/environ | sed -n 's/^SSH_CONNECTION=[^ ]* [^ ]* \\([^ ]*\\) .*/\\1/p'; "
    "pid=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$pid/status); "
    "done | head -n 1"
)
"""The node's address of the current ssh connection: sudo removes the variable, but the parent processes have it."""


def mark_of(site: Site) -> str:
    """Content of the mark: the site's name and a fingerprint of its state, which reveals no secrets."""
    return f"{site.name} {hashlib.sha256(site.secrets.key('fingerprint').encode()).hexdigest()[:16]}\n"


@dataclass(frozen=True)
class Claim(Resource):
    """The node belongs to this site and to its state on the controlling machine.

    Another state has different secrets, which would replace those of the existing cloud.

    :param signs: files that exist only if something has been installed
    """

    signs: tuple[str, ...]

    @property
    def title(self) -> str:
        return "mark of the site"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(MARK), file(Ledger.ON_NODE), *map(file, self.signs)]

    def obstacles(self, context: Context) -> list[str]:
        facts, site = context.facts, context.site
        if facts[file(MARK)]["exists"]:
            found = str(facts[file(MARK)]["content"])
            if found == mark_of(site):
                return []
            name = found.split()[0] if found.split() else "?"
            return [
                f"{MARK}: the node was deployed for the site {name} from another state, with other secrets, than "
                f"{site.state}; copy the state folder from the machine that deployed it. To use the node for this "
                "site, reinstall it"
            ]
        # Deployed by a version without marks: from this state, if it had secrets then.
        if facts[file(Ledger.ON_NODE)]["exists"] and site.secrets.existed:
            return []
        if facts[file(Ledger.ON_NODE)]["exists"]:
            return [
                f"{Ledger.ON_NODE}: the node was deployed before, and {site.state} has no secrets: new ones would "
                "replace those of the existing cloud; copy the state folder from the machine that deployed it. To use "
                "the node for this site, reinstall it"
            ]
        found_signs = [sign for sign in self.signs if facts[file(sign)]["exists"]]
        if not found_signs:
            return []
        return [
            f"{', '.join(found_signs)}: installed by somebody else, and would be overwritten; "
            "reinstall the node, or use another one in the inventory"
        ]

    def changes(self, context: Context) -> list[Change]:
        found, wanted = str(context.facts[file(MARK)]["content"]), mark_of(context.site)
        if found == wanted:
            return []
        difference = Difference(MARK, wanted.strip(), found.strip() or "absent")
        if found and (refused := self.obstacles(context)):
            return [Change(f"write {MARK}", (difference,), "", (refusal(refused[0]),))]
        return [Change(f"write {MARK}", (difference,), "", (Write(MARK, wanted),))]


OWN_SWITCH = "ovs-system"
"""The kernel's master of Open vSwitch ports, which the deployment itself creates."""


@dataclass(frozen=True)
class SpareInterface(Resource):
    """An interface that can be added to a bridge: neither the node's default route nor our ssh connection uses it.

    :param name: the interface
    :param leads_out: the default route may use it, since it moves to the bridge
    """

    name: str
    leads_out: bool = False

    @property
    def title(self) -> str:
        return f"interface {self.name}"

    def _queries(self) -> tuple[Query, Query, Query]:
        route = run("ip", "-j", "route", "show", "default", "dev", self.name)
        return route, run("ip", "-j", "address", "show", "dev", self.name), run("sh", "-c", REACHED_BY)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return self._queries()

    def obstacles(self, context: Context) -> list[str]:
        routes, addresses, reached = (context.facts[query] for query in self._queries())
        where = f"nodes.{context.node.name}.provider"
        own = [info.get("local") for each in _rows(addresses) for info in each.get("addr_info", ())]
        found = [
            f"interface {self.name}: ssh reaches the node by its address {address}; it becomes a bridge port, which "
            f"would cut the connection. Set {where}.interface to another one, or connect through the "
            "management network"
            for address in dict.fromkeys([str(context.node.address), str(reached["out"]).strip()])
            if address in own
        ]
        masters = [each["master"] for each in _rows(addresses) if each.get("master", OWN_SWITCH) != OWN_SWITCH]
        if masters:
            found.append(
                f"interface {self.name}: already a port of {masters[0]}, a foreign bridge or bond; "
                f"set {where}.interface to another one"
            )
        via = [each.get("gateway", "") for each in _rows(routes)]
        if via and not self.leads_out:
            found.append(
                f"interface {self.name}: the node's default route uses it ({', '.join(filter(None, via))}), but it "
                f"becomes a bridge port. Set {where}.default_route: true to move the route to the bridge, "
                "with gateway and dns of networks.provider; or use another interface"
            )
        return found

    def changes(self, context: Context) -> list[Change]:
        return []


def _rows(answer: dict[str, Any]) -> list[Any]:
    """The list from `ip -j`; empty for a missing interface."""
    text = str(answer["out"]).strip()
    return list(json.loads(text)) if answer["status"] == 0 and text else []
