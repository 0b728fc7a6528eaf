"""Heat from outside: where it sends guests."""

from __future__ import annotations

import pytest

from stackspec.fixtures import programs
from stackspec.site import Site
from stackspec.testinfra_backend import HostOf

# A node whose power another test cuts is not looked at meanwhile: that test disturbs nova_compute.
pytestmark = pytest.mark.steps("nova_compute")


@pytest.mark.parametrize("port", [8000, 8004, 5000])
def test_guests_reach_what_heat_tells_them(port: int, heat: object, site: Site, node_host: HostOf) -> None:
    """On the provider network, to which routers lead, the controller answers where stacks send their guests (E87)."""
    for name in site.nodes:
        reached = programs.run(node_host(name), "connect", site.address_for_guests, port)
        assert reached.rc == 0, f"{site.address_for_guests}:{port} is not reached from {name}: {reached.stderr}"
