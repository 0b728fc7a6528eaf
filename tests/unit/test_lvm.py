"""LVM: what its filter lets through, and which disks become a volume group."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackspec.errors import ActionError
from stackspec.resources import LvmFilter, VolumeGroup
from stackspec.resources.actions import Execute
from stackspec.resources.base import Query, disk, file
from stackspec.resources.lvm import PHYSICAL, TREE, filter_of, local_volumes, with_filter
from stackspec.site import Site

from .bare import BLANK, WIPE, ChangeOf, Known, actions, answer, context, differences, text_file

CONF = "/etc/lvm/lvm.conf"
SHIPPED = """\
config {
}
# How LVM uses block devices.
devices {

\t# Accept every block device:
\t# filter = [ "a|.*|" ]
}
activation {
\t# mlock_filter = [ "locale" ]
}
"""


MEMBER = {**BLANK, "content": {"TYPE": "LVM2_member"}}


def device(name: str, *children: object, **more: object) -> dict[str, object]:
    """A row of lsblk."""
    row = {"name": name, "type": "disk", "tran": None, "fstype": None, "mountpoints": [None], "children": [*children]}
    return {**row, **more}


SYSTEM = device(
    "/dev/sda",
    device(
        "/dev/sda3",
        device("/dev/mapper/vg-root", type="lvm", mountpoints=["/"]),
        device(
            "/dev/mapper/vg-guest",
            device("/dev/mapper/inside", type="part", fstype="LVM2_member"),
            type="lvm",
            fstype="LVM2_member",
        ),
        type="part",
        fstype="LVM2_member",
    ),
)
RAID = [
    device(name, device("/dev/md0", type="raid1", fstype="LVM2_member"), fstype="linux_raid_member")
    for name in ("/dev/sde", "/dev/sdf")
]
CRYPT = device("/dev/sdg", device("/dev/mapper/luks", type="crypt", fstype="LVM2_member"), fstype="crypto_LUKS")
VOLUME = device("/dev/sdx", device("/dev/sdx1", type="part", fstype="LVM2_member"), tran="iscsi")
ROOT_ON_ISCSI = device(
    "/dev/sdy",
    device("/dev/mapper/net-root", type="lvm", mountpoints=["/"]),
    tran="iscsi",
    fstype="LVM2_member",
)
OURS = device("/dev/sdd", device("/dev/mapper/cinder--volumes-volume", type="lvm"), fstype="LVM2_member")


def lvm_node(*devices: object, conf: str = SHIPPED) -> dict[Query, Any]:
    """A node with LVM and these devices."""
    return {file(CONF): text_file(conf), TREE: answer(json.dumps({"blockdevices": devices}))}


def test_filter_of_the_guide_s_disk() -> None:
    """Anchored: exactly the named disk."""
    assert filter_of(["/dev/sdb"]) == '[ "a|^/dev/sdb$|", "r|.*|" ]'
    assert filter_of([]) == '[ "r|.*|" ]'


def test_system_stays_visible(change: ChangeOf) -> None:
    """The system's own physical volumes are accepted, first, also on a node without disks for cinder."""
    made = change(LvmFilter(CONF), lvm_node(SYSTEM, OURS))
    trial, write = made.actions
    assert trial.argv[-2:] == ("/dev/sda3", "/dev/sdd")
    assert 'filter = [ "a|^/dev/sda3$|", "a|^/dev/sdd$|", "r|.*|" ]' in trial.argv[2]
    assert write.content.count('[ "a|^/dev/sda3$|", "a|^/dev/sdd$|", "r|.*|" ]') == 2
    made = change(LvmFilter(CONF, ("/dev/sdd",)), lvm_node(SYSTEM, OURS))
    assert made.actions[1].content.count('[ "a|^/dev/sdd$|", "a|^/dev/sda3$|", "r|.*|" ]') == 2


