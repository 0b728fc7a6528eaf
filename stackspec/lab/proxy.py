"""The lab's package proxy: the nodes' only connection to the outside, limited to the package archives.

It listens inside the lab's network namespace and connects from outside. Immutable files are cached on disk. An archive
may be a directory on this machine. Builds of the lab on this machine have a proxy of their own, on the loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from .network import inside
from .store import Store

_CHUNK = 256 * 1024
_TIMEOUT = 60.0  # seconds an archive may be silent
_SERVED = ("200", "kept", "local")  # outcomes of a request that was answered with the file
_PASSED_UP = ("Accept", "Cache-Control", "If-Modified-Since", "If-Range", "Range", "User-Agent")
_PASSED_DOWN = ("Accept-Ranges", "Content-Range", "Content-Type", "ETag", "Last-Modified", "Location")


@dataclass(frozen=True)
class Settings:
    """Settings of the proxy.

    `hosts` are the allowed hosts, each with the scheme; `folders` the directories that answer for a host; `parents` the
    upstream proxies by scheme; `namespace` is the file of the network namespace to listen in, empty for the current
    one; `record` the file that gets the address of each package that was served, once, empty for none; `quiet`: no
    line per request.
    """

    listen: str
    port: int
    hosts: dict[str, str]
    cache: str
    namespace: str = ""
    parents: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    record: str = ""
    quiet: bool = False

    def dump(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)


class Upstream:
    """Connections of one thread to the archives, kept open between requests."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.open: dict[str, http.client.HTTPConnection] = {}

    def get(self, method: str, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Request a URL, following redirects, which a node could not."""
        for _ in range(5):
            response = self._once(method, url, headers)
            target = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                return response
            response.read()
            url = urljoin(url, target)
        return response

    def close(self) -> None:
        for connection in self.open.values():
            connection.close()
        self.open.clear()

    def _once(self, method: str, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if parts.scheme == "http" and "http" in self.settings.parents:
            path = url
        for last in (False, True):
            kept = key in self.open
            connection = self.open.setdefault(key, self._connect(parts.scheme, parts.netloc))
            try:
                connection.request(method, path, headers={"Host": parts.netloc, **headers})
                return connection.getresponse()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.open.pop(key, None)
                # The archive may have closed a kept-alive connection; a new connection is not retried.
                if last or not kept:
                    raise
        raise AssertionError("unreachable")

    def _connect(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        parent = self.settings.parents.get(scheme)
        via = urlsplit(parent).netloc.rpartition("@")[2] if parent else netloc
        if scheme == "http":
            return http.client.HTTPConnection(via, timeout=_TIMEOUT)
        connection = http.client.HTTPSConnection(via, timeout=_TIMEOUT, context=ssl.create_default_context())
        if parent:
            connection.set_tunnel(netloc)
        return connection


class Handler(BaseHTTPRequestHandler):
    """One client connection, possibly with pipelined requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 300
    server: Server

    def setup(self) -> None:
        super().setup()
        self.upstream = Upstream(self.server.settings)

    def finish(self) -> None:
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        url = self.allowed()
        if url is None:
            return
        try:
            if (folder := self.server.settings.folders.get(urlsplit(url).netloc.lower())) is not None:
                self.from_folder(url, Path(folder))
            elif self.command == "GET" and self.server.store.keeps(url):
                self.from_store(url)
            else:
                self.pass_through(url)
        except (OSError, http.client.HTTPException) as error:
            # After the start of a body, an error can only be signalled by closing the connection.
            self.close_connection = True
            self.server.log("failed", url, 0, f"{type(error).__name__}: {error}")
            with contextlib.suppress(OSError):
                if not self.begun:
                    self.answer(502, f"{type(error).__name__}: {error}")

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        self.refuse(self.path)

    do_POST = do_PUT = do_DELETE = do_CONNECT

    def allowed(self) -> str | None:
        """The URL to request, None if the client was refused."""
        self.begun = False
        parts = urlsplit(self.path)
        host = parts.netloc.lower()
        scheme = "http" if host in self.server.settings.folders else self.server.settings.hosts.get(host)
        if parts.scheme != "http" or scheme is None:
            self.refuse(parts.netloc or self.path)
            return None
        return parts._replace(scheme=scheme).geturl()

    def refuse(self, what: str) -> None:
        self.server.refused += 1
        self.server.log("refused", what, 0, f"number {self.server.refused}")
        self.close_connection = True
        self.answer(403, f"The lab's proxy allows only its package archives, not {what}")

    def answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        # apt shows nothing but the status line.
        self.send_response(status, " ".join(text.encode("ascii", "replace").decode().split()))
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def pass_through(self, url: str) -> None:
        headers = {name: self.headers[name] for name in _PASSED_UP if name in self.headers}
        self.relay(url, self.upstream.get(self.command, url, headers), None)

    def from_store(self, url: str) -> None:
        """Respond with a cached file; the first of several requests fetches it for all."""
        store = self.server.store
        with contextlib.ExitStack() as stack:
            body = store.open(url)
            if body is None:
                # The others wait here, and then find the file.
                stack.enter_context(store.busy(url))
                body = store.open(url)
            if body is None:
                # Only whole files are cached, not ranges.
                headers = {"User-Agent": self.headers.get("User-Agent", "apt")}
                response = self.upstream.get("GET", url, headers)
                if response.status == 200 and response.length is not None:
                    with store.adding(url, response.length) as copy:
                        self.relay(url, response, copy)
                else:
                    self.relay(url, response, None)
                return
        with body:
            self.send_file(body, "kept", url)

    def from_folder(self, url: str, folder: Path) -> None:
        """Respond with a file of an archive that is a directory."""
        path = (folder / unquote(urlsplit(url).path).lstrip("/")).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            self.server.log("404", url, 0)
            self.answer(404, f"{folder} has no such file; make it again: stackspec lab mirror")
            return
        with path.open("rb") as body:
            self.send_file(body, "local", url)

    def send_file(self, body: BinaryIO, what: str, url: str) -> None:
        """Respond with a file on this machine; `what` is its source, for the log."""
        self.begun = True
        size = os.fstat(body.fileno()).st_size
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.connection.sendfile(body)
        self.server.log(what, url, size)

    def relay(self, url: str, response: http.client.HTTPResponse, copy: BinaryIO | None) -> None:
        """Forward a response to the client, and to the cache even if the client has disconnected."""
        self.begun = True
        length = response.headers.get("Content-Length")
        bodiless = self.command == "HEAD" or response.status in (204, 304)
        self.send_response(response.status)
        for name in _PASSED_DOWN:
            if name in response.headers:
                self.send_header(name, response.headers[name])
        if length is not None:
            self.send_header("Content-Length", length)
        elif not bodiless:
            self.close_connection = True
            self.send_header("Connection", "close")
        client: BinaryIO | None = self.wfile  # type: ignore[assignment]
        size = 0
        self.end_headers()
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if copy:
                copy.write(chunk)
            try:
                if client:
                    client.write(chunk)
            except OSError:
                self.close_connection = True
                client = None
                if not copy:
                    raise
        if length is not None and not bodiless and size != int(length):
            raise http.client.IncompleteRead(b"", int(length) - size)
        self.server.log(str(response.status), url, size)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the proxy's own log has a line per request."""


class Server(ThreadingHTTPServer):
    """The proxy; a thread per client connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(Path(settings.cache))
        self.refused = 0
        self._lock = threading.Lock()
        self._recorded = set(recorded(Path(settings.record))) if settings.record else set()
        super().__init__((settings.listen, settings.port), Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which does a reverse DNS lookup.
        self.socket.setsockopt(1, 2, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def handle_error(self, request: object, client_address: object) -> None:
        """Disconnected clients are not reported."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.log("error", repr(error), 0)

    def log(self, what: str, url: str, size: int, note: str = "") -> None:
        """Write a line: time, outcome, bytes, address; and note a served package in the record."""
        with self._lock:
            if self.settings.record and what in _SERVED and url.endswith(".deb") and url not in self._recorded:
                self._recorded.add(url)
                path = Path(self.settings.record)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as record:
                    record.write(f"{url}\n")
            if not self.settings.quiet:
                print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {what} {size} {url} {note}".rstrip(), flush=True)


def recorded(record: Path) -> list[str]:
    """The addresses in a proxy's record of packages; none if there is no record."""
    try:
        return record.read_text().splitlines()
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    """A proxy that serves while the block runs."""
    server = inside(Path(settings.namespace), lambda: Server(settings)) if settings.namespace else Server(settings)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(settings: str) -> None:
    """Serve until killed.

    :param settings: path of a file that `Settings.dump` wrote
    """
    with serving(Settings(**json.loads(Path(settings).read_text()))):
        threading.Event().wait()
