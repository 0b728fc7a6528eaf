"""`stackspec test`: run the cloud tests, from a clone or from the installed package."""

from __future__ import annotations

import argparse
import difflib
import importlib.resources
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

FOLDERS = ("infra", "api", "e2e")
"""Tests of the nodes, of each service's API, and of what users do with a cloud."""
NAMED = ("outage", "errata")
"""Tests that run only when named: a power loss takes down the site for all its users; errata are about the guide."""


def home() -> Path:
    """The parent folder of `tests`: the clone, or the installed package."""
    return Path(str(importlib.resources.files("stackspec.tests"))).parent


def is_clone() -> bool:
    """Whether stackspec runs from a clone, which has `./run`."""
    return (home() / "run").is_file()


def command(nodeid: str = "") -> str:
    """The command to run tests here, for messages: tests first, then options.

    :param nodeid: a test, possibly the user's own
    """
    if is_clone():
        return "./run"
    return "stackspec test" if not nodeid or (home() / nodeid.split("::")[0]).is_file() else "pytest"


def name_of(path: Path, rootdir: Path) -> str | None:
    """The name of a test file in node ids: `tests/api/test_image.py`, whatever the current folder.

    Otherwise pytest names a file outside rootdir by its last part only, which is ambiguous.

    :param rootdir: pytest's rootdir, to which node ids are relative
    :returns: None if pytest already uses that name, and for other files
    """
    here = home()
    return path.relative_to(here).as_posix() if rootdir != here and path.is_relative_to(here / "tests") else None


def runs_only_when_named(path: Path, arguments: Sequence[str], folder: Path) -> bool:
    """Whether a run leaves out a folder: its tests run only when named, and the command line names none of them.

    :param path: the folder
    :param arguments: paths or modules from pytest's command line
    :param folder: the folder to which paths are relative
    """
    if path not in [home() / "tests" / name for name in NAMED]:
        return False
    return not any(each.is_relative_to(path) for each in named_paths(arguments, folder))


def named_paths(arguments: Sequence[str], folder: Path) -> list[Path]:
    """The files and folders of tests that a command line names; a module's file is without its suffix.

    :param arguments: paths or modules from pytest's command line
    :param folder: the folder to which paths are relative
    """
    words = [each.split("::")[0] for each in arguments]
    modules = [home().joinpath(*each.split(".")[1:]) for each in words if each.startswith("stackspec.tests")]
    return [*modules, *(folder / word for word in words)]


def arguments(words: Sequence[str]) -> list[str]:
    """pytest's arguments for tests as users name them, followed by pytest options.

    :param words: such as `api`, `tests/api/test_image.py`, `api/test_image.py::test_upload`; none means all
    :raises InputError: there is no such test file; with a suggestion
    """
    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    tests = [each for word in words[:count] for each in (FOLDERS if word in ("tests", "tests/") else (word,))]
    return ["--pyargs", *map(_module, tests or FOLDERS), *words[count:]]


def _module(word: str) -> str:
    """The module of a test file or folder, with the rest of the node id."""
    file, *names = word.split("::")
    parts = [part for part in file.removeprefix("tests/").split("/") if part]
    path = (home() / "tests").joinpath(*parts)
    if not parts or parts[0] not in (*FOLDERS, *NAMED) or ".." in parts or not path.exists():
        files = [each.relative_to(home() / "tests").as_posix() for each in _files()]
        near = difflib.get_close_matches("/".join(parts), [*FOLDERS, *NAMED, *files], 1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(FOLDERS)}, or a file in them"
        raise InputError(f"{word}: stackspec has no such tests; {hint} (pytest options come after the tests)")
    return "::".join([".".join(["stackspec.tests", *parts]).removesuffix(".py"), *names])


def _files() -> list[Path]:
    return sorted(file for folder in FOLDERS for file in (home() / "tests" / folder).glob("test_*.py"))


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command `test` to a command line, only for its help: `run` takes the raw arguments."""
    text = "run the cloud tests with pytest; with --deploy, first install what they need"
    parser = subparsers.add_parser(
        "test",
        help=text,
        description=f"{text}.",
        usage="stackspec test [TEST ...] [OPTION OF PYTEST ...]",
        epilog="`pytest --help` lists the options; those of stackspec: 'install OpenStack and prove that it works'.",
    )
    parser.add_argument(
        "TEST", nargs="*", help="infra, api, e2e, outage, errata, a file, or a node id (default: infra, api, e2e)"
    )
    return parser


def run(words: Sequence[str]) -> int:
    """Run `stackspec test`: this process becomes pytest.

    :param words: tests, then options of pytest
    :raises InputError: there are no such tests
    """
    sys.stdout.flush()
    # Not pytest.main: already imported modules would lack assertion rewriting.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", "-ra", *arguments(words)])
