"""A run without --deploy changes nothing: every drift is one failing test that names it."""

from __future__ import annotations

import pytest

from .plugin_runs import Runs


@pytest.fixture
def deployed(runs: Runs) -> Runs:
    """A site without drift, and the suite's drift test."""
    runs.add_drift_test()
    runs.pytest("--deploy", "test_cloud.py").assert_outcomes(passed=6)
    runs.log()
    return runs


def test_site_without_drift_passes(deployed: Runs) -> None:
    deployed.pytest("test_drift.py").assert_outcomes(passed=18)
    assert deployed.log() == []


def test_drift_is_one_failure_that_names_it(deployed: Runs) -> None:
    deployed.drift("one", "/etc/database.conf", "4096", "151")
    result = deployed.pytest("test_drift.py")
    result.assert_outcomes(passed=17, failed=1)
    result.stdout.fnmatch_lines(
        [
            "one: /etc/database.conf: [[]server[]] limit: wanted '4096', found '151'",
            "-limit = 151",
            "+limit = 4096",
            "FAILED test_drift.py::test_as_declared[[]one-database-/etc/database.conf[]]*",
        ]
    )
    assert deployed.log() == []


def test_stopped_service_is_named(deployed: Runs) -> None:
    units = deployed.node("two")["units"]
    deployed.prepare("two", units={"agent": units["agent"] | {"active": "failed"}})
    result = deployed.pytest("test_drift.py")
    result.assert_outcomes(passed=17, failed=1)
    result.stdout.fnmatch_lines(["two: service agent: agent: wanted active, found failed"])


def test_secret_is_not_shown(deployed: Runs) -> None:
    deployed.drift("one", "/etc/identity.conf", "password = ", "password = x")
    result = deployed.pytest("test_drift.py")
    result.assert_outcomes(passed=17, failed=1)
    result.stdout.fnmatch_lines(["*[[]DEFAULT[]] password: wanted '[*][*]*"])


def test_deployment_repairs_drift(deployed: Runs) -> None:
    deployed.drift("one", "/etc/database.conf", "4096", "151")
    result = deployed.pytest("--deploy")
    result.assert_outcomes(passed=24)
    result.stdout.fnmatch_lines(["stackspec: 2 changes; 9 done"])
    log = deployed.log()
    assert log[0] == "one: write /etc/database.conf"
    assert "one: systemctl restart database-server" in log
    assert not [entry for entry in log if "database" not in entry]


def test_only_the_selected_step_is_checked(deployed: Runs) -> None:
    deployed.pytest("test_drift.py", "-k", "two-agent").assert_outcomes(passed=2, deselected=16)


def test_tests_without_nodes_need_no_connection(deployed: Runs) -> None:
    """API tests request steps, but need no ssh."""
    opened = deployed.node("one")["opened"]
    deployed.pytest("test_cloud.py").assert_outcomes(passed=6)
    assert deployed.node("one")["opened"] == opened
