"""Secrets are made once, kept in a file of their owner's, and masked wherever text goes out."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from stackspec.resources.base import Difference, unified_diff
from stackspec.secrets import MASK, Redactor, Secrets, redact

pytestmark = pytest.mark.usefixtures("no_traces")


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    first = secrets.password("nova")
    assert secrets.password("nova") == first
    assert secrets.password("glance") != first
    assert first.isalnum()
    assert len(first) == 24
    assert len(base64.urlsafe_b64decode(secrets.key("fernet"))) == 32


def test_nothing_is_written_until_it_is_to_be_kept(tmp_path: Path) -> None:
    """Collecting tests and planning need values, and must touch nothing."""
    file = tmp_path / "site" / "secrets.json"
    secrets = Secrets(file)
    before = secrets.password("nova")
    assert not file.parent.exists()
    secrets.keep()
    after = secrets.password("glance")
    assert json.loads(file.read_text()) == {"nova": before, "glance": after}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["secrets.json"]
    assert Secrets(file).password("nova") == before


def test_the_file_is_only_its_owner_s_also_when_an_older_one_was_not(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    for name in ("secrets.json", "secrets.new"):
        (tmp_path / name).write_text("{}")
        (tmp_path / name).chmod(0o644)
    secrets = Secrets(file)
    secrets.keep()
    secrets.password("nova")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_guide_s_value_and_given_ones(tmp_path: Path) -> None:
    """000000 is used for every password, even for those generated before, but not for keys."""
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"glance": "generated"}))
    secrets = Secrets(file, fixed="000000", given={"admin": "chosen"})
    assert secrets.password("nova") == secrets.password("glance") == "000000"
    assert secrets.password("admin") == "chosen"
    secrets.keep()
    key = secrets.key("fernet")
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert Secrets(file, fixed="000000").key("fernet") == key


def test_what_the_user_gives_wins_over_what_was_generated(tmp_path: Path) -> None:
    first = Secrets(tmp_path / "secrets.json")
    first.keep()
    first.password("nova")
    assert Secrets(tmp_path / "secrets.json", given={"nova": "chosen"}).password("nova") == "chosen"


def test_every_secret_is_masked(tmp_path: Path) -> None:
    """A generated one, one from the file, a given one."""
    (tmp_path / "secrets.json").write_text(json.dumps({"old": "kept-before"}))
    secrets = Secrets(tmp_path / "secrets.json", given={"admin": "chosen"})
    made = secrets.password("nova")
    assert redact(f"mysql://nova:{made}@one kept-before chosen") == f"mysql://nova:{MASK}@one {MASK} {MASK}"


def test_the_longest_secret_is_masked_first() -> None:
    """Else the rest of a secret that begins with another would be shown."""
    redactor = Redactor()
    for value in ("abc", "abcdef", "def", ""):
        redactor.add(value)
    assert redactor("abcdef abc xdefx") == f"{MASK} {MASK} x{MASK}x"
    assert redactor("nothing here") == "nothing here"
    assert redactor.values() == ["abc", "abcdef", "def"]


@pytest.mark.parametrize(
    ("wanted", "found", "shown"),
    [
        ("'kept-inside'", "'set by hand'", "another (******)"),
        ("'db://nova:kept-inside@host/nova'", "'db://nova:by-hand@other/nova'", "'db://nova:******@other/nova'"),
        ("'kept-inside'", "not set", "not set"),
        ("'no secret'", "'db'", "'db'"),
    ],
)
def test_value_found_in_a_secret_s_place_is_a_secret(wanted: str, found: str, shown: str) -> None:
    redact.add("kept-inside")
    assert Difference("option", wanted, found).found == shown


def test_diff_hides_what_a_secret_takes_the_place_of() -> None:
    redact.add("kept-inside")
    before = "[a]\npassword = by-hand\nconnection = db://nova:by-hand@host\nport = 1\n"
    after = "[a]\npassword = kept-inside\nconnection = db://nova:kept-inside@host\nport = 2\n"
    diff = unified_diff("/etc/some.conf", before, after)
    assert "by-hand" not in diff
    assert "-password = ******\n" in diff
    assert "-connection = db://nova:******@host\n" in diff
    assert "-port = 1\n" in diff


def test_secrets_that_another_run_has_made_meanwhile_are_seen(tmp_path: Path) -> None:
    """Whoever read the file before would write it as it was, without a key that something is encrypted with."""
    file = tmp_path / "secrets.json"
    early, late = Secrets(file), Secrets(file)
    assert not late.is_stale()
    early.keep()
    early.key("barbican")
    assert late.is_stale()
    assert not early.is_stale()
    assert not Secrets(file).is_stale()
