"""Ports: every API answers on every node, and nothing else is open to users and guests."""

from __future__ import annotations

import ipaddress
import re

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site
from stackspec.waiting import wait_for

APIS = {
    "keystone": 5000,
    "glance": 9292,
    "placement": 8778,
    "nova": 8774,
    "neutron": 9696,
    "barbican": 9311,
    "cinder": 8776,
    "heat": 8004,
    "magnum": 9511,
    "octavia": 9876,
    "swift": 8080,
}
PUBLIC = {
    **{port: f"API of {name}" for name, port in APIS.items()},
    8000: "heat's API for signals of guests",
    6080: "console pages for users' browsers",
    80: "horizon",
    9999: "skyline",
}
"""Ports of the controller that are open to users and guests on all its addresses."""
EVERYWHERE = {5355: "LLMNR, answered by the distribution's resolver"}
"""Ports that may be open on a node before the installation, besides ssh."""


@pytest.mark.parametrize("service", [pytest.param(name, marks=pytest.mark.steps(name)) for name in APIS])
def test_api_answers_on_every_node(service: str, site: Site, node_host: HostOf) -> None:
    """The endpoint's name and port respond without an error, from every node."""
    host, port = site.controller.name, APIS[service]
    for name in site.nodes:
        asked = programs.run(node_host(name), "http_first_line", host, port)
        assert asked.rc == 0, f"{service} is not reachable from {name}: {asked.stderr.strip().splitlines()[-1]}"
        assert re.match(r"HTTP/1\.[01] [1-4]\d\d ", asked.stdout), f"{service} answers {name}: {asked.stdout.strip()!r}"


def test_internal_ports_are_not_exposed(
    rabbitmq: object,
    nova_networking: object,
    neutron_compute: object,
    nova_discover: object,
    site: Site,
    node_host: HostOf,
) -> None:
    """Internal ports listen neither on the provider network, which tenants can reach, nor on all addresses."""
    outside = site.networks["provider"].cidr

    def exposed() -> list[str]:
        found = []
        for node in site.nodes.values():
            allowed = {site.inventory.ssh.port or 22, *EVERYWHERE, *(PUBLIC if "controller" in node.roles else ())}
            for line in node_host(node.name).check_output("ss -H -l -t -n -p").splitlines():
                address, _, port = line.split()[3].rpartition(":")
                address = address.partition("%")[0].strip("[]")
                wide = address in ("*", "0.0.0.0", "::")
                if (wide or ipaddress.ip_address(address.removeprefix("::ffff:")) in outside) and int(
                    port
                ) not in allowed:
                    found.append(f"{node.name}: {address}:{port} {' '.join(line.split()[5:])}")
        return found

    # rabbitmqctl listens while it runs, and a step or another test may be running it.
    wait_for(
        "no internal port is exposed",
        lambda: not exposed(),
        30,
        detail=lambda: "\n".join(exposed()),
    )


@pytest.mark.parametrize(
    ("port", "step"),
    [
        pytest.param(3306, "mariadb", marks=pytest.mark.steps("mariadb"), id="mariadb"),
        pytest.param(11211, "memcached", marks=pytest.mark.steps("memcached"), id="memcached"),
        pytest.param(5672, "rabbitmq", marks=pytest.mark.steps("rabbitmq"), id="rabbitmq"),
        pytest.param(25672, "rabbitmq", marks=pytest.mark.steps("rabbitmq"), id="rabbitmq-nodes"),
        pytest.param(8775, "nova", marks=pytest.mark.steps("nova"), id="nova-metadata"),
        pytest.param(2379, "etcd", marks=pytest.mark.steps("etcd"), id="etcd"),
        pytest.param(2380, "etcd", marks=pytest.mark.steps("etcd"), id="etcd-peers"),
    ],
)
def test_listens_on_the_management_address_only(port: int, step: str, site: Site, controller: NodeHost) -> None:
    """Tokens, passwords and keys are behind these ports (errata E08, E18, E20, E21)."""
    sockets = controller.check_output("ss -H -t -l -n 'sport = :'%s", str(port)).splitlines()
    addresses = {line.split()[3].rsplit(":", 1)[0] for line in sockets}
    assert addresses == {site.controller.address}, f"{step}: port {port} listens on {addresses or 'nothing'}"
