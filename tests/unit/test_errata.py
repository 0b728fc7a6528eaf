"""docs/errata.md: each entry that says "does not work" says where it was tried, or why it was not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackspec.fault_injection.fault import catalogue

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "tests" / "errata" / "test_commands.py"


def entries() -> dict[str, str]:
    """Number -> the entry's text."""
    parts = re.split(r"^### (E\d+)$", (ROOT / "docs" / "errata.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


ENTRIES = entries()
TRIED = re.compile(r"^- \*\*Tried:\*\* (.*)$", re.MULTILINE)
NOT_TRIED = re.compile(r"^- \*\*Not tried:\*\* \S.*$", re.MULTILINE)
FAULTS = {each.name: each.erratum for each in catalogue().values() if each.erratum}


@pytest.mark.parametrize("number", ENTRIES)
def test_bug_was_tried_or_has_a_reason(number: str) -> None:
    tried, untried = TRIED.findall(ENTRIES[number]), NOT_TRIED.findall(ENTRIES[number])
    if re.search(r"^- \*\*Guide\*\* \([^)]*; bug\)", ENTRIES[number], re.MULTILINE):
        assert len(tried) + len(untried) == 1, f"{number}: tried {tried}, not tried {untried}"
    for name in re.findall(r"`([^`]*)`", " ".join(tried)):
        if name.startswith("tests/"):
            assert re.search(rf"\b{number}\b", (ROOT / name).read_text()), f"{name} does not name {number}"
        else:
            assert FAULTS.get(name) == number, f"{name} is no fault of {number}"


def test_entry_names_its_test() -> None:
    for name, number in FAULTS.items():
        assert f"`{name}`" in ENTRIES[number], f"{number} does not name the fault {name}"
    for number in re.findall(r"\bE\d+\b", COMMANDS.read_text()):
        assert "`tests/errata/test_commands.py`" in ENTRIES[number], f"{number} does not name its test"
