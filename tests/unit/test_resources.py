"""Files, packages and commands: what is detected, what is changed, and that nothing is left to change afterwards."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from stackspec.openstack import Id
from stackspec.resources import Access, Command, Directory, File, IniFile, Lines, Packages, Service
from stackspec.resources.actions import Apt, MakeDirectory, Write
from stackspec.resources.base import file, package, unit
from stackspec.site import Site

from .bare import RUNNING, ChangeOf, actions, answer, change_of, differences, look, made, text_file


class TestFile:
    """A file with exactly this content."""

    resource = File("/etc/a", "one\ntwo\n", mode=0o600)

    def test_missing_file(self, change: ChangeOf) -> None:
        """It is written as a whole, with mode and owner, and services that read it restart."""
        found = change(self.resource)
        assert found.actions[0].content == "one\ntwo\n"
        assert (found.actions[0].mode, found.actions[0].owner) == (0o600, "root")
        assert found.touches == ("/etc/a",)
        assert change(self.resource, made({}, found)) is None

    def test_different_content(self, change: ChangeOf) -> None:
        """The diff shows both."""
        known = {file("/etc/a"): text_file("one\n2\n", mode=0o600)}
        found = change(self.resource, known)
        assert {"-2\n", "+two\n"} <= set(found.diff.splitlines(keepends=True))
        assert change(self.resource, made(known, found)) is None

    @pytest.mark.parametrize(
        ("attribute", "message"),
        [
            ({"mode": 0o644}, "mode: wanted 0600, found 0644"),
            ({"owner": "nova"}, "owner: wanted root, found nova"),
            ({"group": "nova"}, "group: wanted root, found nova"),
        ],
    )
    def test_different_attribute(self, change: ChangeOf, attribute: dict[str, Any], message: str) -> None:
        """Only that attribute is a difference."""
        known = {file("/etc/a"): text_file(self.resource.content, **{"mode": 0o600, **attribute})}
        found = change(self.resource, known)
        assert differences(found) == [message]
        assert found.diff == ""
        assert change(self.resource, made(known, found)) is None

    def test_path_of_the_release(self, site: Site) -> None:
        """The guide's path is different in some release."""
        site = replace(site, release=site.release.model_copy(update={"paths": {"/etc/a": "/etc/b"}}))
        assert actions(change_of(self.resource, site))[0].path == "/etc/b"


class TestDirectory:
    """A directory with mode and owner."""

    def test_missing_directory_is_created(self, change: ChangeOf) -> None:
        """Created, then found."""
        found = change(Directory("/srv/a", 0o750, "nova", "nova"))
        assert found.actions == (MakeDirectory("/srv/a", 0o750, "nova", "nova"),)
        assert change(Directory("/srv/a", 0o750, "nova", "nova"), made({}, found)) is None

    def test_mode(self, change: ChangeOf) -> None:
        """Other users can read the directory."""
        known = {file("/srv/a"): text_file("", kind="directory", mode=0o755)}
        assert differences(change(Directory("/srv/a", 0o700), known)) == ["mode: wanted 0700, found 0755"]


class TestLines:
    """Lines that must be in a file."""

    def test_line_is_replaced_in_place(self, change: ChangeOf) -> None:
        """Comments around it stay."""
        known = {file("/etc/m"): text_file("# a\n-l 127.0.0.1\n# b\n")}
        resource = Lines("/etc/m", ("-l 10.0.0.10",), replaces=r"^-l\s")
        found = change(resource, known)
        assert found.actions[0].content == "# a\n-l 10.0.0.10\n# b\n"
        assert differences(found) == [
            "line: wanted '-l 10.0.0.10', found absent",
            "line: wanted absent, found '-l 127.0.0.1'",
        ]
        assert change(resource, made(known, found)) is None

    def test_appended(self, change: ChangeOf) -> None:
        """If nothing is replaced."""
        known = {file("/etc/m"): text_file("# a\n")}
        assert change(Lines("/etc/m", ("x", "y")), known).actions[0].content == "# a\nx\ny\n"

    def test_mode_of_the_file_is_kept(self, change: ChangeOf) -> None:
        """The package's file keeps its mode and owner."""
        known = {file("/etc/m"): text_file("", mode=0o640, group="nova")}
        assert change(Lines("/etc/m", ("x",)), known).actions == (Write("/etc/m", "x\n"),)

    def test_any_file(self, change: ChangeOf) -> None:
        """Declared lines are in it, replaced ones are gone, the rest is unchanged, and a second run changes nothing."""
        for seed in range(500):
            chance = random.Random(seed)
            text = "".join(
                f"{line}\n" for line in chance.choices(["a", "b", "# x", "k 1", "k 2", ""], k=chance.randint(0, 9))
            )
            wanted = tuple(chance.sample(["a", "c", "k 1", "k 3"], chance.randint(1, 3)))
            resource = Lines("/etc/m", wanted, replaces=chance.choice(["", r"^k\b"]))
            known = {file("/etc/m"): text_file(text)}
            found = change(resource, known)
            if found is None:
                continue
            after = found.actions[0].content.splitlines()
            before = text.splitlines()
            assert set(wanted) <= set(after)
            kept = [line for line in before if line not in wanted and not (resource.replaces and line[:1] == "k")]
            assert [line for line in after if line not in wanted] == kept
            assert change(resource, made(known, found)) is None


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


