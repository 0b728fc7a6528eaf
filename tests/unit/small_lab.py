"""A small lab that is only described: its inventory, and what is read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec.lab import spec
from stackspec.lab.spec import LabSpec

SITE = """\
networks:
  provider: {cidr: 192.0.2.0/24, gateway: 192.0.2.2}
  management: {cidr: 10.0.0.0/24}
nodes:
  controller:
    management: {address: 10.0.0.10, interface: eth0}
    provider: {address: 192.0.2.10, interface: eth1}
  compute01:
    management: {address: 10.0.0.20, interface: eth0}
    disks: {swift: {devices: [/dev/sdb, /dev/sdc], wipe: true}, cinder: {devices: [/dev/sdd]}}
lab: {name: lab}
"""
OWN_KERNEL = SITE.replace("/dev/sd", "/dev/ubd").replace("{name: lab}", "{name: lab, nodes: {compute01: {kind: uml}}}")


@pytest.fixture
def site(tmp_path: Path) -> LabSpec:
    """The small lab."""
    return load(tmp_path, SITE)


def load(tmp_path: Path, text: str, name: str | None = None) -> LabSpec:
    """The lab of an inventory with this text."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return spec.load(path, name)
