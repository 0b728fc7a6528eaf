"""The node agent in a separate interpreter on this machine, over the usual connection, but without ssh."""

from __future__ import annotations

import ast
import contextlib
import grp
import http.server
import os
import pwd
import queue
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from stackspec import node_agent, transport
from stackspec.errors import ActionError, InputError, NodeError
from stackspec.inventory import Node, ProviderAttachment, Ssh
from stackspec.node_agent import packaging, shell
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.resources.actions import (
    AwaitCommand,
    AwaitHttp,
    Execute,
    Hold,
    MakeDirectory,
    NodeAction,
    Record,
    Remove,
    Write,
)
from stackspec.resources.base import Query, file, package, run, unit
from stackspec.resources.base import http as answer_of
from stackspec.transport import Connection, Connections, ssh_arguments

USER: dict[str, Any] = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def make_node(name: str = "here") -> Node:
    provider = ProviderAttachment(address=IPv4Address("192.0.2.1"), interface="eth0")
    return Node(name=name, roles=("controller",), management=provider, provider=provider)


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A connection to the agent on this machine."""
    made = Connection(make_node(), Ssh(), spec="popen")
    yield made
    made.close()


def ask(connection: Connection, query: Query) -> Any:
    return connection.facts([query])[query]


def test_agent_is_valid_python_3_9() -> None:
    """Nodes may have an older Python than the controlling machine."""
    for name, source in [("loader", node_agent.LOADER), *node_agent.sources()]:
        ast.parse(source, name, feature_version=(3, 9))


def test_agent_needs_only_the_standard_library() -> None:
    """What it names in annotations is not on a node."""
    channel = f"class Channel(list):\n    def receive(self): return {node_agent.sources()}\nchannel = Channel()\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"], input=channel + node_agent.LOADER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# ---- facts


def test_file(connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("grüße\n")
    path.chmod(0o640)
    os.utime(path, (5, 7))
    (tmp_path / "link").symlink_to(path)
    queries = [file(str(each)) for each in (path, tmp_path, tmp_path / "link", tmp_path / "none")]
    found, folder, link, none = connection.facts(queries).values()
    wanted = {"exists": True, "kind": "file", "mode": 0o640, "mtime": 7.0, "content": "grüße\n", **USER}
    assert time.time() - found.pop("ctime") < 60
    assert found == wanted
    assert (folder["kind"], folder["content"]) == ("directory", "")
    assert (link["kind"], link["content"]) == ("link", str(path))
    assert none == {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}


def test_package(connection: Connection) -> None:
    facts = connection.facts([package("no-such-package"), package("dpkg")])
    assert facts[package("no-such-package")] is None
    if Path("/var/lib/dpkg/status").exists():
        assert facts[package("dpkg")]


def test_unit(connection: Connection) -> None:
    """Even without systemd every key exists, and nothing is active."""
    for state in connection.facts([unit("no-such-unit"), unit("neither-this.socket")]).values():
        assert state["active"] in ("", "inactive")
        assert state["load"] in ("", "not-found", "unknown")
        assert state["enabled"] == ""
        assert state["started"] == 0.0


def test_run(connection: Connection) -> None:
    found = ask(connection, run("sh", "-c", "cat; echo oops >&2; exit 3", stdin="a secret"))
    assert found == {"status": 3, "out": "a secret", "err": "oops\n"}
    assert ask(connection, run("no-such-command"))["status"] == 127
    environment = ask(connection, run("env"))["out"].splitlines()
    assert {line.split("=")[0] for line in environment} <= {"PATH", "LC_ALL", "HOME", "PWD", "SHLVL", "_"}


@needs_root
def test_run_as_another_user(connection: Connection) -> None:
    assert ask(connection, run("id", "-un", user="nobody"))["out"] == "nobody\n"


def test_http(connection: Connection) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/": 300, "/a?b=1": 201}.get(self.path, 404))
            self.send_header("Location", "http://192.0.2.1/")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        answers = connection.facts([answer_of(url), answer_of(f"{url}/a?b=1"), answer_of(f"{url}/none")])
        assert list(answers.values()) == [300, 201, 404]
        server.shutdown()
    assert "refused" in str(ask(connection, answer_of(url)))


def test_equal_queries_are_sent_once(connection: Connection, tmp_path: Path) -> None:
    count = run("sh", "-c", f"echo >> {tmp_path}/count")
    assert len(connection.facts([count, count, file("/")])) == 2
    assert (tmp_path / "count").read_text() == "\n"
    assert connection.facts([]) == {}


# ---- operations


def test_operations_run_in_order(connection: Connection, tmp_path: Path) -> None:
    def echo(text: str) -> Execute:
        return Execute(("sh", "-c", f"echo {text} >> {tmp_path}/log"))

    seen = []
    connection.apply([echo("a"), echo("b"), echo("c")], lambda *event: seen.append(event))
    assert (tmp_path / "log").read_text() == "a\nb\nc\n"
    assert seen == [("applied", 0), ("applied", 1), ("applied", 2)]


def test_failure_stops_the_rest_and_reports_everything(connection: Connection, tmp_path: Path) -> None:
    actions = [
        Execute(("true",)),
        Execute(("sh", "-c", "echo out; echo err >&2; exit 7"), "secret", what="try it"),
        Execute(("touch", str(tmp_path / "later"))),
    ]
    seen = []
    with pytest.raises(ActionError) as caught:
        connection.apply(actions, lambda *event: seen.append(event))
    error = caught.value
    assert (error.what, error.exit_status, error.output) == ("try it", 7, "err\nout\n")
    assert error.command == "sh -c echo out; echo err >&2; exit 7"
    assert "secret" not in str(error)
    assert seen == [("applied", 0)]
    assert not (tmp_path / "later").exists()


def test_only_the_end_of_a_long_output_is_sent(connection: Connection) -> None:
    with pytest.raises(ActionError) as caught:
        connection.apply([Execute(("sh", "-c", "seq 100000; exit 1"))])
    assert caught.value.output.endswith("99999\n100000\n")
    assert len(caught.value.output) <= 6000


class Nonsense(NodeAction):
    """An operation that no agent has."""

    op = "nonsense"


def test_exception_in_the_agent_is_reported(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "no folder").touch()
    with pytest.raises(ActionError, match="FileExistsError"):
        connection.apply([Write(str(tmp_path / "no folder/file"), "", **USER)])
    with pytest.raises(ActionError, match="KeyError: 'nonsense'"):
        connection.apply([Nonsense()])
    assert ask(connection, run("true"))["status"] == 0


def test_write_creates_a_file_and_its_folder(connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    connection.apply([Write(str(path), "text\n", 0o600, **USER)])
    assert path.read_text() == "text\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["file"]


def test_write_is_atomic_and_keeps_the_mode(connection: Connection, tmp_path: Path) -> None:
    """The file is replaced: processes that have it open keep the old content."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o604)
    with path.open() as reader:
        connection.apply([Write(str(path), "new")])
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert os.listdir(tmp_path) == ["file"]


