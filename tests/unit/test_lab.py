"""The parts of the lab that need neither root nor a network."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from stackspec.errors import InputError
from stackspec.lab import LabError, disks, identity, mirror, network, snapshots, spec
from stackspec.lab.made_once import made_once
from stackspec.lab.mirror import Mirror
from stackspec.lab.spec import LabSpec
from stackspec.lab.state import Folder, Snapshot, State
from stackspec.lab.uml import UserModeLinux

SITE = """\
networks:
  provider: {cidr: 192.0.2.0/24, gateway: 192.0.2.2}
  management: {cidr: 10.0.0.0/24}
nodes:
  controller:
    management: {address: 10.0.0.10, interface: eth0}
    provider: {address: 192.0.2.10, interface: eth1}
  compute01:
    management: {address: 10.0.0.20, interface: eth0}
    disks: {swift: {devices: [/dev/sdb, /dev/sdc], wipe: true}, cinder: {devices: [/dev/sdd]}}
lab: {name: lab}
"""

OWN_KERNEL = SITE.replace("/dev/sd", "/dev/ubd").replace("{name: lab}", "{name: lab, nodes: {compute01: {kind: uml}}}")


@pytest.fixture
def site(tmp_path: Path) -> LabSpec:
    return load(tmp_path, SITE)


def load(tmp_path: Path, text: str, name: str | None = None) -> LabSpec:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return spec.load(path, name)


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


class TestOwnKernel:
    @pytest.fixture
    def process(self, tmp_path: Path) -> UserModeLinux:
        made = load(tmp_path, OWN_KERNEL)
        return UserModeLinux(made, made.node("compute01"), tmp_path / "compute01", tmp_path / "cache")

    def test_kernel_gets_the_machine_on_its_command_line(self, process: UserModeLinux) -> None:
        assert process.arguments(["n1-eth0"]) == [
            "umid=compute01",
            "mem=3072M",
            "ubd0=/node/upper/root.img",
            *(f"ubd{number}=/node/disks/ss-lab-compute01.ubd{name}" for number, name in enumerate("bcd", 1)),
            "vec0:transport=tap,ifname=n1-eth0,depth=128,gro=1,mac=52:54:0a:00:00:14",
        ]

    def test_interfaces_are_named_as_in_the_inventory(self, process: UserModeLinux) -> None:
        files = process.files()
        link = files["etc/systemd/network/10-eth0.link"]
        assert link == "[Match]\nMACAddress=52:54:0a:00:00:14\n\n[Link]\nName=eth0\n"
        lines = network.render_taps(process.spec, process.node).splitlines()
        assert lines[:2] == ["tuntap add mode tap name n1-eth0", "link set n1-eth0 addrgenmode none master br0"]

    def test_snapshot_of_a_container_is_refused(self, process: UserModeLinux, tmp_path: Path) -> None:
        with pytest.raises(LabError, match="snapshot old has no disk of compute01, which was no UML node"):
            process.boot([tmp_path / "old/compute01", tmp_path / "rootfs"])

    def test_missing_kernel_is_named(self, process: UserModeLinux, tmp_path: Path) -> None:
        upper = tmp_path / "compute01/upper"
        upper.mkdir(parents=True)
        (upper / "root.img").touch()
        (upper / "kernel").write_text("uml-old")
        with pytest.raises(LabError, match=r"kernel uml-old of compute01 is gone from .*cache"):
            process.boot([tmp_path / "rootfs"])


class TestMirror:
    def test_lines(self) -> None:
        text = "# deb http://a/x y main\ndeb [arch=amd64] http://a/debian/ stable main contrib #\ndeb-src x y z"
        assert mirror.parse_sources(text, deb822=False) == [
            mirror.Source(("http://a/debian",), ("stable",), ("main", "contrib"))
        ]

    def test_stanzas(self) -> None:
        text = (
            "Types: deb deb-src\n# note\nURIs: http://a/debian\nSuites: s\n s-updates\nComponents: main\n\n"
            "Types: deb\nEnabled: no\nURIs: http://b/\nSuites: s\nComponents: main\n"
        )
        assert mirror.parse_sources(text, deb822=True) == [
            mirror.Source(("http://a/debian",), ("s", "s-updates"), ("main",))
        ]

    def test_third_party_sources_of_the_machine_are_ignored(self, tmp_path: Path) -> None:
        apt = tmp_path / "etc/apt/sources.list.d"
        apt.mkdir(parents=True)
        (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME="s"\n')
        (apt / "a.list").write_text("deb https://third.test/apt other main\ndeb cdrom:[x]/ s main\n")
        (apt / "b.sources").write_text(
            "Types: deb\nURIs: https://m.test/debian\nSuites: s s-updates\nComponents: main\n"
        )
        (apt / "c.list").write_text("deb http://sec.test/debian-security s-security main\n")
        assert mirror.of_machine(tmp_path) == Mirror("https://m.test/debian", "http://sec.test/debian-security")
        (tmp_path / "etc/os-release").write_text("ID=ubuntu\n")
        assert mirror.of_machine(tmp_path) is None

    def test_precedence_of_mirrors(self, site: LabSpec, tmp_path: Path) -> None:
        named = replace(site, mirror="https://inv.test/debian")
        environ = {"STACKSPEC_MIRROR": "http://env.test/debian/"}
        assert mirror.choose(named, environ, tmp_path) == Mirror(
            "https://inv.test/debian", "https://inv.test/debian-security"
        )
        chosen = mirror.choose(site, environ, tmp_path)
        assert chosen is not None
        assert chosen.archive == "http://env.test/debian"
        assert mirror.choose(site, {}, tmp_path) is None

    def test_nodes_use_http_and_the_proxy_the_configured_url(self) -> None:
        found = Mirror("https://M.test/debian")
        assert found.lines(plain=True)[0].startswith("deb http://M.test/debian ")
        assert found.hosts() == {"m.test": "https"}


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


class TestLayers:
    def folder(self, tmp_path: Path, site: LabSpec) -> Folder:
        folder = Folder(tmp_path / "lab")
        for node in site.nodes:
            folder.upper(node.name).mkdir(parents=True)
            (folder.upper(node.name) / "mark").write_text(node.name)
        return folder

    def test_state_survives_and_starts_empty(self, tmp_path: Path) -> None:
        folder = Folder(tmp_path)
        assert folder.read() == State()
        state = folder.write(State("root", ("a", "b"), saving="c"))
        assert folder.read() == state

    def test_newest_layer_comes_first(self, tmp_path: Path) -> None:
        lower = Folder(tmp_path).lower(State("r", ("a", "b")), "n", Path("/rootfs"))
        assert lower == [tmp_path / "snapshots/b/n", tmp_path / "snapshots/a/n", Path("/rootfs")]

    @pytest.mark.parametrize("moved", [0, 1, 2])
    def test_killed_snapshot_is_finished(self, tmp_path: Path, site: LabSpec, moved: int) -> None:
        folder = self.folder(tmp_path, site)
        for node in site.nodes[:moved]:
            folder.layer("one", node.name).parent.mkdir(parents=True, exist_ok=True)
            folder.upper(node.name).rename(folder.layer("one", node.name))
        halted: list[bool] = []
        state = snapshots.finish(folder, site, State("r", saving="one"), lambda: halted.append(True))
        assert state == folder.read() == State("r", ("one",))
        assert halted == [True]
        assert folder.snapshot("one") == Snapshot("one", "r", ("one",))
        for node in site.nodes:
            assert (folder.layer("one", node.name) / "mark").read_text() == node.name
            assert not list(folder.upper(node.name).iterdir())

    def test_restore_discards_and_may_be_repeated(self, tmp_path: Path, site: LabSpec) -> None:
        folder = self.folder(tmp_path, site)
        folder.write_snapshot(Snapshot("one", "old", ("one",)))
        begun = State("new", ("one", "two"), restoring="one")
        for _ in range(2):
            assert snapshots.finish(folder, site, begun, lambda: None) == State("old", ("one",))
        assert not list(folder.upper("controller").iterdir())

    def test_nodes_keep_running_without_interrupted_work(self, tmp_path: Path, site: LabSpec) -> None:
        state = State("r", ("one",))
        assert snapshots.finish(Folder(tmp_path), site, state, lambda: pytest.fail("stopped")) == state

    def test_disks_are_saved_and_restored(self, tmp_path: Path, site: LabSpec) -> None:
        """Writes since a snapshot are lost, the snapshot stays, and leftovers of a killed copy are not disks."""
        folder, node = self.folder(tmp_path, site), site.node("compute01")
        disks.make(site, node, folder.disks("compute01"))
        file = folder.disks("compute01") / "ss-lab-compute01.sdb"
        file.write_bytes(b"before")
        snapshots.finish(folder, site, State("r", saving="one"), lambda: None)
        file.write_bytes(b"after")
        (folder.disks("compute01").with_name("disks.new")).mkdir()
        for _ in range(2):
            snapshots.finish(folder, site, State("r", ("one",), restoring="one"), lambda: None)
            assert file.read_bytes() == b"before"
        assert (folder.kept_disks("one", "compute01") / file.name).read_bytes() == b"before"
        assert not folder.disks("compute01").with_name("disks.new").exists()

    def test_snapshot_of_nodes_without_disks_leaves_none(self, tmp_path: Path, site: LabSpec) -> None:
        """Disks added to the inventory since then are blank."""
        folder, node = self.folder(tmp_path, site), site.node("compute01")
        snapshots.finish(folder, site, State("r", saving="one"), lambda: None)
        disks.make(site, node, folder.disks("compute01"))
        snapshots.finish(folder, site, State("r", ("one",), restoring="one"), lambda: None)
        assert not folder.disks("compute01").exists()

    def test_disks_are_sparse_and_created_once(self, tmp_path: Path, site: LabSpec) -> None:
        """A disk takes no space until it is written to."""
        disks.make(site, site.node("compute01"), tmp_path / "disks")
        files = sorted((tmp_path / "disks").iterdir())
        assert [file.name for file in files] == [f"ss-lab-compute01.{name}" for name in ("sdb", "sdc", "sdd")]
        assert [file.stat().st_size >> 30 for file in files] == [2, 2, 20]
        assert {file.stat().st_blocks for file in files} == {0}
        files[0].write_bytes(b"data")
        disks.make(site, site.node("compute01"), tmp_path / "disks")
        assert files[0].read_bytes() == b"data"

    def test_names_and_missing_parts(self, tmp_path: Path, site: LabSpec) -> None:
        folder = self.folder(tmp_path, site)
        snapshot = Snapshot("one", "r", ("one",))
        folder.write_snapshot(snapshot)
        with pytest.raises(InputError, match="already"):
            snapshots.check_new(folder, "one")
        with pytest.raises(InputError, match="not a valid snapshot name"):
            snapshots.check_new(folder, "../x")
        with pytest.raises(InputError, match="existing: one"):
            folder.snapshot("two")
        with pytest.raises(LabError, match="root file system r, which is gone"):
            snapshots.check_usable(folder, site, snapshot, tmp_path)
        (tmp_path / "rootfs/r").mkdir(parents=True)
        with pytest.raises(LabError, match="no layer 'one' of the node controller"):
            snapshots.check_usable(folder, site, snapshot, tmp_path)


class TestMadeOnce:
    def test_created_once_and_announced_before_and_after(self, tmp_path: Path) -> None:
        said: list[str] = []
        final = tmp_path / "trees/a"
        assert made_once(final, "tree", "making a", lambda tree: tree.mkdir(), said.append) == final
        assert final.is_dir()
        assert [line.split(" (")[0] for line in said] == ["tree: making a", "tree: made in 0 s"]
        made_once(final, "tree", "making a", lambda tree: pytest.fail("it is there"), said.append)
        assert len(said) == 2

    def test_failed_or_killed_work_leaves_nothing(self, tmp_path: Path) -> None:
        def fail(tree: Path) -> None:
            (tree / "half").mkdir(parents=True)
            raise LabError("no archive")

        final = tmp_path / "trees/a"
        (final.parent / ".a.1" / "of a killed process").mkdir(parents=True)
        with pytest.raises(LabError, match="no archive"):
            made_once(final, "tree", "making a", fail, lambda line: None)
        assert [path.name for path in final.parent.iterdir()] == ["lock"]
