"""Block storage without servers: volumes, snapshots, types, quotas, transfers, refused requests, permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant, Tenants, connect_as, user_of
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.services import REPORTED_WITHIN, all_work
from stackspec.fixtures.volumes import Volumes
from stackspec.openstack.kinds import SETTLED_WITHIN
from stackspec.openstack.versions import block_storage_v3, identity_v3
from stackspec.plugin.session import RUN
from stackspec.secrets import redact
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.block_storage.v3.snapshot import Snapshot
    from openstack.block_storage.v3.volume import Volume

NOTHING = "4ee2fd7c-6e25-4a4f-8b0e-3d2a9a0c4f11"
MICROVERSION = "3.55"
"""Supported by every cloud; invalid requests are refused since this version."""


def ask(connection: Connection, method: str, path: str, **body: Any) -> Any:
    """The API's response, whatever its status."""
    service = block_storage_v3(connection)
    return service.request(path, method, raise_exc=False, microversion=MICROVERSION, json=body or None)


def reason(answer: Any) -> str:
    """The error message of a refused request."""
    ((_, error),) = answer.json().items()
    return str(error["message"])


@pytest.fixture(scope="module")
def volume(volumes: Volumes, module_owned: Owned) -> Volume:
    """A volume of 1 GiB for tests that do not modify it."""
    return volumes.create(module_owned, "shared")


@pytest.fixture(scope="module")
def snapshot(volumes: Volumes, volume: Volume, module_owned: Owned) -> Snapshot:
    """A snapshot of that volume."""
    return volumes.snapshot(module_owned, "shared", volume)


# ---- services and pools


def test_services_are_up(request: pytest.FixtureRequest, cinder_volume: object, cloud: Connection) -> None:
    """A scheduler, and cinder-volume on each node that has disks for it: all enabled and up."""
    site = request.config.stash[RUN].site
    nodes = {node.name for node in site.nodes.values() if node.devices("cinder")} if site is not None else set()

    wanted = {"cinder-scheduler": (), "cinder-volume": nodes}
    services = cloud.block_storage.services
    all_work("cinder", lambda: list(services()), wanted, ours=site is not None, seconds=REPORTED_WITHIN)


def test_backups_have_a_service(cinder_backup: object, cloud: Connection) -> None:
    """If there is object storage, cinder-backup is up."""
    states = [each.state for each in cloud.block_storage.services(binary="cinder-backup")]
    assert states, "no cinder-backup has registered"
    assert set(states) == {"up"}, states


def test_pools_have_room(volumes: Volumes, cloud: Connection) -> None:
    """The scheduler knows the storage nodes' pools."""
    pools = {each.name: each.capabilities for each in cloud.block_storage.backend_pools(detail=True)}
    assert pools, "the scheduler knows no pool"
    for name, found in pools.items():
        assert float(found["total_capacity_gb"]) > 0, f"{name}: {found}"
        assert 0 < float(found["free_capacity_gb"]) <= float(found["total_capacity_gb"]), f"{name}: {found}"


def test_zone_is_available(volumes: Volumes) -> None:
    """Users see the availability zones, but not the hosts."""
    answer = ask(volumes.connection, "GET", "/os-availability-zone").json()["availabilityZoneInfo"]
    assert any(each["zoneState"]["available"] for each in answer), answer
    assert all(not each.get("hosts") for each in answer), answer


def test_default_type(request: pytest.FixtureRequest, volumes: Volumes) -> None:
    """There is a default type, and users see it in the list; on our sites it is the guide's."""
    default = ask(volumes.connection, "GET", "/types/default").json()["volume_type"]
    assert default["id"] in {each.id for each in volumes.connection.block_storage.types()}
    assert request.config.stash[RUN].site is None or default["name"] == "lvm"
    assert "extra_specs" not in default or "volume_backend_name" not in default["extra_specs"], "users see the backend"


# ---- volumes


def test_new_volume(volumes: Volumes, volume: Volume, member_tenant: Tenant) -> None:
    """A new volume has the requested size and the default type, is not bootable, and is not attached."""
    found = volumes.get("volume", volume.id)
    default = ask(volumes.connection, "GET", "/types/default").json()["volume_type"]["name"]
    assert (found.status, found.size, found.volume_type) == ("available", 1, default)
    assert (found.is_bootable, found.is_encrypted, found.is_multiattach) == (False, False, False)
    assert (found.attachments, found.project_id) == ([], member_tenant.project_id)
    assert found.id in {each.id for each in volumes.connection.block_storage.volumes()}


def test_place_is_the_administrator_s_to_see(volumes: Volumes, volume: Volume, cloud: Connection) -> None:
    """Users do not see the backend of a volume."""
    assert volumes.get("volume", volume.id).host is None
    assert "@" in cloud.block_storage.get_volume(volume.id).host


