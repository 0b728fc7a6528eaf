"""The cache keeps what it is given."""

from __future__ import annotations

from stackspec.fixtures import programs
from stackspec.site import Site
from stackspec.testinfra_backend import NodeHost


def test_cache_keeps_a_value(memcached: object, site: Site, controller: NodeHost) -> None:
    """What is put into memcached comes out again."""
    assert "hello" in programs.output(controller, "cache_value", site.controller.address)
