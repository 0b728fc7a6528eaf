"""Secrets are generated once, kept in a file that only the owner can read, and masked in all output."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from stackspec.resources.base import Difference, unified_diff
from stackspec.secrets import MASK, Redactor, Secrets, redact

pytestmark = pytest.mark.usefixtures("no_traces")


def test_secret_is_generated_once(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    first = secrets.password("nova")
    assert secrets.password("nova") == first
    assert secrets.password("glance") != first
    assert first.isalnum()
    assert len(first) == 24
    assert len(base64.urlsafe_b64decode(secrets.key("fernet"))) == 32


def test_nothing_is_written_until_secrets_are_saved(tmp_path: Path) -> None:
    """Collecting and planning need values, but must not write files."""
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


def test_file_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    for name in ("secrets.json", "secrets.new"):
        (tmp_path / name).write_text("{}")
        (tmp_path / name).chmod(0o644)
    secrets = Secrets(file)
    secrets.keep()
    secrets.password("nova")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_guide_password_and_given_secrets(tmp_path: Path) -> None:
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


def test_given_secret_overrides_a_generated_one(tmp_path: Path) -> None:
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


def test_longest_secret_is_masked_first() -> None:
    """Otherwise the rest of a secret that starts with another one would be shown."""
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
def test_value_in_place_of_a_secret_is_masked(wanted: str, found: str, shown: str) -> None:
    redact.add("kept-inside")
    assert Difference("option", wanted, found).found == shown


def test_diff_masks_the_value_that_a_secret_replaces() -> None:
    redact.add("kept-inside")
    before = "[a]\npassword = by-hand\nconnection = db://nova:by-hand@host\nport = 1\n"
    after = "[a]\npassword = kept-inside\nconnection = db://nova:kept-inside@host\nport = 2\n"
    diff = unified_diff("/etc/some.conf", before, after)
    assert "by-hand" not in diff
    assert "-password = ******\n" in diff
    assert "-connection = db://nova:******@host\n" in diff
    assert "-port = 1\n" in diff


def test_secrets_of_a_concurrent_run_are_kept(tmp_path: Path) -> None:
    """A process with an older copy would overwrite the file, and lose a key that data is encrypted with."""
    file = tmp_path / "secrets.json"
    early, late = Secrets(file), Secrets(file)
    assert not late.is_stale()
    early.keep()
    early.key("barbican")
    assert late.is_stale()
    assert not early.is_stale()
    assert not Secrets(file).is_stale()


def test_document_is_created_once(tmp_path: Path) -> None:
    """Kept as long as it is usable, also by the next process."""
    count = iter(range(9))
    secrets = Secrets(tmp_path / "secrets.json")
    secrets.keep()

    def text(usable: bool = True) -> str:
        return secrets.document("d", lambda: f"document {next(count)}\nwith lines\n", lambda found: usable)

    assert (text(), text(), text(False), text()) == tuple(f"document {n}\nwith lines\n" for n in (0, 0, 1, 1))
    assert Secrets(tmp_path / "secrets.json").document("d", str, bool) == "document 1\nwith lines\n"


def test_lines_are_masked() -> None:
    """A diff puts a mark before each line; the first and last lines of a key are not secret."""
    body = ["c2VjcmV0c2VjcmV0c2VjcmV0" + str(number) for number in range(3)]
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *body, "short", "-----END PRIVATE KEY-----"])
    redactor = Redactor()
    redactor.add(key)
    shown = redactor("\n".join(f"+{line}" for line in key.splitlines()))
    assert not [line for line in body if line in shown]
    assert "BEGIN PRIVATE KEY" in shown
    assert "short" in redactor("a short word")


def test_tokens_are_masked() -> None:
    """Those of keystone and of a console."""
    token = "gAAAAA" + "aB3_-" * 30 + "=="
    text = redact(f"X-Auth-Token: {token} http://c:6080/vnc?path=%3F&token=0a1b2c3d-1111-2222-3333-444455556666")
    assert token not in text
    assert "0a1b2c3d" not in text