class TestFilter:
    """The devices that LVM scans."""

    @pytest.mark.parametrize(
        ("devices", "found"),
        [
            pytest.param([SYSTEM], ["/dev/sda3"], id="a partition, nothing inside of logical volumes"),
            pytest.param(RAID, ["/dev/md0"], id="a RAID, once"),
            pytest.param([CRYPT], ["/dev/mapper/luks"], id="encrypted"),
            pytest.param([VOLUME], [], id="a server's volume"),
            pytest.param([ROOT_ON_ISCSI], ["/dev/sdy"], id="a system that came by iSCSI"),
            pytest.param([device("/dev/sdb", mountpoints=["/srv"], fstype="xfs")], [], id="no LVM"),
        ],
    )
    def test_local_volumes(self, devices: list[dict[str, Any]], found: list[str]) -> None:
        """Physical volumes of the node itself, not those of servers."""
        assert local_volumes(answer(json.dumps({"blockdevices": devices}))) == found

    def test_filter_is_written_once(self, change: ChangeOf) -> None:
        """Both settings are in the section, the rest of the file is unchanged, and a second check finds nothing."""
        resource = LvmFilter(CONF, ("/dev/sdd",))
        made = change(resource, lvm_node())
        (write,) = made.actions
        assert differences(made)[0] == 'devices/filter: wanted [ "a|^/dev/sdd$|", "r|.*|" ], found not set'
        text = write.content
        lines = ['\tfilter = [ "a|^/dev/sdd$|", "r|.*|" ]', '\tglobal_filter = [ "a|^/dev/sdd$|", "r|.*|" ]']
        assert text.replace("\n".join(lines) + "\n", "") == SHIPPED
        assert text.index("devices {") < text.index(lines[0]) < text.index("activation {")
        assert change(resource, lvm_node(conf=text)) is None
        # By then the volume group exists, and so does a device name that the machine assigned.
        assert change(resource, lvm_node(OURS, conf=text)) is None
        other = LvmFilter(CONF, ("/dev/disk/by-id/d",))
        named = {disk("/dev/disk/by-id/d"): {**MEMBER, "path": "/dev/sdd"}}
        text = with_filter(SHIPPED, filter_of(["/dev/disk/by-id/d"]))
        assert change(other, {**lvm_node(OURS, conf=text), **named}) is None

    @pytest.mark.parametrize(
        "before",
        [
            'devices {\n    filter = [ "a/sdb/", "r/.*/"]\n}\n',
            'devices {\n\tfilter = [\n\t\t"a|sd[ab]|",\n\t\t"r|.*|" ]\n\tglobal_filter=["r|x|"]\n}\n',
            'devices/filter = "a|.*|"\n',
            "",
        ],
        ids=["the guide's", "several lines", "without a section", "empty"],
    )
    def test_existing_settings_are_replaced(self, before: str) -> None:
        """One value for each, and a section around them."""
        text = with_filter(before, filter_of(["/dev/sdd"]))
        assert text == (
            'devices {\n\tfilter = [ "a|^/dev/sdd$|", "r|.*|" ]\n\tglobal_filter = [ "a|^/dev/sdd$|", "r|.*|" ]\n}\n'
        )

    def test_node_without_lvm_is_unchanged(self, change: ChangeOf) -> None:
        """A compute node without LVM needs no filter."""
        assert change(LvmFilter(CONF)) is None


def test_failed_lsblk_is_an_obstacle(site: Site, change: ChangeOf) -> None:
    """The filter would hide every device: refused before any change, and again when applied."""
    known = {**lvm_node(), TREE: answer(status=1, err="lsblk: failed to access sysfs")}
    (said,) = LvmFilter(CONF).obstacles(context(site, site.controller, known))
    assert said.endswith("failed with status 1: lsblk: failed to access sysfs")
    with pytest.raises(ActionError, match="failed to access sysfs"):
        change(LvmFilter(CONF), known).actions[0]()
    assert LvmFilter(CONF).obstacles(context(site, site.controller, lvm_node(SYSTEM))) == []


def test_volume_group_is_not_recreated_when_pvs_fails(site: Site) -> None:
    """Its volumes would look like foreign data, which `wipe` erases."""
    known = {disk("/dev/sdd"): MEMBER, PHYSICAL: answer(status=5, err="locked")}
    resource = VolumeGroup("cinder-volumes", ("/dev/sdd",), "there", WIPE)
    here = context(site, site.controller, known)
    assert resource.obstacles(here)[0].endswith("failed with status 5: locked")
    with pytest.raises(ActionError, match="locked"):
        actions(resource.changes(here)[0])[0]()


def physical(**groups: str) -> dict[Query, Any]:
    """Output of pvs: a name below /dev and its group."""
    rows = [{"pv_name": f"/dev/{name}", "vg_name": group} for name, group in groups.items()]
    return {PHYSICAL: answer(json.dumps({"report": [{"pv": rows}]}))}


