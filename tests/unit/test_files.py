"""Files, directories, lines in files and their access: what differs and is changed, and that nothing is left then."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from stackspec.resources import Access, Directory, File, Lines
from stackspec.resources.actions import MakeDirectory, Write
from stackspec.resources.base import file
from stackspec.site import Site

from .bare import ChangeOf, actions, change_of, differences, made, text_file


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
