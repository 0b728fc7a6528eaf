"""Networks: networks, subnets, ports, routers, floating IPs, and visibility."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenants
from stackspec.fixtures.owned import Owned
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.subnet import Subnet

CIDR = "10.202.1.0/24"


@pytest.fixture(scope="module")
def network(neutron: object, member: Connection, module_owned: Owned) -> Network:
    """A network for tests that do not modify it."""
    made: Network = module_owned(member, "network", "shared")
    return made


@pytest.fixture(scope="module")
def subnet(network: Network, member: Connection, module_owned: Owned) -> Subnet:
    """Its subnet."""
    made: Subnet = module_owned(member, "subnet", "shared", network_id=network.id, ip_version=4, cidr=CIDR)
    return made


def test_network_is_changed_and_deleted(neutron: object, member: Connection, owned: Owned) -> None:
    """A network is created, changed (description, state, tags) and deleted."""
    made = owned(member, "network", "network")
    member.network.update_network(made, description="a test's", is_admin_state_up=False)
    member.network.set_tags(made, ["one", "two"])
    found = member.network.get_network(made.id)
    assert (found.description, found.is_admin_state_up, sorted(found.tags)) == ("a test's", False, ["one", "two"])
    assert found.mtu >= 1280, f"MTU {found.mtu} is less than IPv6 needs"
    member.network.delete_network(made, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        member.network.get_network(made.id)


def test_network_is_a_tunnel_and_members_do_not_see_it(
    neutron: object, cloud: Connection, member: Connection, network: Network
) -> None:
    """Only administrators see the provider attributes of a project's network, with a unique segmentation id."""
    seen = cloud.network.get_network(network.id)
    assert seen.provider_network_type in ("vxlan", "geneve", "gre", "vlan"), seen.provider_network_type
    assert seen.provider_segmentation_id
    found = member.network.get_network(network.id)
    assert found.provider_network_type is None, "an ordinary user sees the network's provider attributes"
    assert found.provider_segmentation_id is None


def test_ordinary_user_names_no_segment(neutron: object, cloud: Connection, member: Connection, owned: Owned) -> None:
    """Provider attributes, external and shared networks are restricted to administrators."""
    for attributes in (
        {"provider_network_type": "vxlan", "provider_segmentation_id": 4711},
        {"is_router_external": True},
        {"is_shared": True},
    ):
        with pytest.raises(exceptions.ForbiddenException):
            owned(member, "network", "not-allowed", **attributes)


def test_subnet_of_every_part(neutron: object, member: Connection, network: Network, owned: Owned) -> None:
    """Gateway, pool, resolvers and routes of a subnet are set, read back and changed."""
    made = owned(
        member,
        "subnet",
        "subnet",
        network_id=network.id,
        ip_version=4,
        cidr="10.202.2.0/24",
        gateway_ip="10.202.2.254",
        allocation_pools=[{"start": "10.202.2.10", "end": "10.202.2.19"}],
        dns_nameservers=["192.0.2.1"],
        host_routes=[{"destination": "203.0.113.0/24", "nexthop": "10.202.2.253"}],
    )
    assert made.gateway_ip == "10.202.2.254"
    assert made.allocation_pools == [{"start": "10.202.2.10", "end": "10.202.2.19"}]
    member.network.update_subnet(made, dns_nameservers=["192.0.2.2"], is_dhcp_enabled=False)
    found = member.network.get_subnet(made.id)
    assert (found.dns_nameservers, found.is_dhcp_enabled) == (["192.0.2.2"], False)
    assert found.host_routes == [{"destination": "203.0.113.0/24", "nexthop": "10.202.2.253"}]


def test_subnet_of_ipv6(neutron: object, member: Connection, network: Network, owned: Owned) -> None:
    """With SLAAC, a port gets the address derived from its MAC."""
    subnet = owned(
        member,
        "subnet",
        "six",
        network_id=network.id,
        ip_version=6,
        cidr="fd00:202::/64",
        ipv6_address_mode="slaac",
        ipv6_ra_mode="slaac",
    )
    fixed = [{"subnet_id": subnet.id}]
    port = owned(member, "port", "six", network_id=network.id, fixed_ips=fixed, mac_address="fa:16:3e:00:00:01")
    assert port.fixed_ips[0]["ip_address"] == "fd00:202::f816:3eff:fe00:1"


