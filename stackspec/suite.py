"""`stackspec test`: the tests of a cloud, wherever they are: in a clone, or inside the installed package."""

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
"""Tests that run only when they are named: of a site that loses its power, and of the guide's own wording."""


def home() -> Path:
    """The folder in which `tests` is: the clone, or the installed package."""
    return Path(str(importlib.resources.files("stackspec.tests"))).parent


def is_clone() -> bool:
    """Whether stackspec runs from a clone, which has the command `./run`."""
    return (home() / "run").is_file()


def command(nodeid: str = "") -> str:
    """How a user runs tests here, as messages say it; what it is to run comes first, options after that.

    :param nodeid: a test, which may be one of the user's own
    """
    if is_clone():
        return "./run"
    return "stackspec test" if not nodeid or (home() / nodeid.split("::")[0]).is_file() else "pytest"


def name_of(path: Path, rootdir: Path) -> str | None:
    """What a test file of the suite is called in node ids: `tests/api/test_image.py`, from whatever folder it is run.

    Without this pytest names a file of another folder by its last part only, which several files have in common.

    :param rootdir: pytest's, which is where node ids begin
    :returns: None where pytest calls it so by itself, and for other files
    """
    here = home()
    return path.relative_to(here).as_posix() if rootdir != here and path.is_relative_to(here / "tests") else None


def arguments(words: Sequence[str]) -> list[str]:
    """The arguments of pytest for tests as users name them, followed by any options of pytest.

    :param words: such as `api`, `tests/api/test_image.py`, `api/test_image.py::test_upload`; none means all
    :raises InputError: there is no such test file, with the one that was meant
    """
    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    tests = [each for word in words[:count] for each in (FOLDERS if word in ("tests", "tests/") else (word,))]
    return ["--pyargs", *map(_module, tests or FOLDERS), *words[count:]]


def _module(word: str) -> str:
    """The module of a test file or a folder of them, with what follows its name."""
    file, *names = word.split("::")
    parts = [part for part in file.removeprefix("tests/").split("/") if part]
    path = (home() / "tests").joinpath(*parts)
    if not parts or parts[0] not in (*FOLDERS, *NAMED) or ".." in parts or not path.exists():
        files = [each.relative_to(home() / "tests").as_posix() for each in _files()]
        near = difflib.get_close_matches("/".join(parts), [*FOLDERS, *NAMED, *files], 1)
        hint = f"did you mean {near[0]}?" if near else f"name {', '.join(FOLDERS)}, or a file of them"
        raise InputError(f"{word}: stackspec has no such tests; {hint} (options of pytest come after the tests)")
    return "::".join([".".join(["stackspec.tests", *parts]).removesuffix(".py"), *names])


def _files() -> list[Path]:
    return sorted(file for folder in FOLDERS for file in (home() / "tests" / folder).glob("test_*.py"))


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command `test` to a command line, for its help: `run` takes its words as they are."""
    text = "run the tests of a cloud with pytest; with --deploy, install first what they need"
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
    """Carry out `stackspec test`: this process becomes pytest.

    :param words: tests, then options of pytest
    :raises InputError: there are no such tests
    """
    sys.stdout.flush()
    # Not by pytest.main: modules that are imported already would keep assertions that say nothing.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", "-ra", *arguments(words)])
