"""Disks, files of other nodes, and rings: what is refused, what is created once, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stackspec.cloud_inventory import CloudInventory
from stackspec.engine import Engine
from stackspec.errors import ActionError, InputError
from stackspec.inventory import load_inventory
from stackspec.node_agent import disks, files, systemd
from stackspec.openstack import Ring, RingDevice
from stackspec.release import load_release
from stackspec.resources import Access, FileFrom, Mounted, Resource, Xfs
from stackspec.resources.actions import Record
from stackspec.resources.base import disk, file, run
from stackspec.resources.disks import WIPED
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import STEPS, Step, load_steps
from stackspec.task import plan_of

from . import fake_nodes
from .bare import ChangeOf, actions, context, differences, text_file
from .fake_nodes import fake

UUID = "58211a5c-5478-51f9-a593-53d6ece25edc"
BLANK = {"exists": True, "block": True, "content": {}, "id": "S1", "mounted": [], "holders": []}
OURS = {**BLANK, "content": {"TYPE": "xfs", "UUID": UUID}}
EXT4 = {"TYPE": "ext4", "UUID": "1", "LABEL": "photos"}


WIPE = ("S1",)


def obstacles(site: Site, found: dict[str, Any], *, wipe: tuple[str, ...] = ()) -> list[str]:
    """Obstacles to an XFS on /dev/sdb of compute01."""
    here = context(site, site.nodes["compute01"], {disk("/dev/sdb"): found})
    return Xfs("/dev/sdb", UUID, "/srv/a", wipe).obstacles(here)


class TestXfs:
    """A file system on a whole disk."""

    resource = Xfs("/dev/sdb", UUID, "/srv/a")

    @pytest.mark.parametrize("wipe", [(), WIPE])
    @pytest.mark.parametrize(
        "found", [BLANK, OURS, {**OURS, "mounted": ["/srv/a"]}], ids=["blank", "ours", "ours, mounted"]
    )
    def test_usable_disk_is_accepted(self, site: Site, found: dict[str, Any], wipe: tuple[str, ...]) -> None:
        """A blank disk, or one with the file system of an earlier run."""
        assert obstacles(site, found, wipe=wipe) == []

    @pytest.mark.parametrize("wipe", [(), WIPE])
    @pytest.mark.parametrize(
        ("found", "message"),
        [
            ({"exists": False}, "no device /dev/sdb, configured in nodes.compute01.disks"),
            ({"block": False}, "/dev/sdb is not a block device"),
            (
                {"content": EXT4, "mounted": ["/home", "/var"]},
                "/dev/sdb is mounted at /home, /var; unmount it, or list",
            ),
            ({**OURS, "mounted": ["/mnt"]}, "/dev/sdb is mounted at /mnt; unmount it, or list another disk in"),
            ({"content": {"TYPE": "LVM2_member"}, "holders": ["dm-0"]}, "/dev/sdb is in use by dm-0; list another"),
        ],
        ids=["missing", "no disk", "mounted", "ours elsewhere", "held"],
    )
    def test_unusable_disk_is_refused_even_with_wipe(
        self, site: Site, found: dict[str, Any], message: str, wipe: tuple[str, ...]
    ) -> None:
        """Even if its data may be erased."""
        (said,) = obstacles(site, {**BLANK, **found}, wipe=wipe)
        assert said.startswith(message)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (EXT4, "ext4 photos"),
            ({"PTTYPE": "gpt", "PTUUID": "2"}, "partition table gpt"),
            ({"TYPE": "xfs", "UUID": "another-site"}, "xfs"),
            ({"TYPE": "several signatures"}, "several signatures"),
        ],
    )
    def test_disk_with_data_needs_wipe(self, site: Site, change: ChangeOf, content: dict[str, Any], words: str) -> None:
        """The message says what is on it and what to write; mkfs uses force only with that."""
        found = {**BLANK, "content": content}
        (said,) = obstacles(site, found)
        assert f"/dev/sdb contains data ({words}), which is not overwritten" in said
        assert 'to allow wiping it once, set wipe: ["S1"] there' in said
        assert obstacles(site, found, wipe=WIPE) == []
        known = {disk("/dev/sdb"): found}
        with pytest.raises(ActionError, match="which is not overwritten"):
            change(self.resource, known).actions[0]()
        here = context(site, site.controller, known)
        wiping, recorded = Xfs("/dev/sdb", UUID, "/srv/a", WIPE).changes(here)
        assert actions(wiping)[0].argv == ("mkfs.xfs", "-f", "-m", f"uuid={UUID}", "/dev/sdb")
        assert recorded.actions == (Record("/var/lib/stackspec/wiped", "S1"),)

    @pytest.mark.parametrize("used", ["S1\n", "S0\nS1\n"])
    def test_wipe_applies_once_to_one_disk(self, site: Site, change: ChangeOf, used: str) -> None:
        """It does not apply to a replacement disk, nor to data that was written to the same disk later."""
        found = {**BLANK, "content": EXT4}
        assert obstacles(site, {**found, "id": "S2"}, wipe=WIPE)
        assert obstacles(site, {**found, "id": ""}, wipe=WIPE)[0].endswith("blkdiscard --zeroout /dev/sdb")
        known = {disk("/dev/sdb"): found, WIPED: text_file(used)}
        resource = Xfs("/dev/sdb", UUID, "/srv/a", WIPE)
        assert resource.obstacles(context(site, site.controller, known))
        with pytest.raises(ActionError):
            change(resource, known).actions[0]()
        assert change(resource, {**known, disk("/dev/sdb"): OURS}) is None

    def test_disk_is_formatted_once(self, change: ChangeOf) -> None:
        """A blank disk is formatted without force; an existing file system is kept, even if the disk may be wiped."""
        made = change(self.resource, {disk("/dev/sdb"): BLANK})
        assert made.actions[0].argv == ("mkfs.xfs", "-m", f"uuid={UUID}", "/dev/sdb")
        assert differences(made) == [f"/dev/sdb: wanted XFS {UUID}, found blank"]
        assert change(Xfs("/dev/sdb", UUID, "/srv/a"), {disk("/dev/sdb"): OURS}) is None
        left = change(Xfs("/dev/sdb", UUID, "/srv/a", WIPE), {disk("/dev/sdb"): OURS})
        assert [type(action) for action in left.actions] == [Record]

    def test_file_system_is_mounted(self, change: ChangeOf) -> None:
        """Mounted as in fstab, unless it already is."""
        resource = Mounted("/dev/sdb", "/srv/a")
        made = change(resource, {disk("/dev/sdb"): OURS})
        assert [action.argv for action in made.actions] == [("mkdir", "-p", "/srv/a"), ("mount", "/srv/a")]
        assert change(resource, {disk("/dev/sdb"): {**OURS, "mounted": ["/srv/a"]}}) is None


class TestAccess:
    """Mode and owner of files that a package created."""

    resource = Access(("/etc/a", "/etc/b"), group="swift")

    def test_only_the_wrong_file_is_changed(self, change: ChangeOf) -> None:
        """One file is correct, the other is readable by everybody."""
        known = {
            file("/etc/a"): text_file("", mode=0o640, group="swift"),
            file("/etc/b"): text_file("", mode=0o644, group="swift"),
        }
        made = change(self.resource, known)
        assert differences(made) == ["/etc/b: mode: wanted 0640, found 0644"]
        assert [action.argv for action in made.actions] == [
            ("chown", "root:swift", "/etc/b"),
            ("chmod", "0640", "/etc/b"),
        ]

    def test_correct_access_changes_nothing(self, change: ChangeOf) -> None:
        """Nothing to do."""
        known = {file(path): text_file("", mode=0o640, group="swift") for path in self.resource.files}
        assert change(self.resource, known) is None


DEVICES = tuple(RingDevice(zone, f"10.0.0.{zone}0", 6200, name) for zone in (1, 2) for name in ("sdb", "sdc"))
HEAD = """\
object.builder, build version 5, id 96fe5b559334413c908129725f29dbaa
1024 partitions, 2.000000 replicas, 1 regions, 2 zones, 4 devices, 0.00 balance, 0.00 dispersion
The minimum number of hours before a partition can be reassigned is 1 (0:59:16 remaining)
The overload factor is 0.00% (0.000000)
"""


def shown(devices: Any, state: str = "is up-to-date", **tails: Any) -> Any:
    """Output of swift-ring-builder; `tails` are weight, partitions, balance and flags by device name."""
    text = (
        f"{HEAD}Ring file object.ring.gz {state}\nDevices:   id region zone ip address:port replication ip:port  name"
    )
    text += " weight partitions balance flags meta\n"
    for number, each in enumerate(devices):
        place, tail = f"{each.ip}:{each.port}", tails.get(each.name, "100.00        512    0.00       ")
        text += f"            {number}      1    {each.zone}  {place}      {place}   {each.name} {tail}\n"
    return {"status": 0, "out": text, "err": ""}


class TestRing:
    """The builder file has the state; the ring file is generated from it."""

    resource = Ring("/etc/swift/object.ring.gz", DEVICES)

    def calls(self, change: ChangeOf, devices: Any, state: str = "is up-to-date", **tails: Any) -> Any:
        known = {
            run("swift-ring-builder", self.resource.builder): shown(devices, state, **tails),
            file(self.resource.builder): text_file(""),
        }
        made = change(self.resource, known)
        return [action.argv[2:] for action in made.actions] if made else []

    def test_ring_is_created(self, change: ChangeOf) -> None:
        """Created as in the guide, each disk added once, and balanced."""
        made = change(self.resource)
        assert {action.argv[:2] for action in made.actions} == {("swift-ring-builder", "/etc/swift/object.builder")}
        first, *added, last = [action.argv[2:] for action in made.actions]
        assert (first, last) == (("create", "10", "2", "1"), ("rebalance",))
        assert [words[0] for words in added] == ["add"] * 4
        assert " ".join(added[2]) == "add --region 1 --zone 2 --ip 10.0.0.20 --port 6200 --device sdb --weight 100"
        assert made.touches == ("/etc/swift/object.ring.gz",)

    def test_current_ring_is_unchanged(self, change: ChangeOf) -> None:
        """The same disks in any order, and a current ring file."""
        assert self.calls(change, DEVICES[::-1]) == []

    @pytest.mark.parametrize(
        "state", ["is obsolete", "not found, probably it hasn't been written yet", "is invalid, reason"]
    )
    def test_killed_before_the_ring_file_was_written(self, change: ChangeOf, state: str) -> None:
        """The builder file is complete and the ring file is outdated: nothing has to be rebalanced."""
        assert self.calls(change, DEVICES, state) == [("write_ring",)]

    def test_killed_before_the_rebalance(self, change: ChangeOf) -> None:
        """The builder file has a new or removed disk, and nothing has been moved yet."""
        new = self.calls(change, DEVICES, "is obsolete", sdc="100.00          0 -100.00       ")
        leaving = RingDevice(2, "10.0.0.20", 6200, "sdz")
        gone = self.calls(change, (*DEVICES, leaving), "is obsolete", sdz="  0.00        512  999.99   DEL ")
        assert new == gone == [("rebalance",)]

    def test_partitions_that_may_not_move_yet(self, change: ChangeOf) -> None:
        """The ring file is current, but a disk has no partitions: the step is not done."""
        assert self.calls(change, DEVICES, sdc="100.00          0 -100.00       ") == [("rebalance",)]

    def test_disks_are_added_and_removed(self, change: ChangeOf) -> None:
        """Placements are preserved: the ring is changed, not recreated."""
        old = RingDevice(2, "10.0.0.20", 6200, "sdz")
        found = self.calls(change, (*DEVICES[:3], old))
        calls = [" ".join(words[:1] + words[1:][-4:]) for words in found]
        assert calls == ["add --device sdc --weight 100", "remove --device sdz --weight 100", "rebalance"]


@pytest.fixture
def simulated(tmp_path: Path, no_traces: None, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Three simulated nodes without steps."""
    path = tmp_path / "site.yaml"
    path.write_text(fake_nodes.SITE)
    inventory = load_inventory(path, CloudInventory)
    STEPS.clear()

    class Prepared(fake_nodes.FakeConnections):
        prepared = {"one": {"files": {**fake_nodes.BARE["files"], "/etc/ring": {"content": "\x1f\x8b one"}}}}  # noqa: RUF012

    monkeypatch.setattr("stackspec.engine.Connections", Prepared)
    return Site(inventory, load_release("epoxy-trixie"), Secrets(), tmp_path / "state")