@needs_root
def test_write_keeps_the_owner(connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 65534, 0)
    connection.apply([Write(str(path), "new")])
    assert path.stat().st_uid == 65534
    connection.apply([Write(str(path), "new", owner="root")])
    assert path.stat().st_uid == 0


def test_write_follows_a_link(connection: Connection, tmp_path: Path) -> None:
    """The administrator moved the file and left a link."""
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "link").symlink_to(path)
    connection.apply([Write(str(tmp_path / "link"), "new")])
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"


def test_directory_remove_and_record(connection: Connection, tmp_path: Path) -> None:
    folder, log = tmp_path / "folder", tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(5)))
    made = MakeDirectory(str(folder), 0o750, **USER)
    connection.apply([made, Record(str(log), "new", limit=3), Remove(str(folder / "none"))])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert log.read_text() == "2\n3\n4\nnew\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_ledger_keeps_the_last_line_of_each_step(connection: Connection, tmp_path: Path) -> None:
    """Even if it is old: a key of a step that was done is never replaced."""
    log = tmp_path / "log"
    lines = [f'{{"step": "{step}", "number": {number}}}' for number, step in enumerate(["barbican", *"aaaaab"])]
    log.write_text("\n".join(lines) + "\n")
    connection.apply([Record(str(log), "{}", limit=1)])
    assert log.read_text().splitlines() == [lines[0], lines[5], lines[6], "{}"]


def test_waiting_ends_when_the_condition_holds(connection: Connection, tmp_path: Path) -> None:
    look = AwaitCommand(("test", "-e", str(tmp_path / "file")), timeout=20.0, what="a file")
    threading.Timer(0.3, (tmp_path / "file").touch).start()
    connection.apply([look])
    (tmp_path / "file").unlink()
    with pytest.raises(ActionError, match="a file"):
        connection.apply([replace(look, timeout=0.1)])
    with pytest.raises(ActionError, match=r"http://127.0.0.1:1/ answers '.*refused' after 0.1 s, wanted \[200\]"):
        connection.apply([AwaitHttp("http://127.0.0.1:1/", (200,), 0.1)])


def test_command_has_a_deadline(connection: Connection) -> None:
    with pytest.raises(ActionError) as caught:
        connection.apply([Execute(("sleep", "20"), timeout=0.2)])
    assert caught.value.exit_status == 124


# ---- the connection


