"""`stackspec cleanup`: which runs' objects it removes, and when it removes none."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from openstack import exceptions

from stackspec.commands import cleanup
from stackspec.commands.cli import main
from stackspec.errors import InputError
from stackspec.openstack import cloud, ownership
from stackspec.openstack.kind import Kind
from stackspec.openstack.kinds import BY_NAME
from stackspec.openstack.ownership import destroy, leftovers
from stackspec.report.events import FILE, EventLog
from stackspec.report.running import hold, running

OLD, OTHER = "ss-20260101-001500-3f2a", "ss-20260101-001500-0000"
NEW = f"ss-{datetime.datetime.now(datetime.timezone.utc):%Y%m%d-%H%M%S}-3f2a"


def chosen(*words: str, at_work: tuple[str, ...] = ()) -> list[str]:
    """The run ids that a command line selects, out of three."""
    parser = argparse.ArgumentParser()
    cleanup.add_parser(parser.add_subparsers())
    meant = cleanup.chosen(parser.parse_args(["cleanup", *words]), at_work)
    return [run for run in (OLD, OTHER, NEW) if meant(run)]


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ([OLD], [OLD]),
        (["--all", "--older-than", "2"], [OLD, OTHER]),
        (["--dry-run"], [OLD, OTHER, NEW]),
        (["--dry-run", NEW], [NEW]),
    ],
)
def test_selected_runs(words: list[str], runs: list[str]) -> None:
    assert chosen(*words) == runs


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--all"],
        ["--older-than", "2"],
        ["--all", "--older-than", "0"],
        ["ss-"],
        ["ss-20260101"],
        [OLD, "--all"],
        [f"{OLD}-web-1"],
    ],
)
def test_without_a_run_nothing_is_removed(words: list[str]) -> None:
    with pytest.raises(InputError):
        chosen(*words)


def test_active_run_is_left_alone() -> None:
    assert chosen("--all", "--older-than", "2", at_work=(OLD,)) == [OTHER]
    with pytest.raises(InputError, match=f"run {OLD} is still active"):
        chosen(OLD, at_work=(OLD,))


def test_recent_run_of_another_machine_may_be_active(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path))
    with pytest.raises(InputError, match="has no record on this machine, so it may be active elsewhere"):
        chosen(NEW)
    EventLog(tmp_path / "runs" / NEW / FILE).write({"event": "run"})
    assert chosen(NEW) == [NEW]


def test_run_is_active_until_its_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is killed; runs of another state of the site, and two processes of one run, are handled."""
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path))
    folder = tmp_path / "sites/lab/runs" / OLD
    imports = "from pathlib import Path; from stackspec.report.running import hold"
    code = f"{imports}; held = hold(Path({str(folder)!r})); input()"
    process = subprocess.Popen([sys.executable, "-c", "print(1, flush=True);" + code + ";"], stdin=subprocess.PIPE)
    try:
        for _ in range(200):
            if running():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
        assert running() == {OLD}
        with hold(folder):
            process.kill()
            process.wait()
            assert running() == {OLD}
    finally:
        process.kill()
        process.wait()
    assert running() == set()
    assert (folder / "running").exists()


def test_command_line_without_a_run_is_status_4(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("OS_CLOUD", "nosuch")
    assert main(["cleanup"]) == 4
    assert "specify what to remove: a run id" in capsys.readouterr().err


def test_failed_list_removes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("OS_CLOUD", "some")
    monkeypatch.delenv("STACKSPEC_INVENTORY", raising=False)
    monkeypatch.setattr(cloud, "connect_named", lambda name: answering(503))
    monkeypatch.setattr(ownership, "destroy", lambda found: pytest.fail("removed something"))
    assert main(["cleanup", OLD]) == 1
    assert "cannot list leftovers, nothing was removed" in capsys.readouterr().err


def answering(status: int) -> Any:
    """A cloud whose services all answer with `status`."""
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"stacks": [], "clusters": []}).encode()
    response.headers["content-type"] = "application/json"
    proxy = SimpleNamespace(get=lambda *_, **__: response)
    return SimpleNamespace(identity=proxy, orchestration=proxy, container_infrastructure_management=proxy)


def test_keystone_error_does_not_mean_ordinary_user() -> None:
    """An ordinary user sees no objects of others and would report a clean cloud."""
    assert [ownership.is_admin(answering(status)) for status in (200, 403)] == [True, False]
    with pytest.raises(exceptions.HttpException):
        ownership.is_admin(answering(503))


@pytest.mark.parametrize("kind", ["stack", "cluster"])
def test_failed_raw_list_is_an_error(kind: str) -> None:
    assert list(BY_NAME[kind].list(answering(200), True)) == []
    with pytest.raises(exceptions.HttpException):
        list(BY_NAME[kind].list(answering(500), True))
    with pytest.raises(exceptions.ForbiddenException):
        list(BY_NAME[kind].list(answering(403), True))


def test_service_disabled_by_the_run_is_enabled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the run id in its reason; services disabled by an operator or another run stay disabled."""
    reasons = {"1": f"{OLD}-disabled", "2": "a broken disk", "3": f"{OTHER}-disabled", "4": None}
    services = [
        SimpleNamespace(id=key, host=f"c{key}", binary="nova-compute", status="disabled", disabled_reason=reason)
        for key, reason in reasons.items()
    ]
    enabled: list[tuple[str, str]] = []
    compute = SimpleNamespace(
        services=lambda: iter(services),
        enable_service=lambda service, host, binary: enabled.append((service.id, host)),
    )
    identity = SimpleNamespace(get=lambda *_, **__: SimpleNamespace(status_code=200), projects=list)
    connection = SimpleNamespace(compute=compute, identity=identity, has_service=lambda name: name == "compute")
    kinds: tuple[Kind, ...] = (BY_NAME["disabled_service"],)
    monkeypatch.setattr(ownership, "KINDS", kinds)
    assert destroy(leftovers(connection, OLD)) == []
    assert enabled == [("1", "c1")]
