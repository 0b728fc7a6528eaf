"""The connection to a node: requests overlap, a lost or silent node is reported, and a connection is reopened."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from stackspec import transport
from stackspec.errors import NodeError
from stackspec.inventory import Ssh
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.resources.actions import Execute, Write
from stackspec.resources.base import run
from stackspec.transport import NodeConnection

from . import agent_here
from .agent_here import ask, connect, make_node, pid_of

connection = agent_here.connection


def test_requests_overlap(connection: NodeConnection) -> None:
    """Twenty threads wait for the node at the same time, and a query is answered meanwhile."""
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(ask, connection, run("sh", "-c", f"sleep 1; echo {number}")) for number in range(20)]
        assert ask(connection, run("true"))["status"] == 0
        assert [future.result()["out"] for future in slow] == [f"{number}\n" for number in range(20)]
    assert time.monotonic() - began < 15


def test_lost_connection_fails_pending_and_later_requests(connection: NodeConnection) -> None:
    agent = pid_of(connection)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connection.apply, [Execute(("sleep", "5"))])
        time.sleep(0.2)
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(NodeError, match="the connection to here was lost"):
            waiting.result(timeout=4)
    with pytest.raises(NodeError, match="the connection to here was lost"):
        connection.facts([run("true")])


def test_timeout_names_the_silent_node_and_the_command(
    connection: NodeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = pid_of(connection)
    monkeypatch.setattr(transport, "SILENCE", 1.0)
    os.kill(agent, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            began = pool.submit(connection.apply, [Execute(("do", "it"), "a secret")])
            with pytest.raises(NodeError, match="here has not responded for 1 s; operation: command do it") as caught:
                began.result(timeout=120)
        assert "secret" not in str(caught.value)
        with pytest.raises(NodeError, match="was lost"):
            connection.facts([run("true")])
    finally:
        os.kill(agent, signal.SIGKILL)


def test_silent_node_times_out_while_data_is_sent(connection: NodeConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that a node does not read blocks its writer, and all later writers."""
    agent = pid_of(connection)
    monkeypatch.setattr(transport, "SILENCE", 1.0)
    monkeypatch.setattr(transport, "ENDED_WITHIN", 1.0)
    os.kill(agent, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(2) as pool:
            large = Write("/nowhere/large", "x" * 8_000_000)
            began: list[Future[Any]] = [
                pool.submit(connection.apply, [large]),
                pool.submit(connection.facts, [run("true")]),
            ]
            for each in began:
                with pytest.raises(NodeError, match=r"has not responded|was lost"):
                    each.result(timeout=120)
            closing = pool.submit(connection.close)
            closing.result(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)


def test_live_node_with_a_long_operation_does_not_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BEAT", 0.1)
    monkeypatch.setattr(transport, "SILENCE", 1.0)
    made = connect()
    try:
        assert ask(made, run("sh", "-c", "sleep 2.5; echo done"))["out"] == "done\n"
        monkeypatch.setattr(transport, "OPERATION_LIMIT", 0.5)
        with pytest.raises(NodeError, match=r"did not finish within 0\.5 s; operation: command sleep 3"):
            made.apply([Execute(("sleep", "3"))])
    finally:
        made.close()


def test_connection_to_a_node_that_was_off_is_reopened(connection: NodeConnection) -> None:
    agent = pid_of(connection)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connection.apply, [Execute(("sleep", "5"))])
        time.sleep(0.2)
        os.kill(agent, signal.SIGSTOP)
        try:
            connection.reopen()
            with pytest.raises(NodeError, match="the connection to here was lost"):
                waiting.result(timeout=1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(agent, signal.SIGKILL)
    time.sleep(0.5)  # until the old one has ended, which must not count as the end of the new one
    assert ask(connection, run("echo", "again"))["out"] == "again\n"


@pytest.mark.parametrize("seen", [True, False])
def test_command_runs_once_on_a_node_that_was_off(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    """Another worker's test cut its power. Whether that was noticed or not, the next command runs, and only once."""
    monkeypatch.setattr(NodeConnection, "_ssh_spec", lambda self, arguments: "popen")
    lost: queue.SimpleQueue[None] = queue.SimpleQueue()
    connection = NodeConnection(make_node(), Ssh(), when_lost=lambda: lost.put(None))
    try:
        host = NodeHost(connection)
        first = host.check_output("echo $PPID")
        if seen:
            os.kill(int(first), signal.SIGKILL)
            lost.get(timeout=120)
        else:
            os.kill(int(first), signal.SIGSTOP)
            monkeypatch.setattr(transport, "QUIET", -1.0)
        second = host.check_output("echo $PPID")
        assert second != first
        monkeypatch.setattr(transport, "QUIET", 60.0)
        assert host.check_output("echo $PPID") == second
    finally:
        connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(first), signal.SIGKILL)


def test_closed_connection_refuses_requests(connection: NodeConnection) -> None:
    connection.close()
    with pytest.raises(NodeError):
        connection.facts([run("true")])