class TestPackages:
    """Packages of the release."""

    def test_missing_packages(self, change: ChangeOf) -> None:
        """Under the release's names, and only the missing ones."""
        resource = Packages("glance", "neutron-server")
        known = {package("neutron-api"): "1.0"}
        found = change(resource, known)
        assert found.actions == (Apt(("glance-api", "neutron-rpc-server")),)
        assert change(resource, made(known, found)) is None

    def test_later_resources_are_read_again(self) -> None:
        """Files that a package installs do not exist before."""
        assert Packages.read_again


class TestCommand:
    """A command that runs until its effect exists."""

    def test_creates(self, change: ChangeOf) -> None:
        """Due if the file does not exist."""
        resource = Command(("make", "keys"), creates="/etc/keys/0", user="keystone")
        found = change(resource)
        assert (found.actions[0].argv, found.actions[0].user) == (("make", "keys"), "keystone")
        assert change(resource, {file("/etc/keys/0"): text_file("")}) is None

    def test_unless(self, change: ChangeOf, site: Site) -> None:
        """Due if the guard does not exit with 0."""
        resource = Command(("hostname", "a"), unless=("test", "a"), unless_stdin="x")
        (query,) = resource.queries(site, site.controller)
        assert change(resource, {query: answer(status=1)}) is not None
        assert change(resource, {query: answer()}) is None

    def test_command_without_a_guard_is_refused(self) -> None:
        """It would run at every deployment."""
        with pytest.raises(ValueError, match="creates= or unless="):
            Command(("date",))

    def test_secrets_are_not_shown(self, change: ChangeOf) -> None:
        """Neither input nor environment is in its printed form."""
        resource = Command(("a",), creates="/b", stdin="hidden", env={"PASSWORD": "hidden"})
        found = change(resource)
        assert "hidden" not in repr(resource) + found.title + repr(found.differences)
        assert (found.actions[0].stdin, found.actions[0].env) == ("hidden", {"PASSWORD": "hidden"})

    @pytest.mark.parametrize(("restarts", "expected"), [(True, 1), (False, 0)])
    def test_restarts(self, site: Site, restarts: bool, expected: int) -> None:
        """Services of the step restart after it, if it says so."""
        resource = Command(("a",), creates="/b", restarts=restarts)
        _, service = look(site, [resource, Service("etcd")], {unit("etcd"): RUNNING})
        assert len(service.changes) == expected


class TestAccess:
    """Mode and owner of files that a package created."""

    resource = Access(("/etc/a", "/etc/b"), group="swift")

    def test_only_the_wrong_file_is_changed(self, change: ChangeOf) -> None:
        """One file is correct, the other is readable by everybody."""
        known = {
            file("/etc/a"): text_file("", mode=0o640, group="swift"),
            file("/etc/b"): text_file("", mode=0o644, group="swift"),
        }
        made = change(self.resource, known)
        assert differences(made) == ["/etc/b: mode: wanted 0640, found 0644"]
        assert [action.argv for action in made.actions] == [
            ("chown", "root:swift", "/etc/b"),
            ("chmod", "0640", "/etc/b"),
        ]

    def test_correct_access_changes_nothing(self, change: ChangeOf) -> None:
        """Nothing to do."""
        known = {file(path): text_file("", mode=0o640, group="swift") for path in self.resource.files}
        assert change(self.resource, known) is None
