"""Backups of volumes in object storage: a full one, an incremental one of a volume in use, and restores.

The tests use one volume in order, which is deleted before it is restored; each test sets up what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.volumes import BACKED_UP_WITHIN, Volumes
from stackspec.openstack.versions import block_storage_v3

if TYPE_CHECKING:
    from openstack.block_storage.v3.backup import Backup

pytestmark = pytest.mark.lane("volumes")

FILE_MIB = 8
"""Size of the written files."""


@dataclass
class Saved:
    """A deleted volume, and its backups.

    :param container: their container in the user's object storage
    :param volume: id of the volume
    :param full: made when it had the file `first` and was not attached
    :param incremental: made when it also had the file `second` and was in use
    :param digests: checksums of the files
    """

    container: str
    volume: str
    full: Backup
    incremental: Backup
    digests: dict[str, str]


@pytest.fixture(scope="module")
def saved(cinder_backup: object, object_store: Any, volumes: Volumes, disk_guest: Guest, module_owned: Owned) -> Saved:
    """The volume is written, backed up, written again, backed up again, and deleted."""
    container = module_owned.name("backups")
    volume = volumes.create(module_owned, "saved")
    disk = volumes.attach(disk_guest, volume)
    disk.make_file_system()
    disk.mount()
    digests = {"first": disk.write("first", FILE_MIB)}
    disk.unmount()
    volumes.detach(disk_guest, volume)
    full = volumes.backup(module_owned, "full", volume, container=container)
    module_owned.adopt(volumes.connection, "object_container", object_store.get_container_metadata(container))
    disk = volumes.attach(disk_guest, volume)
    disk.mount()
    digests["second"] = disk.write("second", FILE_MIB)
    incremental = volumes.backup(
        module_owned,
        "incremental",
        volume,
        what="volume backup, incremental",
        container=container,
        is_incremental=True,
        force=True,
    )
    assert volumes.get("volume", volume.id).status == "in-use", "the backup has changed the volume's status"
    disk.unmount()
    volumes.detach(disk_guest, volume)
    volumes.connection.block_storage.delete_volume(volume.id, ignore_missing=False)
    volumes.gone("volume", volume.id)
    return Saved(container, volume.id, full, incremental, digests)


def test_backups_are_in_the_user_s_container(saved: Saved, object_store: Any, volumes: Volumes) -> None:
    """Data and metadata of both are objects of the user; the second one contains only the changes."""
    listed = object_store.get(f"{saved.container}?format=json").json()
    sizes = {}
    for backup in (saved.full, saved.incremental):
        mine = {each["name"]: each["bytes"] for each in listed if backup.id in each["name"]}
        assert any(name.endswith("_metadata") for name in mine), f"of backup {backup.id} there is {sorted(mine)}"
        sizes[backup.id] = sum(mine.values())
    assert sizes[saved.full.id] >= FILE_MIB * 1024**2, "the backup is smaller than its random data"
    shown = {each.id: each for each in volumes.connection.block_storage.backups()}
    full, incremental = shown[saved.full.id], shown[saved.incremental.id]
    assert (full.is_incremental, full.has_dependent_backups, full.container) == (False, True, saved.container)
    assert (incremental.is_incremental, incremental.has_dependent_backups) == (True, False)
    assert full.volume_id == incremental.volume_id == saved.volume


def test_backups_come_back(saved: Saved, volumes: Volumes, disk_guest: Guest, owned: Owned) -> None:
    """A restored volume has the content of the full backup and of the incremental one."""
    service = block_storage_v3(volumes.connection)
    with volumes.measured("volume restore"):
        body = {"restore": {"name": owned.name("restored")}}
        answer = service.post(f"/backups/{saved.incremental.id}/restore", json=body)
        exceptions.raise_from_response(answer)
        volume = owned.adopt(volumes.connection, "volume", volumes.get("volume", answer.json()["restore"]["volume_id"]))
        volumes.settle("backup", saved.incremental.id, seconds=BACKED_UP_WITHIN)
        volumes.settle("volume", volume.id)
    assert volume.id != saved.volume
    disk = volumes.attach(disk_guest, volume)
    disk.mount()
    try:
        assert {name: disk.digest(name) for name in saved.digests} == saved.digests
    finally:
        disk.unmount()
        volumes.detach(disk_guest, volume)


def test_backup_that_others_build_upon_is_kept(saved: Saved, object_store: Any, volumes: Volumes) -> None:
    """The full backup can be deleted only after the incremental one; then their objects are gone."""
    service = block_storage_v3(volumes.connection)
    with pytest.raises(exceptions.BadRequestException):
        service.delete_backup(saved.full.id, ignore_missing=False)
    for backup in (saved.incremental, saved.full):
        service.delete_backup(backup.id, ignore_missing=False)
        volumes.gone("backup", backup.id)
    assert object_store.get(saved.container).text == ""
