"""Who may see and do what in block storage: administrators, the project's users, its readers, and other projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openstack.connection import Connection

from stackspec.fixtures.block_storage import ask
from stackspec.fixtures.connections import Tenant, connect_as, user_of
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.volumes import Volumes
from stackspec.openstack.versions import identity_v3
from stackspec.secrets import redact

if TYPE_CHECKING:
    from openstack.block_storage.v3.snapshot import Snapshot
    from openstack.block_storage.v3.volume import Volume


def test_place_is_the_administrator_s_to_see(volumes: Volumes, volume: Volume, cloud: Connection) -> None:
    """Users do not see the backend of a volume."""
    assert volumes.get("volume", volume.id).host is None
    assert "@" in cloud.block_storage.get_volume(volume.id).host


def test_another_project_sees_nothing(
    volumes: Volumes, volume: Volume, snapshot: Snapshot, other_member: Connection, member_tenant: Tenant
) -> None:
    """Another project cannot show, list, change or delete it, even with the owner's project id in the path."""
    for path in (f"/volumes/{volume.id}", f"/snapshots/{snapshot.id}"):
        assert ask(other_member, "GET", path).status_code == 404
        assert ask(other_member, "DELETE", path).status_code == 404
    assert (
        ask(other_member, "POST", f"/volumes/{volume.id}/action", **{"os-extend": {"new_size": 9}}).status_code == 404
    )
    assert ask(other_member, "POST", "/volumes", volume={"size": 1, "source_volid": volume.id}).status_code == 404
    assert volume.id not in {each.id for each in other_member.block_storage.volumes()}
    everywhere = ask(other_member, "GET", "/volumes?all_tenants=1").json()["volumes"]
    assert volume.id not in {each["id"] for each in everywhere}
    # With the owner's project in the path: newer endpoints contain no project.
    url = f"{volumes.connection.block_storage.get_endpoint()}/volumes"
    if member_tenant.project_id in url:
        assert other_member.session.get(url, raise_exc=False).status_code in (400, 403)


def test_reader_reads(volumes: Volumes, volume: Volume, cloud: Connection, owned: Owned, member_tenant: Tenant) -> None:
    """A user with only the role reader sees the project's volumes, but has no administrator rights.

    Readers can also write, by cinder's default, unless `enforce_new_defaults` is set, which the guide does not do.
    """
    password = redact.add(owned.name("Reader"))
    user = owned(
        cloud, "user", "reader", password=password, domain_id=identity_v3(cloud).get_user(user_of(cloud)).domain_id
    )
    role = identity_v3(cloud).find_role("reader", ignore_missing=False)
    identity_v3(cloud).assign_project_role_to_user(member_tenant.project_id, user, role)
    reader = connect_as(cloud, password, user_id=user.id, project_id=member_tenant.project_id)
    assert ask(reader, "GET", f"/volumes/{volume.id}").status_code == 200
    assert volume.id in {each.id for each in reader.block_storage.volumes()}
    answer = ask(reader, "POST", f"/volumes/{volume.id}/action", **{"os-reset_status": {"status": "error"}})
    assert answer.status_code == 403, answer.text
    assert ask(reader, "GET", "/os-services").status_code == 403


@pytest.mark.parametrize("path", ["/os-services", "/scheduler-stats/get_pools", "/qos-specs"])
def test_ordinary_user_is_no_administrator(volumes: Volumes, cloud: Connection, path: str) -> None:
    """Administrator requests are refused with 403."""
    status = ask(volumes.connection, "GET", path).status_code
    assert status == 403, f"GET {path} by an ordinary user: {status}, expected 403"
    assert ask(cloud, "GET", path).status_code == 200


def test_status_is_the_administrator_s(volumes: Volumes, volume: Volume) -> None:
    """Only an administrator can reset a volume's state."""
    answer = ask(volumes.connection, "POST", f"/volumes/{volume.id}/action", **{"os-reset_status": {"status": "error"}})
    assert answer.status_code == 403, answer.text
    assert volumes.get("volume", volume.id).status == "available"


def test_nobody_without_a_token(volumes: Volumes) -> None:
    """401 without a token."""
    url = f"{volumes.connection.block_storage.get_endpoint()}/volumes"
    assert volumes.connection.session.get(url, authenticated=False, raise_exc=False).status_code == 401