class TestVolumeGroup:
    """A volume group on whole disks."""

    resource = VolumeGroup("cinder-volumes", ("/dev/sdd",), "nodes.compute01.disks.cinder")

    def obstacles(self, site: Site, known: Known, **changed: Any) -> list[str]:
        resource = VolumeGroup("cinder-volumes", ("/dev/sdd",), "nodes.compute01.disks.cinder", **changed)
        return resource.obstacles(context(site, site.nodes["compute01"], known))

    def argvs(self, site: Site, known: Known, **changed: Any) -> list[tuple[str, ...]]:
        resource = VolumeGroup("cinder-volumes", ("/dev/sdd",), "there", **changed)
        found = resource.changes(context(site, site.controller, known))
        return [action.argv for made in found for action in made.actions if isinstance(action, Execute)]

    @pytest.mark.parametrize("wipe", [(), WIPE])
    @pytest.mark.parametrize(
        "known",
        [
            {disk("/dev/sdd"): BLANK},
            {disk("/dev/sdd"): {**MEMBER, "holders": ["dm-0"]}, **physical(sdd="cinder-volumes")},
            {disk("/dev/sdd"): MEMBER, **physical(sdd="")},
        ],
        ids=["blank", "ours", "half made"],
    )
    def test_usable_disk_is_accepted(self, site: Site, known: Known, wipe: tuple[str, ...]) -> None:
        """A blank disk, or one that an earlier run prepared, even if it was killed."""
        assert self.obstacles(site, known, wipe=wipe) == []

    @pytest.mark.parametrize(
        ("known", "message"),
        [
            ({disk("/dev/sdd"): {**BLANK, "exists": False}}, "no device /dev/sdd, configured in nodes"),
            ({disk("/dev/sdd"): {**BLANK, "mounted": ["/"]}}, "/dev/sdd is mounted at /; unmount it, or list another"),
            (
                {disk("/dev/sdd"): {**MEMBER, "holders": ["dm-0"]}, **physical(sdd="vg0")},
                "/dev/sdd is in use by dm-0; list another disk in nodes.compute01.disks.cinder",
            ),
            (
                {disk("/dev/sdd"): MEMBER, **physical(sdd="cinder-volumes", sde="cinder-volumes")},
                "/dev/sde is also in the volume group cinder-volumes; list it in nodes.compute01.disks.cinder, or",
            ),
        ],
        ids=["missing", "mounted", "another group's", "another disk in the group"],
    )
    def test_unusable_disk_is_refused_even_with_wipe(self, site: Site, known: Known, message: str) -> None:
        """Even if its data may be erased."""
        for wipe in ((), WIPE):
            (said,) = self.obstacles(site, known, wipe=wipe)
            assert said.startswith(message)

    def test_disk_with_data_needs_wipe(self, site: Site, change: ChangeOf) -> None:
        """Only if the inventory allows it is the disk wiped."""
        known = {disk("/dev/sdd"): {**BLANK, "content": {"TYPE": "ext4"}}}
        (said,) = self.obstacles(site, known)
        assert "/dev/sdd contains data (ext4), which is not overwritten" in said
        assert self.obstacles(site, known, wipe=WIPE) == []
        assert self.argvs(site, known, wipe=WIPE)[0] == ("wipefs", "--all", "/dev/sdd")

    def test_group_is_created_once(self, site: Site, change: ChangeOf) -> None:
        """As in the guide; then left alone, also after a killed run or with `wipe`."""
        create = ("vgcreate", "cinder-volumes", "/dev/sdd")
        assert self.argvs(site, {disk("/dev/sdd"): BLANK}) == [("pvcreate", "/dev/sdd"), create]
        assert self.argvs(site, {disk("/dev/sdd"): MEMBER, **physical(sdd="")}, wipe=WIPE) == [create]
        made = {disk("/dev/sdd"): MEMBER, **physical(sdd="cinder-volumes")}
        assert self.argvs(site, made, wipe=WIPE) == []
        by_name = {disk("/dev/disk/d"): {**MEMBER, "path": "/dev/sdd"}, **physical(sdd="cinder-volumes")}
        assert change(VolumeGroup("cinder-volumes", ("/dev/disk/d",), "there"), by_name) is None

    def test_additional_disk(self, change: ChangeOf) -> None:
        """The group grows."""
        resource = VolumeGroup("cinder-volumes", ("/dev/sdd", "/dev/sde"), "there")
        made = change(resource, {disk("/dev/sdd"): MEMBER, **physical(sdd="cinder-volumes")})
        assert [action.argv for action in made.actions] == [
            ("pvcreate", "/dev/sde"),
            ("vgextend", "cinder-volumes", "/dev/sde"),
        ]
