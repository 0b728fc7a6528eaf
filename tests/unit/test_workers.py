"""Together with pytest-xdist and pytest-rerunfailures; and invalid input: one message, status 4, no change."""

from __future__ import annotations

import shutil

import pytest

from stackspec.lock import Lock

from .plugin_runs import Runs
from .test_check import DRIFT

USAGE = pytest.ExitCode.USAGE_ERROR


def only_message(result: pytest.RunResult) -> str:
    """The single message of a run that ends with status 4."""
    assert result.ret == USAGE
    lines = [line for line in result.stderr.lines if line.strip()]
    assert lines
    assert all(line.startswith("ERROR: ") for line in lines[:1])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    return "\n".join(lines).removeprefix("ERROR: ")


def test_workers_validate(runs: Runs) -> None:
    """Traps 7 and 8: workers collect the same tests, and each checks by itself."""
    shutil.copy(DRIFT, runs.path)
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
    shutil.copy(DRIFT, runs.path)
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


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"site.yaml": "site: made-up\nsiet: x\n"}, [], "unknown key 'siet'"),
        ({}, ["--inventory", "nowhere.yaml"], "nowhere.yaml: no such file; choose an inventory with"),
        ({}, ["--plan"], "--deploy and --plan cannot be combined"),
        ({"nodes/two.json": '{"unreachable": "not reachable by ssh"}'}, [], "node two: not reachable by ssh"),
        ({"nodes/two.json": '{"files": {}}'}, [], "node two: runs an unknown system"),
    ],
)
@pytest.mark.parametrize("tests", ["all", "drift"])
def test_invalid_input_ends_the_run(
    runs: Runs, change: dict[str, str], arguments: list[str], message: str, tests: str
) -> None:
    if tests == "drift":
        shutil.copy(DRIFT, runs.path)
    for name, text in change.items():
        file = runs.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    shown = only_message(runs.pytest("--deploy", *arguments))
    assert message in shown
    assert runs.log() == []
    assert not {name for name in runs.files() if "secrets" in name or "ledger" in name}


def test_conflict_with_the_release_is_reported_before_any_change(runs: Runs) -> None:
    files = {"/usr/lib/os-release": {"content": 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04"\n'}}
    for name in ("one", "three"):
        runs.prepare(name, files=files)
    message = only_message(runs.pytest("--deploy"))
    assert "node one: runs Ubuntu 22.04, but the release epoxy-trixie requires debian 13" in message
    assert "node three: has no interface eth1, configured in nodes.three.provider" in message
    assert "node two" not in message


def test_nodes_are_locked_before_any_query_or_change(runs: Runs) -> None:
    """Facts read while waiting would be outdated when the other deployment ends."""
    assert runs.pytest("--deploy").ret == 0
    for name in ("one", "two", "three"):
        assert runs.node(name)["held"] == {"queries_sent": 0, "changes": 0}, name


def test_secrets_made_by_another_run_end_this_one(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackspec.secrets.Secrets.is_stale", lambda self: True)
    message = only_message(runs.pytest("--deploy"))
    assert message == "another deployment has written the secrets of site made-up meanwhile; start again"
    assert runs.node("one") == {}


def test_site_has_one_deployer(runs: Runs) -> None:
    """Planning and checking work in parallel; a killed run leaves no lock."""
    lock = Lock(runs.path / "state" / "sites" / "made-up" / "lock")
    lock.take("ann on desk (pid 1), since noon, run ss-1", "site made-up")
    message = only_message(runs.pytest("--deploy"))
    assert message.startswith(
        "site made-up is being deployed by ann on desk (pid 1), since noon, run ss-1; wait for it"
    )
    assert runs.node("one") == {}
    assert runs.pytest("--plan").ret == 0
    lock.release()
    assert runs.pytest("--deploy").ret == 0


@pytest.mark.parametrize("mode", ["--deploy", "--plan", ""])
def test_options_of_an_unknown_step(runs: Runs, mode: str) -> None:
    """Otherwise they would be ignored; the line is named before any change."""
    site = runs.path / "site.yaml"
    site.write_text(site.read_text() + "config:\n  identty: {}\n")
    before = runs.files()
    lines = len(site.read_text().splitlines())
    message = only_message(runs.pytest(*[mode] if mode else []))
    assert message == f"{site}:{lines}: config.identty: there is no such step; did you mean 'identity'?"
    assert runs.files() == before