def test_requests_overlap(connection: Connection) -> None:
    """Twenty threads wait for the node at the same time, and a query is answered meanwhile."""
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(ask, connection, run("sh", "-c", f"sleep 1; echo {number}")) for number in range(20)]
        assert ask(connection, run("true"))["status"] == 0
        assert [future.result()["out"] for future in slow] == [f"{number}\n" for number in range(20)]
    assert time.monotonic() - began < 15


def test_lost_connection_fails_pending_and_later_requests(connection: Connection) -> None:
    agent = int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connection.apply, [Execute(("sleep", "5"))])
        time.sleep(0.2)
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(NodeError, match="the connection to here was lost"):
            waiting.result(timeout=4)
    with pytest.raises(NodeError, match="the connection to here was lost"):
        connection.facts([run("true")])


def test_timeout_names_the_silent_node_and_the_command(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])
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


def test_silent_node_times_out_while_data_is_sent(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that a node does not read blocks its writer, and all later writers."""
    agent = int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])
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
    made = Connection(make_node(), Ssh(), spec="popen")
    try:
        assert ask(made, run("sh", "-c", "sleep 2.5; echo done"))["out"] == "done\n"
        monkeypatch.setattr(transport, "LONGEST", 0.5)
        with pytest.raises(NodeError, match=r"did not finish within 0\.5 s; operation: command sleep 3"):
            made.apply([Execute(("sleep", "3"))])
    finally:
        made.close()


def test_hanging_apt_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("")
    monkeypatch.setattr(packaging, "APT_LOG", str(log))
    child = subprocess.Popen(["sh", "-c", "sleep 30; true"], start_new_session=True)
    with pytest.raises(shell.Failed, match=r"apt-get was killed after 0\.5 s without output"):
        packaging.follow(child, 0, None, silence=0.5)
    assert child.poll() is not None
    with log.open("a") as stream:
        child = subprocess.Popen(
            ["sh", "-c", "for i in 1 2 3 4; do sleep 0.4; echo Get:$i; done"], stdout=stream, start_new_session=True
        )
    packaging.follow(child, 0, None, silence=1.2)
    assert child.returncode == 0


def fake_ssh(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake ssh that runs `script`."""
    ssh = folder / "ssh"
    ssh.write_text(f"#!/bin/sh\n{script}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_hanging_login_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both before the remote shell answers, and when the interpreter should start."""
    monkeypatch.setattr(transport, "OPEN_TIMEOUT", 1)
    fake_ssh(tmp_path, "exec sleep 30", monkeypatch)
    with pytest.raises(InputError, match=r"node here \(192.0.2.1\): ssh or the login shell did not respond within 1 s"):
        Connection(make_node(), Ssh())
    fake_ssh(tmp_path, 'case "$*" in *sudo*) echo root; echo /usr/bin/python3;; *) exec sleep 10;; esac', monkeypatch)
    with pytest.raises(InputError, match="node here: python3 did not start within 1 s after the login"):
        Connection(make_node(), Ssh())


def test_dropped_login_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd drops logins when too many arrive at once; a refused key is not retried."""
    count = f"echo >> {tmp_path}/count; "
    dropped = "echo kex_exchange_identification: Connection closed by remote host >&2; exit 255"
    fake_ssh(tmp_path, f"{count}test $(wc -l < {tmp_path}/count) -gt 1 || {{ {dropped}; }}; echo root", monkeypatch)
    with pytest.raises(InputError, match="no python3"):
        Connection(make_node(), Ssh())
    assert (tmp_path / "count").read_text() == "\n\n"
    fake_ssh(tmp_path, f"{count}echo 'Permission denied (publickey)' >&2; exit 255", monkeypatch)
    with pytest.raises(InputError, match="Permission denied"):
        Connection(make_node(), Ssh())
    assert (tmp_path / "count").read_text() == "\n\n\n"


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

    monkeypatch.setattr(transport, "Connection", connect)
    connections = Connections(Ssh(), [make_node(f"n{number}") for number in range(60)])
    connections.open()
    assert len(connections.names()) == 60
    assert 1 < most <= transport.OPENED_AT_ONCE


def test_node_has_one_deployer(connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one learns who holds the node, and waits for a dead one's operations; tests connect separately."""
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    other = Connection(make_node(), Ssh(), spec="popen")
    third = Connection(make_node(), Ssh(), spec="popen")
    end = tmp_path / "end"
    try:
        connection.hold("ann on desk (pid 1)")
        assert ask(other, run("echo", "test"))["out"] == "test\n"
        hold = Hold(str(tmp_path / "lock"), "bob", run_timeout=0.2)
        with pytest.raises(ActionError, match=r"ann on desk \(pid 1\) is deploying on this node; wait until it ends"):
            other.apply([hold])
        agent = int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])
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


