"""The key-value store stores data."""

from __future__ import annotations

import json

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


def test_etcd_keeps_a_value(etcd: object, site: Site, controller: NodeHost) -> None:
    """A key is written, read and deleted through the v3 API."""
    found, deleted = json.loads(programs.output(controller, "etcd_value", site.controller.address))
    assert found["count"] == "1"
    assert deleted["deleted"] == "1"