def declare(role: str, *resources: Resource) -> None:
    """A step with these resources."""
    STEPS["s"] = Step("s", role, (), None, lambda: resources)


def test_obstacles_of_all_nodes_are_named_before_any_change(simulated: Site) -> None:
    """Every node is named, each obstacle appears once, and no node is changed."""
    declare("compute", Xfs("/dev/sdb", UUID, "/srv/a"), Xfs("/dev/sdb", UUID, "/srv/b"))
    engine = Engine(simulated, plan_of(simulated), STEPS)
    with pytest.raises(InputError) as raised:
        engine.check_nodes()
    assert [line[:33] for line in str(raised.value).splitlines()] == [
        "node two: no device /dev/sdb, con",
        "node three: no device /dev/sdb, c",
    ]
    assert all(fake(engine, name).state["log"] == [] for name in simulated.nodes)


def test_file_of_another_node_is_copied_and_compared(simulated: Site) -> None:
    """Unchanged, with mode and owner; copied again when the source changes, and only then."""
    declare("compute", FileFrom("/etc/ring", "one"))

    def deploy() -> Engine:
        engine = Engine(simulated, plan_of(simulated), STEPS)
        engine.connections.open()
        for name in ("two", "three"):
            fake(engine, name).state["files"] |= kept
        engine.start()
        engine.join()
        return engine

    kept: dict[str, object] = {}
    first = deploy()
    content = "\x1f\x8b one".encode()
    written = fake(first, "two").state["files"]["/etc/ring"]
    assert (written["content"], written["mode"], written["owner"]) == (content, 0o644, "root")
    assert [each.made[0].title for each in first.tasks] == ["copy /etc/ring from one"] * 2
    kept["/etc/ring"] = {**written}
    assert [each.made for each in deploy().tasks] == [[], []]
    kept["/etc/ring"] = {**written, "content": b"older"}
    assert [len(each.made) for each in deploy().tasks] == [1, 1]


