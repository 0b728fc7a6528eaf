"""The openstack command."""

from __future__ import annotations

from stackspec.plugin.testinfra_backend import NodeHost


def test_client_is_installed(openstack_client: object, controller: NodeHost) -> None:
    """The openstack command works on the controller."""
    assert controller.check_output("openstack --version").startswith("openstack ")