def test_subnets_of_a_network_do_not_overlap(
    neutron: object, member: Connection, network: Network, subnet: Subnet, owned: Owned
) -> None:
    """An overlapping subnet is a bad request."""
    with pytest.raises(exceptions.BadRequestException):
        owned(member, "subnet", "overlap", network_id=network.id, ip_version=4, cidr=CIDR)


def test_port_with_a_chosen_address(
    neutron: object, member: Connection, network: Network, subnet: Subnet, owned: Owned
) -> None:
    """A port gets the requested address, and no other port can have it."""
    fixed = [{"subnet_id": subnet.id, "ip_address": "10.202.1.77"}]
    made = owned(member, "port", "chosen", network_id=network.id, fixed_ips=fixed)
    assert made.fixed_ips == fixed
    assert made.status == "DOWN"
    with pytest.raises(exceptions.ConflictException):
        owned(member, "port", "second", network_id=network.id, fixed_ips=fixed)
    member.network.update_port(made, is_admin_state_up=False, name=owned.name("renamed"))
    assert member.network.get_port(made.id).is_admin_state_up is False


def test_network_with_a_port_is_not_deleted(neutron: object, member: Connection, owned: Owned) -> None:
    """409 while it is in use."""
    network = owned(member, "network", "used")
    port = owned(member, "port", "using", network_id=network.id)
    with pytest.raises(exceptions.ConflictException):
        member.network.delete_network(network)
    member.network.delete_port(port)
    member.network.delete_network(network, ignore_missing=False)


def test_port_security_and_address_pairs(
    neutron: object, member: Connection, network: Network, subnet: Subnet, owned: Owned
) -> None:
    """Allowed address pairs can be set, or port security disabled, but not both."""
    made = owned(member, "port", "pairs", network_id=network.id)
    member.network.update_port(made, allowed_address_pairs=[{"ip_address": "10.202.1.200"}])
    pairs = member.network.get_port(made.id).allowed_address_pairs
    assert [pair["ip_address"] for pair in pairs] == ["10.202.1.200"]
    with pytest.raises((exceptions.ConflictException, exceptions.BadRequestException)):
        member.network.update_port(made, is_port_security_enabled=False, security_group_ids=[])
    made = member.network.update_port(
        made, allowed_address_pairs=[], is_port_security_enabled=False, security_group_ids=[]
    )
    assert made.is_port_security_enabled is False


def test_router_with_interface_and_gateway(
    neutron: object, member: Connection, external_network: Network, owned: Owned
) -> None:
    """A router connects a subnet to the external network, and cannot be deleted while it has an interface."""
    network = owned(member, "network", "routed")
    subnet = owned(member, "subnet", "routed", network_id=network.id, ip_version=4, cidr="10.202.3.0/24")
    router = owned(member, "router", "router")
    member.network.add_interface_to_router(router, subnet.id)
    ports = list(member.network.ports(device_id=router.id, network_id=network.id))
    assert [port.fixed_ips[0]["ip_address"] for port in ports] == ["10.202.3.1"]
    with pytest.raises(exceptions.ConflictException):
        member.network.delete_router(router)
    router = member.network.update_router(router, external_gateway_info={"network_id": external_network.id})
    assert router.external_gateway_info["network_id"] == external_network.id
    assert router.external_gateway_info["external_fixed_ips"], "the gateway has no address of the external network"
    route = {"destination": "203.0.113.0/24", "nexthop": "10.202.3.9"}
    router = member.network.update_router(router, routes=[route])
    assert router.routes == [route]
    router = member.network.update_router(router, routes=[], external_gateway_info=None)
    assert router.external_gateway_info is None
    member.network.remove_interface_from_router(router, subnet.id)
    member.network.delete_router(router, ignore_missing=False)


