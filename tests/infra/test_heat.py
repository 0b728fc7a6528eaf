"""Heat on the nodes: the address for guests."""

from __future__ import annotations

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

# Not run while another test cuts the power of a node: that test disturbs nova_compute.
pytestmark = pytest.mark.steps("nova_compute")


@pytest.mark.parametrize("port", [8000, 8004, 5000])
def test_guests_reach_what_heat_tells_them(port: int, heat: object, site: Site, node_host: HostOf) -> None:
    """The controller responds on the provider network at the address that stacks give to guests (E87)."""
    for name in site.nodes:
        reached = programs.run(node_host(name), "connect", site.address_for_guests, port)
        assert reached.rc == 0, f"{site.address_for_guests}:{port} is not reachable from {name}: {reached.stderr}"
