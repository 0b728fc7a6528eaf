"""Together with pytest-xdist and pytest-rerunfailures: workers validate, and only one process deploys or plans."""

from __future__ import annotations

from .plugin_runs import Runs, only_message


def test_workers_validate(runs: Runs) -> None:
    """Traps 7 and 8: workers collect the same tests, and each checks by itself."""
    runs.add_drift_test()
    runs.pytest("--deploy", "test_cloud.py")
    runs.log()
    result = runs.pytest("-n2", spawn=True)
    result.assert_outcomes(passed=24)
    assert runs.log() == []


def test_workers_do_not_plan(runs: Runs) -> None:
    assert "-n cannot be combined with --plan, which runs no tests" in only_message(runs.pytest("--plan", "-n2"))
    assert runs.node("one") == {}
    runs.pytest("--plan", "-n0")
    assert runs.node("one")["opened"]


def test_unreachable_node_is_one_failure_per_worker(runs: Runs) -> None:
    """If the worker ended, xdist would restart it again and again."""
    runs.add_drift_test()
    runs.prepare("two", unreachable="not reachable by ssh")
    result = runs.pytest("-n1", "test_drift.py", spawn=True)
    result.assert_outcomes(errors=1, skipped=17)
    result.stdout.fnmatch_lines(["node two: not reachable by ssh"])


def test_reruns_do_not_deploy(runs: Runs) -> None:
    """Trap 9: a rerun discards failed fixtures of any scope, and would deploy again."""
    message = only_message(runs.pytest("--deploy", "--reruns", "1"))
    assert "a failed step is tried again by the next --deploy" in message
    (runs.path / "pytest.ini").write_text("[pytest]\nlanes = 0\nreruns = 1\n")
    assert "--deploy" in only_message(runs.pytest("--deploy"))
    assert runs.node("one") == {}


def test_reruns_validate(runs: Runs) -> None:
    runs.tests("runs = []\ndef test_flaky(identity):\n    runs.append(1)\n    assert len(runs) > 1\n")
    result = runs.pytest("--reruns", "1")
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
