"""The files that make a root file system a node of the lab, and the way to it by ssh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stackspec.lab import identity
from stackspec.lab.mirror import Mirror
from stackspec.lab.spec import LabSpec

from . import small_lab

site = small_lab.site


class TestIdentity:
    def test_provider_interface_gets_no_address(self, site: LabSpec) -> None:
        files = identity.render_files(site, site.nodes[0], Mirror("http://m.test/debian"))
        assert "Address=10.0.0.10/24\nGateway=10.0.0.1" in files["etc/systemd/network/50-eth0.network"]
        assert "Address=" not in files["etc/systemd/network/50-eth1.network"]
        assert '"http://10.0.0.1:3142"' in files["etc/apt/apt.conf.d/90lab"]

    def test_default_route_over_the_provider_network(self, site: LabSpec) -> None:
        first, second = site.nodes[0].ports
        node = replace(site.nodes[0], ports=(first, replace(second, default_route=True)))
        files = identity.render_files(site, node, Mirror("http://m.test/debian"))
        assert "Address=10.0.0.10/24\n" in files["etc/systemd/network/50-eth0.network"]
        assert "Gateway=" not in files["etc/systemd/network/50-eth0.network"]
        text = files["etc/systemd/network/50-eth1.network"]
        assert f"Address={second.address}/24\nGateway={site.network(second.network).address.ip}\n" in text

    def test_ssh_config_does_not_use_the_user_files(self, site: LabSpec) -> None:
        text = identity.render_ssh_config(site, Path("/state/ssh"))
        assert "Host controller 10.0.0.10\n  HostName 10.0.0.10\n" in text
        assert "UserKnownHostsFile /state/ssh/known_hosts" in text
        assert "GlobalKnownHostsFile /dev/null" in text
