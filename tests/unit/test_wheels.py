"""All applications of a release from wheels in one archive: resolved once, pure, and with the node's Python."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv

from stackspec import wheels as wheels_module
from stackspec.errors import ActionError, InputError
from stackspec.release import Wheels
from stackspec.store import keep

from .wheels_sites import WHEELS

UV = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
cd "$2" && mkdir -p bin etc/app app/tests app-1.0.dist-info && umask 0
printf '#!/usr/bin/python3.9\\nimport app\\n' >bin/app
touch app/code.py app/tests/test_code.py etc/app/app.conf
echo 'Tag: py3-none-any' >app-1.0.dist-info/WHEEL
echo 'bin/app,sha256=x,1' >app-1.0.dist-info/RECORD
"""
"""Installs a project with a command, a module, tests and a settings file, writable by everybody."""


def test_different_applications_have_different_folders() -> None:
    more = WHEELS.model_copy(update={"libraries": (*WHEELS.libraries, "one-more")})
    assert wheels_module.folder_of(more) != wheels_module.folder_of(WHEELS)
    assert wheels_module.folder_of(WHEELS) == wheels_module.folder_of(WHEELS.model_copy())


class TestArchive:
    @pytest.mark.parametrize(
        "before",
        [
            pytest.param(b"#!/home/me/.venv/bin/python\nimport sys\n", id="short"),
            pytest.param(
                b"#!/bin/sh\n'''exec' '/a very/long path/python' \"$0\" \"$@\"\n' '''\nimport sys\n", id="long"
            ),
        ],
    )
    def test_scripts_run_with_the_node_s_python(self, before: bytes) -> None:
        assert (
            wheels_module._SCRIPT.sub(b"#!/opt/x/bin/python\n", before, count=1) == b"#!/opt/x/bin/python\nimport sys\n"
        )

    def test_shell_script_is_unchanged(self) -> None:
        assert wheels_module._SCRIPT.sub(b"x", b"#!/bin/sh\necho hi\n", count=1) == b"#!/bin/sh\necho hi\n"

    def wheel(self, library: Path, name: str, tag: str, commands: tuple[str, ...] = ()) -> None:
        folder = library / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
        (folder / "RECORD").write_text("".join(f"bin/{each},sha256=x,1\n" for each in commands))
        (library / "bin").mkdir(exist_ok=True)
        for each in commands:
            (library / "bin" / each).touch()

    def test_compiled_wheel_is_refused(self, tmp_path: Path) -> None:
        self.wheel(tmp_path, "pure", "py3-none-any")
        self.wheel(tmp_path, "many", "cp311-cp311-manylinux_2_17_x86_64")
        wheels_module._refuse_compiled(tmp_path)
        self.wheel(tmp_path, "scrypt", "cp311-cp311-linux_x86_64")
        with pytest.raises(ActionError, match=r"scrypt-1\.0 is on the index only as source"):
            wheels_module._refuse_compiled(tmp_path)

    def test_commands_of_projects_and_listed_ones_are_linked(self, tmp_path: Path) -> None:
        self.wheel(tmp_path, "openstack_heat", "py3-none-any", ("heat-manage",))
        self.wheel(tmp_path, "oslo.privsep", "py3-none-any", ("privsep-helper",))
        self.wheel(tmp_path, "flask", "py3-none-any", ("flask",))
        described: dict[str, Any] = {"path": "/opt/x", "python": "3.11", "platform": "x", "constraints": "x"}
        made = Wheels(**described, projects=("openstack-heat==1.0",), commands=("privsep-helper", "not-there"))
        assert wheels_module._commands(made, tmp_path) == ["heat-manage", "privsep-helper"]

    @pytest.fixture
    def uv_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
        """Replaces uv by a program that fails with a message; returns the file with its arguments."""
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))
        monkeypatch.setattr(wheels_module, "_CHECKED", {})

        def says(text: str) -> Path:
            false = tmp_path / "uv"
            false.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\necho {shlex.quote(text)} >&2\nexit 1\n')
            false.chmod(0o755)
            monkeypatch.setattr(uv, "find_uv_bin", lambda: str(false))
            return tmp_path / "asked"

        return says

    def test_unsolvable_requirements(self, tmp_path: Path, uv_says: Callable[[str], Path]) -> None:
        uv_says("No solution found: nova==29 and nova==30")
        with pytest.raises(ActionError, match="No solution found") as caught:
            wheels_module.archive(WHEELS)
        assert WHEELS.constraints in str(caught.value)
        assert not list((tmp_path / "environments").glob("*.tar.gz"))
        assert not list((tmp_path / "environments").glob(".make-*"))

    def test_unsolvable_requirements_are_found_before_nodes_are_changed(
        self, tmp_path: Path, uv_says: Callable[[str], Path]
    ) -> None:
        asked = uv_says("No solution found: nova==29 and nova==30")
        for _ in range(3):
            with pytest.raises(InputError, match="No solution found") as caught:
                wheels_module.check_requirements(WHEELS)
        assert WHEELS.constraints in str(caught.value)
        (once,) = asked.read_text().splitlines()
        assert "--dry-run" in once
        assert not list((tmp_path / "environments").glob(".check-*"))

    def test_cached_environment_is_not_resolved_again(self, tmp_path: Path, uv_says: Callable[[str], Path]) -> None:
        asked = uv_says("No solution found")
        kept = wheels_module._cached(WHEELS)
        kept.parent.mkdir()
        (tmp_path / "made").write_text("archive")
        keep(tmp_path / "made", kept)
        wheels_module.check_requirements(WHEELS)
        assert wheels_module.archive(WHEELS) == kept
        assert not asked.exists()
        kept.write_text("archiv")
        with pytest.raises(ActionError):
            wheels_module.archive(WHEELS)

    def test_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All of it belongs to root and only root may write; scripts run with the node's Python at their final path."""
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))
        false = tmp_path / "uv"
        false.write_text(UV)
        false.chmod(0o755)
        monkeypatch.setattr(uv, "find_uv_bin", lambda: str(false))
        made = WHEELS.model_copy(update={"projects": ("app==1.0",), "commands": ()})
        folder = wheels_module.folder_of(made)
        with tarfile.open(wheels_module.archive(made)) as archive:
            members = {each.name.removeprefix("./"): each for each in archive}
            contents = {name: archive.extractfile(each) for name, each in members.items() if each.isfile()}
            texts = {name: file.read() for name, file in contents.items() if file}
        assert {(each.uid, each.gid, each.uname) for each in members.values()} == {(0, 0, "root")}
        assert {each.mode for each in members.values() if not each.issym()} == {0o755, 0o644}
        assert members["bin/app"].mode == members["etc"].mode == 0o755
        assert members["etc/app/app.conf"].mode == 0o644
        assert members["bin/python3"].linkname == "/usr/bin/python3.11"
        assert texts["bin/app"].splitlines()[0].decode() == f"#!{folder}/bin/python"
        assert texts["commands"] == b"app\n"
        assert "lib/python3.11/site-packages/app/code.py" in texts
        assert not [name for name in members if "tests" in name]

    def test_project_that_needs_a_compiler(self, uv_says: Callable[[str], Path]) -> None:
        """Where this machine has none, uv fails; the advice is the same as where it has one."""
        uv_says("  x Failed to build `scrypt==0.8.20`\n  error: command 'gcc' failed: No such file or directory")
        with pytest.raises(ActionError, match=r"scrypt==0\.8\.20[\s\S]*wheels\.excluded"):
            wheels_module.archive(WHEELS)
