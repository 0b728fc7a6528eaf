"""The status line: what is done, what runs and what is left."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.plugin.status import Status

from .plugin_runs import Runs


def step(state: str, node: str = "controller") -> dict[str, Any]:
    return {"event": "step", "step": "keystone", "node": node, "state": state}


def test_running_and_remaining_tests_and_tasks() -> None:
    now = [0.0]
    status = Status(lambda line: None, lambda: now[0])
    assert status.line() == ""
    status.pytest_xdist_node_collection_finished(["a", "b", "c"])
    status.plan(2)
    status.hear(step("running"))
    status.pytest_runtest_logstart("tests/e2e/test_x.py::test_a")
    now[0] = 12.0
    assert status.line() == (
        "0 of 3 tests done, running: test_x.py::test_a (12 s); "
        "0 of 2 tasks done, running: keystone on controller (12 s)"
    )
    status.hear(step("done"))
    status.hear(step("blocked", "compute01"))
    status.pytest_runtest_logreport(SimpleNamespace(failed=True))  # type: ignore[arg-type]
    status.pytest_runtest_logfinish("tests/e2e/test_x.py::test_a")
    assert status.line() == "1 of 3 tests done, 1 failed"


def test_many_items_are_counted() -> None:
    status = Status(lambda line: None, lambda: 0.0)
    for node in range(6):
        status.hear(step("running", f"n{node}"))
    status.plan(6)
    assert status.line().endswith("keystone on n3 (0 s) and 2 more")


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_run_prints_the_status_regularly(runs: Runs, words: tuple[str, ...]) -> None:
    runs.steps("from stackspec.plugin import status\nstatus.TOLD_EVERY = 0.1\n")
    runs.tests("import time\ndef test_long(): time.sleep(1)\ndef test_other(): pass\n")
    out = runs.pytest(*words, spawn=True).stdout.str()
    assert re.search(r"run +so far +[01] of 2 tests done, running: \S+::test_long \(\d s\)", out), out
