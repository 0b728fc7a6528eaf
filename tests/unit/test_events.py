"""The record of a run: complete lines, no secrets, and lookup of runs."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from stackspec.errors import InputError
from stackspec.report.events import FILE, EventLog, find_run, forget_runs, latest_run, read
from stackspec.secrets import redact

NASTY = "p\"w\\d'<&>\tend-of-it"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(redact, "_values", set())


def test_nothing_exists_before_the_first_event(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "runs" / "r1" / "events.jsonl")
    assert log.read() == []
    assert not (tmp_path / "runs").exists()


def test_event_has_a_time_and_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write({"event": "step", "step": "nova", "changes": [{"title": "a", "diff": "ä\n+b"}]})
    (event,) = log.read()
    assert event["changes"] == [{"title": "a", "diff": "ä\n+b"}]
    assert event["time"] > 1e9
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_given_time_is_kept(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write({"event": "step", "time": 5.0})
    assert log.read()[0]["time"] == 5.0


@pytest.mark.parametrize("secret", ["a1b2c3d4e5f6a7b8c9d0e1f2", NASTY, "zwölf&Äpfel", "line one 1\nline two 22"])
def test_no_form_of_a_secret_is_written(tmp_path: Path, secret: str) -> None:
    redact.add(secret)
    log = EventLog(tmp_path / "events.jsonl")
    log.write(
        {
            "event": "says",
            "text": f"url mysql://u:{secret}@db",
            "nested": [{"deep": (secret, repr(secret))}],
            secret: "as a key",
            "json in a text": json.dumps({"password": secret}),
        }
    )
    raw = log.path.read_text()
    (event,) = log.read()
    for form in (secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret)[1:-1])[1:-1], repr(secret)[1:-1]):
        assert form not in raw
    assert secret not in str(event)
    assert "mysql://u:******@db" in event["text"]


def test_numbers_stay_when_the_guides_password_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_values", {"000000"})
    log = EventLog(tmp_path / "events.jsonl")
    log.write({"event": "step", "seconds": 1000000, "text": "password 000000"})
    assert log.read()[0]["seconds"] == 1000000
    assert log.read()[0]["text"] == "password ******"


def test_lines_of_many_threads_are_complete(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")

    def write(thread: int) -> None:
        for count in range(40):
            log.write({"event": "says", "thread": thread, "count": count, "text": "x" * 3000})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {(event["thread"], event["count"]) for event in log.read()}
    assert len(found) == 320


def test_partial_line_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.write({"event": "step", "step": "one"})
    with path.open("a") as stream:
        stream.write('{"event": "step", "st')
    assert [event["step"] for event in read(path)] == ["one"]
    log.write({"event": "step", "step": "two"})
    assert [event["step"] for event in read(path)] == ["one", "two"]


def test_lines_that_are_not_events_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'[1]\nnull\n{"time": 1}\n\xff\xfe\n{"event": "end"}\n')
    assert read(path) == [{"event": "end"}]


def test_run_is_found_by_id_by_path_and_as_the_latest(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first, second = state / "runs/r1" / FILE, state / "sites/lab/runs/r2" / FILE
    for age, path in enumerate((first, second)):
        EventLog(path).write({"event": "run"})
        os.utime(path, (age + 1, age + 1))
    assert latest_run() == find_run(None) == find_run("r2") == second
    assert find_run("r1") == find_run(str(first)) == find_run(str(first.parent)) == first


def test_unknown_run_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no run has left events"):
        find_run(None)
    with pytest.raises(InputError, match="no run r9"):
        find_run("r9")


def test_old_runs_are_deleted_unless_active(tmp_path: Path) -> None:
    now = time.time()
    for name, age in (("old", 31), ("old-at-work", 31), ("young", 29)):
        EventLog(tmp_path / name / FILE).write({"event": "run"})
        os.utime(tmp_path / name / FILE, (now, now - age * 24 * 3600))
    (tmp_path / "no-run").mkdir()
    assert forget_runs(tmp_path, 0, ()) == []
    assert forget_runs(tmp_path, 30, {"old-at-work"}) == ["old"]
    assert {each.name for each in tmp_path.iterdir()} == {"old-at-work", "young", "no-run"}
