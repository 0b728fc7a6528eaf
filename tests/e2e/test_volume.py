"""Volumes in servers: attach, write, detach, move, extend, snapshot, boot from volume.

The first tests share one volume, in order; each of them sets up what it needs, and can run alone.

    external network -- router -- red: disk-guest, root-guest (which boots from a volume)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.iscsi import Iscsi
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.topology import Fleet
from stackspec.fixtures.volumes import GIB, SEEN_WITHIN, RoamingVolume, Volumes
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume
    from openstack.compute.v2.flavor import Flavor
    from openstack.image.v2.image import Image

pytestmark = pytest.mark.lane("volumes")

MARK = "$HOME/stackspec-mark"


@pytest.fixture(scope="module")
def root_volume(volumes: Volumes, guest_image: Image, guest_flavor: Flavor, module_owned: Owned) -> Volume:
    """A volume created from the guest's image."""
    size = max(guest_image.min_disk or 0, guest_flavor.disk, 1)
    return volumes.create(module_owned, "root", size, what="volume from image", image_id=guest_image.id)


@pytest.fixture(scope="module")
def root_guest(
    volumes: Volumes,
    root_volume: Volume,
    fleet: Fleet,
    volume_zone: str | None,
    volume_attachment: object,
    module_owned: Owned,
) -> Guest:
    """A server that boots from that volume, with delete_on_termination."""
    launch = fleet.launch
    port = launch.port("root-guest", fleet.red.network, fleet.group)
    disk = {"boot_index": 0, "uuid": root_volume.id, "source_type": "volume", "destination_type": "volume"}
    with volumes.measured("server boot from volume"):
        server = module_owned(
            launch.connection,
            "server",
            "root-guest",
            flavor_id=launch.spec.flavor.id,
            key_name=launch.keypair,
            networks=[{"port": port.id}],
            block_device_mapping=[{**disk, "delete_on_termination": True}],
            **({"availability_zone": volume_zone} if volume_zone else {}),
        )
        server = launch.connection.compute.get_server(server.id)
        guest = Guest(launch.connection, server, port, launch.spec.user, launch.key)
        return fleet.floating(guest).ready()


def test_volume_from_image(volumes: Volumes, root_volume: Volume, guest_image: Image) -> None:
    """It is bootable, and has the metadata of its image."""
    found = volumes.get("volume", root_volume.id)
    assert found.is_bootable
    assert found.volume_image_metadata["image_id"] == guest_image.id


@pytest.mark.smoke
def test_guest_sees_the_volume(roaming: RoamingVolume, disk_guest: Guest) -> None:
    """The guest has a disk with the volume's size and id; a file on it can be written and read."""
    disk = roaming.to(disk_guest)
    assert disk.size() == roaming.size * GIB, f"{disk.device} has {disk.size()} bytes"
    assert disk.digest("first") == roaming.digest
    found = roaming.volumes.get("volume", roaming.volume.id)
    (attachment,) = found.attachments
    assert attachment["server_id"] == disk_guest.server.id
    (shown,) = roaming.volumes.connection.compute.volume_attachments(disk_guest.server)
    assert (shown.volume_id, shown.device) == (roaming.volume.id, attachment["device"])


def test_session_target_and_password(roaming: RoamingVolume, disk_guest: Guest, iscsi: Iscsi) -> None:
    """The compute node has an iSCSI session with the volume's target, which requires a password."""
    roaming.to(disk_guest)
    compute, storage = iscsi.compute_of(disk_guest), iscsi.node_of(roaming.volume)
    (session,) = iscsi.sessions(compute, roaming.volume)
    target = iscsi.target(storage, roaming.volume)
    assert iscsi.disks(compute, roaming.volume), f"{compute} has no disk of the session {session}"
    account = target.partition("Account information:")[2].partition("ACL information:")[0].strip()
    assert account, f"{storage} exports the target without a password:\n{target}"
    assert "I_T nexus" in target, f"{storage} has no session:\n{target}"
    name = session.split()[3]
    words = iscsi.host(compute).check_output("iscsiadm -m node -T %s", name)
    assert "node.session.auth.authmethod = CHAP" in words


def test_attached_volume_is_kept(roaming: RoamingVolume, disk_guest: Guest) -> None:
    """An attached volume can be neither deleted, nor attached again, nor detached without nova."""
    roaming.to(disk_guest)
    volume, connection = roaming.volume, roaming.volumes.connection
    storage: Any = connection.block_storage
    with pytest.raises(exceptions.BadRequestException):
        storage.delete_volume(volume.id, ignore_missing=False)
    with pytest.raises(exceptions.HttpException) as raised:
        connection.compute.create_volume_attachment(disk_guest.server, volume=volume.id)
    assert raised.value.status_code in (400, 409)
    (attachment,) = storage.get_volume(volume.id).attachments
    with pytest.raises(exceptions.ConflictException):
        storage.delete_attachment(attachment["attachment_id"], ignore_missing=False)
    assert storage.get_volume(volume.id).status == "in-use"


