"""`stackspec test` accepts short test names and the names used in reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec import suite
from stackspec.commands.cli import main
from stackspec.errors import InputError
from stackspec.fault_injection.fault import catalogue
from stackspec.fault_injection.run import selection


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("", "stackspec.tests.infra stackspec.tests.api stackspec.tests.e2e"),
        ("api", "stackspec.tests.api"),
        ("tests/e2e/", "stackspec.tests.e2e"),
        ("tests/", "stackspec.tests.infra stackspec.tests.api stackspec.tests.e2e"),
        ("api/test_image.py", "stackspec.tests.api.test_image"),
        ("tests/api/test_image.py::test_a[x/y.py]", "stackspec.tests.api.test_image::test_a[x/y.py]"),
        ("api -k infra --deploy e2e", "stackspec.tests.api -k infra --deploy e2e"),
        ("--plan -m smoke", "stackspec.tests.infra stackspec.tests.api stackspec.tests.e2e --plan -m smoke"),
    ],
)
def test_names_before_the_first_option_become_modules(words: str, arguments: str) -> None:
    assert suite.arguments(words.split()) == ["--pyargs", *arguments.split()]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("api/test_imagge.py", "did you mean api/test_image.py?"),
        ("aip", "did you mean api?"),
        ("nova", "use infra, api, e2e, or a file in them"),
        ("unit", "use infra, api, e2e"),
        ("api/../unit", "use infra, api, e2e"),
        ("/etc", "use infra, api, e2e"),
    ],
)
def test_unknown_tests_are_refused(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", word]) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"stackspec: {word}: stackspec has no such tests; ")
    assert hint in error


def test_every_fault_names_existing_tests() -> None:
    for fault in catalogue().values():
        for everything in (False, True):
            suite.arguments(selection(fault, everything))
    with pytest.raises(InputError, match="no such tests"):
        suite.arguments(["tests/infra/test_gone.py"])


def test_names_are_the_same_from_any_folder(tmp_path: Path) -> None:
    file = suite.home() / "tests/api/test_image.py"
    assert suite.name_of(file, suite.home()) is None, "pytest finds the name by itself"
    assert suite.name_of(file, tmp_path) == "tests/api/test_image.py"
    assert suite.name_of(file, suite.home().parent) == "tests/api/test_image.py"
    assert suite.name_of(tmp_path / "tests/api/test_image.py", tmp_path / "other") is None


@pytest.mark.parametrize(
    ("clone", "nodeid", "command"),
    [
        (True, "tests/api/test_image.py::test_a", "./run"),
        (True, "mine/test_a.py::test_a", "./run"),
        (False, "", "stackspec test"),
        (False, "tests/api/test_image.py::test_a", "stackspec test"),
        (False, "mine/test_a.py::test_a", "pytest"),
    ],
)
def test_messages_name_the_available_command(
    clone: bool, nodeid: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "is_clone", lambda: clone)
    assert suite.command(nodeid) == command
