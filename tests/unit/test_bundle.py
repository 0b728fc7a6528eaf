"""Bundles: everything a deployment downloads, in one directory; a deployment from it downloads nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec import lab
from stackspec.commands import bundle, cli
from stackspec.errors import ActionError, InputError
from stackspec.inventory import Image as Wanted
from stackspec.lab.image import Recipe
from stackspec.openstack import image as images
from stackspec.openstack.image import Image, image_file
from stackspec.release import load_release
from stackspec.resources import Venv, environment, venv
from stackspec.resources.base import run
from stackspec.resources.environment import Environment
from stackspec.site import ImageBuilder, Site
from stackspec.store import LIST, Bundle, BundleList, Part
from stackspec.wheels import folder_of

from .bare import Known, actions, answer, context
from .guide_plan import ROOT
from .plugin_runs import Runs

FOR = BundleList(site="made-up", release="epoxy-trixie")
QCOW2 = b"QFI\xfb an image"


class Elsewhere:
    """Two downloadable files, with a log of downloads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.broken: set[str] = set()

    def part(self, name: str) -> Part:
        def make() -> Path:
            self.calls.append(name)
            if name in self.broken:
                raise KeyboardInterrupt
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"content of {name}".encode())
            return path

        return Part(name, f"what {name} is", make)

    def write(self, folder: Path, *names: str) -> BundleList:
        return bundle.write(folder, FOR, [self.part(name) for name in names or ("images/a", "wheels/b")], print)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path / "elsewhere")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def state(folder: Path) -> dict[str, tuple[bytes, float]]:
    """Every file of a bundle, with content and time."""
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), time) for path, time in files.items()}


