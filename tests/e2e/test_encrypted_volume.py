"""An encrypted volume: a plain disk for the guest, ciphertext on the storage node, and a key in Barbican."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.block_storage import default_type
from stackspec.fixtures.connections import Tenant
from stackspec.fixtures.guest import Guest
from stackspec.fixtures.iscsi import Iscsi
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.volumes import GIB, Disk, Volumes
from stackspec.openstack.ownership import within

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

pytestmark = pytest.mark.lane("volumes")

ENCRYPTION = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}
LUKS = b"LUKS\xba\xbe"
"""First bytes of such a volume on the storage node."""
MIB = 1024**2
HEADER = 32 * MIB
"""More than the size of LUKS headers: 2 MiB in version 1, 16 in version 2."""
BLOCK = 64 * 1024
AT = 64
"""Number of the written block: 4 MiB from the start of the guest's disk."""
LINE = "nobody but the guest reads this line"
TEXT = (f"{LINE}\n" * BLOCK)[:BLOCK].encode()
WHAT = "encrypted volume attach"


def write(disk: Disk) -> None:
    """Write the text to the raw disk, without a file system."""
    disk.run(f"yes '{LINE}' | head -c {BLOCK} >/tmp/text")
    disk.run(f"dd if=/tmp/text of=/dev/{disk.device} bs={BLOCK} seek={AT} conv=fsync 2>/dev/null")


def digest(disk: Disk) -> str:
    """SHA-256 of the text's block, read from the disk, not from the guest's cache."""
    read = f"dd if=/dev/{disk.device} bs={BLOCK} skip={AT} count=1 2>/dev/null"
    return disk.run(f"echo 3 >/proc/sys/vm/drop_caches && {read} | sha256sum").split()[0]


@pytest.fixture(scope="module")
def secret_type(cinder_volume: object, cloud: Connection, module_owned: Owned) -> Any:
    """An encrypted volume type, otherwise like the default one."""
    extra_specs = default_type(cloud)["extra_specs"]
    made = module_owned(cloud, "volume_type", "encrypted", extra_specs=extra_specs)
    cloud.block_storage.create_type_encryption(made, **ENCRYPTION)
    return made


@pytest.fixture(scope="module")
def volume(
    secrets_user: Connection,
    member_tenant: Tenant,
    cloud: Connection,
    volumes: Volumes,
    secret_type: Any,
    disk_guest: Guest,
    module_owned: Owned,
) -> Volume:
    """An encrypted volume of the ordinary user, who can store secrets."""
    made = volumes.create(module_owned, "encrypted", volume_type=secret_type.name, what="encrypted volume create")
    # Cinder has ordered the key for the user and leaves the order, which only an administrator can delete.
    for order in secrets_user.key_manager.orders():
        if order.secret_id == made.encryption_key_id:
            module_owned.adopt(within(cloud, member_tenant.project_id), "order", order)
    return made


@pytest.fixture(scope="module")
def disk(volumes: Volumes, volume: Volume, disk_guest: Guest) -> Iterator[Disk]:
    """The volume in a guest, with the text written to it."""
    found = volumes.attach(disk_guest, volume, what=WHAT)
    write(found)
    yield found
    if list(volumes.connection.compute.volume_attachments(disk_guest.server)):
        volumes.detach(disk_guest, volume)


def test_guest_sees_a_plain_disk(disk: Disk) -> None:
    """The guest sees no header, a disk smaller than the volume by the header, and the written text."""
    assert GIB - HEADER <= disk.size() < GIB, f"the guest's disk has {disk.size()} bytes"
    first = disk.run(f"head -c 4 /dev/{disk.device} | od -An -tx1")
    assert bytes.fromhex(first) != LUKS[:4], "the guest sees the header"
    assert digest(disk) == hashlib.sha256(TEXT).hexdigest()


def test_content_outlives_a_detachment(disk: Disk, volumes: Volumes, volume: Volume) -> None:
    """After detaching and attaching, with the key fetched again, the disk has the written text."""
    volumes.detach(disk.guest, volume)
    again = volumes.attach(disk.guest, volume, what=WHAT)
    assert digest(again) == hashlib.sha256(TEXT).hexdigest()


def test_storage_node_holds_only_ciphertext(disk: Disk, volume: Volume, iscsi: Iscsi) -> None:
    """The logical volume starts with a LUKS header, and does not contain the text."""
    node = iscsi.node_of(volume)
    host, path = iscsi.host(node), f"/dev/cinder-volumes/volume-{volume.id}"
    magic = host.check_output("head -c 6 %s | od -An -tx1", path)
    assert bytes.fromhex(magic) == LUKS, f"{path} of {node} begins with {magic}"
    end = HEADER + (AT + 1) * BLOCK
    beyond = host.check_output("head -c %s %s | tail -c +%s | tr -d '\\0' | wc -c", str(end), path, str(3 * MIB))
    assert int(beyond) > 0.9 * BLOCK, f"of {path} of {node} only {beyond} bytes were written: the text is elsewhere"
    found = host.check_output("head -c %s %s | grep -a -c -F %s || test $? = 1", str(end), path, LINE)
    assert found == "0", f"{path} of {node} contains the plain text"


def test_key_is_barbican_s_and_goes_with_the_volume(
    disk: Disk, volumes: Volumes, volume: Volume, secrets_user: Connection
) -> None:
    """The volume's key has the right size and is one of the project's secrets; both disappear on deletion."""
    assert volume.is_encrypted
    key = str(volume.encryption_key_id)
    secret = secrets_user.key_manager.get_secret(key)
    assert (secret.status, secret.algorithm.lower(), secret.bit_length) == ("ACTIVE", "aes", ENCRYPTION["key_size"])
    volumes.detach(disk.guest, volume)
    volumes.connection.block_storage.delete_volume(volume.id, ignore_missing=False)
    volumes.gone("volume", volume.id)
    # Not openstacksdk's get_secret, which treats a 404 response as a secret.
    answer = secrets_user.key_manager.get(f"/secrets/{key}")
    assert answer.status_code == 404, f"the key outlives the volume: HTTP {answer.status_code}"