def test_name_and_metadata(volumes: Volumes, volume: Volume, module_owned: Owned) -> None:
    """Renamed and described; metadata is added, changed and removed one by one."""
    service = block_storage_v3(volumes.connection)
    name = module_owned.name("renamed")
    service.update_volume(volume.id, name=name, description="a test's")
    found = volumes.get("volume", volume.id)
    assert (found.name, found.description) == (name, "a test's")
    service.set_volume_metadata(volume.id, flower="rose", size="big")
    service.set_volume_metadata(volume.id, flower="tulip")
    # It also contains cinder's own metadata.
    assert {"flower": "tulip", "size": "big"}.items() <= volumes.get("volume", volume.id).metadata.items()
    service.delete_volume_metadata(volume.id, ["size"])
    found = volumes.get("volume", volume.id).metadata
    assert (found["flower"], "size" in found) == ("tulip", False)


def test_flags(volumes: Volumes, volume: Volume) -> None:
    """Bootable and read-only are set and unset."""
    service = block_storage_v3(volumes.connection)
    for value in (True, False):
        service.set_volume_bootable_status(volume.id, value)
        service.set_volume_readonly(volume.id, value)
        found = volumes.get("volume", volume.id)
        assert (found.is_bootable, found.metadata.get("readonly")) == (value, str(value))


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        # Cinder does not say that the size is missing.
        pytest.param({}, 400, "", id="no size"),
        pytest.param({"size": 0}, 400, "0", id="no GiB"),
        pytest.param({"size": -1}, 400, "-1", id="less than none"),
        pytest.param({"size": "big"}, 400, "big", id="no number"),
        pytest.param({"size": 1, "colour": "red"}, 400, "colour", id="unknown attribute"),
        pytest.param({"size": 1, "volume_type": "no-such-type"}, 404, "no-such-type", id="no such type"),
        pytest.param({"size": 1, "snapshot_id": NOTHING}, 404, NOTHING, id="no such snapshot"),
        pytest.param({"size": 1, "source_volid": NOTHING}, 404, NOTHING, id="no such volume"),
        pytest.param({"size": 1, "imageRef": NOTHING}, 400, "image", id="no such image"),
        pytest.param({"size": 1, "availability_zone": "nowhere"}, 400, "nowhere", id="no such zone"),
    ],
)
def test_bad_request_is_refused(volumes: Volumes, owned: Owned, body: dict[str, Any], status: int, part: str) -> None:
    """Refused with the reason, and no volume is left over."""
    name = owned.name("bad")
    answer = ask(volumes.connection, "POST", "/volumes", volume={"name": name, **body})
    assert answer.status_code == status, answer.text
    assert part in reason(answer)
    assert list(volumes.connection.block_storage.volumes(name=name)) == []


@pytest.mark.parametrize("kind", ["volumes", "snapshots", "backups", "types", "volume-transfers", "attachments"])
def test_missing_object_is_404(volumes: Volumes, kind: str) -> None:
    """404 for objects that do not exist."""
    assert ask(volumes.connection, "GET", f"/{kind}/{NOTHING}").status_code == 404


def test_nobody_without_a_token(volumes: Volumes) -> None:
    """401 without a token."""
    url = f"{volumes.connection.block_storage.get_endpoint()}/volumes"
    assert volumes.connection.session.get(url, authenticated=False, raise_exc=False).status_code == 401


def test_limits_count_the_volume(volumes: Volumes, volume: Volume) -> None:
    """Users see their quota and usage."""
    found = ask(volumes.connection, "GET", "/limits").json()["limits"]["absolute"]
    assert found["totalVolumesUsed"] >= 1
    assert found["totalGigabytesUsed"] >= 1
    assert found["maxTotalVolumes"] == -1 or found["maxTotalVolumes"] >= found["totalVolumesUsed"]


# ---- snapshots and copies


def test_snapshot_keeps_its_volume(volumes: Volumes, volume: Volume, snapshot: Snapshot) -> None:
    """The snapshot shows its volume, which cannot be deleted while the snapshot exists."""
    assert (snapshot.volume_id, snapshot.size, snapshot.status) == (volume.id, 1, "available")
    answer = ask(volumes.connection, "DELETE", f"/volumes/{volume.id}")
    assert answer.status_code == 400, answer.text
    assert "snapshots" in reason(answer)
    assert volumes.get("volume", volume.id).status == "available"


def test_volume_does_not_shrink(volumes: Volumes, volume: Volume) -> None:
    """A volume can only be extended to a larger size."""
    answer = ask(volumes.connection, "POST", f"/volumes/{volume.id}/action", **{"os-extend": {"new_size": 1}})
    assert answer.status_code == 400, answer.text
    assert "must be greater" in reason(answer)


def test_volume_from_snapshot_is_extended(volumes: Volumes, snapshot: Snapshot, owned: Owned) -> None:
    """A volume from a snapshot may be larger and be extended; a smaller one is refused."""
    made = volumes.create(owned, "from-snapshot", 2, what="volume from snapshot", snapshot_id=snapshot.id)
    assert (made.size, made.snapshot_id) == (2, snapshot.id)
    assert volumes.extend(made, 3).size == 3
    answer = ask(volumes.connection, "POST", "/volumes", volume={"size": 2, "source_volid": made.id})
    assert answer.status_code == 400, answer.text
    assert "size" in reason(answer)


