"""Options of an ini file as a resource: each difference names its option, and the rest of the file stays."""

from __future__ import annotations

from stackspec.openstack import Id
from stackspec.resources import IniFile
from stackspec.resources.base import file

from .bare import ChangeOf, differences, made, text_file


class TestIniFile:
    """Options of an ini file."""

    text = "[DEFAULT]\nlog_dir = /var/log\n\n[auth]\nregion = regionOne\n"

    def test_options(self, change: ChangeOf) -> None:
        """Each difference names the option; the rest of the file and its mode stay."""
        known = {file("/etc/c"): text_file(self.text, mode=0o640)}
        resource = IniFile("/etc/c", {"DEFAULT": {"log_dir": None, "n": 3}, "auth": {"url": "http://c"}}, own=("auth",))
        found = change(resource, known)
        assert differences(found) == [
            "[DEFAULT] log_dir: wanted not set, found '/var/log'",
            "[DEFAULT] n: wanted '3', found not set",
            "[auth] url: wanted 'http://c', found not set",
            "[auth] region: wanted not set, found 'regionOne'",
        ]
        assert found.actions[0].mode is None
        assert change(resource, made(known, found)) is None

    def test_true_is_written_in_the_style_of_oslo(self, change: ChangeOf) -> None:
        """Not as Python's True."""
        assert change(IniFile("/etc/c", {"a": {"x": True}})).actions[0].content == "[a]\nx = true\n"

    def test_new_file(self, change: ChangeOf) -> None:
        """Not readable by everybody: it may contain passwords."""
        found = change(IniFile("/etc/c", {"a": {"x": 1}}))
        assert found.actions[0].mode == 0o640
        assert change(IniFile("/etc/c", {"a": {"x": 1}}), made({}, found)) is None

    def test_reference(self, change: ChangeOf) -> None:
        """Unknown references are shown as unknown, and no wrong value is written for them."""
        found = change(IniFile("/etc/c", {"a": {"id": Id("network", "n"), "x": 1}}))
        assert "[a] id: wanted (known after apply), found not set" in differences(found)
        assert found.actions[0].content == "[a]\nx = 1\n"
