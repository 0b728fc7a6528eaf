"""The recipes of the lab's images: cache key, cache, failures, and the scripts that run in guest and amphora."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from stackspec.lab.amphora import TEST_AMPHORA
from stackspec.lab.error import LabError
from stackspec.lab.guest import TEST_GUEST
from stackspec.lab.image import ImageError, Recipe, build, tools
from stackspec.lab.mirror import Mirror

RECIPES = (TEST_GUEST, TEST_AMPHORA)
SCRIPTS = sorted(
    path
    for folder in (build.COMMON, *(recipe.folder for recipe in RECIPES))
    for path in folder.rglob("*")
    if path.is_file()
    and (path.suffix == ".sh" or (path.read_bytes()[:2] == b"#!" and path.name != "amphora-agent-start"))
)
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB tester@example"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI"
MIRROR = Mirror("http://archive.invalid/debian")
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def no_build(*_: object) -> None:
    pytest.fail("built although the cache has the image")


@every_recipe
def test_cache_key_depends_on_the_recipe(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    shutil.copytree(recipe.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    copy = Recipe(recipe.name, folder)
    assert copy.key == recipe.key
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "build.pyc").write_bytes(b"x")
    assert copy.key == recipe.key, "compiled files are no part of the recipe"
    script = folder / "build.sh"
    script.write_text(script.read_text() + "\n")
    changed = copy.key
    script.rename(script.with_name("rc2"))
    assert len({recipe.key, changed, copy.key}) == 3


@every_recipe
def test_cached_image_is_not_rebuilt(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "_build", no_build)
    monkeypatch.setattr(Recipe, "_check_host", no_build)
    image = tmp_path / f"{recipe.name}-{recipe.key}.qcow2"
    image.write_bytes(b"image")
    assert recipe.build(tmp_path, mirror=MIRROR) == image


@every_recipe
def test_failed_build_says_why_and_leaves_no_files(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: list[str], what: str, **_: object) -> str:
        if "trixie" not in argv:
            raise LabError(f"Could not {what}: exit status 1 of: build-{recipe.name}\nxz: corrupt input")
        Path(argv[argv.index("trixie") + 1]).mkdir()
        return ""

    monkeypatch.setattr(Recipe, "_check_host", lambda _: None)
    monkeypatch.setattr(tools, "run", run)
    (tmp_path / f"ss-{recipe.name}-killed").mkdir()
    with pytest.raises(ImageError, match=rf"(?s)Could not build the {recipe.title}: exit status 1 .*corrupt input"):
        recipe.build(tmp_path, say=lambda _: None, mirror=MIRROR)
    assert {path.name for path in tmp_path.iterdir()} == {f"{recipe.name}.lock", "tools"}


@every_recipe
def test_tools_that_cannot_be_unpacked(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], what: str, **_: object) -> str:
        Path(argv[argv.index("trixie") + 1]).mkdir()
        if "--variant=extract" in argv:
            raise LabError(f"Could not {what}: exit status 25 of: mmdebstrap\nE: the archive does not answer")
        return ""

    monkeypatch.setattr(Recipe, "_check_host", lambda _: None)
    monkeypatch.setattr(tools, "run", run)
    with pytest.raises(ImageError, match=r"(?s)Could not unpack the tools of images: exit status 25 .*does not answer"):
        recipe.build(tmp_path, say=lambda _: None, mirror=MIRROR)
    assert {path.name for path in tmp_path.iterdir()} == {f"{recipe.name}.lock", "tools"}
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["lock"]


def test_the_mirror_ends_up_in_the_command() -> None:
    source = MIRROR.line(MIRROR.archive, "trixie")
    assert tools.unpack_command("extract", ("dash",), Path("/t"), source)[-1] == source
    assert tools.unpack_command("extract", ("dash",), Path("/t"), None)[-2:] == ["trixie", "/t"]


def test_what_a_build_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools are unpacked once for all recipes; a recipe's system, if it has one, is where build.sh expects it."""
    seen: list[str] = []

    def run(argv: list[str], what: str, **_: object) -> str:
        if "trixie" in argv:
            Path(argv[argv.index("trixie") + 1]).mkdir()
            seen.extend(word for word in argv if word.startswith("--variant="))
        else:
            tree, work = map(Path, argv[-2:])
            assert tree == tmp_path / "tools" / tools.key()
            assert tree.is_dir()
            out = work / "upper/out"
            seen.append(f"root: {(out / 'root').is_dir()}")
            (out / "image.qcow2").write_bytes(b"image")
        return ""

    monkeypatch.setattr(Recipe, "_check_host", lambda _: None)
    monkeypatch.setattr(tools, "run", run)
    for recipe in RECIPES:
        assert recipe.build(tmp_path, say=lambda _: None, mirror=MIRROR).read_bytes() == b"image"
    assert seen == ["--variant=extract", "root: False", "--variant=minbase", "root: True"]


