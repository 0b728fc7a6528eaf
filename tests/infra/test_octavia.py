"""Octavia on the controller: its interface in the management network, its certificates and listeners."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from openstack.connection import Connection

from stackspec.cloud_inventory import inventory_of
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site

if TYPE_CHECKING:
    from openstack.network.v2.port import Port

CERTIFICATES = "/etc/octavia/certs"


@pytest.fixture
def listen_port(octavia: object, cloud: Connection) -> Port:
    """Neutron's port of o-hm0."""
    return cloud.network.find_port("octavia-health-manager-listen-port", ignore_missing=False)


def test_interface_is_the_port(listen_port: Port, cloud: Connection, controller: NodeHost, site: Site) -> None:
    """o-hm0 has the port's MAC and address, is up with the network's MTU, and has no default route."""
    (link,) = json.loads(controller.check_output("ip -j address show dev o-hm0"))
    wanted = inventory_of(site).octavia
    assert wanted is not None
    network = cloud.network.get_network(listen_port.network_id)
    assert (link["address"], link["mtu"]) == (listen_port.mac_address, network.mtu)
    assert "UP" in link["flags"], f"{site.controller.name}: o-hm0 is down"
    addresses = [(each["local"], each["prefixlen"]) for each in link["addr_info"]]
    assert addresses == [(listen_port.fixed_ips[0]["ip_address"], wanted.network.prefixlen)]
    routes = json.loads(controller.check_output("ip -j route show default"))
    assert all(route["dev"] != "o-hm0" for route in routes), routes
    record = controller.check_output(
        "ovs-vsctl get Interface o-hm0 type external_ids:iface-id external_ids:iface-status"
    )
    assert [line.strip('"') for line in record.split()] == ["internal", listen_port.id, "active"]
    assert listen_port.status == "ACTIVE", "the port is not active in neutron's agent"


def test_interface_outlives_a_boot(octavia: object, controller: NodeHost) -> None:
    """The switch's database has it with its MAC, the cleanup at boot skips it, and its networkd file exists.

    The health manager, which binds its address, waits for it (errata E124 and E126).
    """
    kept = controller.check_output(
        "ovs-vsctl get Interface o-hm0 mac external_ids:attached-mac external_ids:skip_cleanup"
    )
    mac, attached, skip = (line.strip('"') for line in kept.split())
    assert mac == attached, "without it, the interface has another MAC after each boot"
    assert skip == "true"
    assert "05-o-hm0.network" in controller.check_output("networkctl --no-pager status o-hm0")
    before = controller.check_output("systemctl show -p ExecStartPre octavia-health-manager")
    assert "--interface=o-hm0" in before, before


def test_heartbeats_are_admitted(listen_port: Port, controller: NodeHost) -> None:
    """The health manager listens only on o-hm0, and no firewall on the node blocks its packets (E121)."""
    address = listen_port.fixed_ips[0]["ip_address"]
    listeners = controller.check_output("ss -Hulnp sport = 5555").splitlines()
    assert [line.split()[3] for line in listeners] == [f"{address}:5555"], listeners
    rules = controller.run("iptables -S INPUT").stdout.splitlines()
    assert "-P INPUT ACCEPT" in rules, rules
    refusing = [each for each in rules if "5555" in each and each.endswith(("DROP", "REJECT"))]
    assert not refusing, f"{controller.check_output('hostname')}: heartbeats are refused: {', '.join(refusing)}"


def test_certificates_verify(octavia: object, controller: NodeHost) -> None:
    """Certificates pass the strict verification of Python 3.13, and fail for another purpose or authority."""
    client = f"{CERTIFICATES}/private/client.cert-and-key.pem"
    verify = "openssl verify -x509_strict -CAfile %s -purpose %s %s"
    good = controller.run(verify, f"{CERTIFICATES}/client_ca.cert.pem", "sslclient", client)
    why = " ".join((good.stderr + good.stdout).split())
    assert good.rc == 0, f"{client} is not accepted by amphorae: {why}"
    for authority, purpose in (("client_ca.cert.pem", "sslserver"), ("server_ca.cert.pem", "sslclient")):
        bad = controller.run(verify, f"{CERTIFICATES}/{authority}", purpose, client)
        assert bad.rc != 0, f"{client} is wrongly accepted as {purpose} with {authority}"
    for authority in ("client_ca", "server_ca"):
        file = f"{CERTIFICATES}/{authority}.cert.pem"
        assert controller.run(verify, file, "any", file).rc == 0, f"{file} does not verify itself"


def test_keys_are_octavias_only(octavia: object, site: Site, controller: NodeHost) -> None:
    """Keys that control every amphora are protected; the authority's is encrypted, and the clients' is not here."""
    folder = f"{CERTIFICATES}/private"
    keys = ["client.cert-and-key.pem", "server_ca.key.pem"]
    assert sorted(controller.file(folder).listdir()) == keys
    for path, mode in {folder: 0o750, **{f"{folder}/{name}": 0o640 for name in keys}}.items():
        file = controller.file(path)
        found = f"{file.user}:{file.group}, {file.mode:04o}"
        assert found == f"root:octavia, {mode:04o}", (
            f"{site.controller.name}: {path} is {found}, wanted root:octavia, {mode:04o}"
        )
    assert (
        controller.run("grep -q 'BEGIN ENCRYPTED PRIVATE KEY' %s", f"{CERTIFICATES}/private/server_ca.key.pem").rc == 0
    )
    assert controller.file("/etc/keystone/octavia-openrc").mode == 0o600


def test_load_balancers_run_in_amphorae_only(octavia: object, controller: NodeHost) -> None:
    """Units for amphora agents and other drivers do not run on the controller."""
    for unit in ("haproxy", "keepalived", "octavia-agent", "octavia-driver-agent"):
        assert controller.run("systemctl is-active %s", unit).stdout.strip() != "active", unit
        assert controller.run("systemctl is-enabled %s", unit).stdout.strip() != "enabled", unit