def test_floating_address_without_a_server(
    neutron: object, member: Connection, external_network: Network, owned: Owned
) -> None:
    """A floating IP is allocated, assigned to a port behind a router, and released; without a router it is refused."""
    network = owned(member, "network", "floating")
    subnet = owned(member, "subnet", "floating", network_id=network.id, ip_version=4, cidr="10.202.4.0/24")
    port = owned(member, "port", "floating", network_id=network.id)
    address = owned(member, "floating_ip", "address", floating_network_id=external_network.id)
    assert (address.port_id, address.status) == (None, "DOWN")
    with pytest.raises(exceptions.NotFoundException):
        member.network.update_ip(address, port_id=port.id)
    router = owned(member, "router", "floating", external_gateway_info={"network_id": external_network.id})
    member.network.add_interface_to_router(router, subnet.id)
    found = member.network.update_ip(address, port_id=port.id)
    assert found.fixed_ip_address == port.fixed_ips[0]["ip_address"]
    assert found.router_id == router.id
    found = member.network.update_ip(address, port_id=None)
    assert found.fixed_ip_address is None
    member.network.delete_ip(address, ignore_missing=False)


def test_networks_are_each_projects_own(
    neutron: object, member: Connection, other_member: Connection, network: Network, subnet: Subnet
) -> None:
    """Another project cannot list, read, use or delete them."""
    assert network.id not in {each.id for each in other_member.network.networks()}
    for attempt in (
        lambda: other_member.network.get_network(network.id),
        lambda: other_member.network.get_subnet(subnet.id),
        lambda: other_member.network.create_port(network_id=network.id),
        lambda: other_member.network.delete_network(network.id, ignore_missing=False),
    ):
        with pytest.raises(exceptions.NotFoundException):
            attempt()
    assert member.network.get_network(network.id).id == network.id


def test_network_is_lent_to_another_project(
    neutron: object, member: Connection, other_member: Connection, owned: Owned
) -> None:
    """An owner shares a network with one project by RBAC, and unshares it."""
    network = owned(member, "network", "lent")
    policy = member.network.create_rbac_policy(
        object_type="network",
        object_id=network.id,
        action="access_as_shared",
        target_project_id=other_member.current_project_id,
    )
    assert other_member.network.get_network(network.id).id == network.id
    port = owned(other_member, "port", "borrowed", network_id=network.id)
    with pytest.raises(exceptions.ConflictException):
        member.network.delete_rbac_policy(policy)
    other_member.network.delete_port(port)
    member.network.delete_rbac_policy(policy, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        other_member.network.get_network(network.id)


@pytest.fixture
def one_network(neutron: object, cloud: Connection, tenants: Tenants) -> Iterator[Connection]:
    """A project with a quota of one network."""
    tenant = tenants.get("network-quota")
    cloud.network.update_quota(tenant.project_id, networks=1)
    yield tenant.connection
    cloud.network.delete_quota(tenant.project_id)


def test_quota_of_networks_is_enforced(neutron: object, one_network: Connection, owned: Owned) -> None:
    """A network over the quota is refused with 409, and accepted once there is room again."""
    first = owned(one_network, "network", "first")
    with pytest.raises(exceptions.ConflictException, match=r"(?i)quota"):
        owned(one_network, "network", "second")
    one_network.network.delete_network(first)
    owned(one_network, "network", "third")


def test_dhcp_serves_a_new_subnet(neutron: object, neutron_compute: object, member: Connection, owned: Owned) -> None:
    """The DHCP agent creates an active port in a network with a subnet, and removes it if DHCP is disabled."""
    network = owned(member, "network", "dhcp")
    subnet = owned(member, "subnet", "dhcp", network_id=network.id, ip_version=4, cidr="10.202.5.0/24")

    def served() -> list[Any]:
        return list(member.network.ports(network_id=network.id, device_owner="network:dhcp"))

    wait_for("an ACTIVE DHCP port", lambda: [port for port in served() if port.status == "ACTIVE"], 60)
    member.network.update_subnet(subnet, is_dhcp_enabled=False)
    wait_for("the DHCP port to disappear after DHCP was disabled", lambda: not served(), 60)
