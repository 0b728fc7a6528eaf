"""The operator's command."""

from __future__ import annotations


def test_client_is_installed(openstack_client, controller):
    """The operator's command works on the controller."""
    assert controller.check_output("openstack --version").startswith("openstack ")
