"""The lab's section of an inventory: what is read, and which errors are reported."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from stackspec.errors import InputError
from stackspec.lab import spec
from stackspec.lab.spec import LabSpec

from . import small_lab
from .small_lab import SITE, load

site = small_lab.site


class TestSpec:
    def test_reads_the_keys_of_the_lab(self, site: LabSpec) -> None:
        assert [str(net.address) for net in site.networks] == ["10.0.0.1/24", "192.0.2.2/24"]
        assert site.node("controller").management.address == IPv4Address("10.0.0.10")
        assert site.prefix == "ss-lab"
        assert [[disk.device for disk in node.disks] for node in site.nodes] == [[], ["sdb", "sdc", "sdd"]]

    def test_node_with_its_own_kernel(self, tmp_path: Path) -> None:
        """It uses other disk names, and its memory is limited; the other nodes are containers."""
        text = SITE.replace("/dev/sd", "/dev/ubd").replace(
            "{name: lab}", "{name: lab, nodes: {compute01: {kind: uml}}}"
        )
        made = load(tmp_path, text)
        assert [node.kind for node in made.nodes] == ["container", "uml"]
        assert [disk.device for disk in made.nodes[1].disks] == ["ubdb", "ubdc", "ubdd"]
        assert made.nodes[1].memory == 3072

    def test_name_can_be_overridden(self, tmp_path: Path) -> None:
        assert load(tmp_path, SITE, "two").prefix == "ss-two"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("lab: {name: lab}", "", r"site.yaml:1: lab: there is no such section"),
            ("{name: lab}", "{name: a-b}", r"site.yaml:11: lab.name: 'a-b' is not a valid name"),
            ("10.0.0.10", "10.0.1.10", r"nodes.controller.management.address: 10.0.1.10 must be in 10.0.0.0/24"),
            ("10.0.0.10", "10.0.0.1", r"the lab's own address"),
            ("10.0.0.10", "ten", r"nodes.controller.management.address: .*'ten'"),
            ("10.0.0.20", "10.0.0.10", r"nodes.compute01: 10.0.0.10 is the address of controller"),
            ("interface: eth1", "interface: eth0", r"nodes.controller: two networks share an interface"),
            ("192.0.2.2}", "198.51.100.2}", r"networks.provider.gateway: 198.51.100.2 is not in"),
            ("10.0.0.0/24", "10.0.0.7/24", r"networks.management: .*host bits"),
            ("  management: {cidr", "  other: {cidr", r"networks.management: is missing"),
            ("{name: lab}", "{name: lab, mirror: ftp://x}", r"lab.mirror: 'ftp://x' is not an http"),
            ("nodes:", "nodes: [", r"site.yaml:\d+: not valid YAML"),
            ("/dev/sdd", "/dev/disk/by-id/x", r"disks.cinder.devices: /dev/disk/by-id/x: disks of this lab node"),
            ("[/dev/sdd]", "/dev/sdd", r"nodes.compute01.disks.cinder.devices: expected a list of devices"),
            ("{devices: [/dev/sdd]}", "/dev/sdd", r"nodes.compute01.disks.cinder: expected a mapping"),
            (
                "{name: lab}",
                "{name: lab, nodes: {x: {kind: uml}}}",
                r"lab.nodes.x: there is no such node; there are contr",
            ),
            (
                "{name: lab}",
                "{name: lab, nodes: {controller: {kind: vm}}}",
                r"lab.nodes.controller.kind: 'vm' is unk",
            ),
            ("{name: lab}", "{name: lab, nodes: {controller: {memory: 1}}}", r"lab.nodes.controller.memory: 1 is not"),
            ("{name: lab}", "{name: lab, nodes: {controller: {ram: 1}}}", r"lab.nodes.controller.ram: unknown key"),
            ("{name: lab}", "{name: lab, nodes: {compute01: {kind: uml}}}", r"/dev/sdb: .* named like /dev/ubdb"),
        ],
    )
    def test_error_names_the_key(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load(tmp_path, SITE.replace(old, new, 1))

    def test_unknown_node_names_the_nodes(self, site: LabSpec) -> None:
        with pytest.raises(InputError, match="controller, compute01"):
            site.node("compute9")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.yaml: No such file"):
            spec.load(tmp_path / "none.yaml")
