"""Packages of the release: only the missing ones are installed, under the release's names."""

from __future__ import annotations

from stackspec.resources import Packages
from stackspec.resources.actions import Apt
from stackspec.resources.base import package

from .bare import ChangeOf, made


class TestPackages:
    """Packages of the release."""

    def test_missing_packages(self, change: ChangeOf) -> None:
        """Under the release's names, and only the missing ones."""
        resource = Packages("glance", "neutron-server")
        known = {package("neutron-api"): "1.0"}
        found = change(resource, known)
        assert found.actions == (Apt(("glance-api", "neutron-rpc-server")),)
        assert change(resource, made(known, found)) is None

    def test_later_resources_are_read_again(self) -> None:
        """Files that a package installs do not exist before."""
        assert Packages.read_again
