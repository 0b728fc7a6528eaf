"""A server from its image to a login: key, host name, metadata, user data, addresses, console."""

from __future__ import annotations

import ipaddress
import json

import pytest
from openstack.connection import Connection

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.topology import RED, RESOLVER, ROUTED, Fleet
from stackspec.waiting import wait_for

pytestmark = pytest.mark.lane("guests")

METADATA = "http://169.254.169.254/openstack/latest/meta_data.json"


@pytest.mark.smoke
def test_login_with_the_key_over_a_floating_address(web: Guest, member: Connection) -> None:
    """The guest has nova's host name, and the server's address."""
    hostname = web.ssh("hostname").split(".")[0]
    assert hostname == web.name, f"host name in the guest: expected {web.name}, found {hostname}"
    shown = {
        (address["addr"], address["OS-EXT-IPS:type"])
        for network in web.refresh().addresses.values()
        for address in network
    }
    expected = {(web.fixed_address, "fixed"), (web.address, "floating")}
    assert shown == expected, f"addresses of the server: expected {expected}, found {shown}"


def test_metadata_from_inside(web: Guest) -> None:
    """169.254.169.254 returns the guest's own metadata."""
    answer = web.ssh(f"wget -q -O - {METADATA} 2>/dev/null || curl -fsS {METADATA}")
    data = json.loads(answer)
    assert data["uuid"] == web.server.id, f"uuid in the metadata: expected {web.server.id}, found {data['uuid']}"
    assert data["meta"] == {"purpose": "scenario"}, f"properties in the metadata: {data['meta']}"
    assert data["hostname"].split(".")[0] == web.name
    public = web.key.with_suffix(".pub").read_text().split()[1]
    assert public in answer, "the metadata lacks the server's public key"


def test_user_data_was_executed(web: Guest, run_id: str) -> None:
    """The server's user data script ran in the guest."""
    found = web.ssh("cat /tmp/stackspec-user-data", check=False)
    expected = f"executed-for-{run_id}"
    assert found == expected, f"trace of the user data: expected {expected!r}, found {found!r}\n{web.state()}"


def test_address_routes_and_resolver_are_the_subnets(web: Guest, fleet: Fleet) -> None:
    """DHCP configured the subnet's address and mask, default route, extra route, resolver and MTU."""
    network = fleet.launch.connection.network.get_network(fleet.red.network.id)
    addresses = web.ssh("ip -4 -o addr show scope global")
    wanted = f"{web.fixed_address}/{RED.prefixlen}"
    assert wanted in addresses, f"address in the guest: expected {wanted}, found {addresses}"
    routes = web.ssh("ip -4 route")
    assert f"default via {RED[1]} " in f"{routes} ", f"default route: expected via {RED[1]}, found\n{routes}"
    assert f"{ROUTED} via {RED[1]} " in f"{routes} ", (
        f"route of the subnet: expected {ROUTED} via {RED[1]}, found\n{routes}"
    )
    interface = addresses.split()[1]
    mtu = int(web.ssh(f"cat /sys/class/net/{interface}/mtu"))
    assert mtu == network.mtu, f"MTU of {interface}: the network has {network.mtu}, the guest has {mtu}"
    resolvers = web.ssh("cat /run/systemd/resolve/resolv.conf /etc/resolv.conf 2>/dev/null", check=False)
    assert f"nameserver {RESOLVER}" in resolvers, f"resolver: expected {RESOLVER}, found\n{resolvers}"


def test_lease_comes_from_the_networks_dhcp_port(web: Guest, fleet: Fleet) -> None:
    """The network's DHCP port has an address of the subnet, and the guest's address is in the pool."""
    ports = list(fleet.launch.connection.network.ports(network_id=fleet.red.network.id, device_owner="network:dhcp"))
    assert ports, "the network has no DHCP port"
    assert all(port.status == "ACTIVE" for port in ports), f"DHCP ports: {[port.status for port in ports]}"
    address = ipaddress.IPv4Address(web.fixed_address)
    assert RED[10] <= address <= RED[99], f"{address} is not in the subnet's pool {RED[10]}-{RED[99]}"


def test_console_log_shows_the_boot_to_the_login(web: Guest, run_id: str) -> None:
    """The console log contains the guest's boot, the user data's output and the login banner."""
    web.ready()
    console = wait_for("a login banner in the console log", lambda: _with_banner(web), 60, every=2, detail=web.state)
    assert run_id in console, f"the user data's output is not in the console log\n{web.state()}"


def _with_banner(guest: Guest) -> str | None:
    console = guest.console()
    return console if "login:" in console else None


def test_deleted_server_leaves_no_port(doomed_server: Guest, member: Connection) -> None:
    """Nova deletes the port that it created, and neutron frees the address."""
    doomed_server.wait_status()
    ports = list(member.network.ports(device_id=doomed_server.server.id))
    assert len(ports) == 1, f"ports of the server before it is deleted: expected 1, found {len(ports)}"
    doomed_server.delete()
    wait_for(
        "the deleted server's port is gone",
        lambda: not list(member.network.ports(device_id=doomed_server.server.id)),
        30,
    )
