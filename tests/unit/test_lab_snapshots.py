"""Snapshots of a lab: layers and disks are saved and restored, also after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec.errors import InputError
from stackspec.lab import LabError, disks, snapshots
from stackspec.lab.spec import LabSpec
from stackspec.lab.state import Folder, Snapshot, State

from . import small_lab

site = small_lab.site


class TestLayers:
    def folder(self, tmp_path: Path, site: LabSpec) -> Folder:
        folder = Folder(tmp_path / "lab")
        for node in site.nodes:
            folder.upper(node.name).mkdir(parents=True)
            (folder.upper(node.name) / "mark").write_text(node.name)
        return folder

    def test_state_survives_and_starts_empty(self, tmp_path: Path) -> None:
        folder = Folder(tmp_path)
        assert folder.read() == State()
        state = folder.write(State("root", ("a", "b"), saving="c"))
        assert folder.read() == state

    def test_newest_layer_comes_first(self, tmp_path: Path) -> None:
        lower = Folder(tmp_path).lower(State("r", ("a", "b")), "n", Path("/rootfs"))
        assert lower == [tmp_path / "snapshots/b/n", tmp_path / "snapshots/a/n", Path("/rootfs")]

    @pytest.mark.parametrize("moved", [0, 1, 2])
    def test_killed_snapshot_is_finished(self, tmp_path: Path, site: LabSpec, moved: int) -> None:
        folder = self.folder(tmp_path, site)
        for node in site.nodes[:moved]:
            folder.layer("one", node.name).parent.mkdir(parents=True, exist_ok=True)
            folder.upper(node.name).rename(folder.layer("one", node.name))
        halted: list[bool] = []
        state = snapshots.finish(folder, site, State("r", saving="one"), lambda: halted.append(True))
        assert state == folder.read() == State("r", ("one",))
        assert halted == [True]
        assert folder.snapshot("one") == Snapshot("one", "r", ("one",))
        for node in site.nodes:
            assert (folder.layer("one", node.name) / "mark").read_text() == node.name
            assert not list(folder.upper(node.name).iterdir())

    def test_restore_discards_and_may_be_repeated(self, tmp_path: Path, site: LabSpec) -> None:
        folder = self.folder(tmp_path, site)
        folder.write_snapshot(Snapshot("one", "old", ("one",)))
        begun = State("new", ("one", "two"), restoring="one")
        for _ in range(2):
            assert snapshots.finish(folder, site, begun, lambda: None) == State("old", ("one",))
        assert not list(folder.upper("controller").iterdir())

    def test_nodes_keep_running_without_interrupted_work(self, tmp_path: Path, site: LabSpec) -> None:
        state = State("r", ("one",))
        assert snapshots.finish(Folder(tmp_path), site, state, lambda: pytest.fail("stopped")) == state

    def test_disks_are_saved_and_restored(self, tmp_path: Path, site: LabSpec) -> None:
        """Writes since a snapshot are lost, the snapshot stays, and leftovers of a killed copy are not disks."""
        folder, node = self.folder(tmp_path, site), site.node("compute01")
        disks.make(site, node, folder.disks("compute01"))
        file = folder.disks("compute01") / "ss-lab-compute01.sdb"
        file.write_bytes(b"before")
        snapshots.finish(folder, site, State("r", saving="one"), lambda: None)
        file.write_bytes(b"after")
        (folder.disks("compute01").with_name("disks.new")).mkdir()
        for _ in range(2):
            snapshots.finish(folder, site, State("r", ("one",), restoring="one"), lambda: None)
            assert file.read_bytes() == b"before"
        assert (folder.kept_disks("one", "compute01") / file.name).read_bytes() == b"before"
        assert not folder.disks("compute01").with_name("disks.new").exists()

    def test_snapshot_of_nodes_without_disks_leaves_none(self, tmp_path: Path, site: LabSpec) -> None:
        """Disks added to the inventory since then are blank."""
        folder, node = self.folder(tmp_path, site), site.node("compute01")
        snapshots.finish(folder, site, State("r", saving="one"), lambda: None)
        disks.make(site, node, folder.disks("compute01"))
        snapshots.finish(folder, site, State("r", ("one",), restoring="one"), lambda: None)
        assert not folder.disks("compute01").exists()

    def test_disks_are_sparse_and_created_once(self, tmp_path: Path, site: LabSpec) -> None:
        """A disk takes no space until it is written to."""
        disks.make(site, site.node("compute01"), tmp_path / "disks")
        files = sorted((tmp_path / "disks").iterdir())
        assert [file.name for file in files] == [f"ss-lab-compute01.{name}" for name in ("sdb", "sdc", "sdd")]
        assert [file.stat().st_size >> 30 for file in files] == [2, 2, 20]
        assert {file.stat().st_blocks for file in files} == {0}
        files[0].write_bytes(b"data")
        disks.make(site, site.node("compute01"), tmp_path / "disks")
        assert files[0].read_bytes() == b"data"

    def test_names_and_missing_parts(self, tmp_path: Path, site: LabSpec) -> None:
        folder = self.folder(tmp_path, site)
        snapshot = Snapshot("one", "r", ("one",))
        folder.write_snapshot(snapshot)
        with pytest.raises(InputError, match="already"):
            snapshots.check_new(folder, "one")
        with pytest.raises(InputError, match="not a valid snapshot name"):
            snapshots.check_new(folder, "../x")
        with pytest.raises(InputError, match="existing: one"):
            folder.snapshot("two")
        with pytest.raises(LabError, match="root file system r, which is gone"):
            snapshots.check_usable(folder, site, snapshot, tmp_path)
        (tmp_path / "rootfs/r").mkdir(parents=True)
        with pytest.raises(LabError, match="no layer 'one' of the node controller"):
            snapshots.check_usable(folder, site, snapshot, tmp_path)
