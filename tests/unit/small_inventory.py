"""A small inventory for tests to break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TEXT = """\
site: small
release: epoxy-trixie
networks:
  management: {cidr: 10.0.0.0/24}
  provider:
    cidr: 192.168.35.0/24
    gateway: 192.168.35.2
    pool: [192.168.35.100, 192.168.35.200]
nodes:
  controller:
    roles: [controller]
    management: {address: 10.0.0.10, interface: eth0}
    provider: {address: 192.168.35.10, interface: eth1}
  compute01:
    roles: [compute]
    management: {address: 10.0.0.20, interface: eth0}
    provider: {address: 192.168.35.20, interface: eth1}
ssh: {user: root}
secrets: generated
images:
  cirros: {source: guest.img}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write an inventory, with its image next to it; state goes to the test's folder."""
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path / "state"))
    (tmp_path / "guest.img").write_bytes(b"QFI\xfb" + bytes(100))

    def written(text: str = TEXT) -> Path:
        path = tmp_path / "site.yaml"
        path.write_text(text)
        return path

    return written


def line_of(text: str, part: str) -> int:
    """The only line of `text` that contains `part`."""
    (line,) = [number for number, line in enumerate(text.splitlines(), 1) if part in line]
    return line
