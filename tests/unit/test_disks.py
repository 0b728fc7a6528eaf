"""Whole disks: which are refused, which are formatted once, and which are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stackspec.engine import Engine
from stackspec.errors import ActionError, InputError
from stackspec.node_agent import disks
from stackspec.resources import Mounted, Xfs
from stackspec.resources.actions import AppendLine
from stackspec.resources.base import disk
from stackspec.resources.disks import WIPED
from stackspec.site import Site
from stackspec.step import STEPS
from stackspec.task import plan_of

from . import engine_runs
from .bare import BLANK, WIPE, ChangeOf, actions, context, differences, text_file
from .engine_runs import declare
from .fake_nodes import fake

simulated = engine_runs.site

UUID = "58211a5c-5478-51f9-a593-53d6ece25edc"
OURS = {**BLANK, "content": {"TYPE": "xfs", "UUID": UUID}}
EXT4 = {"TYPE": "ext4", "UUID": "1", "LABEL": "photos"}


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
        assert recorded.actions == (AppendLine("/var/lib/stackspec/wiped", "S1"),)

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
        assert [type(action) for action in left.actions] == [AppendLine]

    def test_file_system_is_mounted(self, change: ChangeOf) -> None:
        """Mounted as in fstab, unless it already is."""
        resource = Mounted("/dev/sdb", "/srv/a")
        made = change(resource, {disk("/dev/sdb"): OURS})
        assert [action.argv for action in made.actions] == [("mkdir", "-p", "/srv/a"), ("mount", "/srv/a")]
        assert change(resource, {disk("/dev/sdb"): {**OURS, "mounted": ["/srv/a"]}}) is None


def test_obstacles_of_all_nodes_are_named_before_any_change(simulated: Site) -> None:
    """Every node is named, each obstacle appears once, and no node is changed."""
    declare("s", Xfs("/dev/sdb", UUID, "/srv/a"), Xfs("/dev/sdb", UUID, "/srv/b"), role="compute")
    engine = Engine(simulated, plan_of(simulated), STEPS)
    with pytest.raises(InputError) as raised:
        engine.check_nodes()
    assert [line[:33] for line in str(raised.value).splitlines()] == [
        "node two: no device /dev/sdb, con",
        "node three: no device /dev/sdb, c",
    ]
    assert all(fake(engine, name).state["log"] == [] for name in simulated.nodes)


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
