"""The programs that tests run on nodes and in guests, run here: their output, and what their interpreters accept."""

from __future__ import annotations

import ast
import http.server
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra

from stackspec.fixtures import programs
from stackspec.waiting import wait_for

FOLDER = Path(__file__).parents[2] / "stackspec/fixtures/programs"
NAMES, SHELL = (sorted(path.stem for path in FOLDER.glob(f"[a-z]*.{ending}")) for ending in ("py", "sh"))
HOST = testinfra.get_host("local://")


class Server(http.server.BaseHTTPRequestHandler):
    """Responds with method, path and body of the request."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.command} {self.path} {body}".encode())
        self.server.requests.append((self.command, self.path, body))  # type: ignore[attr-defined]

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as made:
        made.requests = []  # type: ignore[attr-defined]
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_program_is_valid_for_the_python_of_a_node(name: str) -> None:
    tree = ast.parse(programs.text(name), feature_version=(3, 9))
    assert ast.get_docstring(tree), f"{name} does not say what it prints"


@pytest.mark.parametrize("name", SHELL)
def test_program_is_valid_for_a_shell(name: str) -> None:
    assert programs.text(name, "sh").startswith("# "), f"{name} does not say what it does"
    HOST.check_output("sh -n -c %s", programs.in_shell(name, "it's one", 2))


def test_requests(server: http.server.HTTPServer) -> None:
    host, port = str(server.server_address[0]), server.server_port
    url = f"http://{host}:{port}/a"
    assert programs.output(HOST, "http_first_line", host, port) == "HTTP/1.0 200 OK"
    assert programs.output(HOST, "http_status", url) == "200"
    assert programs.output(HOST, "http_body", url, 5) == "GET /a "
    programs.output(HOST, "http_form", "PUT", url)
    assert server.requests[-1] == ("PUT", "/a", "value=1")  # type: ignore[attr-defined]


def test_connections(server: http.server.HTTPServer) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as gone:
        closed = gone.server_address[1]
    assert programs.output(HOST, "closed_ports", "127.0.0.1", server.server_port, closed) == str(closed)
    assert programs.run(HOST, "connect", "127.0.0.1", server.server_port).rc == 0
    refused = programs.run(HOST, "connect", "127.0.0.1", closed)
    assert "refused" in refused.stderr.splitlines()[-1]


def test_option_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text("[one]\nkek = 'x=y'\n[two]\nkek = z\n")
    assert programs.output(HOST, "ini_value", file, "one", "kek") == "'x=y'"


def test_database_login_uses_the_password_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, client = tmp_path / "a.conf", tmp_path / "mariadb"
    file.write_text("[database]\nconnection = mysql+pymysql://nova:secret@controller/nova_api?charset=utf8\n")
    client.write_text('#!/bin/sh\necho "$MYSQL_PWD" "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = programs.output(HOST, "database_login", file, "database", "connection", "SELECT 1")
    assert found == "nova nova_api secret -h controller -u nova -N -B -e SELECT 1 nova_api"


def test_records_are_written_until_the_writer_is_stopped(tmp_path: Path) -> None:
    file = tmp_path / "the records"
    HOST.check_output("sh -c %s", programs.in_shell("write_records", file, 8, tmp_path))
    wait_for("records are written", lambda: file.exists() and len(file.read_bytes()) > 32, 30, every=0.1)
    (tmp_path / "stop").touch()
    wait_for("the writer has stopped", (tmp_path / "stopped").exists, 30, every=0.1)
    lines = file.read_text().splitlines(keepends=True)
    assert lines == [f"{number:7}\n" for number in range(1, len(lines) + 1)]
    assert not (tmp_path / "failed").exists()


def test_failed_records_are_named(tmp_path: Path) -> None:
    HOST.check_output("sh -c %s", programs.in_shell("write_records", tmp_path / "no folder/records", 8, tmp_path))
    failed = tmp_path / "failed"
    wait_for("a record is named", lambda: failed.exists() and failed.read_text(), 30, every=0.1)
    (tmp_path / "stop").touch()
    wait_for("the writer has stopped", (tmp_path / "stopped").exists, 30, every=0.1)
    assert failed.read_text().startswith("0\n")
