"""Nodes of another site, nodes in use, and nodes that would lose their connection are refused unchanged."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

import pytest

from stackspec.errors import ActionError
from stackspec.ledger import Ledger
from stackspec.resources import Claim, File, SpareInterface
from stackspec.resources.actions import Write
from stackspec.resources.base import file
from stackspec.resources.claim import MARK, REACHED_BY, mark_of
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from .bare import answer, context, text_file

DATA = "/var/lib/mysql/ibdata1"


def claim() -> Claim:
    """The claim that the first step declares."""
    load_steps()
    return Claim((DATA, "/etc/nova/nova.conf"))


def obstacles(site: Site, known: dict[Any, Any]) -> list[str]:
    return claim().obstacles(context(site, site.controller, known))


def test_bare_node_is_claimed_first(site: Site) -> None:
    load_steps()
    first, *_ = STEPS["base"].resources(site, site.controller)
    assert isinstance(first, Claim)
    assert DATA in first.signs
    assert first.obstacles(context(site, site.controller)) == []
    (change,) = first.changes(context(site, site.controller))
    (action,) = change.actions
    assert isinstance(action, Write)
    assert action.path == MARK
    known = {file(MARK): text_file(str(action.content))}
    assert first.changes(context(site, site.controller, known)) == []
    assert first.obstacles(context(site, site.controller, known)) == []


def test_mark_contains_no_secret(site: Site) -> None:
    assert "pass-1" not in mark_of(site)


@pytest.mark.parametrize("name", ["lab", "renamed"])
def test_node_of_another_state_is_refused(site: Site, name: str, no_traces: None) -> None:
    """Its secrets would replace those of the existing cloud, even if the sites have the same name."""
    other = Site(site.inventory.model_copy(update={"site": name}), site.release, Secrets())
    (text,) = obstacles(site, {file(MARK): text_file(mark_of(other)), file(DATA): text_file("")})
    assert f"the site {name} " in text
    assert "copy the state folder" in text
    assert obstacles(site, {file(MARK): text_file(mark_of(site)), file(DATA): text_file("")}) == []


def test_foreign_mark_is_never_overwritten(site: Site, no_traces: None) -> None:
    """Even if the node got another mark after it was checked."""
    other = Site(site.inventory, site.release, Secrets())
    (change,) = claim().changes(context(site, site.controller, {file(MARK): text_file(mark_of(other))}))
    (refused,) = change.actions
    assert callable(refused)
    with pytest.raises(ActionError, match="from another state"):
        refused()


def test_foreign_installation_is_refused(site: Site) -> None:
    (text,) = obstacles(site, {file(DATA): text_file("")})
    assert DATA in text
    assert "reinstall the node" in text


@pytest.mark.parametrize("kept", [True, False])
def test_node_deployed_before_marks_existed(site: Site, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """It is ours if the state has stored secrets; new ones would replace the deployed ones."""
    monkeypatch.setattr(Secrets, "existed", kept)
    known = {file(DATA): text_file(""), file(Ledger.ON_NODE): text_file("{}\n")}
    if not kept:
        (text,) = obstacles(site, known)
        assert "new ones would replace those of the existing cloud" in text
        return
    assert obstacles(site, known) == []
    assert claim().changes(context(site, site.controller, known))


def test_ssh_address_is_read_from_a_parent_of_sudo() -> None:
    """sudo does not pass SSH_CONNECTION on; the shell that ssh started has it."""
    environ = {"PATH": os.environ["PATH"], "SSH_CONNECTION": "192.0.2.7 50022 192.0.2.1 22"}
    without_it = ["env", "-u", "SSH_CONNECTION", "sh", "-c", REACHED_BY]
    below = ["sh", "-c", f"{shlex.join(without_it)}; true"]
    assert subprocess.run(below, env=environ, capture_output=True, text=True).stdout == "192.0.2.1\n"


def interface(
    site: Site,
    routes: list[Any],
    addresses: list[str],
    reached: str = "",
    out: bool = False,
    master: str = "",
) -> list[str]:
    """Obstacles that the provider interface reports.

    :param routes: default routes through it
    :param reached: the node's address of the ssh connection
    :param out: the inventory says `default_route: true`
    :param master: the bridge or bond that contains the interface
    """
    node = site.controller
    node = node.model_copy(update={"provider": node.provider.model_copy(update={"default_route": out})})
    name = node.provider.interface
    load_steps()
    (spare,) = [each for each in STEPS["neutron_compute"].resources(site, node) if isinstance(each, SpareInterface)]
    route, address, connection = spare.queries(site, node)
    port = {"master": master} if master else {}
    info = [{"ifname": name, **port, "addr_info": [{"local": address} for address in addresses]}]
    known = {
        route: answer(json.dumps(routes)),
        address: answer(json.dumps(info)),
        connection: answer(f"{reached}\n"),
    }
    return spare.obstacles(context(site, site.controller, known))


def test_unused_interface_is_accepted(site: Site) -> None:
    assert interface(site, [], ["192.168.35.77"]) == []


def test_interface_of_another_bridge_is_refused(site: Site) -> None:
    (text,) = interface(site, [], [], master="br0")
    assert "already a port of br0" in text
    assert interface(site, [], [], master="ovs-system") == [], "the deployment's own"


def test_interface_with_the_default_route_is_refused(site: Site) -> None:
    (text,) = interface(site, [{"dst": "default", "gateway": "192.168.35.1"}], [])
    assert "default route uses it (192.168.35.1)" in text
    assert "nodes.controller.provider.default_route: true" in text


def test_default_route_moves_to_the_bridge(site: Site) -> None:
    """As in the guide's netplan; by default the bridge gets no route."""
    assert interface(site, [{"dst": "default", "gateway": "192.168.35.1"}], [], out=True) == []
    network, provider = site.networks["provider"], site.controller.provider
    for has_default_route in (True, False):
        moved = provider.model_copy(update={"default_route": has_default_route})
        node = site.controller.model_copy(update={"provider": moved})
        resources = STEPS["neutron_compute"].resources(site, node)
        files = [each for each in resources if isinstance(each, File)]
        (text,) = [each.content for each in files if each.path.endswith("05-br-provider.network")]
        assert f"Address={provider.address}/{network.cidr.prefixlen}\n" in text
        assert (f"Gateway={network.gateway}\n" in text) is has_default_route
        assert all((f"DNS={each}\n" in text) is has_default_route for each in network.dns)


def test_interface_of_the_ssh_connection_is_refused(site: Site) -> None:
    (text,) = interface(site, [], [site.controller.address])
    assert f"ssh reaches the node by its address {site.controller.address}" in text
    # Independent of the ssh name of the node and of its routes.
    (text,) = interface(site, [], ["192.168.35.77"], reached="192.168.35.77", out=True)
    assert "ssh reaches the node by its address 192.168.35.77" in text
    assert interface(site, [], ["192.168.35.77"], reached=site.controller.address) == []