def test_build_without_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="needs root"):
        TEST_GUEST.build(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_parse(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


META_DATA = {
    "admin_pass": "x",
    "files": [
        {"content_path": "/content/0000", "path": "/etc/octavia/certs/server.pem"},
        {"path": "/etc/octavia/amphora-agent.conf", "content_path": "/content/0001"},
    ],
    "hostname": "amphora-1",
}


def test_amphora_finds_its_files(tmp_path: Path) -> None:
    """Independent of the order of keys in nova's file."""
    script = (TEST_AMPHORA.folder / "files/usr/sbin/amphora-config").read_text()
    loop = script[script.index("tr -d '\\n' <$meta | tr ") : script.index("user=/run/cd")]
    loop = (
        loop.replace("/run/cd/openstack", str(tmp_path))
        .replace('"${to%/*}"', '"$out${to%/*}"')
        .replace('>"$to"', '>"$out$to"')
    )
    (tmp_path / "meta_data.json").write_text(json.dumps(META_DATA))
    (tmp_path / "content").mkdir()
    for number, text in enumerate(("pem", "conf")):
        (tmp_path / f"content/000{number}").write_text(text)
    command = f"meta={tmp_path}/meta_data.json out={tmp_path}/out; {loop}"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (tmp_path / "out/etc/octavia/certs/server.pem").read_text() == "pem"
    assert (tmp_path / "out/etc/octavia/amphora-agent.conf").read_text() == "conf"


@pytest.fixture
def meta_data(tmp_path: Path) -> Path:
    """A meta_data.json like nova's, with a user property that has the name of another field."""
    path = tmp_path / "meta_data.json"
    content = {
        "uuid": "0f3c0a6e-1111-4222-8333-444455556666",
        "meta": {"hostname": "not-this-one", "note": 'a "quoted" word'},
        "public_keys": {"a": f"{ED25519}\n", "b": ECDSA},
        "keys": [{"name": "a", "type": "ssh", "data": f"{ED25519}\n"}],
        "hostname": "web-1.novalocal",
        "name": "web-1",
        "launch_index": 0,
        "random_seed": "c3NoLXJzYQ==",
        "devices": [],
    }
    path.write_text(json.dumps(content))
    return path


def call(function: str, *arguments: str | Path) -> list[str]:
    """Run a function of the guest's library and return the lines it prints."""
    library = TEST_GUEST.folder / "files/lib/guest.sh"
    script = f'. "{library}"; {function} "$@"'
    done = subprocess.run(["sh", "-c", script, "guest", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_metadata_values(meta_data: Path) -> None:
    assert call("meta_value", "hostname", meta_data) == ["web-1.novalocal"]
    assert call("meta_value", "uuid", meta_data) == ["0f3c0a6e-1111-4222-8333-444455556666"]
    assert call("meta_value", "absent", meta_data) == []


def test_metadata_keys_are_listed_once(meta_data: Path) -> None:
    assert sorted(call("meta_keys", meta_data)) == sorted([ED25519, ECDSA])
