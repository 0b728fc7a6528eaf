"""The name by which a node is known to iSCSI targets."""

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
    """A name that no other node has. The package makes one, which machines copied from one system then share.

    A name that is the node's own stays as it is, since targets may know the node by it; of several nodes with one name
    the first keeps it.

    :param nodes: all nodes with an initiator, in the inventory's order; those before this one are compared with it
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
        shown = f"{name}, which {same[0]} has, too" if same else "none"
        # The daemon reads it when it starts, which the next one who calls it makes it do.
        stop = Systemctl("stop", ("iscsid.service",))
        write = Write(PATH, text, 0o600)
        differences = (Difference("InitiatorName", own, shown),)
        diff = unified_diff(PATH, found["content"], text)
        return [Change(f"write {PATH}", differences, diff, (stop, write), (PATH,))]

    def _same(self, context: Context, name: str) -> list[str]:
        """Nodes before this one that have its name. One that had none when it was asked makes one of its own."""
        before = self.nodes[: self.nodes.index(context.node.name)]
        answers = context.shared.gather(self.nodes, file(PATH)) if before else {}
        return [each for each in before if answers[each] is not None and _name(answers[each]["content"]) == name]

    @staticmethod
    def _own(site: Site, node: Node) -> str:
        """A name of the form that the distribution's have; two sites have two names for nodes of one name."""
        digest = hashlib.sha256(f"{site.secrets.key('initiator names')} {node.name}".encode()).hexdigest()
        return f"iqn.1993-08.org.debian:01:{digest[:12]}"


def _name(text: str) -> str:
    match = re.search(r"(?m)^InitiatorName=(\S+)", text)
    return match[1] if match else ""
