"""The lab's bridges, ports and firewall."""

from __future__ import annotations

from pathlib import Path

from stackspec.lab import network
from stackspec.lab.spec import LabSpec

from . import small_lab
from .small_lab import SITE, load

site = small_lab.site


class TestNetwork:
    def test_names_fit_the_kernel(self, tmp_path: Path) -> None:
        site = load(tmp_path, SITE.replace("eth0", "abcdefghij"), "abcdefghijkl")
        words = " ".join(network.render_ports(site, node) for node in site.nodes).split()
        assert all(len(word) <= 15 for word in words if word.startswith("n0-"))

    def test_ports_join_their_bridges(self, site: LabSpec) -> None:
        lines = network.render_ports(site, site.nodes[0])
        assert "link add n0-eth1 type veth peer name eth1 netns ss-lab-controller" in lines
        assert "link set n0-eth1 addrgenmode none master br1" in lines
        assert "eth1" not in network.render_ports(site, site.nodes[1])

    def test_lab_has_its_addresses_and_no_route(self, site: LabSpec) -> None:
        text = network.render_lab(site)
        assert "address add 10.0.0.1/24 dev br0" in text
        assert "route" not in text

    def test_firewall_counts_outgoing_packets(self, site: LabSpec) -> None:
        text = network.render_firewall(site)
        assert "elements = { 10.0.0.0/24, 192.0.2.0/24 }" in text
        assert "ip daddr != @networks counter name left goto refuse" in text
        assert "policy drop" in text
