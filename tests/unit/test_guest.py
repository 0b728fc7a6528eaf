"""The test guest's recipe: its key, its cache, its failures, and the scripts that run in the guest."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.error import LabError
from lab.guest import GuestError, build, build_test_guest, recipe_key

RECIPE = Path(build.__file__).parent
SCRIPTS = sorted(
    path for path in RECIPE.rglob("*") if path.is_file() and (path.suffix == ".sh" or path.read_bytes()[:2] == b"#!")
)
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB tester@example"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI"


def no_build(*_: object) -> None:
    pytest.fail("built although the cache has the image")


def test_the_key_follows_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    shutil.copytree(RECIPE, recipe, ignore=shutil.ignore_patterns("__pycache__"))
    assert recipe_key(recipe) == recipe_key()
    (recipe / "__pycache__").mkdir()
    (recipe / "__pycache__" / "build.pyc").write_bytes(b"x")
    assert recipe_key(recipe) == recipe_key(), "compiled files are no part of the recipe"
    rc = recipe / "files/etc/rc"
    rc.write_text(rc.read_text() + "\n")
    changed = recipe_key(recipe)
    rc.rename(rc.with_name("rc2"))
    assert len({recipe_key(), changed, recipe_key(recipe)}) == 3


def test_a_cached_image_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_build", no_build)
    monkeypatch.setattr(build, "_check_host", no_build)
    image = tmp_path / f"test-guest-{recipe_key()}.qcow2"
    image.write_bytes(b"image")
    assert build_test_guest(tmp_path, mirror="http://archive.invalid/debian") == image


def test_a_failed_build_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], what: str, **_: object) -> str:
        Path(argv[argv.index("trixie") + 1]).mkdir()
        raise LabError(f"Could not {what}: exit status 25 of: mmdebstrap\nE: the archive does not answer")

    monkeypatch.setattr(build, "_check_host", lambda: None)
    monkeypatch.setattr(build, "run", run)
    (tmp_path / "ss-guest-killed").mkdir()
    with pytest.raises(GuestError, match=r"(?s)Could not build the test guest: exit status 25 .*does not answer"):
        build_test_guest(tmp_path, say=lambda _: None, mirror="http://archive.invalid/debian")
    assert [path.name for path in tmp_path.iterdir()] == ["test-guest.lock"]


def test_the_mirror_ends_up_in_the_command() -> None:
    assert build._unpack_command(Path("/t"), "http://archive.invalid/debian")[-1] == "http://archive.invalid/debian"
    assert build._unpack_command(Path("/t"), None)[-2:] == ["trixie", "/t"]


def test_without_root_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(GuestError, match="needs root"):
        build_test_guest(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(RECIPE).as_posix())
def test_scripts_parse(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def meta_data(tmp_path: Path) -> Path:
    """A meta_data.json as nova writes it, with a user property that carries the name of another field."""
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
    """Run a function of the guest's library and return the lines that it prints."""
    library = RECIPE / "files/lib/guest.sh"
    script = f'. "{library}"; {function} "$@"'
    done = subprocess.run(["sh", "-c", script, "guest", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_metadata_values(meta_data: Path) -> None:
    assert call("meta_value", "hostname", meta_data) == ["web-1.novalocal"]
    assert call("meta_value", "uuid", meta_data) == ["0f3c0a6e-1111-4222-8333-444455556666"]
    assert call("meta_value", "absent", meta_data) == []


def test_metadata_keys_are_listed_once(meta_data: Path) -> None:
    assert sorted(call("meta_keys", meta_data)) == sorted([ED25519, ECDSA])
