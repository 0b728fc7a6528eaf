"""`stackspec init` writes an inventory of machines that answer over ssh; a script named ssh simulates them here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stackspec.cloud_inventory import CloudInventory, inventory_of, load_site
from stackspec.commands.cli import main
from stackspec.inventory import load_inventory
from stackspec.site import Site

SSH = """\
#!/bin/sh
# Called as ssh [-o OPTION] ... HOST COMMAND; its arguments are recorded, a host's answer is a file.
for host do [ "$host" = "sh -s" ] || last=$host; done
cat >"$0.script"
echo "$*" >>"$0.called"
last=${last#*@}
[ -f "$0.$last" ] || { echo "Permission denied (publickey)." >&2; exit 255; }
cat "$0.$last"
"""
TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian'
JAMMY = 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nVERSION_ID="22.04"\nID=ubuntu'
PARTITION = {"name": "sda1", "type": "part", "size": 1 << 30, "fstype": "ext4", "mountpoint": "/"}


def card(name: str, address: str = "", kind: str | None = None) -> dict[str, Any]:
    """An interface as in the output of `ip -details -json address`."""
    local, _, length = address.partition("/")
    inet = [{"family": "inet", "local": local, "prefixlen": int(length)}] if address else []
    six = {"family": "inet6", "local": "fe80::1", "prefixlen": 64}
    return {"ifname": name, "addr_info": [*inet, six], **({"linkinfo": {"info_kind": kind}} if kind else {})}


def disk(name: str, **known: Any) -> dict[str, Any]:
    """A disk as in the output of lsblk."""
    blank = {"type": "disk", "size": 100 << 30, "fstype": None, "mountpoint": None, "model": "QEMU  HARDDISK"}
    return {"name": name, **blank, "ro": False, "rm": False, **known}


class Machines:
    """Simulated machines, and the command."""

    def __init__(self, folder: Path) -> None:
        self.ssh = folder / "bin/ssh"
        self.ssh.parent.mkdir()
        self.ssh.write_text(SSH)
        self.ssh.chmod(0o755)
        self.file = folder / "site.yaml"

    def add(
        self,
        host: str,
        came: str,
        *cards: dict[str, Any],
        name: str = "",
        system: str = TRIXIE,
        default_route: tuple[str, str] | None = None,
        disks: tuple[dict[str, Any], ...] = (),
        resolvers: str = "nameserver 10.0.0.53",
        modules: str = "iscsi_tcp\nopenvswitch",
        processors: str = "vmx",
        python: str = "/usr/bin/python3",
    ) -> None:
        """Simulate a machine at `host`; ssh connects to the address `came`."""
        routes = [{"dst": "default", "dev": default_route[0], "gateway": default_route[1]}] if default_route else []
        parts = {
            "name": name or host,
            "came": f"10.0.0.99 50000 {came} 22" if came else "",
            "system": system,
            "addresses": json.dumps([card("lo", "127.0.0.1/8"), *cards]),
            "routes": json.dumps(routes),
            "resolvers": resolvers,
            "disks": json.dumps({"blockdevices": disks}),
            "blocks": "\n".join(each["name"] for each in disks if each["name"] != "sdx"),
            "modules": modules,
            "processors": processors,
            "python": python,
            "end": "",
        }
        text = "welcome to this machine\n" + "".join(f"\n== {part}\n{body}\n" for part, body in parts.items())
        Path(f"{self.ssh}.{host}").write_text(text)

    def pair(self, **second: Any) -> None:
        """A controller and a compute node in one management network, each with a second interface without address."""
        self.add("alpha", "10.0.0.10", card("eth0", "10.0.0.10/24"), card("eth1"), default_route=("eth0", "10.0.0.1"))
        self.add("beta", "10.0.0.20", card("eth0", "10.0.0.20/24"), card("eth1"), **second)

    def init(self, *arguments: str) -> int:
        """The exit status of `stackspec init`."""
        return main(["init", "--output", str(self.file), *arguments])

    def inventory(self) -> CloudInventory:
        """The written inventory, loaded."""
        return load_inventory(self.file, CloudInventory)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    found = Machines(tmp_path)
    monkeypatch.setenv("PATH", str(found.ssh.parent), prepend=os.pathsep)
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path / "state"))
    return found


def test_machines_become_nodes(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    """The first is the controller; known values are in the file, unknown ones are reported with their line."""
    machines.pair()
    assert machines.init("alpha", "beta") == 0
    site: Site = load_site(machines.file)
    assert (site.release.name, site.inventory.secrets, inventory_of(site).virt_type) == (
        "epoxy-trixie",
        "generated",
        "kvm",
    )
    assert [(node.name, node.roles, node.ssh_host) for node in site.nodes.values()] == [
        ("alpha", ("controller",), "alpha"),
        ("beta", ("compute",), "beta"),
    ]
    assert [(node.address, node.management.interface, node.provider.interface) for node in site.nodes.values()] == [
        ("10.0.0.10", "eth0", "eth1"),
        ("10.0.0.20", "eth0", "eth1"),
    ]
    assert str(site.networks["management"].cidr) == "10.0.0.0/24"
    assert [str(each) for each in site.networks["provider"].dns] == ["10.0.0.53"]
    assert inventory_of(site).nodes["beta"].volumes is True
    lines, output = machines.file.read_text().splitlines(), capsys.readouterr().out.splitlines()
    expected = [
        f"{machines.file}:{number}: {line.split('# EDIT: ')[1]}"
        for number, line in enumerate(lines, 1)
        if "# EDIT" in line
    ]
    assert output[:-1] == expected
    assert [line.split(": ", 1)[1].split(",")[0].split(";")[0] for line in expected] == [
        "no machine has an address on a second interface",
        "first and last floating IP",
        "its address there",
        "its address there",
    ]
    assert output[-1].endswith(f"./run --plan --inventory {machines.file}")


def test_provider_network_is_detected_by_its_addresses(machines: Machines) -> None:
    """The default route uses it: this is declared, and its router becomes the network's gateway."""
    for number, host in enumerate(("alpha", "beta", "gamma"), 1):
        cards = (card("eno1", f"10.0.0.{number}0/24"), card("eno2", f"192.168.35.{number}0/24"))
        machines.add(host, f"10.0.0.{number}0", *cards, default_route=("eno2", "192.168.35.2"))
    assert machines.init("alpha", "beta", "gamma") == 0
    found = machines.inventory()
    provider = found.networks["provider"]
    assert (str(provider.cidr), str(provider.gateway)) == ("192.168.35.0/24", "192.168.35.2")
    assert [str(node.provider.address) for node in found.nodes.values()] == [f"192.168.35.{n}0" for n in (1, 2, 3)]
    assert all(node.provider.default_route and node.provider.interface == "eno2" for node in found.nodes.values())
    assert provider.pool is not None
    assert provider.pool[0] < provider.pool[1]


def test_missing_requirements_are_written_as_comments(machines: Machines) -> None:
    machines.pair(modules="", processors="", python="", system=JAMMY)
    assert machines.init("alpha", "beta") == 0
    found, text = machines.inventory(), machines.file.read_text()
    assert (found.virt_type, found.datapath, found.tunnel) == ("qemu", "netdev", "provider")
    assert found.nodes["beta"].volumes is False
    assert "# EDIT: beta has no python3" in text
    assert "# EDIT: beta runs Ubuntu 22.04.5 LTS; all nodes need the release's distribution" in text


def test_disks_are_listed_but_not_assigned(machines: Machines) -> None:
    """Only blank whole disks; the owner decides which one a service gets."""
    disks = (
        *(disk("sda", children=[PARTITION]), disk("sdb"), disk("vdc", size=str(50 << 30), ro="0", rm="0")),
        *(disk("sdd", fstype="xfs"), disk("sde", mountpoint="/srv"), disk("sdf", rm=True), disk("sdg", size=0)),
        *(disk("sr0", type="rom"), disk("loop0", type="loop"), disk("zram0"), disk("sdh", ro="1")),
        disk("sdx"),  # a disk of the host: /dev/sdx does not exist here
    )
    machines.pair(disks=disks)
    assert machines.init("alpha", "beta") == 0
    assert machines.inventory().nodes["beta"].disks == {}
    text = machines.file.read_text()
    assert "    #   /dev/sdb: 100 GiB QEMU HARDDISK\n    #   /dev/vdc: 50 GiB QEMU HARDDISK\n" in text
    assert "    # disks: {swift: {devices: [/dev/sdb, /dev/vdc]}}\n" in text
    assert text.count("/dev/") == 4
    # As the owner would write it.
    edited = text.replace("    # disks:", "    disks:").replace("roles: [compute]", "roles: [compute, storage]")
    machines.file.write_text(edited)
    assert machines.inventory().nodes["beta"].devices("swift") == ("/dev/sdb", "/dev/vdc")


def test_one_machine_is_the_whole_cloud(machines: Machines) -> None:
    """It has no second interface: the file loads, and a deployment refuses the interface."""
    machines.add("10.0.0.10", "10.0.0.10", card("ens3", "10.0.0.10/24"), name="CLOUD.example.org")
    assert machines.init("10.0.0.10") == 0
    (node,) = machines.inventory().nodes.values()
    assert (node.name, node.roles, node.ssh_host) == ("cloud", ("controller", "compute"), None)
    assert node.provider.interface == "NOT-FOUND"


def test_invalid_node_names_are_replaced(machines: Machines) -> None:
    for number, name in enumerate(("localhost", "Debian_13", "debian", "debian"), 1):
        machines.add(
            f"10.0.0.{number}", f"10.0.0.{number}", card("eth0", f"10.0.0.{number}/24"), card("eth1"), name=name
        )
    assert machines.init(*(f"10.0.0.{number}" for number in (1, 2, 3, 4))) == 0
    assert list(machines.inventory().nodes) == ["controller", "compute01", "debian", "compute03"]


def test_bridges_and_tunnels_are_not_network_interfaces(machines: Machines) -> None:
    """On a deployed node the bridge has the address, and the interface in it has none."""
    more = [card("br-int", kind="openvswitch"), card("tap1", kind="tun"), card("docker0", "172.17.0.1/16", "bridge")]
    bridge = card("br-provider", "192.168.35.10/24", "openvswitch")
    cards = (*more, card("eth0", "10.0.0.10/24", "veth"), card("eth1", kind="veth"), bridge)
    machines.add("alpha", "10.0.0.10", *cards, default_route=("br-provider", "192.168.35.2"))
    assert machines.init("alpha") == 0
    (node,) = machines.inventory().nodes.values()
    assert (node.provider.interface, str(node.provider.address)) == ("eth1", "192.168.35.10")
    assert node.provider.default_route


def test_ssh_options_are_used(machines: Machines, tmp_path: Path) -> None:
    """And the inventory reaches the nodes in the same way, from any directory."""
    machines.pair()
    (tmp_path / "my key").write_text("")
    options = ["--user", "admin", "--port", "2222", "--key", str(tmp_path / "my key")]
    assert machines.init(*options, "alpha", "beta") == 0
    called = Path(f"{machines.ssh}.called").read_text()
    assert (
        called.count(f"-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 -i {tmp_path}/my key -p 2222")
        == 2
    )
    assert "admin@alpha" in called
    ssh = load_site(machines.file).inventory.ssh
    assert (ssh.user, ssh.port, ssh.key) == ("admin", 2222, tmp_path / "my key")


def test_query_script_runs_in_a_plain_shell(machines: Machines, tmp_path: Path) -> None:
    """The script works in any POSIX shell, writes nothing, and finishes when tools are missing."""
    machines.pair()
    assert machines.init("alpha", "beta") == 0
    (tmp_path / "there").mkdir()
    command = f"env -i PATH=/nothing /bin/sh -s <{machines.ssh}.script >{tmp_path}/said 2>{tmp_path}/missed"
    done = os.system(f"cd {tmp_path}/there && {command}")
    assert done == 0
    assert (tmp_path / "said").read_text().rstrip().endswith("== end")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alpha", "gone"], "gone: ssh failed: Permission denied (publickey).; try: ssh gone"),
        (["alpha", "far"], "far: not in 10.0.0.0/24, the network of alpha; it has 10.9.0.1/24"),
        (["alpha", "alpha"], "alpha: named twice; each machine can be one node only"),
        (["root@alpha"], "'root@alpha' is not the name or address of a machine; set the user with --user"),
        (["-", "alpha"], "'-' is not the name or address of a machine"),
        (["--user", "-x y", "alpha"], "--user -x y: not a user name such as ubuntu"),
        (["--port", "0", "alpha"], "--port 0: expected 1 to 65535"),
        (["--key", "/no/key", "alpha"], "--key /no/key: no such file"),
        (
            ["--name", "My Site", "alpha"],
            "--name My Site: use lower case letters, digits and hyphens, starting with a letter",
        ),
    ],
)
def test_refused_command_writes_nothing(
    machines: Machines, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    machines.pair()
    machines.add("far", "10.9.0.1", card("eth0", "10.9.0.1/24"), card("eth1"))
    if arguments[0] == "--user":
        arguments = [f"--user={arguments[1]}", *arguments[2:]]
    assert machines.init(*arguments) == 4
    assert capsys.readouterr().err == f"stackspec: {message}\n"
    assert not machines.file.exists()


def test_conflicts_are_written_and_reported(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    """Both interfaces in one network: the owner has to resolve that in the file."""
    machines.add("alpha", "10.0.0.10", card("eth0", "10.0.0.10/24"), card("eth1", "10.0.0.11/24"))
    assert machines.init("alpha") == 4
    error = capsys.readouterr().err
    assert error.startswith(f"stackspec: {machines.file} was written, but is inconsistent: ")
    assert f"{machines.file}:" in error.partition("inconsistent: ")[2]
    assert "overlaps the management network" in error
