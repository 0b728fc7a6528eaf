"""The cache stores data."""

from __future__ import annotations

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


def test_cache_keeps_a_value(memcached: object, site: Site, controller: NodeHost) -> None:
    """A value stored in memcached can be read back."""
    assert "hello" in programs.output(controller, "cache_value", site.controller.address)
