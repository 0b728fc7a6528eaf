"""Neutron on the nodes: bridges, routes, and the tunnel network."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from stackspec.cloud_inventory import inventory_of
from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

# Not run while another test cuts the power of a node: that test disturbs nova_compute.
pytestmark = pytest.mark.steps("nova_compute")


def test_bridges(neutron_compute: object, site: Site, node_host: HostOf) -> None:
    """br-int, br-tun and br-provider exist on every node with the site's datapath, and br-provider has its address."""
    wanted = inventory_of(site).datapath
    for node in site.nodes.values():
        host = node_host(node.name)
        missing = {"br-int", "br-tun", "br-provider"} - set(host.check_output("ovs-vsctl list-br").split())
        assert not missing, f"{node.name}: Open vSwitch has no bridge {', '.join(sorted(missing))}"
        for bridge in ("br-int", "br-tun", "br-provider"):
            kind = host.check_output("ovs-vsctl get Bridge %s datapath_type", bridge).strip('"') or "system"
            assert kind == wanted, f"{node.name}: {bridge} is {kind}, wanted {wanted}"
        shown = host.check_output("ip -4 -o address show dev br-provider")
        assert f" {node.provider.address}/" in shown, (
            f"{node.name}: br-provider lacks {node.provider.address}: {shown.strip() or 'no address'}"
        )


def test_default_route_uses_the_bridge(neutron_compute: object, site: Site, node_host: HostOf) -> None:
    """The default route uses the bridge only on nodes declared so in the inventory. Guide: netplan of br-provider."""
    gateway = site.networks["provider"].gateway
    for node in site.nodes.values():
        found = json.loads(node_host(node.name).check_output("ip -j route show default"))
        here = [route["gateway"] for route in found if route["dev"] == "br-provider"]
        if node.provider.default_route:
            shown = f"{node.name}: the default route should be {gateway} over br-provider alone, found: {found}"
            assert (here, len(found)) == ([str(gateway)], 1), shown
        else:
            assert not here, f"{node.name}: a default route uses br-provider, but the inventory does not declare it"


def test_nodes_reach_each_other_on_the_tunnel_network(neutron_compute: object, site: Site, node_host: HostOf) -> None:
    """Every tunnel endpoint is reachable; otherwise servers on that node have no network."""
    for node in site.nodes.values():
        for other in site.nodes.values():
            if other is not node:
                done = node_host(node.name).run("ping -c 1 -W 3 %s", site.tunnel_address(other))
                assert done.rc == 0, f"{node.name} does not reach {site.tunnel_address(other)}"


def test_packets_of_tunnels_arrive(neutron_compute: object, site: Site, node_host: HostOf) -> None:
    """No firewall blocks VXLAN (UDP, port 4789) to a node: a raw socket receives packets that have passed its rules.

    A userspace switch with tunnels receives their packets before the node's rules apply.
    """
    problems = []
    for node in site.nodes.values():
        others = [other for other in site.nodes.values() if other is not node]
        if not others:
            continue
        here, senders = site.tunnel_address(node), [site.tunnel_address(other) for other in others]
        with ThreadPoolExecutor(1) as pool:
            hearing = pool.submit(programs.output, node_host(node.name), "receive_vxlan", here, *senders)
            while not hearing.done():
                for other in others:
                    programs.output(node_host(other.name), "send_vxlan", here)
        lines = [line.split() for line in hearing.result().splitlines()]
        heard = {(way, address): int(times) for way, address, times in lines}
        takes = "vxlan" in node_host(node.name).run("ovs-appctl tnl/ports/show").stdout
        for other, sender in zip(others, senders, strict=True):
            packet = f"packet of a tunnel (UDP, port 4789) from {other.name}"
            if heard["node", str(sender)]:
                continue
            if not heard["wire", str(sender)]:
                came = max(heard["wire", str(address)] for address in senders)
                problems.append(f"{node.name}: no {packet} arrives ({came} came from another node)")
            elif not takes:
                problems.append(f"{node.name}: its firewall drops each {packet}")
    assert not problems, "\n".join(problems)
