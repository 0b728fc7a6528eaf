"""Nodes reach each other: by every name, at every open port, with full-size packets."""

from __future__ import annotations

import json

import pytest

from stackspec.fixtures import programs
from stackspec.inventory import Node
from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

# Not run while another test cuts the power of a node: that test disturbs nova_compute.
looks_at_nodes = pytest.mark.steps("nova_compute")

BRIDGED = {"controller", "compute"}
"""Roles of nodes with the provider bridge."""


def test_every_node_knows_every_name(base: object, site: Site, node_host: HostOf) -> None:
    """Node names resolve everywhere: the guide's URLs use names that it never sets up (erratum E04)."""
    for name in site.nodes:
        host = node_host(name)
        called = host.check_output("hostname")
        assert called == name, f"{name} has the host name {called}"
        for other in site.nodes.values():
            found = host.check_output("getent ahostsv4 %s", other.name).split()[0]
            assert found == other.address, f"{name} resolves {other.name} to {found}"


@looks_at_nodes
def test_no_firewall_keeps_nodes_from_each_other(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """No firewall rule blocks the open ports of the management network."""

    def listening(node: Node) -> set[int]:
        sockets = [line.split()[3] for line in node_host(node.name).check_output("ss -H -t -l -n").splitlines()]
        found = [socket.rpartition(":") for socket in sockets]
        return {int(port) for address, _, port in found if address in (node.address, "0.0.0.0", "*", "[::]")}

    problems = []
    for node in site.nodes.values():
        ports, closed = sorted(listening(node)), []
        for other in site.nodes.values():
            if other is not node:
                shut = programs.output(node_host(other.name), "closed_ports", node.address, *ports)
                closed += [(int(port), other.name) for port in shut.split()]
        # A port that has closed meanwhile, such as a guest's console, is not blocked by a firewall.
        still = listening(node) if closed else set()
        problems += [
            f"{node.name}: port {port} is open but not reachable from {other}: a firewall rule (nft list ruleset)?"
            for port, other in closed
            if port in still
        ]
    assert not problems, "\n".join(problems)


@looks_at_nodes
@pytest.mark.parametrize("network", ["management", "provider"])
def test_full_packets_reach_every_node(
    network: str, base: object, neutron_compute: object, site: Site, node_host: HostOf
) -> None:
    """A packet of the interface's full MTU arrives: a switch or tunnel with a smaller MTU would drop it."""
    nodes = [node for node in site.nodes.values() if network == "management" or set(node.roles) & BRIDGED]
    problems = []
    for node in nodes:
        host = node_host(node.name)
        for other in nodes:
            if other is node:
                continue
            address = str(getattr(other, network).address)
            (route,) = json.loads(host.check_output("ip -j route get %s", address))
            (link,) = json.loads(host.check_output("ip -j link show dev %s", route["dev"]))
            size = link["mtu"] - 28
            if host.run("ping -q -c 2 -i 0.2 -W 3 -M do -s %s %s", str(size), address).rc != 0:
                problems.append(
                    f"{node.name}: no packet of {link['mtu']} bytes from {route['dev']} reaches {other.name}, {address}"
                )
    assert not problems, "\n".join(problems)
