"""Applications in environments of their own, files that programs print, and settings in YAML."""

from __future__ import annotations

import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from stackspec import reach
from stackspec.errors import ActionError
from stackspec.resources import Generated, Service, Venv, YamlFile, venv
from stackspec.resources.base import Query, file
from stackspec.site import Site

from .bare import ChangeOf, Known, actions, context, differences, lab_site, look, text_file

APPLICATION = Venv("/opt/app", ("app==1.2", "plugin==3"))
PLATFORM = ["3", "13", "x86_64", "2.41"]


def installed(*lines: str, stamp: str = "app==1.2\nplugin==3\n") -> dict[Query, Any]:
    """A node with an environment that has what `lines` say."""
    site = lab_site()
    versions, platform, mark = APPLICATION.queries(site, site.controller)
    answer = {"status": 0, "err": ""}
    return {
        versions: {**answer, "out": "\n".join(lines)},
        platform: {**answer, "out": " ".join(PLATFORM)},
        mark: text_file(stamp),
    }


RIGHT = ("python 3.13", "app==1.2", "plugin==3")


class TestVenv:
    """An environment is recreated if it differs from the step."""

    def test_right(self, change: ChangeOf) -> None:
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
    def test_wrong(self, change: ChangeOf, known: Known, difference: str) -> None:
        (found,) = differences(change(APPLICATION, known))
        assert found == f"/opt/app: wanted {difference}"

    def test_bare_node_is_planned_without_fetching(self, change: ChangeOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also without knowing what the node is."""
        monkeypatch.setattr(venv, "wheels", lambda *_: pytest.fail("a plan fetches nothing"))
        found = change(APPLICATION)
        assert len(differences(found)) == 3

    def test_wheels_are_fetched_outside_and_sent(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """What the controlling machine fetches is in the message to the node, which makes the environment offline."""
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

    def test_services_start_again_after_it(self, site: Site) -> None:
        """The program that a service runs is another one then."""
        findings = look(site, [APPLICATION, Service("app")], installed())
        assert "app" in findings[1].changes[0].title


class TestWheels:
    """What the controlling machine fetches."""

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))

    def pip(self, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> list[list[str]]:
        """A pip that downloads one file; its command lines."""
        calls = []

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            Path(command[command.index("--dest") + 1], "app-1.2-py3-none-any.whl").write_bytes(b"wheel")
            return subprocess.CompletedProcess(command, status, "", "no such version")

        monkeypatch.setattr(venv, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
        return calls

    def test_for_the_node_s_python_and_platform(self, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another node of the same kind gets the same, which is kept; another kind has its own."""
        calls = self.pip(monkeypatch)
        assert venv.wheels(["app==1.2"], PLATFORM) == venv.wheels(["app==1.2"], PLATFORM)
        assert len(calls) == 1
        venv.wheels(["app==1.2"], ["3", "10", "aarch64", "2.35"])
        assert len(calls) == 2

    def test_failure_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """It is named, with what to do, and half a set is not taken for a whole one the next time."""
        self.pip(monkeypatch, status=1)
        with pytest.raises(ActionError, match="no such version") as raised:
            venv.wheels(["app==1.2"], PLATFORM)
        assert "pip needs access to its index" in str(raised.value)
        assert list((tmp_path / "wheels").iterdir()) == []

    @pytest.mark.parametrize("platform", [[], ["3", "13", "x86_64"]], ids=["nothing", "no glibc"])
    def test_a_node_without_wheels(self, platform: list[str]) -> None:
        with pytest.raises(ActionError, match="wheels are for CPython on a Linux with glibc"):
            venv.wheels(["app==1.2"], platform)


class TestGenerated:
    """A file is what a program prints."""

    resource = Generated("/etc/x.conf", ("make-x",), edits=("s/a/b/",), check=("test-x", "-c"))

    def known(self, site: Site, out: str, content: str, status: int = 0) -> dict[Query, Any]:
        """A node where the program prints `out` and the file has `content`."""
        printed, _ = self.resource.queries(site, site.controller)
        return {printed: {"status": status, "out": out, "err": ""}, file("/etc/x.conf"): text_file(content)}

    def test_right(self, site: Site, change: ChangeOf) -> None:
        assert change(self.resource, self.known(site, "b\n", "b\n")) is None

    def test_what_is_printed_is_edited(self, site: Site) -> None:
        printed, _ = self.resource.queries(site, site.controller)
        assert printed.args[0][-1] == "text=$(make-x) && printf '%s\\n' \"$text\" | sed -e s/a/b/"

    def test_another_content(self, site: Site, change: ChangeOf) -> None:
        """The new file is judged before it takes the old one's place."""
        found = change(self.resource, self.known(site, "b\n", "old\n"))
        assert "-old\n+b\n" in found.diff
        assert (
            found.actions[0]
            .argv[-1]
            .endswith("test-x -c /etc/x.conf.new && sync /etc/x.conf.new && mv /etc/x.conf.new /etc/x.conf")
        )
        assert found.touches == ("/etc/x.conf",)

    def test_program_is_not_there_yet(self, site: Site, change: ChangeOf) -> None:
        """Before the packages are: what will be in it is known later."""
        assert "(known after apply)" in change(self.resource, self.known(site, "", "", status=127)).diff


SETTINGS = {"default": {"secret_key": "000000", "debug": False, "names": [], "port": 3306}}


class TestYamlFile:
    """Settings as YAML."""

    def test_text_and_back(self) -> None:
        """In the order that is given; digits that are a text stay one (erratum E96)."""
        text = YamlFile("/etc/x.yaml", SETTINGS).text
        assert YAML(typ="safe").load(text) == SETTINGS
        assert "secret_key: '000000'" in text
        assert "\n  debug: false\n" in text

    def test_as_declared(self, change: ChangeOf) -> None:
        resource = YamlFile("/etc/x.yaml", SETTINGS, group="app")
        known = {file("/etc/x.yaml"): text_file(resource.text, mode=0o640, group="app")}
        assert change(resource, known) is None

    def test_open_to_everybody(self, change: ChangeOf) -> None:
        resource = YamlFile("/etc/x.yaml", SETTINGS)
        known = {file("/etc/x.yaml"): text_file(resource.text)}
        assert differences(change(resource, known)) == ["mode: wanted 0640, found 0644"]


def test_outside_is_one_thread_that_began_before() -> None:
    """A lab's network is entered by threads: what is called there stays in the machine's own."""
    outside = reach._outside()
    assert outside(threading.current_thread) is outside(threading.current_thread)
    assert outside(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        outside(lambda: 1 // 0)
