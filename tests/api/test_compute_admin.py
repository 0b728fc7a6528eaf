"""Compute for administrators: services, hypervisors, zones, aggregates."""

from __future__ import annotations

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.owned import Owned
from stackspec.fixtures.services import REPORTED_WITHIN, all_work
from stackspec.plugin.session import RUN
from stackspec.waiting import wait_for

pytestmark = pytest.mark.disturbs("nova_compute")


def expected_nodes(request: pytest.FixtureRequest) -> set[str]:
    """Compute nodes of the site; empty for other clouds."""
    site = request.config.stash[RUN].site
    return {node.name for node in site.with_role("compute")} if site is not None else set()


def test_services_are_up(request: pytest.FixtureRequest, nova_discover: object, cloud: Connection) -> None:
    """Scheduler, conductor, and a compute service on each compute node: all enabled and up."""
    nodes = expected_nodes(request)
    wanted = {"nova-scheduler": (), "nova-conductor": (), "nova-compute": nodes}
    # A service that has just started reports within its interval of 10 s.
    all_work("nova", lambda: list(cloud.compute.services()), wanted, ours=bool(nodes), seconds=REPORTED_WITHIN)


def test_hypervisors_are_up_and_in_a_cell(
    request: pytest.FixtureRequest, nova_discover: object, cloud: Connection
) -> None:
    """Each compute node was discovered into a cell, and its hypervisor is up."""
    # The list queries each compute node, and a node that has just restarted may not respond.
    hypervisors = wait_for(
        "hypervisors: the compute nodes are in a cell and respond",
        lambda: list(cloud.compute.hypervisors(details=True)),
        3 * REPORTED_WITHIN,
        retry_on=(exceptions.HttpException,),
    )
    down = [each.name for each in hypervisors if each.state != "up"]
    assert not down, f"hypervisors that are not up: {down}"
    found = {each.name.split(".")[0] for each in hypervisors}
    wanted = expected_nodes(request)
    assert not wanted or found == wanted, f"hypervisors: expected {sorted(wanted)}, found {sorted(found)}"


def test_hypervisors_have_their_own_addresses(
    request: pytest.FixtureRequest, nova_discover: object, cloud: Connection
) -> None:
    """Consoles, migration and iSCSI go to the address that nova-compute calls its own (erratum E35)."""
    addresses = {each.name.split(".")[0]: each.host_ip for each in cloud.compute.hypervisors(details=True)}
    twice = sorted(name for name, address in addresses.items() if list(addresses.values()).count(address) > 1)
    assert not twice, f"compute nodes with one address: {', '.join(f'{name} {addresses[name]}' for name in twice)}"
    site = request.config.stash[RUN].site
    for node in site.with_role("compute") if site is not None else ():
        name, own = node.name, node.address
        assert addresses[name] == own, f"{name}: nova-compute calls {addresses[name]} its address, wanted {own}"


def test_zone_holds_the_compute_nodes(nova_discover: object, cloud: Connection, member: Connection) -> None:
    """An ordinary user sees the zones, an administrator also their hosts."""
    assert any(zone.state.get("available") for zone in member.compute.availability_zones()), "no zone is available"
    hosts: set[str] = set()
    for zone in cloud.compute.availability_zones(details=True):
        if zone.name != "internal":
            hosts |= set(zone.hosts or ())
    computes = {each.host for each in cloud.compute.services(binary="nova-compute")}
    assert hosts == computes, f"hosts in zones: {sorted(hosts)}, compute services: {sorted(computes)}"


def test_aggregate_with_metadata(nova: object, cloud: Connection, owned: Owned) -> None:
    """An aggregate is created, renamed, given metadata, and deleted; without hosts, since other tests use them."""
    made = owned(cloud, "aggregate", "aggregate")
    cloud.compute.set_aggregate_metadata(made, {"fast": "yes"})
    assert cloud.compute.get_aggregate(made.id).metadata == {"fast": "yes"}
    renamed = owned.name("renamed")
    cloud.compute.update_aggregate(made, name=renamed)
    assert cloud.compute.get_aggregate(made.id).name == renamed
    with pytest.raises(exceptions.NotFoundException):
        cloud.compute.add_host_to_aggregate(made, "no-such-host")
    cloud.compute.delete_aggregate(made, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        cloud.compute.get_aggregate(made.id)


def test_host_of_an_aggregate(nova_discover: object, cloud: Connection, owned: Owned) -> None:
    """A host is added to an aggregate and removed; without zone or metadata this does not affect servers."""
    host = next(iter(cloud.compute.services(binary="nova-compute"))).host
    made = owned(cloud, "aggregate", "with-host")
    assert cloud.compute.add_host_to_aggregate(made, host).hosts == [host]
    assert cloud.compute.remove_host_from_aggregate(made, host).hosts == []


def test_service_is_disabled_with_a_reason(nova_discover: object, cloud: Connection, run_id: str) -> None:
    """An administrator disables a compute service for scheduling, and enables it again."""
    services = [each for each in cloud.compute.services(binary="nova-compute") if each.status == "enabled"]
    if len(services) < 2:
        pytest.skip("needs two enabled compute services: other tests boot servers on the only one")
    service = services[-1]
    # With the run id, cleanup finds and enables it again if this process is killed.
    reason = f"{run_id}-disabled"
    try:
        cloud.compute.disable_service(service, disabled_reason=reason)
        found = next(each for each in cloud.compute.services(binary="nova-compute") if each.id == service.id)
        assert (found.status, found.disabled_reason) == ("disabled", reason)
    finally:
        cloud.compute.enable_service(service)
    found = next(each for each in cloud.compute.services(binary="nova-compute") if each.id == service.id)
    assert found.status == "enabled"


@pytest.mark.parametrize("path", ["/os-services", "/os-hypervisors", "/os-aggregates", "/servers/detail?all_tenants=1"])
def test_ordinary_user_is_no_administrator(nova: object, cloud: Connection, member: Connection, path: str) -> None:
    """Administrator requests are refused with 403."""
    status = member.compute.get(path).status_code
    assert status == 403, f"GET {path} by an ordinary user: {status}, expected 403"
