"""An application in its own environment: its wheels are downloaded here and installed on the node."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.errors import ActionError
from stackspec.resources import Service, Venv, venv
from stackspec.resources.base import Query
from stackspec.site import Site

from .bare import ChangeOf, Known, actions, answer, context, differences, lab_site, look, text_file

APPLICATION = Venv("/opt/app", ("app==1.2", "plugin==3"))
PLATFORM = ["3", "13", "x86_64", "2.41"]


def installed(*lines: str, stamp: str = "app==1.2\nplugin==3\n") -> dict[Query, Any]:
    """A node with an environment as described by `lines`."""
    site = lab_site()
    versions, platform, mark = APPLICATION.queries(site, site.controller)
    return {
        versions: answer("\n".join(lines)),
        platform: answer(" ".join(PLATFORM)),
        mark: text_file(stamp),
    }


RIGHT = ("python 3.13", "app==1.2", "plugin==3")


class TestVenv:
    """An environment is recreated if it differs from the step."""

    def test_correct_environment(self, change: ChangeOf) -> None:
        assert change(APPLICATION, installed(*RIGHT)) is None

    @pytest.mark.parametrize(
        ("known", "difference"),
        [
            pytest.param(
                installed("python 3.13", "app==1.1", "plugin==3"), "app==1.2, found absent", id="another version"
            ),
            pytest.param(installed("python 3.12", *RIGHT[1:]), "python 3.13, found absent", id="another Python"),
            pytest.param(installed(*RIGHT, stamp=""), "fully installed, found interrupted", id="killed half way"),
            pytest.param(installed(*RIGHT, stamp="app==1.2\n"), "fully installed, found interrupted", id="other set"),
        ],
    )
    def test_different_environment(self, change: ChangeOf, known: Known, difference: str) -> None:
        (found,) = differences(change(APPLICATION, known))
        assert found == f"/opt/app: wanted {difference}"

    def test_bare_node_is_planned_without_downloads(self, change: ChangeOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even if the node's platform is unknown."""
        monkeypatch.setattr(venv, "wheels", lambda *_: pytest.fail("a plan fetches nothing"))
        found = change(APPLICATION)
        assert len(differences(found)) == 3

    def test_wheels_are_downloaded_here_and_sent(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The controlling machine's downloads are in the message to the node, which creates the environment offline."""
        calls = []

        def outside(call: Callable[[], Any]) -> Any:
            calls.append("outside")
            return call()

        def wheels(wanted: list[str], platform: list[str]) -> Path:
            (tmp_path / "tar").write_text(f"tar of {wanted} {platform}")
            return tmp_path / "tar"

        monkeypatch.setattr(venv, "wheels", wheels)
        site = replace(site, outside=outside)
        (change,) = APPLICATION.changes(context(site, site.controller, installed()))
        fetch, *sent = actions(change)
        fetch()
        bundle, install, stamp = sent
        assert repr(PLATFORM).encode() in bundle.message()["content"]
        assert calls == ["outside"]
        assert (bundle.mode, bundle.path) == (0o600, "/opt/app.tar")
        script = install.argv[-1]
        assert "--no-index --ignore-installed --only-binary :all:" in script
        assert script.endswith("rm -rf /opt/app.wheels /opt/app.tar")
        assert (stamp.path, stamp.content) == ("/opt/app/.stackspec", "app==1.2\nplugin==3\n")

    def test_services_restart_after_it(self, site: Site) -> None:
        """The program that a service runs has changed then."""
        findings = look(site, [APPLICATION, Service("app")], installed())
        assert "app" in findings[1].changes[0].title


class TestWheels:
    """Downloads of the controlling machine."""

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))

    def pip(self, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> list[list[str]]:
        """A fake pip that downloads one file; its command lines are recorded."""
        calls = []

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            Path(command[command.index("--dest") + 1], "app-1.2-py3-none-any.whl").write_bytes(b"wheel")
            return subprocess.CompletedProcess(command, status, "", "no such version")

        monkeypatch.setattr(venv, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
        return calls

    def test_wheels_match_the_python_and_platform_of_the_node(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.pip(monkeypatch)
        with tarfile.open(venv.wheels(["app==1.2"], PLATFORM)) as archive:
            assert archive.getnames() == ["app-1.2-py3-none-any.whl"]
        (command,) = calls
        text = " ".join(command)
        assert "--only-binary=:all: --python-version 3.13 --implementation cp --abi cp313 --abi abi3 --abi none" in text
        assert "--platform manylinux_2_41_x86_64" in text
        assert "manylinux_2_42" not in text
        assert "--platform manylinux2014_x86_64" in text
        assert command[-1] == "app==1.2"

    def test_wheels_are_downloaded_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nodes of the same kind share the cached wheels; another kind has its own."""
        calls = self.pip(monkeypatch)
        assert venv.wheels(["app==1.2"], PLATFORM) == venv.wheels(["app==1.2"], PLATFORM)
        assert len(calls) == 1
        venv.wheels(["app==1.2"], ["3", "10", "aarch64", "2.35"])
        assert len(calls) == 2

    def test_cut_file_is_downloaded_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A power loss after the rename may leave a file short."""
        calls = self.pip(monkeypatch)
        kept = venv.wheels(["app==1.2"], PLATFORM)
        size = kept.stat().st_size
        kept.write_bytes(kept.read_bytes()[:-1])
        assert venv.wheels(["app==1.2"], PLATFORM).stat().st_size == size
        assert len(calls) == 2

    def test_failed_download_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The error says what to do, and an incomplete set is not used the next time."""
        self.pip(monkeypatch, status=1)
        with pytest.raises(ActionError, match="no such version") as raised:
            venv.wheels(["app==1.2"], PLATFORM)
        assert "pip needs access to its index" in str(raised.value)
        assert list((tmp_path / "wheels").iterdir()) == []

    @pytest.mark.parametrize("platform", [[], ["3", "13", "x86_64"]], ids=["nothing", "no glibc"])
    def test_node_without_wheels(self, platform: list[str]) -> None:
        with pytest.raises(ActionError, match="wheels are for CPython on a Linux with glibc"):
            venv.wheels(["app==1.2"], platform)
