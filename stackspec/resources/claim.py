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
from .base import Change, Context, Difference, Query, Resource, file, run

MARK = "/var/lib/stackspec/site"


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
        # Deployed before there were marks.
        if facts[file(Ledger.ON_NODE)]["exists"]:
            return []
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
        return [Change(f"write {MARK}", (difference,), "", ({"op": "write", "path": MARK, "content": wanted},))]


@dataclass(frozen=True)
class SpareInterface(Resource):
    """An interface that can be given to a bridge: neither the node's way out nor the way to it leads over it.

    :param name: the interface
    """

    name: str

    @property
    def title(self) -> str:
        return f"interface {self.name}"

    def _queries(self) -> tuple[Query, Query]:
        return run("ip", "-j", "route", "show", "default", "dev", self.name), run(
            "ip", "-j", "address", "show", "dev", self.name
        )

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return self._queries()

    def obstacles(self, context: Context) -> list[str]:
        routes, addresses = (context.facts[query] for query in self._queries())
        found = []
        if via := [each.get("gateway", "") for each in _rows(routes)]:
            found.append(f"the node's default route leads over it ({', '.join(filter(None, via)) or 'no gateway'})")
        own = [info.get("local") for each in _rows(addresses) for info in each.get("addr_info", ())]
        if str(context.node.address) in own:
            found.append(f"it has the address {context.node.address}, by which the node is reached")
        return [
            f"interface {self.name}: {reason}; it is to be a port of a bridge, and the node would be cut off. Name "
            f"another one at nodes.{context.node.name}.provider, or move that to the management network first"
            for reason in found
        ]

    def changes(self, context: Context) -> list[Change]:
        return []


def _rows(answer: dict[str, Any]) -> list[Any]:
    """What `ip -j` lists; an interface that is not there has nothing."""
    text = str(answer["out"]).strip()
    return list(json.loads(text)) if answer["status"] == 0 and text else []