class TestWriting:
    """The same call writes, completes and repairs a bundle."""

    def test_list(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        content = b"content of images/a"
        listed = json.loads((folder / LIST).read_text())
        assert (folder / "images/a").read_bytes() == content
        assert {key: listed[key] for key in ("site", "release", "constraints")} == FOR.model_dump(exclude={"files"})
        assert [each["name"] for each in listed["files"]] == ["images/a", "wheels/b"]
        assert listed["files"][0] == {
            "name": "images/a",
            "what": "what images/a is",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def test_second_call_changes_nothing(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        before, elsewhere.calls = state(folder), []
        elsewhere.write(folder)
        assert state(folder) == before
        assert elsewhere.calls == []

    def test_killed_while_downloading(self, elsewhere: Elsewhere, folder: Path) -> None:
        """Complete parts are listed and kept; the list says that the bundle is incomplete."""
        elsewhere.broken = {"wheels/b"}
        with pytest.raises(KeyboardInterrupt):
            elsewhere.write(folder)
        assert Bundle(folder).lacks(elsewhere.part("wheels/b"))
        elsewhere.broken, elsewhere.calls = set(), []
        elsewhere.write(folder)
        assert elsewhere.calls == ["wheels/b"]

    def test_killed_while_copying(self, elsewhere: Elsewhere, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A partial file does not have the final name, and the next call removes it."""

        def half(source: Path, target: Path) -> None:
            target.write_bytes(source.read_bytes()[:3])
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfile", half)
            with pytest.raises(KeyboardInterrupt):
                elsewhere.write(folder)
        assert not (folder / "images/a").exists()
        elsewhere.write(folder, "wheels/b")
        assert set(state(folder)) == {LIST, "wheels/b"}

    def test_killed_before_the_list_was_written(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        (folder / LIST).write_text(FOR.model_dump_json())
        elsewhere.write(folder)
        assert Bundle(folder).lacks(elsewhere.part("images/a")) == []

    def test_changed_byte_is_repaired(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        (folder / "images/a").write_bytes(b"Content of images/a")
        elsewhere.calls = []
        elsewhere.write(folder)
        assert elsewhere.calls == ["images/a"]
        assert (folder / "images/a").read_bytes() == b"content of images/a"

    def test_unneeded_part_is_removed(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        (folder / "images/mine").touch()
        elsewhere.write(folder, "wheels/b")
        assert set(state(folder)) == {LIST, "wheels/b", "images/mine"}

    def test_nothing_is_removed_while_a_download_fails(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        elsewhere.broken = {"wheels/c"}
        with pytest.raises(KeyboardInterrupt):
            elsewhere.write(folder, "wheels/c")
        assert Bundle(folder).lacks(elsewhere.part("wheels/b")) == []

    def test_other_directory_is_refused(self, elsewhere: Elsewhere, folder: Path) -> None:
        folder.mkdir()
        (folder / "thesis.txt").touch()
        for path, wrong in (
            (folder, "contains other files and is not a bundle"),
            (folder / "thesis.txt", "is not a directory"),
        ):
            with pytest.raises(InputError, match=wrong):
                elsewhere.write(path)
        assert [path.name for path in folder.iterdir()] == ["thesis.txt"]

    def test_bundle_of_another_site(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        with pytest.raises(InputError, match="is a bundle of site made-up, not other"):
            bundle.write(folder, FOR.model_copy(update={"site": "other"}), [], print)
        assert (folder / "images/a").exists()


class TestReading:
    """A bundle either matches its list or is refused."""

    def test_complete_bundle(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder)
        elsewhere.calls = []
        assert Bundle(folder).take(elsewhere.part("images/a")) == folder / "images/a"
        assert elsewhere.calls == []

    @pytest.mark.parametrize(
        "harm",
        [
            pytest.param(lambda path: path.write_bytes(b"Content of images/a"), id="another byte"),
            pytest.param(lambda path: path.write_bytes(b"content"), id="shorter"),
            pytest.param(lambda path: path.unlink(), id="gone"),
        ],
    )
    def test_changed_file(self, elsewhere: Elsewhere, folder: Path, harm: Callable[[Path], object]) -> None:
        elsewhere.write(folder)
        harm(folder / "images/a")
        with pytest.raises(
            InputError, match=f"files do not match {LIST}: images/a; recreate the bundle: stackspec bundle"
        ):
            Bundle(folder)

    def test_missing_part(self, elsewhere: Elsewhere, folder: Path) -> None:
        elsewhere.write(folder, "images/a")
        elsewhere.calls = []
        with pytest.raises(ActionError, match="what wheels/b is is not in the bundle") as raised:
            Bundle(folder).take(elsewhere.part("wheels/b"))
        assert "made for site made-up with release epoxy-trixie" in str(raised.value)
        assert f"stackspec bundle --inventory PATH {folder}" in str(raised.value)
        assert elsewhere.calls == []

    def test_directory_without_a_bundle(self, folder: Path) -> None:
        with pytest.raises(InputError, match=f"is not a bundle: {LIST} is missing"):
            Bundle(folder)

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            '{"site": "x"}',
            '{"site": "x", "release": "y", "files": [{"name": "../x", "what": "", "size": 1, "sha256": ""}]}',
            '{"site": "x", "release": "y", "files": [{"name": "a/../x", "what": "", "size": 1, "sha256": ""}]}',
        ],
        ids=["no JSON", "no release", "file above", "file elsewhere"],
    )
    def test_invalid_list(self, folder: Path, text: str) -> None:
        folder.mkdir()
        (folder / LIST).write_text(text)
        with pytest.raises(InputError, match=f"{LIST} is not a valid bundle list"):
            Bundle(folder)


PLATFORM = ["3", "13", "x86_64", "2.41"]
APPLICATION = Venv("/opt/app", ("app==1.2",))


class TestParts:
    """Downloads of resources, and the same from a bundle."""

    @pytest.fixture
    def fetched(self, tmp_path: Path) -> Path:
        path = tmp_path / "fetched"
        path.write_bytes(QCOW2)
        return path

    @pytest.fixture
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """After its call, nothing can be downloaded."""

        def begin() -> None:
            for owner, name in ((venv, "wheels"), (environment, "archive"), (images, "_download")):
                monkeypatch.setattr(owner, name, lambda *_: pytest.fail("fetched"))

        return begin

    @pytest.fixture
    def bundled(
        self, site: Site, folder: Path, fetched: Path, offline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> Site:
        """The site with a bundle that has the application's wheels, and no other way to them."""
        monkeypatch.setattr(venv, "wheels", lambda *_: fetched)
        bundle.write(folder, FOR, APPLICATION.parts(site), print)
        offline()
        return replace(site, store=Bundle(folder))

    def known(self, site: Site, platform: list[str] = PLATFORM) -> Known:
        _, question = list(APPLICATION.queries(site, site.controller))[:2]
        assert question == run(*venv._PLATFORM)
        return {question: answer(" ".join(platform))}

    def test_wheels(self, bundled: Site) -> None:
        """The node gets exactly the versions that the release table has chosen."""
        here = context(bundled, bundled.controller, self.known(bundled))
        assert APPLICATION.obstacles(here) == []
        fetch, tar, *_ = actions(APPLICATION.changes(here)[0])
        fetch()
        assert tar.message()["content"] == QCOW2

    def test_wheels_for_another_python(self, bundled: Site) -> None:
        """It is reported before anything is changed."""
        known = self.known(bundled, ["3", "12", "aarch64", "2.39"])
        (text,) = APPLICATION.obstacles(context(bundled, bundled.controller, known))
        assert text.startswith("wheels of app==1.2 for Python 3.12 on aarch64 with glibc 2.39 is not in the bundle")

    def test_release_without_a_python_version(self, site: Site) -> None:
        distribution = site.release.distribution.model_copy(update={"glibc": ""})
        release = site.release.model_copy(update={"distribution": distribution})
        with pytest.raises(
            InputError, match=r"releases/epoxy-trixie\.yaml: distribution: python and glibc are missing"
        ):
            APPLICATION.parts(replace(site, release=release))

    def test_environment(
        self, site: Site, folder: Path, fetched: Path, offline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environment, "archive", lambda _: fetched)
        site = replace(site, release=load_release("caracal-bookworm"))
        assert site.release.wheels is not None
        resource = Environment(folder_of(site.release.wheels))
        (part,) = resource.parts(site)
        assert (part.name.split("/")[0], part.what) == ("environments", "the environment of caracal-bookworm")
        bundle.write(folder, FOR, [part], print)
        offline()
        site = replace(site, store=Bundle(folder))
        assert resource.lacking(site) == []
        node = site.controller
        facts = {query: answer() | {"content": ""} for query in resource.queries(site, node)}
        fetch, tar, *_ = actions(resource.changes(context(site, node, facts))[0])
        fetch()
        assert tar.message()["content"] == QCOW2
        assert (
            "not in the bundle"
            in Environment("/opt/openstack-of-another-list").obstacles(context(site, node, facts))[0]
        )

    def test_images(
        self, site: Site, folder: Path, fetched: Path, offline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Downloaded and built images; image files named in the inventory are not copied."""
        monkeypatch.setattr(images, "_download", lambda *_: fetched)
        site = replace(site, image_builders={"test-guest": ImageBuilder("test-guest-1.qcow2", lambda: fetched)})
        url, built, file = (
            Wanted(source=each) for each in ("https://user:pw@x/a.qcow2?key=1", "test-guest", "a.qcow2")
        )
        parts = [part for each in (url, built, file) for part in Image("guest", each).parts(site)]
        assert [part.name.split("-", 1)[1] for part in parts] == ["a.qcow2", "guest-1.qcow2"]
        bundle.write(folder, FOR, parts, print)
        assert "pw" not in (folder / LIST).read_text()
        offline()
        never = ImageBuilder("test-guest-1.qcow2", lambda: pytest.fail("built"))
        here = replace(site, store=Bundle(folder), image_builders={"test-guest": never})
        for part, image in zip(parts, (url, built), strict=True):
            assert image_file(here, "guest", image) == folder / part.name
            assert Image("guest", image).obstacles(context(here, here.controller)) == []
        with_checksum = url.model_copy(update={"checksum": f"sha256:{'0' * 64}"})
        newer = replace(here, image_builders={"test-guest": ImageBuilder("test-guest-2.qcow2", never.build)})
        for image in (with_checksum, built):
            with pytest.raises(ActionError, match="image guest is not in the bundle"):
                image_file(newer, "guest", image)

    def test_web_page_instead_of_an_image(
        self, site: Site, folder: Path, fetched: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched.write_bytes(b"<html>")
        monkeypatch.setattr(images, "_download", lambda *_: fetched)
        with pytest.raises(ActionError, match="a web page"):
            bundle.write(folder, FOR, Image("guest", Wanted(source="https://x/a")).parts(site), print)
        assert set(state(folder)) == {LIST}

    def test_lab_images_are_not_built_early(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(Recipe, "build", lambda self, *_: pytest.fail(f"built {self.name}"))
        fake: Any = SimpleNamespace(cache=tmp_path, _beside=lambda *_: pytest.fail("begun"))
        assert set(lab.Lab.images(fake, ["test-guest"], print, begin=False)) == {"test-guest"}


@pytest.mark.parametrize(
    ("inventory", "names"),
    [("guide", ["images", "images", "wheels"]), ("caracal", ["environments", "images", "images", "wheels"])],
)
def test_command(
    inventory: str,
    names: list[str],
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_traces: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Uses only the inventory: no node is contacted and no secret is created."""
    fetched = tmp_path / "fetched"
    fetched.write_bytes(QCOW2)
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("OS_CLOUD", raising=False)
    for owner, name in ((venv, "wheels"), (environment, "archive"), (images, "_download")):
        monkeypatch.setattr(owner, name, lambda *_: fetched)
    built = {name: ImageBuilder(f"{name}-1.qcow2", lambda: fetched) for name in ("test-guest", "test-amphora")}
    monkeypatch.setattr(bundle, "Lab", lambda spec: SimpleNamespace(images=lambda *_, begin: built))
    words = ["bundle", "--inventory", str(ROOT / "inventories" / inventory), str(folder)]
    assert cli.main(words) == 0
    listed = json.loads((folder / LIST).read_text())
    assert [each["name"].split("/")[0] for each in listed["files"]] == names
    assert (listed["site"], bool(listed["constraints"])) == (inventory, inventory == "caracal")
    assert not (tmp_path / "state").exists()
    before = state(folder)
    assert cli.main(words) == 0
    assert state(folder) == before
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder}: {len(names)} files, 0 MB"


FETCHING = """
from dataclasses import dataclass
from stackspec.resources import Resource
from stackspec.resources.actions import Write
from stackspec.resources.base import Change, file
from stackspec.store import Part

def fetcher():
    found = Path(__file__).with_name("fetched")
    found.write_text("from elsewhere")
    return found

@dataclass(frozen=True)
class Fetched(Resource):
    name: str
    title = "fetched"
    def parts(self, site):
        return [Part(self.name, "the program", fetcher)]
    def queries(self, site, node):
        return [file("/opt/program")]
    def obstacles(self, context):
        return self.lacking(context.site)
    def changes(self, context):
        if context.facts[file("/opt/program")]["exists"]:
            return []
        (part,) = self.parts(context.site)
        return [Change("program", actions=(Write("/opt/program", lambda: context.site.store.take(part).read_text()),))]

@step(role="controller")
def program(site):
    yield Fetched("wheels/b")
"""


class TestDeployment:
    """Runs of pytest with a step that downloads a file."""

    @pytest.fixture
    def fetching(self, runs: Runs) -> Runs:
        runs.steps(textwrap.dedent(FETCHING))
        runs.tests("def test_program(program): pass\n")
        return runs

    def test_without_a_bundle(self, fetching: Runs) -> None:
        fetching.pytest("--deploy").assert_outcomes(passed=1)
        assert (fetching.path / "fetched").exists()

    def test_deployment_from_a_bundle_downloads_nothing(
        self, fetching: Runs, elsewhere: Elsewhere, folder: Path
    ) -> None:
        elsewhere.write(folder)
        fetching.pytest("--deploy", f"--bundle={folder}").assert_outcomes(passed=1)
        assert fetching.node("one")["files"]["/opt/program"]["content"] == "content of wheels/b"
        assert not (fetching.path / "fetched").exists()

    def test_changed_byte(self, fetching: Runs, elsewhere: Elsewhere, folder: Path) -> None:
        """Status 4 before connecting to any node."""
        elsewhere.write(folder)
        (folder / "wheels/b").write_bytes(b"Content of wheels/b")
        result = fetching.pytest("--deploy", f"--bundle={folder}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {folder}: files do not match {LIST}: wheels/b; recreate the bundle: *"])
        assert fetching.node("one") == {}

    @pytest.mark.parametrize("mode", ["--deploy", "--plan"])
    def test_missing_part(self, fetching: Runs, elsewhere: Elsewhere, folder: Path, mode: str) -> None:
        """Status 4 before anything is changed."""
        elsewhere.write(folder, "images/a")
        result = fetching.pytest(mode, f"--bundle={folder}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*the program is not in the bundle {folder} (wheels/b; made for *"])
        assert fetching.log() == []
        assert not (fetching.path / "fetched").exists()
