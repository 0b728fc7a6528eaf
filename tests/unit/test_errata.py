"""docs/errata.md: each entry names the tests and faults that tried it on a deployed cloud, or says why none did."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from stackspec.fault_injection.fault import catalogue

ROOT = Path(__file__).parents[2]


def entries() -> dict[str, str]:
    """Number -> the entry's text."""
    parts = re.split(r"^### (E\d+)$", (ROOT / "docs" / "errata.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


ENTRIES = entries()
LINE = re.compile(r"^- \*\*(Tried|Checked|Not tried):\*\* (\S.*\.)$", re.MULTILINE)
FAULTS = {each.name: each.erratum for each in catalogue().values() if each.erratum}


@functools.cache
def functions(path: str) -> dict[str, str]:
    """Test function -> its text, with its parameters."""
    text = (ROOT / path).read_text()
    found = {}
    for each in ast.parse(text).body:
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_"):
            first = min([each.lineno, *(decorator.lineno for decorator in each.decorator_list)])
            found[each.name] = "\n".join(text.splitlines()[first - 1 : each.end_lineno])
    return found


@pytest.mark.parametrize("number", ENTRIES)
def test_entry_says_how_it_was_tried(number: str) -> None:
    lines = LINE.findall(ENTRIES[number])
    assert len(lines) == 1, f"{number}: wanted one line, Tried, Checked or Not tried; found {lines}"
    ((how, what),) = lines
    names = re.findall(r"`([^`]*)`", what)
    for name in names:
        path, _, test = name.partition("::")
        if test:
            assert test in functions(path), f"{number}: {path} has no test {test}"
            if how == "Tried":
                assert re.search(rf"\b{number}\b", functions(path)[test]), f"{name} does not name {number}"
        else:
            assert FAULTS.get(name) == number, f"{name} is no fault of {number}"
    assert names or how == "Not tried", f"{number} names no test and no fault"


def test_entry_names_its_test() -> None:
    for name, number in FAULTS.items():
        assert f"`{name}`" in ENTRIES[number], f"{number} does not name the fault {name}"
    for file in sorted((ROOT / "tests" / "errata").glob("test_*.py")):
        path = file.relative_to(ROOT).as_posix()
        for test, text in functions(path).items():
            numbers = re.findall(r"\bE\d+\b", text)
            assert numbers, f"{path}::{test} names no erratum"
            for number in numbers:
                assert f"`{path}::{test}`" in ENTRIES[number], f"{number} does not name {path}::{test}"
