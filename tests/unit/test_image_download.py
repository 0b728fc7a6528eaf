"""Downloaded images: truncated ones, and ones that differ from the inventory, are refused and deleted."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackspec import inventory
from stackspec.errors import ActionError
from stackspec.openstack.image import image_file
from stackspec.site import Site

CONTENT = b"QFI\xfb" + bytes(range(256)) * 8
RIGHT = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Serves an image, truncated to the given length."""

    sent = len(CONTENT)
    requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: self.server.sent])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine; downloads go to the test's own cache."""
    monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def download(server: Server, site: Site, checksum: str | None = None) -> Path:
    source = f"http://127.0.0.1:{server.server_port}/guest.qcow2"
    return image_file(site, "guest", inventory.Image(source=source, checksum=checksum))


def test_complete_image_is_kept(server: Server, site: Site) -> None:
    """It is downloaded once."""
    path = download(server, site, RIGHT)
    assert path.read_bytes() == CONTENT
    assert download(server, site) == path
    assert server.requests == 1


@pytest.mark.parametrize("checksum", [None, RIGHT])
def test_server_that_closes_early(server: Server, site: Site, checksum: str | None) -> None:
    """A truncated image looks like a valid one; the next run downloads it again."""
    server.sent = 1000
    with pytest.raises(ActionError, match="download image guest") as failure:
        download(server, site, checksum)
    assert f"1000 of {len(CONTENT)} bytes" in failure.value.output
    server.sent = len(CONTENT)
    assert download(server, site, checksum).read_bytes() == CONTENT


def test_wrong_checksum(server: Server, site: Site, tmp_path: Path) -> None:
    """Expected and actual checksum are named, and no file is left for a later run."""
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(ActionError, match="check image guest") as failure:
        download(server, site, wrong)
    assert f"wanted {wrong}, got {RIGHT}" in failure.value.output
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
