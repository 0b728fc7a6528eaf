"""All nodes at once: they are connected in parallel, and one that is lost is reported and connected again."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stackspec import node_connections, transport
from stackspec.errors import InputError
from stackspec.inventory import Node, Ssh
from stackspec.node_connections import NodeConnections
from stackspec.resources.base import run
from stackspec.transport import NodeConnection

from .agent_here import ask, connect, make_node, pid_of


def test_connections_are_opened_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    opening, most, lock = 0, 0, threading.Lock()

    def connect(node: Node, ssh: Ssh, when_lost: object) -> str:
        nonlocal opening, most
        with lock:
            opening += 1
            most = max(most, opening)
        time.sleep(0.02)
        with lock:
            opening -= 1
        return node.name

    monkeypatch.setattr(node_connections, "NodeConnection", connect)
    connections = NodeConnections(Ssh(), [make_node(f"n{number}") for number in range(60)])
    connections.open()
    assert len(connections.names()) == 60
    assert 1 < most <= node_connections.OPENED_AT_ONCE


def test_lost_node_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when idle; waits for other nodes' locks end; a clean close is not a loss."""
    lost_nodes: queue.SimpleQueue[str] = queue.SimpleQueue()
    connections = NodeConnections(Ssh(), [make_node("waits"), make_node("gone")])
    connections.when_lost = lost_nodes.put
    monkeypatch.setattr(NodeConnection, "_ssh_spec", lambda self, arguments: "popen")
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    busy = connect()
    busy.hold("ann")
    connections.open()
    gone = connections["gone"]
    agent = pid_of(gone)
    monkeypatch.setattr(gone, "hold", lambda holder, say: None)
    try:
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(connections.hold, "bob", lambda node, text: None)
            time.sleep(0.5)
            os.kill(agent, signal.SIGKILL)
            assert lost_nodes.get(timeout=120) == "gone"
            with pytest.raises(InputError, match="node gone: the connection to gone was lost"):
                held.result(timeout=120)
        assert lost_nodes.empty()
    finally:
        busy.close()


def test_lost_node_is_reported_while_waiting_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations of another deployment on a node may be waited for up to a quarter of an hour."""
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(node_connections, "ANSWERS_TOGETHER", 0.1)
    busy = connect()
    busy.hold("ann")
    connections = NodeConnections(Ssh(), [])
    connections._open = {name: connect(name) for name in ("waits", "gone")}
    agent = pid_of(connections["gone"])
    try:
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(connections.hold, "bob", lambda node, text: None)
            time.sleep(0.5)
            os.kill(agent, signal.SIGKILL)
            with pytest.raises(InputError, match="node gone: the connection to gone was lost") as caught:
                held.result(timeout=120)
        assert "waits" not in str(caught.value)
        assert connections.names() == []
    finally:
        busy.close()


def test_lost_node_is_reconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps its connections for the whole run, and another worker's test cuts a node's power."""
    monkeypatch.setattr(NodeConnection, "_ssh_spec", lambda self, arguments: "popen")
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    connections = NodeConnections(Ssh(), [make_node("stays"), make_node("returns")])
    connections.when_lost = lost.put
    connections.open()
    stays = connections["stays"]
    try:
        os.kill(pid_of(connections["returns"]), signal.SIGKILL)
        assert lost.get(timeout=120) == "returns"
        connections.open()
        assert ask(connections["returns"], run("echo", "again"))["out"] == "again\n"
        assert connections["stays"] is stays
    finally:
        connections.close()
