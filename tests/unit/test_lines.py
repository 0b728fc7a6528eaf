"""Files are written whole: after a kill or a power cut they have the old content or the new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackspec.lines import append_line, write_whole
from stackspec.node_agent import files


def test_file_is_written_atomically_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    """Even over a file that others could read; nothing else is left in the folder."""
    path = tmp_path / "a" / "report.html"
    path.parent.mkdir()
    path.write_text("old")
    write_whole(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_written_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and folder: after a power cut either the old or the new content exists, never an empty file."""
    synced: list[str] = []
    sync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_whole(tmp_path / "secrets.json", "{}")
    assert len(synced) == 2
    assert synced[1] == str(tmp_path)
    synced.clear()
    append_line(tmp_path / "ledger", "{}", sync=True)
    assert synced == [str(tmp_path / "ledger")]
    synced.clear()
    files.replace(str(tmp_path / "hosts"), "127.0.0.1 localhost\n")
    assert len(synced) == 2
    assert synced[1] == str(tmp_path)
