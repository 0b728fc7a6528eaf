"""Clusters without servers: the conductors that would make them, refused requests, quotas, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.clusters import api
from stackspec.fixtures.connections import Tenant, Tenants
from stackspec.fixtures.images import RAW
from stackspec.fixtures.owned import Owned
from stackspec.waiting import wait_for


def test_conductors_are_up(magnum: object, cloud: Connection) -> None:
    """Every conductor reports."""

    def all_up() -> bool:
        found = [(each.binary, each.state) for each in api(cloud).services()]
        return bool(found) and all(each == ("magnum-conductor", "up") for each in found)

    wait_for("all conductors of magnum are up", all_up, 90)


def test_conductors_are_not_shown_to_members(magnum: object, member: Connection) -> None:
    """Only administrators see the hosts of conductors."""
    answer = api(member).get("/mservices")
    assert answer.status_code == 403, f"conductors as seen by a member: status {answer.status_code}, expected 403"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        pytest.param({"cluster_template_id": "no-such-template"}, 400, id="template"),
        pytest.param({"keypair": "no-such-key"}, 404, id="key"),
        pytest.param({"node_count": -1}, 400, id="number of nodes"),
        pytest.param({"master_count": 0}, 400, id="no master"),
        pytest.param({"master_count": 2}, 400, id="masters without load balancer"),
        pytest.param({"flavor_id": "no-such-flavor"}, 400, id="flavor"),
    ],
)
def test_wrong_cluster_is_refused(
    wrong: dict[str, Any], status: int, cluster_template: Any, member: Connection, owned: Owned
) -> None:
    """Invalid clusters are refused, and none is created."""
    name = owned.name("wrong")
    answer = api(member).post("/clusters", json={"name": name, "cluster_template_id": cluster_template.id, **wrong})
    if answer.status_code == 202:
        owned.adopt(member, "cluster", api(member).get_cluster(answer.json()["uuid"]))
    assert answer.status_code == status, f"cluster with {wrong}: {answer.status_code} {answer.text[:300]}"
    assert name not in {each.name for each in api(member).clusters()}


@pytest.fixture
def without_clusters(tenants: Tenants, magnum: object, cloud: Connection) -> Iterator[Tenant]:
    """A project with a quota of no clusters."""
    tenant = tenants.get("no-clusters")
    body = {"project_id": tenant.project_id, "resource": "Cluster", "hard_limit": 0}
    answer = api(cloud).post("/quotas", json=body)
    assert answer.status_code == 201, f"{answer.status_code} {answer.text[:300]}"
    yield tenant
    path = f"/quotas/{tenant.project_id}/Cluster"
    answer = api(cloud).delete(path, json={"project_id": tenant.project_id, "resource": "Cluster"})
    assert answer.status_code == 204, f"{answer.status_code} {answer.text[:300]}"


def test_quota_is_enforced(
    without_clusters: Tenant, basic_template: dict[str, Any], cloud: Connection, owned: Owned
) -> None:
    """A cluster over the quota is refused; the project can read its quota but not raise it."""
    mine = without_clusters.connection
    image = owned(mine, "image", "coreos", data=b"x", properties={"os_distro": "fedora-coreos"}, **RAW)
    made = owned(mine, "cluster_template", "quota", **{**basic_template, "image_id": image.id})
    answer = api(mine).post("/clusters", json={"name": owned.name("over"), "cluster_template_id": made.id})
    if answer.status_code == 202:
        owned.adopt(mine, "cluster", api(mine).get_cluster(answer.json()["uuid"]))
    assert answer.status_code == 403, f"cluster over the quota: {answer.status_code} {answer.text[:300]}"
    path = f"/quotas/{without_clusters.project_id}/Cluster"
    assert api(mine).get(path).json()["hard_limit"] == 0
    raised = {"project_id": without_clusters.project_id, "resource": "Cluster", "hard_limit": 5}
    assert api(mine).patch(path, json=raised).status_code == 403
    assert api(cloud).patch(path, json=raised).status_code == 202
    assert api(mine).get(path).json()["hard_limit"] == 5


def test_statistics_of_a_project(magnum: object, member: Connection, other_member: Connection) -> None:
    """A project reads only its own statistics; those of all projects are for administrators."""
    found = api(member).get("/stats", params={"project_id": member.current_project_id})
    assert (found.status_code, found.json()["clusters"]) == (200, 0)
    answer = api(other_member).get("/stats", params={"project_id": member.current_project_id})
    assert answer.status_code == 403, f"another project's statistics: {answer.status_code} {answer.text[:300]}"
