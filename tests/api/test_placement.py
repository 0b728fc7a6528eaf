"""Placement: inventories of the compute nodes, allocations, resource classes and traits."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.owned import Owned
from stackspec.plugin.session import RUN

VERSION = "1.29"


def providers_of_nodes(cloud: Connection) -> dict[str, Any]:
    """Root providers by compute node."""
    hypervisors = {each.name for each in cloud.compute.hypervisors()}
    found = {each.name: each for each in cloud.placement.resource_providers() if each.name in hypervisors}
    assert found, f"no hypervisor is a resource provider: nova knows {sorted(hypervisors) or 'none'}"
    return found


def test_every_compute_node_is_a_provider(
    request: pytest.FixtureRequest, placement: object, nova_discover: object, cloud: Connection
) -> None:
    """Each compute node of the site, or each of nova's hypervisors, is a resource provider in placement."""
    found = {name.split(".")[0] for name in providers_of_nodes(cloud)}
    site = request.config.stash[RUN].site
    nodes = [node.name for node in site.with_role("compute")] if site else []
    expected = set(nodes) or {each.name.split(".")[0] for each in cloud.compute.hypervisors()}
    assert found == expected, f"resource providers: expected {sorted(expected)}, found {sorted(found)}"


def test_providers_have_inventory(placement: object, nova_discover: object, cloud: Connection) -> None:
    """Non-empty inventories of VCPU, memory and disk, with allocation ratios."""
    for name, provider in providers_of_nodes(cloud).items():
        inventories = {each.resource_class: each for each in cloud.placement.resource_provider_inventories(provider)}
        missing = {"VCPU", "MEMORY_MB", "DISK_GB"} - set(inventories)
        assert not missing, f"{name} has no inventory of {', '.join(sorted(missing))}"
        empty = [each for each, inventory in inventories.items() if inventory.total < 1]
        assert not empty, f"{name} has an empty inventory of {', '.join(empty)}"
        assert inventories["VCPU"].allocation_ratio >= 1


def test_providers_have_traits(placement: object, nova_discover: object, cloud: Connection) -> None:
    """Nova's driver reports the traits of a node, all of which are known to placement."""
    known = {each.name for each in cloud.placement.traits()}
    for name, provider in providers_of_nodes(cloud).items():
        answer = cloud.placement.get(f"/resource_providers/{provider.id}/traits", microversion="1.6").json()
        traits = set(answer["traits"])
        assert traits <= known
        assert any(each.startswith("COMPUTE_") for each in traits), f"{name} has no COMPUTE_ trait: {sorted(traits)}"


@pytest.mark.smoke
def test_candidates_for_a_small_server(placement: object, nova_discover: object, cloud: Connection) -> None:
    """Nodes with free resources are candidates for a small request, and none for a huge one."""
    answer = cloud.placement.get("/allocation_candidates?resources=VCPU:1,MEMORY_MB:64", microversion=VERSION)
    assert answer.status_code == 200, answer.text[:300]
    nodes = {provider.id for provider in providers_of_nodes(cloud).values()}
    candidates = set(answer.json()["provider_summaries"])
    assert nodes & candidates, "no compute node has room for a server of 1 VCPU and 64 MiB"
    answer = cloud.placement.get("/allocation_candidates?resources=MEMORY_MB:999999999", microversion=VERSION)
    assert answer.json()["allocation_requests"] == []


def test_allocations_fit_the_usage(placement: object, nova_discover: object, cloud: Connection) -> None:
    """The allocations of a provider add up to its usage."""
    for name, provider in providers_of_nodes(cloud).items():
        for _attempt in range(3):  # a server may be created or deleted between the two requests
            usages = _get(cloud, provider, "usages")["usages"]
            allocations = _get(cloud, provider, "allocations")["allocations"]
            summed = dict.fromkeys(usages, 0)
            for each in allocations.values():
                for resource, amount in each["resources"].items():
                    summed[resource] = summed.get(resource, 0) + amount
            if summed == usages:
                break
        assert summed == usages, f"{name}: usages {usages}, sum of allocations {summed}"


def _get(cloud: Connection, provider: Any, what: str) -> Any:
    return cloud.placement.get(f"/resource_providers/{provider.id}/{what}", microversion="1.9").json()


def test_resource_class_is_created_and_deleted(placement: object, cloud: Connection, owned: Owned) -> None:
    """A custom resource class in a provider's inventory."""
    made = owned(cloud, "resource_class", "widget")
    assert made.name in {each.name for each in cloud.placement.resource_classes()}
    with pytest.raises(exceptions.ConflictException):
        cloud.placement.create_resource_class(name=made.name)
    cloud.placement.delete_resource_class(made.name, ignore_missing=False)
    assert made.name not in {each.name for each in cloud.placement.resource_classes()}


def test_provider_with_inventory_is_a_candidate(placement: object, cloud: Connection, owned: Owned) -> None:
    """A custom provider: inventory, trait, candidate, removal."""
    widget = owned(cloud, "resource_class", "offered").name
    trait = owned(cloud, "trait", "quality").name
    provider = owned(cloud, "resource_provider", "provider")
    cloud.placement.create_resource_provider_inventory(provider, widget, total=3)
    generation = cloud.placement.get_resource_provider(provider.id).generation
    body = {"resource_provider_generation": generation, "traits": [trait]}
    answer = cloud.placement.put(f"/resource_providers/{provider.id}/traits", json=body, microversion="1.6")
    assert answer.status_code == 200, answer.text[:300]

    def candidates(amount: int, required: str = "") -> set[str]:
        query = f"/allocation_candidates?resources={widget}:{amount}" + (f"&required={required}" if required else "")
        return set(cloud.placement.get(query, microversion=VERSION).json()["provider_summaries"])

    assert candidates(3, trait) == {provider.id}
    assert candidates(4) == set(), "a request for 4 of 3 has a candidate"
    # A class and a trait that are in use cannot be deleted.
    with pytest.raises(exceptions.ConflictException):
        cloud.placement.delete_resource_class(widget)
    cloud.placement.delete_resource_provider(provider)
    assert candidates(1) == set()


def test_ordinary_user_is_kept_out(placement: object, member: Connection, cloud: Connection) -> None:
    """Placement is restricted to services and administrators."""
    answer = member.placement.get("/resource_providers")
    assert answer.status_code == 403, f"resource providers by an ordinary user: {answer.status_code}, expected 403"
