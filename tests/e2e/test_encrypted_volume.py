"""An encrypted volume: a plain disk to the guest, ciphertext on the storage node, and a key that Barbican keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.cloud import Tenant
from stackspec.fixtures.guests import Guest
from stackspec.fixtures.iscsi import Iscsi
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.volumes import GIB, Disk, Volumes
from stackspec.openstack.ownership import within

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

pytestmark = pytest.mark.lane("volumes")

ENCRYPTION = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}
LUKS = b"LUKS\xba\xbe"
"""What such a volume begins with where it is stored."""
MIB = 1024**2
HEADER = 32 * MIB
"""More than the headers of LUKS take of a volume: the first version's 2 MiB, the second's 16."""
BLOCK = 64 * 1024
AT = 64
"""Number of the block that is written: 4 MiB from the beginning of the guest's disk."""
LINE = "nobody but the guest reads this line"
TEXT = (f"{LINE}\n" * BLOCK)[:BLOCK].encode()
WHAT = "encrypted volume attach"


def write(disk: Disk) -> None:
    """Write the text to the disk itself, on which there is no file system."""
    disk.run(f"yes '{LINE}' | head -c {BLOCK} >/tmp/text")
    disk.run(f"dd if=/tmp/text of=/dev/{disk.device} bs={BLOCK} seek={AT} conv=fsync 2>/dev/null")


def digest(disk: Disk) -> str:
    """SHA-256 of what is where the text should be, read from the disk and not from the guest's memory."""
    read = f"dd if=/dev/{disk.device} bs={BLOCK} skip={AT} count=1 2>/dev/null"
    return disk.run(f"echo 3 >/proc/sys/vm/drop_caches && {read} | sha256sum").split()[0]


@pytest.fixture(scope="module")
def secret_type(cinder_volume: object, cloud: Connection, module_owned: Owned) -> Any:
    """A volume type of the administrator's, like the default one but encrypted."""
    default = cloud.block_storage.get("/types/default").json()["volume_type"]
    made = module_owned(cloud, "volume_type", "encrypted", extra_specs=default["extra_specs"])
    cloud.block_storage.create_type_encryption(made, **ENCRYPTION)
    return made


@pytest.fixture(scope="module")
def volume(
    keeper: Connection,
    member_tenant: Tenant,
    cloud: Connection,
    volumes: Volumes,
    secret_type: Any,
    disk_guest: Guest,
    module_owned: Owned,
) -> Volume:
    """An encrypted volume of the ordinary user's, who may keep secrets."""
    made = volumes.create(module_owned, "encrypted", volume_type=secret_type.name, what="encrypted volume create")
    # Cinder has ordered the key for the user and leaves the order, which only an administrator may delete.
    for order in keeper.key_manager.orders():
        if order.secret_id == made.encryption_key_id:
            module_owned.adopt(within(cloud, member_tenant.project_id), "order", order)
    return made


@pytest.fixture(scope="module")
def disk(volumes: Volumes, volume: Volume, disk_guest: Guest) -> Iterator[Disk]:
    """The volume in a guest, which has written the text to it."""
    found = volumes.attach(disk_guest, volume, what=WHAT)
    write(found)
    yield found
    if list(volumes.connection.compute.volume_attachments(disk_guest.server)):
        volumes.detach(disk_guest, volume)


def test_guest_sees_a_plain_disk(disk: Disk) -> None:
    """No header, and a disk that is by the header smaller than the volume; what was written is there."""
    assert GIB - HEADER <= disk.size() < GIB, f"the guest's disk has {disk.size()} bytes"
    first = disk.run(f"head -c 4 /dev/{disk.device} | od -An -tx1")
    assert bytes.fromhex(first) != LUKS[:4], "the guest sees the header"
    assert digest(disk) == hashlib.sha256(TEXT).hexdigest()


def test_content_outlives_a_detachment(disk: Disk, volumes: Volumes, volume: Volume) -> None:
    """Detached, and attached again with the key fetched anew: the disk has what was written."""
    volumes.detach(disk.guest, volume)
    again = volumes.attach(disk.guest, volume, what=WHAT)
    assert digest(again) == hashlib.sha256(TEXT).hexdigest()


def test_storage_node_holds_only_ciphertext(disk: Disk, volume: Volume, iscsi: Iscsi) -> None:
    """The logical volume begins with LUKS, and where the text was written there is something else."""
    node = iscsi.node_of(volume)
    host, path = iscsi.host(node), f"/dev/cinder-volumes/volume-{volume.id}"
    magic = host.check_output("head -c 6 %s | od -An -tx1", path)
    assert bytes.fromhex(magic) == LUKS, f"{path} of {node} begins with {magic}"
    end = HEADER + (AT + 1) * BLOCK
    beyond = host.check_output("head -c %s %s | tail -c +%s | tr -d '\\0' | wc -c", str(end), path, str(3 * MIB))
    assert int(beyond) > 0.9 * BLOCK, f"of {path} of {node} only {beyond} bytes were written: the text is elsewhere"
    found = host.check_output("head -c %s %s | grep -a -c -F %s || test $? = 1", str(end), path, LINE)
    assert found == "0", f"{path} of {node} has the text in clear"


def test_key_is_barbican_s_and_goes_with_the_volume(
    disk: Disk, volumes: Volumes, volume: Volume, keeper: Connection
) -> None:
    """The volume names a key of the size asked for, among the project's secrets; both are gone when it is deleted."""
    assert volume.is_encrypted
    key = str(volume.encryption_key_id)
    secret = keeper.key_manager.get_secret(key)
    assert (secret.status, secret.algorithm.lower(), secret.bit_length) == ("ACTIVE", "aes", ENCRYPTION["key_size"])
    volumes.detach(disk.guest, volume)
    volumes.connection.block_storage.delete_volume(volume.id, ignore_missing=False)
    volumes.gone("volume", volume.id)
    # Not openstacksdk's get_secret, which takes the answer 404 for a secret.
    answer = keeper.key_manager.get(f"/secrets/{key}")
    assert answer.status_code == 404, f"the key outlives the volume: HTTP {answer.status_code}"
