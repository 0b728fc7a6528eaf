"""Networks for administrators: agents, the external network, extensions."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from openstack.connection import Connection

from stackspec.plugin.session import RUN

if TYPE_CHECKING:
    from openstack.network.v2.network import Network

ON_CONTROLLER = ("Open vSwitch agent", "L3 agent", "DHCP agent", "Metadata agent")


def test_agents_are_alive(
    request: pytest.FixtureRequest, neutron: object, neutron_compute: object, cloud: Connection
) -> None:
    """Every agent is alive; on our sites the guide's agents are on the guide's nodes."""
    agents = list(cloud.network.agents())
    assert agents, "neutron knows no agent"
    dead = [f"{each.agent_type} on {each.host}" for each in agents if each.is_admin_state_up and not each.is_alive]
    assert not dead, f"not alive: {', '.join(dead)}"
    site = request.config.stash[RUN].site
    if site is None:
        return
    # Not checked on other clouds, whose operators may have disabled agents on purpose.
    off = [f"{each.agent_type} on {each.host}" for each in agents if not each.is_admin_state_up]
    assert not off, f"switched off by an administrator: {', '.join(off)}"
    found = {(each.agent_type, each.host.split(".")[0]) for each in agents}
    wanted = {(kind, site.controller.name) for kind in ON_CONTROLLER}
    wanted |= {("Open vSwitch agent", node.name) for node in site.with_role("compute")}
    missing = wanted - found
    assert not missing, f"no {', '.join(f'{kind} on {host}' for kind, host in sorted(missing))}; found {sorted(found)}"


def test_switch_agents_see_each_others_tunnels(neutron: object, neutron_compute: object, cloud: Connection) -> None:
    """Each Open vSwitch agent has tunnels, with a unique address."""
    agents = [each for each in cloud.network.agents() if each.agent_type == "Open vSwitch agent"]
    if not agents:
        pytest.skip("this cloud does not use Open vSwitch agents")
    addresses = {each.host: each.configuration.get("tunneling_ip") for each in agents}
    without = [each.host for each in agents if not each.configuration.get("tunnel_types")]
    assert not without, f"no tunnel types on {without}"
    assert None not in addresses.values(), f"no tunnel address: {addresses}"
    assert len(set(addresses.values())) == len(agents), f"two agents tunnel from one address: {addresses}"


def test_external_network_is_the_sites(
    request: pytest.FixtureRequest, neutron: object, cloud: Connection, external_network: Network
) -> None:
    """The external network has a subnet with a pool; on our sites it is flat and matches the inventory."""
    subnets = list(cloud.network.subnets(network_id=external_network.id, ip_version=4))
    assert subnets, f"the external network {external_network.name} has no IPv4 subnet"
    site = request.config.stash[RUN].site
    if site is None:
        return
    wanted = site.networks["provider"]
    found = cloud.network.get_network(external_network.id)
    assert (found.provider_network_type, found.provider_physical_network) == ("flat", "provider")
    subnet = subnets[0]
    assert ipaddress.ip_network(subnet.cidr) == wanted.cidr
    assert subnet.gateway_ip == str(wanted.gateway)
    if wanted.pool:
        pool = {"start": str(wanted.pool[0]), "end": str(wanted.pool[1])}
        assert subnet.allocation_pools == [pool], f"pool: expected {pool}, found {subnet.allocation_pools}"


def test_extensions_that_the_tests_rely_on(neutron: object, user_cloud: Connection) -> None:
    """Neutron has the extensions for routers, floating IPs, security groups, port security, DHCP options, tags."""
    found = {each.alias for each in user_cloud.network.extensions()}
    wanted = {"router", "ext-gw-mode", "security-group", "port-security", "allowed-address-pairs", "extraroute"}
    missing = wanted - found
    assert not missing, f"neutron lacks the extensions {sorted(missing)}"
