"""A node has one deployer, which holds it until its operations have ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stackspec import transport
from stackspec.errors import ActionError, NodeError
from stackspec.resources.actions import Execute, Hold
from stackspec.resources.base import run
from stackspec.transport import NodeConnection

from . import agent_here
from .agent_here import ask, connect, pid_of

connection = agent_here.connection


def test_node_has_one_deployer(connection: NodeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one learns who holds the node, and waits for a dead one's operations; tests connect separately."""
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    other = connect()
    third = connect()
    end = tmp_path / "end"
    try:
        connection.hold("ann on desk (pid 1)")
        assert ask(other, run("echo", "test"))["out"] == "test\n"
        hold = Hold(str(tmp_path / "lock"), "bob", run_timeout=0.2)
        with pytest.raises(ActionError, match=r"ann on desk \(pid 1\) is deploying on this node; wait until it ends"):
            other.apply([hold])
        agent = pid_of(connection)
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(connection.apply, [Execute(("sh", "-c", f"until [ -e {end} ]; do sleep 0.1; done"))])
            time.sleep(0.3)
            os.kill(agent, signal.SIGKILL)
            with pytest.raises(NodeError):
                lost.result(timeout=5)
        with pytest.raises(
            ActionError,
            match=r"a command started by ann on desk \(pid 1\) is still running on this node: \d+ sh -c until",
        ):
            other.apply([replace(hold, command_timeout=0.2)])
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            end.touch()

        other.hold("bob", say)
        assert "sh -c until" in said[0]
        other.close()
        third.hold("cid")
    finally:
        end.touch()
        other.close()
        third.close()


@pytest.mark.parametrize("by", ["this process", "another one of the run"])
def test_reopened_connection_locks_the_node_again(
    connection: NodeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Even if the interpreter of the old one still runs and holds the lock."""
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    holder = "ann on desk (pid 1)"
    other = connect()
    agent = pid_of(connection)
    try:
        if by == "this process":
            connection.hold(holder)
            os.kill(agent, signal.SIGSTOP)
            connection.reopen()
        else:
            connection.reopen(holder)
        with pytest.raises(ActionError, match=r"ann on desk \(pid 1\) is deploying on this node"):
            other.apply([Hold(str(tmp_path / "lock"), "bob", run_timeout=0.2)])
        assert ask(connection, run("echo", "again"))["out"] == "again\n"
    finally:
        other.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)
