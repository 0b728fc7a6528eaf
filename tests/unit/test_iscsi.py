"""The name that identifies a node to iSCSI targets: each node keeps or gets its own."""

from __future__ import annotations

from typing import Any

import pytest

from stackspec.resources import InitiatorName
from stackspec.resources.base import Change, Context, Query, file
from stackspec.resources.iscsi import PATH
from stackspec.site import Site

from .bare import BareNode, BareShared, Known, actions, context, differences, steps_of, text_file


class TestInitiatorName:
    """The name that identifies a node to iSCSI targets."""

    good = {file(PATH): text_file("## A comment\nInitiatorName=iqn.1993-08.org.debian:01:abc\n")}  # noqa: RUF012

    def made(self, site: Site, known: Known, others: dict[str, Any] | None = None) -> list[Change]:
        here = context(site, site.nodes["compute02"], known)
        here.shared.ask = lambda node, query: (others or {}).get(node)  # type: ignore[method-assign]
        return InitiatorName(("compute01", "compute02")).changes(here)

    def test_unique_name_is_kept(self, site: Site) -> None:
        """Any name is fine if no earlier node has it."""
        assert self.made(site, self.good) == []
        assert self.made(site, self.good, {"compute01": text_file("InitiatorName=iqn.other\n")}) == []

    def test_duplicate_name(self, site: Site) -> None:
        """It gets a unique name; the daemon is stopped first, so that the next call restarts it."""
        (found,) = self.made(site, self.good, {"compute01": self.good[file(PATH)]})
        stop, write = actions(found)
        assert (stop.verb, stop.units) == ("stop", ("iscsid.service",))
        assert write.mode == 0o600
        assert differences(found)[0].endswith("found iqn.1993-08.org.debian:01:abc, which compute01 also has")
        assert self.made(site, {file(PATH): text_file(write.content)}, {"compute01": self.good[file(PATH)]}) == []

    @pytest.mark.parametrize("text", ["", "GenerateName=yes\n", "InitiatorName=\n"])
    def test_missing_name(self, site: Site, text: str) -> None:
        """No name yet, or a marker to generate one at the first start."""
        (found,) = self.made(site, {file(PATH): text_file(text)} if text else {})
        name = actions(found)[1].content
        assert name.startswith("InitiatorName=iqn.1993-08.org.debian:01:")
        other = actions(InitiatorName(("compute01",)).changes(context(site, site.nodes["compute01"]))[0])[1].content
        assert other != name


def test_first_node_keeps_a_duplicate_initiator_name(guide: Site) -> None:
    """So its volumes stay attached. Each node is queried once, however many there are."""
    shared, queried = BareShared(guide), list[str]()

    def ask(node: str, query: Query) -> Any:
        queried.append(node)
        return TestInitiatorName.good[query]

    shared.ask = ask  # type: ignore[method-assign]
    changed = {}
    for name in ("compute01", "compute02", "compute03"):
        (found,) = [each for each in steps_of(guide, "volume_attachment", name) if isinstance(each, InitiatorName)]
        here = Context(guide, guide.nodes[name], BareNode(TestInitiatorName.good), shared)
        changed[name] = bool(found.changes(here))
    assert changed == {"compute01": False, "compute02": True, "compute03": True}
    assert sorted(queried) == sorted(found.nodes)