def test_file_of_another_node_is_unknown_in_a_plan(site: Site) -> None:
    """No node is contacted, and nothing would be written."""
    (found,) = FileFrom("/etc/ring", "controller").changes(context(site, site.nodes["compute01"]))
    assert [str(each) for each in found.differences][-1].endswith("wanted (known after apply), found absent")
    assert found.actions == ()


def test_site_without_disks_has_no_storage_services(site: Site) -> None:
    """Nothing is declared on any node, so neither the catalog nor the tests include it."""
    load_steps()
    bare = {name: node.model_copy(update={"disks": {}}) for name, node in site.nodes.items()}
    assert site.inventory.has("disks.swift")
    assert site.inventory.has("disks.cinder")
    site = replace(site, inventory=site.inventory.model_copy(update={"nodes": bare}))
    for name in ("swift_disks", "swift", "swift_storage", "cinder", "cinder_volume", "cinder_backup"):
        assert STEPS[name].nodes(site) == []


def test_storage_node_without_disks_for_swift_is_left_alone(site: Site) -> None:
    """It stores other data and is not in the rings."""
    load_steps()
    other = site.nodes["compute02"].model_copy(update={"disks": {}})
    nodes = {**site.nodes, "compute02": other}
    site = replace(site, inventory=site.inventory.model_copy(update={"nodes": nodes}))
    for name in ("swift_disks", "swift_storage"):
        assert not [each for each in STEPS[name].resources(site, other) if isinstance(each, Xfs | FileFrom)]
    rings = [each for each in STEPS["swift"].resources(site, site.controller) if isinstance(each, Ring)]
    assert {device.ip for ring in rings for device in ring.devices} == {"10.0.0.20"}


