"""Quotas of block storage: kept, seen by users, and changed only by administrators."""

from __future__ import annotations

import pytest
from openstack.connection import Connection

from stackspec.fixtures.block_storage import ask, reason
from stackspec.fixtures.connections import Tenant, Tenants
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.volumes import Volumes


@pytest.fixture(scope="module")
def small_quota_tenant(volumes: Volumes, tenants: Tenants, cloud: Connection) -> Tenant:
    """A project with a quota of one volume of 1 GiB."""
    tenant = tenants.get("poor")
    cloud.block_storage.update_quota_set(tenant.project_id, volumes=1, gigabytes=1, snapshots=1)
    return tenant


def test_quota_is_kept(small_quota_tenant: Tenant, volumes: Volumes, owned: Owned) -> None:
    """Requests over the quota are refused with 413 and the name of the quota; others succeed and are counted."""
    mine = Volumes(small_quota_tenant.connection, volumes.measured, volumes.admin)
    answer = ask(small_quota_tenant.connection, "POST", "/volumes", volume={"size": 2})
    assert answer.status_code == 413, answer.text
    assert "VolumeSizeExceedsAvailableQuota" in reason(answer)
    first = mine.create(owned, "only")
    answer = ask(small_quota_tenant.connection, "POST", "/volumes", volume={"size": 1})
    assert answer.status_code == 413, answer.text
    assert "VolumeLimitExceeded" in reason(answer) or "VolumeSizeExceedsAvailableQuota" in reason(answer)
    answer = ask(small_quota_tenant.connection, "POST", "/snapshots", snapshot={"volume_id": first.id})
    assert answer.status_code == 413, answer.text
    answer = ask(small_quota_tenant.connection, "POST", f"/volumes/{first.id}/action", **{"os-extend": {"new_size": 2}})
    assert answer.status_code == 413, answer.text
    found = ask(small_quota_tenant.connection, "GET", "/limits").json()["limits"]["absolute"]
    assert (found["totalVolumesUsed"], found["totalGigabytesUsed"], found["maxTotalVolumes"]) == (1, 1, 1)
    assert [each.id for each in small_quota_tenant.connection.block_storage.volumes()] == [first.id]


def test_quota_is_the_administrator_s(small_quota_tenant: Tenant, cloud: Connection) -> None:
    """Users see their quota but cannot change it."""
    path = f"/os-quota-sets/{small_quota_tenant.project_id}"
    assert ask(small_quota_tenant.connection, "GET", path).json()["quota_set"]["volumes"] == 1
    assert ask(small_quota_tenant.connection, "PUT", path, quota_set={"volumes": 99}).status_code == 403
    assert cloud.block_storage.get_quota_set(small_quota_tenant.project_id).volumes == 1
