"""A failed step: one complete failure, blocked dependents, and the next run resumes there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .plugin_runs import BROKEN, START, Runs


def test_failed_step_is_one_failure_and_the_others_are_blocked(runs: Runs) -> None:
    """Trap 1: pytest would raise a session fixture's cached error again, with its traceback, in every dependent."""
    runs.prepare("one", broken=BROKEN)
    result = runs.pytest("--deploy")
    result.assert_outcomes(passed=1, errors=1, skipped=4)
    text = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "step identity on one failed at service identity",
            "restart identity",
            "command: systemctl restart identity",
            "exit status: 3",
            "output (its end):",
            "*Job for identity.service failed",
            "journal (its end):",
            "*no such database",
            "*the next --deploy resumes here",
        ]
    )
    # Once when it happens, once as the error of the test that needed it.
    assert text.count("no such database") == 2
    assert "Traceback" not in text
    blocked = [line for line in text.splitlines() if "blocked by identity on one: restart identity" in line]
    assert blocked


def test_independent_steps_continue(runs: Runs) -> None:
    runs.prepare("one", broken={"systemctl restart image": {"what": "restart image"}})
    result = runs.pytest("--deploy")
    result.assert_outcomes(passed=5, errors=1)
    assert runs.node("two")["units"]["agent"]["active"] == "active"


def test_failed_step_without_tests_fails_the_run(runs: Runs) -> None:
    """All its tests were deselected or blocked by something else: the run must not be green."""
    runs.tests(
        """
        import pytest

        @pytest.mark.skip
        def test_identity(identity): pass
        """
    )
    runs.prepare("one", broken=BROKEN)
    result = runs.pytest("--deploy")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED identity on one"])


def test_step_that_fails_on_one_node_of_several(runs: Runs) -> None:
    """A step fails if it fails on one of two nodes, although the other node is done."""
    runs.prepare("three", broken={"systemctl restart agent": {"what": "restart agent"}})
    runs.pytest("--deploy").assert_outcomes(passed=5, errors=1)
    assert runs.node("two")["units"]["agent"]["active"] == "active"


def test_next_run_resumes_where_the_last_one_stopped(runs: Runs) -> None:
    runs.prepare("one", broken=BROKEN)
    runs.pytest("--deploy").assert_outcomes(passed=1, errors=1, skipped=4)
    runs.log()
    runs.prepare("one", broken={})
    runs.pytest("--deploy").assert_outcomes(passed=6)
    log = runs.log()
    assert START in [entry.removeprefix("one: ") for entry in log]
    assert not [entry for entry in log if "database" in entry or "identity-sync" in entry or "/etc/" in entry]


def test_ledger_records_tasks_and_changes(runs: Runs) -> None:
    """On this machine each task's start and end, on the node what was changed there."""
    runs.prepare("one", broken=BROKEN)
    runs.pytest("--deploy")
    ledger = (runs.path / "state/sites/made-up/ledger.jsonl").read_text()
    entries = [json.loads(line) for line in ledger.splitlines()]
    states = [entry["state"] for entry in entries if (entry["step"], entry["node"]) == ("identity", "one")]
    assert states == ["running", "failed"]
    on_node = runs.node("one")["files"]["/var/lib/stackspec/ledger.jsonl"]["content"]
    assert [json.loads(line)["step"] for line in on_node.splitlines()] == ["base", "database"]


def test_last_failed_reruns_blocked_tests(runs: Runs) -> None:
    """Trap 4: --lf forgets skipped tests, so the plugin puts blocked ones back."""
    runs.prepare("one", broken=BROKEN)
    runs.pytest("--deploy")
    runs.prepare("one", broken={})
    runs.pytest("--deploy", "--lf").assert_outcomes(passed=5)
    runs.pytest("--deploy", "--lf").assert_outcomes(passed=6)


def test_last_failed_omits_tests_skipped_for_other_reasons(runs: Runs) -> None:
    runs.tests(
        """
        import pytest

        def test_one(identity): assert 0

        def test_two(identity): pytest.skip("not today")
        """
    )
    runs.pytest("--deploy").assert_outcomes(failed=1, skipped=1)
    runs.pytest("--deploy", "--lf").assert_outcomes(failed=1)


def test_exit_first_reverts_nothing(runs: Runs) -> None:
    """Trap 11: -x runs all finalizers; steps have none. Running operations finish, and nothing new starts."""
    go_on = runs.path / "go-on"
    runs.steps(
        f"""
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish():
            Path("{go_on}").touch()

        @step(role="controller")
        def slow(site, base):
            yield Command(("await", "{go_on}"), unless=("look", "{go_on}"))

        @step(role="compute")
        def late(site, slow):
            yield Packages("late")
        """
    )
    runs.tests(
        f"""
        import time
        from pathlib import Path

        def test_base(base):
            until = time.monotonic() + 60
            while not Path("{go_on}.begun").exists() and time.monotonic() < until:
                time.sleep(0.01)
            assert 0

        def test_late(late): pass
        """
    )
    result = runs.pytest("--deploy", "-x")
    result.assert_outcomes(failed=1)
    one, two = runs.node("one"), runs.node("two")
    assert one["files"]["/etc/name"]["content"] == "one"
    assert one["effects"] == [str(go_on)]
    assert two["log"] == ["write /etc/name", "apt late"] or two["log"] == ["write /etc/name"]
    assert "/var/lib/stackspec/ledger.jsonl" in two["files"]
    result.stdout.fnmatch_lines(["stackspec: * 2 blocked, 4 done"])
    assert "step failed" not in result.stdout.str()


def test_ctrl_c_ends_at_once_and_reverts_nothing(runs: Runs) -> None:
    """Trap 11: the running step is not waited for, and finished work is kept."""
    runs.prepare("one", seconds={"command identity-manage identity-sync": 600})
    command = [sys.executable, "-m", "pytest", "--deploy", "-p", "no:cacheprovider"]
    # If this suite itself was started in the background, its children would ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        begun = subprocess.Popen(command, cwd=runs.path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with begun as run:
        until = time.monotonic() + 240
        while "database-server" not in runs_of(runs, "one") and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGINT)
        output, _ = run.communicate(timeout=240)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    assert runs.node("one")["packages"]["identity"] == "1.0"
    assert runs.node("one")["files"]["/etc/database.conf"]["content"]
    assert not [entry for entry in runs.node("one")["log"] if entry.startswith(("remove", "systemctl stop"))]


def runs_of(runs: Runs, node: str) -> dict[str, object]:
    """Units of a node that another process changes: its file may be half written at this moment."""
    try:
        return dict(runs.node(node).get("units", {}))
    except ValueError:
        return {}
