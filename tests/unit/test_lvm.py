"""LVM, kernel modules and initiator names: what is refused, what LVM's filter lets through, what is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackspec.cloud_inventory import CloudInventory
from stackspec.errors import ActionError
from stackspec.inventory import load_inventory
from stackspec.release import load_release
from stackspec.resources import InitiatorName, KernelModule, LvmFilter, Resource, VolumeGroup
from stackspec.resources.actions import Execute, Write
from stackspec.resources.base import Change, Context, Query, disk, file, run
from stackspec.resources.iscsi import PATH
from stackspec.resources.lvm import PHYSICAL, TREE, filter_of, local_volumes, with_filter
from stackspec.site import Site
from stackspec.step import STEPS, load_steps
from stackspec.task import plan_of

from .bare import BareNode, BareShared, ChangeOf, FixedSecrets, Known, actions, context, differences, text_file
from .guide_plan import ROOT

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
BLANK = {"exists": True, "block": True, "content": {}, "id": "S1", "mounted": [], "holders": []}
WIPE = ("S1",)
MEMBER = {**BLANK, "content": {"TYPE": "LVM2_member"}}


def answer(out: object) -> dict[str, object]:
    """The JSON output of a command."""
    return {"status": 0, "out": json.dumps(out), "err": ""}


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
    return {file(CONF): text_file(conf), TREE: answer({"blockdevices": devices})}


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
        assert local_volumes(answer({"blockdevices": devices})) == found

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
    known = {**lvm_node(), TREE: {"status": 1, "out": "", "err": "lsblk: failed to access sysfs"}}
    (said,) = LvmFilter(CONF).obstacles(context(site, site.controller, known))
    assert said.endswith("failed with status 1: lsblk: failed to access sysfs")
    with pytest.raises(ActionError, match="failed to access sysfs"):
        change(LvmFilter(CONF), known).actions[0]()
    assert LvmFilter(CONF).obstacles(context(site, site.controller, lvm_node(SYSTEM))) == []


def test_volume_group_is_not_recreated_when_pvs_fails(site: Site) -> None:
    """Its volumes would look like foreign data, which `wipe` erases."""
    known = {disk("/dev/sdd"): MEMBER, PHYSICAL: {"status": 5, "out": "", "err": "locked"}}
    resource = VolumeGroup("cinder-volumes", ("/dev/sdd",), "there", WIPE)
    here = context(site, site.controller, known)
    assert resource.obstacles(here)[0].endswith("failed with status 5: locked")
    with pytest.raises(ActionError, match="locked"):
        actions(resource.changes(here)[0])[0]()


def physical(**groups: str) -> dict[Query, Any]:
    """Output of pvs: a name below /dev and its group."""
    rows = [{"pv_name": f"/dev/{name}", "vg_name": group} for name, group in groups.items()]
    return {PHYSICAL: answer({"report": [{"pv": rows}]})}


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


class TestKernelModule:
    """A kernel module."""

    resource = KernelModule("iscsi_tcp", "no volume can be attached", "set volumes: false")
    loaded = {file("/sys/module/iscsi_tcp"): text_file("")}  # noqa: RUF012
    module = {run("modinfo", "--field", "filename", "iscsi_tcp"): {"status": 0, "out": "/lib/iscsi_tcp.ko", "err": ""}}  # noqa: RUF012
    builtin = {run("modinfo", "--field", "filename", "iscsi_tcp"): {"status": 0, "out": "(builtin)", "err": ""}}  # noqa: RUF012

    def test_missing_module(self, site: Site) -> None:
        """Neither built in nor loadable: reported before any change, with what to write."""
        here = context(site, site.nodes["compute01"])
        assert self.resource.obstacles(here) == [
            "the kernel has no iscsi_tcp, without which no volume can be attached; set volumes: false"
        ]
        for known in (self.loaded, self.module, self.builtin):
            assert self.resource.obstacles(context(site, site.nodes["compute01"], known)) == []

    def test_module_is_loaded_now_and_at_boot(self, change: ChangeOf) -> None:
        """An available module."""
        made = change(self.resource, self.module)
        write, load = made.actions
        assert (write.path, write.content) == ("/etc/modules-load.d/iscsi_tcp.conf", "iscsi_tcp\n")
        assert load.argv == ("modprobe", "iscsi_tcp")
        (write,) = change(self.resource, {**self.module, **self.loaded}).actions
        assert isinstance(write, Write)
        listed = {file("/etc/modules-load.d/iscsi_tcp.conf"): text_file("iscsi_tcp\n")}
        assert change(self.resource, {**self.module, **self.loaded, **listed}) is None
        assert change(self.resource, self.builtin) is None
        assert change(self.resource, self.loaded) is None


class TestInitiatorName:
    """The name that identifies a node to iSCSI targets."""

    good = {file(PATH): text_file("## A comment\nInitiatorName=iqn.1993-08.org.debian:01:abc\n")}  # noqa: RUF012

    def made(self, site: Site, known: Known, others: dict[str, Any] | None = None) -> list[Change]:
        here = context(site, site.nodes["compute02"], known)
        here.shared.ask = lambda node, query: (others or {}).get(node)  # type: ignore[method-assign]
        return InitiatorName(("compute01", "compute02")).changes(here)

    def test_unique_name_is_kept(self, site: Site) -> None:
        """Any name is fine if no earlier node has it."""
        assert self.made(site, self.good) == []
        assert self.made(site, self.good, {"compute01": text_file("InitiatorName=iqn.other\n")}) == []

    def test_duplicate_name(self, site: Site) -> None:
        """It gets a unique name; the daemon is stopped first, so that the next call restarts it."""
        (found,) = self.made(site, self.good, {"compute01": self.good[file(PATH)]})
        stop, write = actions(found)
        assert (stop.verb, stop.units) == ("stop", ("iscsid.service",))
        assert write.mode == 0o600
        assert differences(found)[0].endswith("found iqn.1993-08.org.debian:01:abc, which compute01 also has")
        assert self.made(site, {file(PATH): text_file(write.content)}, {"compute01": self.good[file(PATH)]}) == []

    @pytest.mark.parametrize("text", ["", "GenerateName=yes\n", "InitiatorName=\n"])
    def test_missing_name(self, site: Site, text: str) -> None:
        """No name yet, or a marker to generate one at the first start."""
        (found,) = self.made(site, {file(PATH): text_file(text)} if text else {})
        name = actions(found)[1].content
        assert name.startswith("InitiatorName=iqn.1993-08.org.debian:01:")
        other = actions(InitiatorName(("compute01",)).changes(context(site, site.nodes["compute01"]))[0])[1].content
        assert other != name


@pytest.fixture
def guide() -> Site:
    """The guide's machines: three are compute nodes, two of which are also storage nodes."""
    inventory = load_inventory(ROOT / "inventories/guide", CloudInventory)
    return Site(inventory, load_release(inventory.release), FixedSecrets("pass-1"))


