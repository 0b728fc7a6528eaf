"""Comparing two runs: installed versions, changes, outcomes and durations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stackspec.commands.cli import main
from stackspec.report.compare import differences
from stackspec.report.model import RunReport

TEST = "tests/api/test_image.py::test_upload"


def events(outcome: str = "passed", version: str = "1", seconds: float = 2.0, changes: int = 0) -> list[dict[str, Any]]:
    return [
        {"event": "run", "time": 1.0, "run": "ss", "site": "lab", "python": "3.11", "versions": {"pytest": "8"}},
        {"event": "step", "step": "nova", "node": "one", "state": "done", "seconds": 60.0, "changes": ["x"] * changes},
        {"event": "test", "nodeid": TEST, "outcome": outcome, "seconds": seconds, "reason": ""},
        {"event": "versions", "node": "one", "os": "Debian", "kernel": "6", "packages": {"nova-api": version}},
        {"event": "end", "exit_status": 0},
    ]


def compared(**changed: Any) -> list[str]:
    return list(differences(RunReport.of(events()), RunReport.of(events(**changed))))


def test_equal_runs_have_no_difference() -> None:
    assert compared() == []
    assert compared(seconds=9.0) == [], "a few seconds are no news"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"version": "2"}, "one: nova-api: 1 -> 2"),
        ({"outcome": "failed"}, f"{TEST}: passed -> failed"),
        ({"seconds": 30.0}, f"{TEST}: 2.0 s -> 30.0 s"),
        ({"changes": 3}, "nova on one: done, 0 changes -> done, 3 changes"),
    ],
)
def test_difference_is_one_line(changed: dict[str, Any], line: str) -> None:
    assert compared(**changed) == [line]


def test_item_of_only_one_run_is_absent_in_the_other() -> None:
    fewer = [event for event in events() if event["event"] != "test"]
    assert list(differences(RunReport.of(fewer), RunReport.of(events()))) == [f"{TEST}: absent -> passed"]


def test_command_prints_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name, lines in (("a", events()), ("b", events(version="2"))):
        files.append(tmp_path / name / "events.jsonl")
        files[-1].parent.mkdir()
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["compare", *map(str, files)]) == 1
    assert capsys.readouterr().out == "one: nova-api: 1 -> 2\n"
    assert main(["compare", str(files[0]), str(files[0])]) == 0
    assert capsys.readouterr().out == "no differences\n"
    assert main(["compare", str(files[0]), str(tmp_path / "none")]) == 4