def test_clone_is_handed_over(
    volumes: Volumes, volume: Volume, owned: Owned, other_member: Connection, tenants: Tenants
) -> None:
    """A clone is offered for transfer, and another project can accept it only with the transfer key."""
    mine = block_storage_v3(volumes.connection)
    theirs = block_storage_v3(other_member)
    clone = volumes.create(owned, "clone", what="volume clone", source_volume_id=volume.id)
    # The final owner removes it.
    owned.adopt(other_member, "volume", clone)
    transfer = owned(volumes.connection, "volume_transfer", "clone", volume_id=clone.id)
    key = redact.add(transfer.auth_key)
    assert volumes.get("volume", clone.id).status == "awaiting-transfer"
    assert ask(volumes.connection, "DELETE", f"/volumes/{clone.id}").status_code == 400
    assert ask(other_member, "GET", f"/volumes/{clone.id}").status_code == 404
    with pytest.raises(exceptions.BadRequestException):
        theirs.accept_transfer(transfer.id, "0" * 16)
    theirs.accept_transfer(transfer.id, key)
    found = wait_for("the volume is the other project's", lambda: _found(theirs, clone.id), SETTLED_WITHIN)
    assert (found.status, found.project_id) == ("available", tenants.get("other").project_id)
    assert ask(volumes.connection, "GET", f"/volumes/{clone.id}").status_code == 404
    assert transfer.id not in {each.id for each in mine.transfers()}


def _found(service: Any, key: str) -> Any:
    try:
        return service.get_volume(key)
    except exceptions.NotFoundException:
        return None


def test_deleted_volume_is_gone(volumes: Volumes, owned: Owned) -> None:
    """A deleted volume is not found, not listed, and not counted."""
    made = volumes.create(owned, "short")
    with volumes.measured("volume delete"):
        volumes.connection.block_storage.delete_volume(made.id, ignore_missing=False)
        volumes.gone("volume", made.id)
    assert made.id not in {each.id for each in volumes.connection.block_storage.volumes()}


# ---- types


def test_private_type(volumes: Volumes, cloud: Connection, owned: Owned, member_tenant: Tenant) -> None:
    """A private type is visible only to projects with access to it."""
    made = owned(cloud, "volume_type", "private", is_public=False, description="a test's")
    cloud.block_storage.update_type_extra_specs(made, flower="rose")
    assert made.id not in {each.id for each in volumes.connection.block_storage.types()}
    cloud.block_storage.add_type_access(made, member_tenant.project_id)
    assert made.id in {each.id for each in volumes.connection.block_storage.types()}
    assert ask(volumes.connection, "DELETE", f"/types/{made.id}").status_code == 403
    cloud.block_storage.remove_type_access(made, member_tenant.project_id)
    assert made.id not in {each.id for each in volumes.connection.block_storage.types()}


def test_quality_of_service(volumes: Volumes, cloud: Connection, owned: Owned) -> None:
    """QoS specs associated with a type cannot be deleted. Users do not see them."""
    limits = owned(cloud, "qos_spec", "slow", consumer="front-end", total_iops_sec="100")
    kind = owned(cloud, "volume_type", "slow")
    cloud.block_storage.associate_qos_spec(limits, kind.id)
    assert cloud.block_storage.get_qos_spec(limits.id).specs == {"total_iops_sec": "100"}
    assert [each.id for each in cloud.block_storage.qos_spec_associations(limits)] == [kind.id]
    answer = ask(cloud, "DELETE", f"/qos-specs/{limits.id}")
    assert answer.status_code == 400, answer.text
    assert ask(volumes.connection, "GET", f"/qos-specs/{limits.id}").status_code == 403
    cloud.block_storage.disassociate_qos_spec(limits, kind.id)
    assert list(cloud.block_storage.qos_spec_associations(limits)) == []


def test_type_that_no_backend_has(volumes: Volumes, cloud: Connection, other_member: Connection, owned: Owned) -> None:
    """The volume goes to error; its user gets a message with the reason and can delete it, others cannot."""
    kind = owned(cloud, "volume_type", "nowhere", extra_specs={"volume_backend_name": "no-such-backend"})
    made = owned(volumes.connection, "volume", "nowhere", size=1, volume_type=kind.name)
    volumes.settle("volume", made.id, "error")
    (told,) = volumes.messages(made.id)
    assert "Could not find any available weighted backend" in told
    (message,) = [each for each in _messages(volumes.connection) if each["resource_uuid"] == made.id]
    assert (message["message_level"], message["resource_type"]) == ("ERROR", "VOLUME")
    # Cinder lists the messages of all projects (seen with 2025.1), but shows none by id to others.
    for method in ("GET", "DELETE"):
        assert ask(other_member, method, f"/messages/{message['id']}").status_code == 404
    assert ask(volumes.connection, "DELETE", f"/messages/{message['id']}").status_code == 204
    assert volumes.messages(made.id) == []


def _messages(connection: Connection) -> list[dict[str, Any]]:
    return list(ask(connection, "GET", "/messages").json()["messages"])


# ---- quotas and users


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