def steps_of(site: Site, step: str, node: str) -> list[Resource]:
    """What a step declares on a node; nothing if it is not in the plan."""
    load_steps()
    return [each for task in plan_of(site) if task.name == f"{step} on {node}" for each in task.resources]


def without_volumes(site: Site, name: str) -> Site:
    """The site with `volumes: false` on a compute node."""
    nodes = {**site.nodes, name: site.nodes[name].model_copy(update={"volumes": False})}
    return Site(site.inventory.model_copy(update={"nodes": nodes}), site.release, FixedSecrets("pass-1"))


def test_node_without_volumes_is_left_alone(guide: Site) -> None:
    """Nothing of the chapter is declared there, and nova's configuration does not mention volumes."""
    site = without_volumes(guide, "compute03")
    assert steps_of(site, "volume_attachment", "compute03") == []
    assert not [
        each for each in steps_of(site, "nova_compute", "compute03") if "cinder" in getattr(each, "options", ())
    ]
    assert [each for each in steps_of(site, "nova_compute", "compute01") if "cinder" in getattr(each, "options", ())]


def test_backups_need_both_chapters(guide: Site) -> None:
    """Without disks for swift no node runs backups, and cinder is not configured for them."""
    load_steps()
    assert [node.name for node in STEPS["cinder_backup"].nodes(guide)] == ["compute01", "compute02"]
    nodes = {
        name: node.model_copy(update={"disks": {key: each for key, each in node.disks.items() if key != "swift"}})
        for name, node in guide.nodes.items()
    }
    site = Site(guide.inventory.model_copy(update={"nodes": nodes}), guide.release, FixedSecrets("pass-1"))
    assert STEPS["cinder_backup"].nodes(site) == []
    assert STEPS["cinder_backup"].section_missing(site) == "disks.swift"
    assert "backup_driver" in str(steps_of(guide, "cinder_volume", "compute01"))
    assert "backup_driver" not in str(steps_of(site, "cinder_volume", "compute01"))
    assert STEPS["cinder_volume"].nodes(site)


def test_advice_fits_the_node(guide: Site) -> None:
    """If no volume can be attached, either servers do without them or the disks move to other nodes."""
    for site, step, advice in (
        (guide, "volume_attachment", "set volumes: false there, at nodes.compute01 of"),
        (without_volumes(guide, "compute01"), "cinder_backup", "remove its disks.cinder, at nodes.compute01 of"),
    ):
        (module,) = [each for each in steps_of(site, step, "compute01") if isinstance(each, KernelModule)]
        assert advice in module.advice


def test_first_node_keeps_a_duplicate_initiator_name(guide: Site) -> None:
    """So its volumes stay attached. Each node is queried once, however many there are."""
    shared, queried = BareShared(guide), list[str]()

    def ask(node: str, query: Query) -> Any:
        queried.append(node)
        return TestInitiatorName.good[query]

    shared.ask = ask  # type: ignore[method-assign]
    changed = {}
    for name in ("compute01", "compute02", "compute03"):
        (found,) = [each for each in steps_of(guide, "volume_attachment", name) if isinstance(each, InitiatorName)]
        here = Context(guide, guide.nodes[name], BareNode(TestInitiatorName.good), shared)
        changed[name] = bool(found.changes(here))
    assert changed == {"compute01": False, "compute02": True, "compute03": True}
    assert sorted(queried) == sorted(found.nodes)
