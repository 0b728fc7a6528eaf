"""A node belongs to one site: a mark on it says to which, and a node of nobody's must hold nothing yet."""

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
"""The node's address in the ssh connection that this comes by: sudo keeps it from us, the processes above have it."""


def mark_of(site: Site) -> str:
    """What the mark says: the site's name, and by what its state is known, which tells nothing of the secrets there."""
    return f"{site.name} {hashlib.sha256(site.secrets.key('fingerprint').encode()).hexdigest()[:16]}\n"


@dataclass(frozen=True)
class Claim(Resource):
    """The node is this site's, as its state on the controlling machine knows it, and no other's.

    A site that is deployed with another state has other secrets: they would replace those of the cloud that is there.

    :param signs: files that are there only when somebody has installed something
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
                f"{MARK}: the node was deployed as part of the site {name} with another state, so with other secrets, "
                f"than {site.state}; copy the state folder from the machine that deployed it. To give the node to this "
                "site, set it up afresh"
            ]
        # Deployed before there were marks: by this state, if it had secrets then.
        if facts[file(Ledger.ON_NODE)]["exists"] and site.secrets.existed:
            return []
        if facts[file(Ledger.ON_NODE)]["exists"]:
            return [
                f"{Ledger.ON_NODE}: the node was deployed before, and {site.state} has no secrets: new ones would "
                "replace those of the cloud that is there; copy the state folder from the machine that deployed it. To "
                "give the node to this site, set it up afresh"
            ]
        found_signs = [sign for sign in self.signs if facts[file(sign)]["exists"]]
        if not found_signs:
            return []
        return [
            f"{', '.join(found_signs)}: somebody else has installed this, and what is there would be changed; "
            "set the node up afresh, or name another one in the inventory"
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
"""What the kernel shows as the bridge of a port of Open vSwitch, which the deployment itself makes."""


@dataclass(frozen=True)
class SpareInterface(Resource):
    """An interface that can be given to a bridge: neither the node's way out nor the way to it leads over it.

    :param name: the interface
    :param leads_out: the node's way out may lead over it, since it moves to the bridge
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
            f"interface {self.name}: it has the address {address}, by which the node is reached; it becomes a port of "
            f"a bridge, and the connection would be cut. Name another one at {where}.interface, or reach the node by "
            "its management network"
            for address in dict.fromkeys([str(context.node.address), str(reached["out"]).strip()])
            if address in own
        ]
        masters = [each["master"] for each in _rows(addresses) if each.get("master", OWN_SWITCH) != OWN_SWITCH]
        if masters:
            found.append(
                f"interface {self.name}: it is a port of {masters[0]} already, a bridge or bond of somebody else; "
                f"name another one at {where}.interface"
            )
        via = [each.get("gateway", "") for each in _rows(routes)]
        if via and not self.leads_out:
            found.append(
                f"interface {self.name}: the node's default route leads over it ({', '.join(filter(None, via))}), and "
                f"it becomes a port of a bridge. Say {where}.default_route: true, and the route moves to the bridge, "
                "with gateway and dns of networks.provider; or name another interface"
            )
        return found

    def changes(self, context: Context) -> list[Change]:
        return []


def _rows(answer: dict[str, Any]) -> list[Any]:
    """What `ip -j` lists; an interface that is not there has nothing."""
    text = str(answer["out"]).strip()
    return list(json.loads(text)) if answer["status"] == 0 and text else []
