"""The iSCSI initiator name of a node."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..site import Site
from .actions import Systemctl, Write
from .base import Change, Context, Difference, Query, Resource, file, unified_diff

PATH = "/etc/iscsi/initiatorname.iscsi"


@dataclass(frozen=True)
class InitiatorName(Resource):
    """A unique initiator name. The package generates one, which cloned machines share.

    A unique name is kept, since targets may use it; of several nodes with the same name the first keeps it.

    :param nodes: all nodes with an initiator, in the inventory's order; this one is compared with those before it
    """

    nodes: tuple[str, ...]

    @property
    def title(self) -> str:
        return PATH

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(PATH)]

    def changes(self, context: Context) -> list[Change]:
        found = context.facts[file(PATH)]
        name = _name(found["content"])
        same = self._same(context, name) if name else []
        if name and not same:
            return []
        own = self._own(context.site, context.node)
        text = f"InitiatorName={own}\n"
        shown = f"{name}, which {same[0]} also has" if same else "none"
        # The daemon reads it at startup, and is socket-activated by the next call.
        stop = Systemctl("stop", ("iscsid.service",))
        write = Write(PATH, text, 0o600)
        differences = (Difference("InitiatorName", own, shown),)
        diff = unified_diff(PATH, found["content"], text)
        return [Change(f"write {PATH}", differences, diff, (stop, write), (PATH,))]

    def _same(self, context: Context, name: str) -> list[str]:
        """Earlier nodes with the same name. A node that had no name when queried generates its own."""
        before = self.nodes[: self.nodes.index(context.node.name)]
        answers = context.shared.gather(self.nodes, file(PATH)) if before else {}
        return [each for each in before if answers[each] is not None and _name(answers[each]["content"]) == name]

    @staticmethod
    def _own(site: Site, node: Node) -> str:
        """A name in the distribution's format; it depends on the site as well as on the node's name."""
        digest = hashlib.sha256(f"{site.secrets.key('initiator names')} {node.name}".encode()).hexdigest()
        return f"iqn.1993-08.org.debian:01:{digest[:12]}"


def _name(text: str) -> str:
    match = re.search(r"(?m)^InitiatorName=(\S+)", text)
    return match[1] if match else ""
