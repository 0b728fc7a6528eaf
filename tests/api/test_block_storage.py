"""Volumes and snapshots without servers: created, changed, copied, handed over, deleted, and refused requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.block_storage import ask, default_type, reason
from stackspec.fixtures.connections import Tenant, Tenants
from stackspec.fixtures.owned import NOTHING, Owned
from stackspec.fixtures.volumes import Volumes
from stackspec.openstack.kinds import SETTLED_WITHIN
from stackspec.openstack.versions import block_storage_v3
from stackspec.secrets import redact
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.block_storage.v3.snapshot import Snapshot
    from openstack.block_storage.v3.volume import Volume


def test_new_volume(volumes: Volumes, volume: Volume, member_tenant: Tenant) -> None:
    """A new volume has the requested size and the default type, is not bootable, and is not attached."""
    found = volumes.get("volume", volume.id)
    default = default_type(volumes.connection)["name"]
    assert (found.status, found.size, found.volume_type) == ("available", 1, default)
    assert (found.is_bootable, found.is_encrypted, found.is_multiattach) == (False, False, False)
    assert (found.attachments, found.project_id) == ([], member_tenant.project_id)
    assert found.id in {each.id for each in volumes.connection.block_storage.volumes()}


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


def test_limits_count_the_volume(volumes: Volumes, volume: Volume) -> None:
    """Users see their quota and usage."""
    found = ask(volumes.connection, "GET", "/limits").json()["limits"]["absolute"]
    assert found["totalVolumesUsed"] >= 1
    assert found["totalGigabytesUsed"] >= 1
    assert found["maxTotalVolumes"] == -1 or found["maxTotalVolumes"] >= found["totalVolumesUsed"]


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
