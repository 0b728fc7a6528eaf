"""What labs share is made once, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec.lab import LabError
from stackspec.lab.made_once import made_once


class TestMadeOnce:
    def test_created_once_and_announced_before_and_after(self, tmp_path: Path) -> None:
        said: list[str] = []
        final = tmp_path / "trees/a"
        assert made_once(final, "tree", "making a", lambda tree: tree.mkdir(), said.append) == final
        assert final.is_dir()
        assert [line.split(" (")[0] for line in said] == ["tree: making a", "tree: made in 0 s"]
        made_once(final, "tree", "making a", lambda tree: pytest.fail("it is there"), said.append)
        assert len(said) == 2

    def test_failed_or_killed_work_leaves_nothing(self, tmp_path: Path) -> None:
        def fail(tree: Path) -> None:
            (tree / "half").mkdir(parents=True)
            raise LabError("no archive")

        final = tmp_path / "trees/a"
        (final.parent / ".a.1" / "of a killed process").mkdir(parents=True)
        with pytest.raises(LabError, match="no archive"):
            made_once(final, "tree", "making a", fail, lambda line: None)
        assert [path.name for path in final.parent.iterdir()] == ["lock"]
