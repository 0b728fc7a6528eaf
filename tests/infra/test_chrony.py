"""Time: the source of each node, and clock offsets."""

from __future__ import annotations

import time

import pytest

from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site
from stackspec.waiting import wait_for

# Not run while another test cuts the power of a node: that test disturbs nova_compute.
looks_at_nodes = pytest.mark.steps("nova_compute")

OFFSET = 1.0
"""Maximum offset in seconds from the controller's clock; tokens and heartbeats tolerate more."""


def test_controller_has_time(chrony: object, controller: NodeHost) -> None:
    """The controller is synchronised, or serves its own clock at stratum 10 if the site has no other source."""
    stratum = int(controller.check_output("chronyc -n -c tracking").split(",")[2])
    assert 1 <= stratum <= 10, f"{controller.check_output('hostname')} is not synchronised: stratum {stratum}"


@looks_at_nodes
def test_time_comes_from_where_the_inventory_says(chrony: object, site: Site, controller: NodeHost) -> None:
    """The controller uses a time server of the inventory; without one it serves its own clock."""

    def chosen() -> list[list[str]]:
        rows = [line.split(",") for line in controller.check_output("chronyc -n -c sources").splitlines()]
        return [row for row in rows if row[1] == "*"]

    if not site.inventory.time_servers:
        assert not chosen(), f"the inventory has no time server, but the controller uses {chosen()}"
        return

    what = f"the controller follows one of {', '.join(site.inventory.time_servers)}"
    wait_for(what, chosen, 60, detail=lambda: str(controller.run("chronyc sources").stdout))


def test_time_comes_from_the_controller(chrony_client: object, site: Site, node_host: HostOf) -> None:
    """Every other node uses the controller as its source."""
    for node in site.nodes.values():
        if "controller" in node.roles:
            continue
        host = node_host(node.name)

        def chosen(host: NodeHost = host) -> bool:
            rows = [line.split(",") for line in host.check_output("chronyc -n -c sources").splitlines()]
            return [row[2] for row in rows if row[1] == "*"] == [site.controller.address]

        wait_for(f"{node.name} follows {site.controller.address}", chosen, 60)


@looks_at_nodes
def test_clocks_agree(chrony: object, chrony_client: object, site: Site, node_host: HostOf) -> None:
    """Each node's clock agrees with the controller's, within the precision of the measurement."""

    def complaints() -> list[str]:
        found = {}
        for name in site.nodes:
            host = node_host(name)
            before = time.time()
            there = float(host.check_output("date +%s.%N"))
            after = time.time()
            # The midpoint of our two readings is wrong by half their distance at most.
            found[name] = (there - (before + after) / 2, (after - before) / 2)
        own, doubt = found[site.controller.name]
        return [
            f"{name}: its clock is {offset - own:+.1f} s from the controller's; see chronyc sources there"
            for name, (offset, unsure) in found.items()
            if abs(offset - own) > OFFSET + unsure + doubt
        ]

    # A large offset is corrected gradually, over minutes.
    wait_for("clocks agree", lambda: not complaints(), 60, detail=lambda: "; ".join(complaints()))