def test_snapshot_of_an_attached_volume(roaming: RoamingVolume, disk_guest: Guest, owned: Owned) -> None:
    """A volume from the snapshot has the content from the time of the snapshot, without later writes."""
    disk = roaming.to(disk_guest)
    volumes = roaming.volumes
    taken = volumes.snapshot(owned, "attached", roaming.volume, is_forced=True)
    late = disk.write("late", 1)
    copy = volumes.create(owned, "old", what="volume from snapshot", snapshot_id=taken.id)
    old = volumes.attach(disk_guest, copy)
    old.mount()
    try:
        assert old.digest("first") == roaming.digest
        assert old.run(f"ls {old.folder}/late", check=False) == "", (
            "the copy has a file that is newer than the snapshot"
        )
    finally:
        old.unmount()
        volumes.detach(disk_guest, copy)
    assert (disk.digest("first"), disk.digest("late")) == (roaming.digest, late)


def test_extend_online(roaming: RoamingVolume, disk_guest: Guest) -> None:
    """The guest automatically sees the new size, and its files."""
    disk = roaming.to(disk_guest)
    wanted = roaming.size + 1
    roaming.volumes.extend(roaming.volume, wanted, "in-use")
    roaming.size = wanted
    wait_for(
        f"{disk.device} has {wanted} GiB",
        lambda: disk.size() == wanted * GIB,
        SEEN_WITHIN,
        detail=lambda: f"the guest sees {disk.size()} bytes",
    )
    assert disk.digest("first") == roaming.digest


def test_detached_volume_leaves_nothing(roaming: RoamingVolume, disk_guest: Guest, iscsi: Iscsi) -> None:
    """The guest's disk, the compute node's session and the storage node's target are gone."""
    roaming.to(disk_guest)
    compute, storage = iscsi.compute_of(disk_guest), iscsi.node_of(roaming.volume)
    assert iscsi.sessions(compute, roaming.volume)
    assert iscsi.target(storage, roaming.volume)
    roaming.home()
    assert iscsi.sessions(compute, roaming.volume) == []
    assert iscsi.disks(compute, roaming.volume) == []
    wait_for(
        f"{storage} has no target of the volume",
        lambda: not iscsi.target(storage, roaming.volume),
        SEEN_WITHIN,
        detail=lambda: iscsi.target(storage, roaming.volume),
    )


def test_boot_from_volume(root_guest: Guest, root_volume: Volume) -> None:
    """The server has no image, and its root disk is the volume."""
    assert not (root_guest.refresh().image or {}).get("id"), "the server was created from an image"
    (shown,) = root_guest.connection.compute.volume_attachments(root_guest.server)
    assert (shown.volume_id, shown.delete_on_termination) == (root_volume.id, True)
    assert root_guest.ssh("cat /sys/block/vda/size") == str(root_volume.size * GIB // 512)


def test_root_volume_keeps_its_data(root_guest: Guest) -> None:
    """After a power cycle, the server boots from the volume with the written data."""
    boot = root_guest.boot_id()
    root_guest.ssh(f"echo kept >{MARK} && sync")
    root_guest.connection.compute.reboot_server(root_guest.server, "HARD")
    root_guest.restarts()
    assert root_guest.boot_id() != boot, "the guest's kernel is the one from before the reboot"
    assert root_guest.ssh(f"cat {MARK}") == "kept"


def test_extend_offline_and_attach_elsewhere(roaming: RoamingVolume, root_guest: Guest) -> None:
    """Detached, extended and attached to another server, it has the new size and the old file."""
    roaming.home()
    wanted = roaming.size + 1
    roaming.volumes.extend(roaming.volume, wanted)
    roaming.size = wanted
    disk = roaming.to(root_guest)
    assert disk.size() == wanted * GIB
    assert disk.digest("first") == roaming.digest


def test_deleted_server_and_its_volumes(
    roaming: RoamingVolume, root_volume: Volume, root_guest: Guest, disk_guest: Guest
) -> None:
    """Its root volume is deleted with it; the other volume is available, and another server can read it."""
    roaming.to(root_guest).unmount()
    roaming.disk = None
    root_guest.delete()
    roaming.volumes.gone("volume", root_volume.id)
    roaming.volumes.settle("volume", roaming.volume.id)
    assert roaming.to(disk_guest).digest("first") == roaming.digest