def test_lost_node_is_reported_while_waiting_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations of another deployment on a node may be waited for up to a quarter of an hour."""
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(transport, "ANSWERS_TOGETHER", 0.1)
    busy = Connection(make_node(), Ssh(), spec="popen")
    busy.hold("ann")
    connections = Connections(Ssh(), [])
    connections._open = {name: Connection(make_node(name), Ssh(), spec="popen") for name in ("waits", "gone")}
    agent = int(ask(connections["gone"], run("sh", "-c", "echo $PPID"))["out"])
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


def test_lost_node_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when idle; waits for other nodes' locks end; a clean close is not a loss."""
    lost_nodes: queue.SimpleQueue[str] = queue.SimpleQueue()
    connections = Connections(Ssh(), [make_node("waits"), make_node("gone")])
    connections.when_lost = lost_nodes.put
    monkeypatch.setattr(Connection, "_ssh_spec", lambda self, arguments: "popen")
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    busy = Connection(make_node(), Ssh(), spec="popen")
    busy.hold("ann")
    connections.open()
    gone = connections["gone"]
    agent = int(ask(gone, run("sh", "-c", "echo $PPID"))["out"])
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


def test_connection_to_a_node_that_was_off_is_reopened(connection: Connection) -> None:
    agent = int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])
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


def test_lost_node_is_reconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps its connections for the whole run, and another worker's test cuts a node's power."""
    monkeypatch.setattr(Connection, "_ssh_spec", lambda self, arguments: "popen")
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    connections = Connections(Ssh(), [make_node("stays"), make_node("returns")])
    connections.when_lost = lost.put
    connections.open()
    stays = connections["stays"]
    try:
        os.kill(int(ask(connections["returns"], run("sh", "-c", "echo $PPID"))["out"]), signal.SIGKILL)
        assert lost.get(timeout=120) == "returns"
        connections.open()
        assert ask(connections["returns"], run("echo", "again"))["out"] == "again\n"
        assert connections["stays"] is stays
    finally:
        connections.close()


@pytest.mark.parametrize("seen", [True, False])
def test_command_runs_once_on_a_node_that_was_off(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    """Another worker's test cut its power. Whether that was noticed or not, the next command runs, and only once."""
    monkeypatch.setattr(Connection, "_ssh_spec", lambda self, arguments: "popen")
    lost: queue.SimpleQueue[None] = queue.SimpleQueue()
    connection = Connection(make_node(), Ssh(), when_lost=lambda: lost.put(None))
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


@pytest.mark.parametrize("by", ["this process", "another one of the run"])
def test_reopened_connection_locks_the_node_again(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Even if the interpreter of the old one still runs and holds the lock."""
    monkeypatch.setattr(transport, "LOCK", str(tmp_path / "lock"))
    holder = "ann on desk (pid 1)"
    other = Connection(make_node(), Ssh(), spec="popen")
    agent = int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])
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


def test_closed_connection_refuses_requests(connection: Connection) -> None:
    connection.close()
    with pytest.raises(NodeError):
        connection.facts([run("true")])


def test_ssh_gets_exactly_the_options_of_the_inventory(tmp_path: Path) -> None:
    node = make_node()
    assert ssh_arguments(Ssh(), node)[-1] == "192.0.2.1"
    assert not {"-F", "-i", "-p"} & set(ssh_arguments(Ssh(), node))
    ssh = Ssh(user="admin", port=2222, key=tmp_path / "key", config=tmp_path / "config")
    arguments = ssh_arguments(ssh, node.model_copy(update={"ssh_host": "jump-to-it"}))
    assert arguments[-7:] == ["-F", f"{tmp_path}/config", "-i", f"{tmp_path}/key", "-p", "2222", "admin@jump-to-it"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo connect to host: no route >&2; exit 255", "not reachable by ssh: connect to host: no route; try: ssh"),
        (
            "echo sudo: a password is required >&2; echo /usr/bin/python3",
            "no passwordless sudo: sudo:",
        ),
        ("echo root", "no python3 on the node; install it"),
    ],
)
def test_every_unusable_node_is_named(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\n{script}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    connections = Connections(Ssh(), [make_node("one"), make_node("two")])
    with pytest.raises(InputError) as caught:
        connections.open()
    first, second = str(caught.value).splitlines()
    assert first.startswith("node one (192.0.2.1): ")
    assert second.startswith("node two (192.0.2.1): ")
    assert message in first


def test_ssh_key_with_a_space_in_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of ssh gets the path as one argument."""
    seen, ssh = tmp_path / "seen", tmp_path / "ssh"
    ssh.write_text(
        f"#!/bin/sh\nfor each; do case $each in *' key') echo \"$each\" >>{seen};; esac; last=$each; done\n"
        'exec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = Connection(make_node(), Ssh(key=tmp_path / "my key"))
    assert ask(made, run("echo", "here"))["out"] == "here\n"
    made.close()
    assert seen.read_text().splitlines() == [f"{tmp_path}/my key"] * 2
