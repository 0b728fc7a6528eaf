"""The node agent: what it reads and what it changes on a machine."""

from __future__ import annotations

import ast
import grp
import http.server
import os
import pwd
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stackspec import node_agent
from stackspec.errors import ActionError
from stackspec.node_agent import shell
from stackspec.resources.actions import (
    AppendLine,
    AwaitCommand,
    AwaitHttp,
    Execute,
    MakeDirectory,
    NodeAction,
    Remove,
    Write,
)
from stackspec.resources.base import file, package, run, unit
from stackspec.resources.base import http as answer_of
from stackspec.transport import NodeConnection

from . import agent_here
from .agent_here import ask

connection = agent_here.connection

USER: dict[str, Any] = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


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


def test_file(connection: NodeConnection, tmp_path: Path) -> None:
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


def test_package(connection: NodeConnection) -> None:
    facts = connection.facts([package("no-such-package"), package("dpkg")])
    assert facts[package("no-such-package")] is None
    if Path("/var/lib/dpkg/status").exists():
        assert facts[package("dpkg")]


def test_unit(connection: NodeConnection) -> None:
    """Even without systemd every key exists, and nothing is active."""
    for state in connection.facts([unit("no-such-unit"), unit("neither-this.socket")]).values():
        assert state["active"] in ("", "inactive")
        assert state["load"] in ("", "not-found", "unknown")
        assert state["enabled"] == ""
        assert state["started"] == 0.0


def test_run(connection: NodeConnection) -> None:
    found = ask(connection, run("sh", "-c", "cat; echo oops >&2; exit 3", stdin="a secret"))
    assert found == {"status": 3, "out": "a secret", "err": "oops\n"}
    assert ask(connection, run("no-such-command"))["status"] == 127
    environment = ask(connection, run("env"))["out"].splitlines()
    assert {line.split("=")[0] for line in environment} <= {"PATH", "LC_ALL", "HOME", "PWD", "SHLVL", "_"}


@needs_root
def test_run_as_another_user(connection: NodeConnection) -> None:
    assert ask(connection, run("id", "-un", user="nobody"))["out"] == "nobody\n"


def test_http(connection: NodeConnection) -> None:
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


def test_equal_queries_are_sent_once(connection: NodeConnection, tmp_path: Path) -> None:
    count = run("sh", "-c", f"echo >> {tmp_path}/count")
    assert len(connection.facts([count, count, file("/")])) == 2
    assert (tmp_path / "count").read_text() == "\n"
    assert connection.facts([]) == {}


# ---- operations


def test_operations_run_in_order(connection: NodeConnection, tmp_path: Path) -> None:
    def echo(text: str) -> Execute:
        return Execute(("sh", "-c", f"echo {text} >> {tmp_path}/log"))

    seen = []
    connection.apply([echo("a"), echo("b"), echo("c")], lambda *event: seen.append(event))
    assert (tmp_path / "log").read_text() == "a\nb\nc\n"
    assert seen == [("applied", 0), ("applied", 1), ("applied", 2)]


def test_failure_stops_the_rest_and_reports_everything(connection: NodeConnection, tmp_path: Path) -> None:
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


def test_only_the_end_of_a_long_output_is_sent(connection: NodeConnection) -> None:
    with pytest.raises(ActionError) as caught:
        connection.apply([Execute(("sh", "-c", "seq 100000; exit 1"))])
    assert caught.value.output.endswith("99999\n100000\n")
    assert len(caught.value.output) <= 6000


class Nonsense(NodeAction):
    """An operation that no agent has."""

    op = "nonsense"


def test_exception_in_the_agent_is_reported(connection: NodeConnection, tmp_path: Path) -> None:
    (tmp_path / "no folder").touch()
    with pytest.raises(ActionError, match="FileExistsError"):
        connection.apply([Write(str(tmp_path / "no folder/file"), "", **USER)])
    with pytest.raises(ActionError, match="KeyError: 'nonsense'"):
        connection.apply([Nonsense()])
    assert ask(connection, run("true"))["status"] == 0


def test_write_creates_a_file_and_its_folder(connection: NodeConnection, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    connection.apply([Write(str(path), "text\n", 0o600, **USER)])
    assert path.read_text() == "text\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["file"]


def test_write_is_atomic_and_keeps_the_mode(connection: NodeConnection, tmp_path: Path) -> None:
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
def test_write_keeps_the_owner(connection: NodeConnection, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 65534, 0)
    connection.apply([Write(str(path), "new")])
    assert path.stat().st_uid == 65534
    connection.apply([Write(str(path), "new", owner="root")])
    assert path.stat().st_uid == 0


def test_write_follows_a_link(connection: NodeConnection, tmp_path: Path) -> None:
    """The administrator moved the file and left a link."""
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "link").symlink_to(path)
    connection.apply([Write(str(tmp_path / "link"), "new")])
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"


def test_directory_remove_and_record(connection: NodeConnection, tmp_path: Path) -> None:
    folder, log = tmp_path / "folder", tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(5)))
    made = MakeDirectory(str(folder), 0o750, **USER)
    connection.apply([made, AppendLine(str(log), "new", limit=3), Remove(str(folder / "none"))])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert log.read_text() == "2\n3\n4\nnew\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_ledger_keeps_the_last_line_of_each_step(connection: NodeConnection, tmp_path: Path) -> None:
    """Even if it is old: a key of a step that was done is never replaced."""
    log = tmp_path / "log"
    lines = [f'{{"step": "{step}", "number": {number}}}' for number, step in enumerate(["barbican", *"aaaaab"])]
    log.write_text("\n".join(lines) + "\n")
    connection.apply([AppendLine(str(log), "{}", limit=1)])
    assert log.read_text().splitlines() == [lines[0], lines[5], lines[6], "{}"]


def test_waiting_ends_when_the_condition_holds(connection: NodeConnection, tmp_path: Path) -> None:
    look = AwaitCommand(("test", "-e", str(tmp_path / "file")), timeout=20.0, what="a file")
    threading.Timer(0.3, (tmp_path / "file").touch).start()
    connection.apply([look])
    (tmp_path / "file").unlink()
    with pytest.raises(ActionError, match="a file"):
        connection.apply([replace(look, timeout=0.1)])
    with pytest.raises(ActionError, match=r"http://127.0.0.1:1/ answers '.*refused' after 0.1 s, wanted \[200\]"):
        connection.apply([AwaitHttp("http://127.0.0.1:1/", (200,), 0.1)])


def test_command_has_a_deadline(connection: NodeConnection) -> None:
    with pytest.raises(ActionError) as caught:
        connection.apply([Execute(("sleep", "20"), timeout=0.2)])
    assert caught.value.exit_status == 124


def test_file_that_is_not_utf_8_keeps_its_bytes(connection: NodeConnection, tmp_path: Path) -> None:
    """Read and written over the connection while a line is added."""
    path = tmp_path / "file"
    path.write_bytes(b"# gr\xfc\xdfe\n")
    connection.apply([Write(str(path), ask(connection, file(str(path)))["content"] + "x\n")])
    assert path.read_bytes() == b"# gr\xfc\xdfe\nx\n"


def test_failed_command_is_repaired_and_run_once_more(tmp_path: Path) -> None:
    """Not repaired if it succeeds; a second failure is a failure."""
    made = str(tmp_path / "made")
    repair = ({"op": "command", "argv": ("touch", made)},)
    shell.command(("true",), repair=repair)
    assert not Path(made).exists()
    shell.command(("test", "-e", made), repair=repair)
    with pytest.raises(shell.Failed):
        shell.command(("false",), repair=repair)
