"""A node of another site, one that somebody uses, and one that would be cut off are refused; nothing is touched."""

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

from .bare import context, text_file

DATA = "/var/lib/mysql/ibdata1"


def claim() -> Claim:
    """The claim that the first step makes."""
    load_steps()
    return Claim((DATA, "/etc/nova/nova.conf"))


def obstacles(site: Site, known: dict[Any, Any]) -> list[str]:
    return claim().obstacles(context(site, site.controller, known))


def test_a_bare_node_is_claimed_first(site: Site) -> None:
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


def test_the_mark_tells_no_secret(site: Site) -> None:
    assert "pass-1" not in mark_of(site)


@pytest.mark.parametrize("name", ["lab", "renamed"])
def test_another_state_is_refused(site: Site, name: str, no_traces: None) -> None:
    """Its secrets are others: they would replace those of the existing cloud, whatever the site is called."""
    other = Site(site.inventory.model_copy(update={"site": name}), site.release, Secrets())
    (text,) = obstacles(site, {file(MARK): text_file(mark_of(other)), file(DATA): text_file("")})
    assert f"the site {name} " in text
    assert "copy the state folder" in text
    assert obstacles(site, {file(MARK): text_file(mark_of(site)), file(DATA): text_file("")}) == []


def test_foreign_mark_is_never_overwritten(site: Site, no_traces: None) -> None:
    """Also where the node was given another mark after it had been looked at."""
    other = Site(site.inventory, site.release, Secrets())
    (change,) = claim().changes(context(site, site.controller, {file(MARK): text_file(mark_of(other))}))
    (refused,) = change.actions
    assert callable(refused)
    with pytest.raises(ActionError, match="from another state"):
        refused()


def test_what_somebody_else_installed_is_refused(site: Site) -> None:
    (text,) = obstacles(site, {file(DATA): text_file("")})
    assert DATA in text
    assert "reinstall the node" in text


@pytest.mark.parametrize("kept", [True, False])
def test_a_node_deployed_before_there_were_marks(site: Site, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """It is ours if the state has stored secrets; new ones would replace those of the deployer."""
    monkeypatch.setattr(Secrets, "existed", kept)
    known = {file(DATA): text_file(""), file(Ledger.ON_NODE): text_file("{}\n")}
    if not kept:
        (text,) = obstacles(site, known)
        assert "new ones would replace those of the existing cloud" in text
        return
    assert obstacles(site, known) == []
    assert claim().changes(context(site, site.controller, known))


def test_the_way_by_which_a_node_is_reached_is_read_above_sudo() -> None:
    """sudo gives its command no SSH_CONNECTION; the shell that ssh started has it."""
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
    """What the provider's interface objects to.

    :param routes: default routes over it
    :param reached: the node's address in the ssh connection
    :param out: the inventory says `default_route: true`
    :param master: the bridge or bond that has the interface
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
        route: {"status": 0, "out": json.dumps(routes), "err": ""},
        address: {"status": 0, "out": json.dumps(info), "err": ""},
        connection: {"status": 0, "out": f"{reached}\n", "err": ""},
    }
    return spare.obstacles(context(site, site.controller, known))


def test_an_interface_that_nothing_depends_on(site: Site) -> None:
    assert interface(site, [], ["192.168.35.77"]) == []


def test_an_interface_that_another_bridge_has(site: Site) -> None:
    (text,) = interface(site, [], [], master="br0")
    assert "already a port of br0" in text
    assert interface(site, [], [], master="ovs-system") == [], "the deployment's own"


def test_the_way_out_of_a_node_is_no_bridge_s(site: Site) -> None:
    (text,) = interface(site, [{"dst": "default", "gateway": "192.168.35.1"}], [])
    assert "default route uses it (192.168.35.1)" in text
    assert "nodes.controller.provider.default_route: true" in text


def test_the_way_out_moves_to_the_bridge(site: Site) -> None:
    """As the guide's netplan has it; where the inventory says nothing the bridge leads nowhere."""
    assert interface(site, [{"dst": "default", "gateway": "192.168.35.1"}], [], out=True) == []
    network, provider = site.networks["provider"], site.controller.provider
    for leads_out in (True, False):
        moved = provider.model_copy(update={"default_route": leads_out})
        node = site.controller.model_copy(update={"provider": moved})
        resources = STEPS["neutron_compute"].resources(site, node)
        files = [each for each in resources if isinstance(each, File)]
        (text,) = [each.content for each in files if each.path.endswith("05-br-provider.network")]
        assert f"Address={provider.address}/{network.cidr.prefixlen}\n" in text
        assert (f"Gateway={network.gateway}\n" in text) is leads_out
        assert all((f"DNS={each}\n" in text) is leads_out for each in network.dns)


def test_the_way_to_a_node_is_no_bridge_s(site: Site) -> None:
    (text,) = interface(site, [], [site.controller.address])
    assert f"ssh reaches the node by its address {site.controller.address}" in text
    # Whatever ssh calls the node, and wherever the route leads.
    (text,) = interface(site, [], ["192.168.35.77"], reached="192.168.35.77", out=True)
    assert "ssh reaches the node by its address 192.168.35.77" in text
    assert interface(site, [], ["192.168.35.77"], reached=site.controller.address) == []
