"""Servers reach each other over VXLAN and through routers, and the outside, but not other projects' servers."""

from __future__ import annotations

import pytest
from openstack.connection import Connection

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.topology import NC_PORT, RED, STRANGER, Fleet
from stackspec.waiting import wait_for

pytestmark = pytest.mark.lane("guests")

BLOCKS = 64
"""Blocks of 64 KiB: 4 MiB are enough to detect lost or damaged segments, and fit in a guest's memory."""


@pytest.fixture(scope="module")
def on_two_nodes(web: Guest, peer: Guest, fleet: Fleet) -> tuple[Guest, Guest]:
    """Web and peer, on different compute nodes."""
    web.ready()
    peer.ready()
    # Nova shows ordinary users a hash of project and host: different hashes mean different hosts.
    if web.refresh().host_id == peer.refresh().host_id:
        assert fleet.spread != "anti-affinity", (
            f"{web.name} and {peer.name} are on the same host despite their anti-affinity group"
        )
        pytest.skip("both servers are on one compute node: this cloud seems to have only one")
    return web, peer


def test_ping_between_compute_nodes(on_two_nodes: tuple[Guest, Guest]) -> None:
    """Two servers of a network on different compute nodes reach each other, both ways, without packet loss."""
    web, peer = on_two_nodes
    assert web.pings(peer.fixed_address), (
        f"{web.name} does not reach {peer.name} ({peer.fixed_address})\n{peer.state()}"
    )
    assert peer.pings(web.fixed_address), f"{peer.name} does not reach {web.name} ({web.fixed_address})\n{web.state()}"


def test_full_size_packets_between_compute_nodes(on_two_nodes: tuple[Guest, Guest], fleet: Fleet) -> None:
    """A packet of the network's MTU passes: encapsulation fits into the underlying network."""
    web, peer = on_two_nodes
    mtu = fleet.launch.connection.network.get_network(fleet.red.network.id).mtu
    assert web.pings(peer.fixed_address, size=mtu - 28), (
        f"packets of {mtu} bytes (the network's MTU) get lost between {web.name} and {peer.name}"
    )


def test_tcp_between_compute_nodes(on_two_nodes: tuple[Guest, Guest]) -> None:
    """Some megabytes arrive unchanged."""
    web, peer = on_two_nodes
    # The listener's input stays open, otherwise busybox's nc closes the connection when its input ends.
    peer.ssh(
        f"rm -f /tmp/received; (sleep 120 | nc -l -p {NC_PORT} >/tmp/received) </dev/null >/dev/null 2>&1 & "
        f"sleep 1; echo listening"
    )
    web.ssh(f"dd if=/dev/urandom of=/tmp/sent bs=65536 count={BLOCKS} 2>/dev/null")
    web.ssh(f"timeout 100 nc {peer.fixed_address} {NC_PORT} </tmp/sent >/dev/null", seconds=110)
    sent = web.ssh("sha256sum </tmp/sent")
    received = peer.ssh("sha256sum </tmp/received; wc -c </tmp/received").splitlines()
    assert received[0] == sent, f"of {BLOCKS * 65536} bytes {received[1].strip()} arrived, or they were damaged"
    web.ssh("rm -f /tmp/sent")
    peer.ssh("rm -f /tmp/received")


def test_two_subnets_are_routed(web: Guest, patient: Guest, fleet: Fleet) -> None:
    """The router forwards packets between its subnets, and responds at its own addresses."""
    web.ready()
    patient.ready()
    assert web.pings(str(RED[1])), f"the router's address {RED[1]} does not answer {web.name}"
    assert web.pings(patient.fixed_address), (
        f"{web.name} does not reach {patient.name} ({patient.fixed_address}) through the router\n{patient.state()}"
    )


def test_outside_is_reached_without_floating_address(peer: Guest, external_gateway: str) -> None:
    """The router does SNAT for a server without floating IP."""
    assert peer.pings(external_gateway), f"{peer.name} does not reach {external_gateway}\n{peer.state()}"


def test_outside_is_reached_with_floating_address(web: Guest, external_gateway: str) -> None:
    """A server with a floating IP reaches the outside as well."""
    assert web.pings(external_gateway), f"{web.name} does not reach {external_gateway}\n{web.state()}"


def test_floating_address_moves_between_servers(patient: Guest, peer: Guest, member: Connection) -> None:
    """A floating IP moved to another server leads there, and back again."""
    patient.ready()
    peer.ready()
    address = next(iter(member.network.ips(floating_ip_address=patient.address)))
    via_address = patient.login()

    def name() -> str:
        return via_address.run("hostname", seconds=20).output.strip().split(".")[0]

    try:
        member.network.update_ip(address, port_id=peer.own_port.id)
        wait_for(f"{patient.address} leads to {peer.name}", lambda: name() == peer.name, 60, every=2, detail=peer.state)
    finally:
        member.network.update_ip(address, port_id=patient.own_port.id)
    wait_for(f"{patient.address} leads back to {patient.name}", lambda: name() == patient.name, 60, every=2)


def test_projects_do_not_reach_each_other(web: Guest, peer: Guest, stranger: Guest) -> None:
    """Two projects use the same addresses, and are isolated from each other."""
    stranger.ready()
    # Both sides are alive and can ping, so the result below is meaningful.
    assert web.pings(peer.fixed_address), f"{web.name} does not even reach {peer.name} in its own network"
    assert stranger.pings(str(RED[1])), f"{stranger.name} does not even reach its own router"
    assert web.misses(STRANGER), f"{web.name} reaches {STRANGER}, which is {stranger.name} in another project's network"
    assert stranger.misses(web.fixed_address), (
        f"{stranger.name} reaches {web.fixed_address}, {web.name} of another project"
    )
