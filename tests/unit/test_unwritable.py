"""Full disk or closed terminal: the run ends cleanly and says why; nothing waits forever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stackspec.engine import Event
from stackspec.lines import append_line
from stackspec.site import Site

from . import engine_runs
from .engine_runs import command, declare, deploy, log, states
from .plugin_runs import Runs

FULL = """
import os
from pathlib import Path
from stackspec.report import events, page

def unless_full(function):
    def write(*arguments, **more):
        path = next(each for each in arguments if isinstance(each, Path))
        if Path("full").exists() and "PYTEST_XDIST_WORKER" not in os.environ:
            raise OSError(28, "No space left on device", str(path))
        return function(*arguments, **more)
    return write

events.append_line = unless_full(events.append_line)
page.write_whole = unless_full(page.write_whole)

@step(role="controller")
def slow(site, base):
    yield Command(("await", "full"), unless=("look", "never"))

@step(role="controller")
def late(site, slow):
    yield Command(("make", "late"), unless=("look", "late"))
"""
"""A disk of the controlling process that a test fills while a step runs."""

site = engine_runs.site
"""Simulated nodes, without steps."""


@pytest.fixture
def filled(runs: Runs) -> Runs:
    runs.steps(FULL)
    runs.tests("def test_it(late): pass\n")
    runs.tests("import pathlib\ndef test_fill(base): pathlib.Path('full').touch()\n", "test_fill.py")
    return runs


@pytest.mark.parametrize("words", [("-n2",), ("-n0",)])
def test_full_disk_ends_the_run(filled: Runs, words: tuple[str, ...]) -> None:
    result = filled.pytest("--deploy", *words, "test_fill.py", "test_cloud.py", spawn=True)
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    for lines in (result.stdout, result.stderr):
        lines.fnmatch_lines(["stackspec: cannot write */events.jsonl: No space left on device; free space and start*"])
    assert "one: command make late" not in filled.log()
    (filled.path / "full").unlink()
    filled.tests("def test_fill(base): pass\n", "test_fill.py")


def test_full_disk_is_detected_before_any_change(filled: Runs) -> None:
    (filled.path / "full").touch()
    result = filled.pytest("--deploy", "test_cloud.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot write */events.jsonl: No space left on device; free space and start again"])
    assert filled.log() == []


@pytest.mark.parametrize(
    ("words", "terminal"),
    [
        (("--deploy", "-n0"), "closed pipe"),
        (("--plan",), "closed pipe"),
        (("--deploy", "-n2"), "full disk"),
    ],
)
def test_closed_terminal_ends_the_run(runs: Runs, words: tuple[str, ...], terminal: str) -> None:
    """Without a traceback; recorded events are kept."""
    command = [sys.executable, "-m", "pytest", "--junitxml=junit.xml", *words]
    if terminal == "full disk":
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=240)
        status, said, why = done.returncode, done.stderr, "No space left on device; free space and start again"
    else:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            said = process.stderr.read()
            status, why = process.wait(timeout=240), "Broken pipe; start again with a writable location"
    assert f": cannot write to the terminal: {why}" in said
    if "-n2" not in words:  # a worker that is stopped may say so
        assert len(said.strip().splitlines()) == 1, said
    assert status in (1, 2, 4)
    if "--deploy" in words:
        (record,) = runs.path.glob("state/sites/made-up/runs/*/events.jsonl")
        assert '"event": "end"' in record.read_text()
        assert record.with_name("report.html").exists()


def test_unwritable_report_is_an_error(runs: Runs) -> None:
    result = runs.pytest("--deploy", "--junitxml=/dev/full", spawn=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["stackspec: cannot write a file of the run: No space left on device; free space and start again"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_command_tolerates_a_closed_pipe(runs: Runs) -> None:
    runs.pytest("--deploy", "-n0")
    command = [sys.executable, "-m", "stackspec.commands.cli", "report", "--output", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=240) == 1


def test_unwritable_file_is_named() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        append_line(Path("/dev/full"), "{}")


def full(event: Event) -> None:
    """The disk is full when the second step starts."""
    if event.get("step") == "b":
        raise OSError(28, "No space left on device", "/state/events.jsonl")


def test_unwritable_event_ends_the_run(site: Site) -> None:
    """Full disk or closed terminal: running tasks finish, nothing new starts, nobody waits, and the error says why."""
    declare("a", command("a"), role="all")
    declare("b", command("b"), needs=("a",))
    declare("c", command("c"), needs=("b",))
    engine = deploy(site, listen=full)
    assert list(states(engine).values()) == ["done", "done", "done", "blocked", "blocked"]
    assert [task.state for task in engine.wait("c")] == ["blocked"]
    assert "No space left on device: '/state/events.jsonl'; correct that, then run --deploy again" in engine.unrecorded
    assert engine.tasks[-1].cause is not None
    assert "No space left on device" in engine.tasks[-1].cause.error
    assert log(engine) == ["command do a"]


def test_step_that_cannot_be_recorded_is_not_started(site: Site) -> None:
    assert site.state is not None
    site.state.parent.joinpath("state").write_text("a file where the ledger's folder should be")
    declare("a", command("a"))
    engine = deploy(site)
    assert states(engine) == {"a on one": "blocked"}
    assert log(engine) == []
    assert engine.wait("a")[0].error == engine.unrecorded != ""
