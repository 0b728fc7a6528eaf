"""The lab's package proxy, in front of an archive on the loopback interface."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stackspec.lab import proxy

from .proxy_client import get


class Archive(BaseHTTPRequestHandler):
    """An archive that counts requests; `short` files end before their announced size."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        if self.headers.get("If-Modified-Since"):
            self.send_response(304)
            self.end_headers()
            return
        body = self.path.encode() * 1000
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(body) + (10 if "short" in self.path else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "short" in self.path

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Proxy:
    """A proxy in front of an archive, and a client of it."""

    def __init__(self, port: int, archive: str, server: proxy.Server) -> None:
        self.port, self.archive, self.server = port, archive, server

    def get(self, path: str, host: str = "", **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return get(self.port, f"http://{host or self.archive}{path}", headers=named)[:2]


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Proxy]:
    Archive.requests = []
    archive = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(target=archive.serve_forever, args=(0.02,), daemon=True).start()
    name = f"127.0.0.1:{archive.server_port}"
    settings = proxy.Settings("127.0.0.1", 0, {name: "http"}, str(tmp_path / "packages"))
    with proxy.serving(settings) as server:
        yield Proxy(server.server_port, name, server)
    archive.shutdown()
    archive.server_close()


class TestProxy:
    def test_refuses_other_hosts(self, through: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
        status, body = through.get("/x", host="other.test")
        assert status == 403
        assert b"other.test" in body
        assert through.server.refused == 1
        assert "refused 0 other.test" in capsys.readouterr().out
        assert Archive.requests == []

    def test_refuses_tunnels(self, through: Proxy) -> None:
        assert get(through.port, through.archive, "CONNECT")[0] == 403

    def test_package_is_downloaded_once(self, through: Proxy) -> None:
        path = "/debian/pool/main/a/a_1%2b2_all.deb"
        answers: list[tuple[int, bytes]] = []
        threads = [threading.Thread(target=lambda: answers.append(through.get(path))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [(200, path.encode() * 1000)] * 5
        assert Archive.requests == [path]

    def test_index_is_not_cached_and_conditional_headers_pass(self, through: Proxy) -> None:
        path = "/debian/dists/s/InRelease"
        assert through.get(path)[0] == 200
        assert through.get(path, If_Modified_Since="Thu, 01 Jan 2026 00:00:00 GMT") == (304, b"")
        assert through.get(path, Range="bytes=5-")[0] == 206
        assert len(Archive.requests) == 3

    def test_partial_package_is_never_cached(self, through: Proxy) -> None:
        path = "/debian/pool/main/s/short_1_all.deb"
        for _ in range(2):
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                through.get(path)
        assert len(Archive.requests) == 2
        assert not list(Path(through.server.settings.cache).rglob("*short*"))
        assert not list(Path(through.server.settings.cache).rglob(".part*"))

    def test_names_cannot_escape_the_cache(self, through: Proxy) -> None:
        keeps = through.server.store.keeps
        assert keeps("http://a/debian/pool/x.deb")
        assert keeps(f"http://a/dists/s/by-hash/SHA256/{'0' * 64}")
        assert not keeps("http://a/debian/pool/%2e%2e/%2e%2e/x.deb")
        assert not keeps("http://a/debian/pool/x.deb?y")

    def test_pipelined_requests(self, through: Proxy) -> None:
        paths = [f"/debian/pool/{number}.deb" for number in range(3)]
        ahead = "".join(f"GET http://{through.archive}{path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths)
        with socket.create_connection(("127.0.0.1", through.port), timeout=120) as connection:
            connection.sendall(ahead.encode())
            received = b""
            while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(paths[-1].encode()):
                chunk = connection.recv(65536)
                assert chunk
                received += chunk
        assert Archive.requests == paths