def test_site_options_create_no_files_where_the_step_does_nothing(site: Site) -> None:
    """The lab's options for cinder_volume are for the node with the disks, not for every storage node."""
    load_steps()
    assert "cinder_volume" in site.inventory.config
    assert STEPS["cinder_volume"].resources(site, site.nodes["compute02"])
    assert STEPS["cinder_volume"].resources(site, site.nodes["compute01"]) == []


def test_facts_of_a_path_that_is_not_a_device(tmp_path: Path) -> None:
    """A missing path, and a regular file: neither is probed."""
    missing = disks.read_disk(str(tmp_path / "sdb"))
    path = str(tmp_path / "sdb")
    assert missing == {
        "exists": False,
        "path": path,
        "block": False,
        "content": {},
        "id": "",
        "mounted": [],
        "holders": [],
    }
    (tmp_path / "sdb").write_bytes(b"data")
    assert disks.read_disk(str(tmp_path / "sdb")) == {**missing, "exists": True}


@pytest.mark.parametrize("place", [0, 5 << 20, (64 << 20) - 10])
def test_disk_without_a_signature_may_hold_data(tmp_path: Path, place: int) -> None:
    """Data at the beginning, in the middle, or at the end; only zeros are blank."""
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(64 << 20)
        assert disks.without_signature(str(path)) == {}
        stream.seek(place)
        stream.write(b"x" * min(1 << 20, (64 << 20) - place))
    assert disks.without_signature(str(path)) == {"TYPE": "data without a signature"}
    assert "unreadable data" in disks.without_signature(str(tmp_path / "none"))["TYPE"]


def test_bytes_are_preserved(tmp_path: Path) -> None:
    """Ring files are binary."""
    path, content = str(tmp_path / "ring"), b"\x1f\x8b\x08\x00\xff\r\n"
    assert files.read_bytes(path) is None
    systemd.write(path, content, mode=0o640)
    assert files.read_bytes(path) == content
    assert Path(path).stat().st_mode & 0o777 == 0o640
