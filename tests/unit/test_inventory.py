"""An inventory: each error has file and line, the problem and the fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import pytest

from stackspec.cloud_inventory import CloudInventory, inventory_of, load_site
from stackspec.errors import InputError
from stackspec.inventory import Inventory, load_inventory
from stackspec.schema import Strict, matches
from stackspec.site import check_config

from . import small_inventory
from .small_inventory import TEXT, line_of

write = small_inventory.write


def test_valid_inventory(write: Callable[..., Path], tmp_path: Path) -> None:
    """The inventory that the other tests break is valid, by file and by folder; loading writes nothing."""
    site = load_site(write())
    assert [node.address for node in site.nodes.values()] == ["10.0.0.10", "10.0.0.20"]
    assert site.controller.name == "controller"
    assert load_site(tmp_path).inventory == site.inventory
    assert site.password("glance") == site.password("glance") != site.password("nova")
    assert not (tmp_path / "state").exists()


def test_zones(write: Callable[..., Path]) -> None:
    """A zone has the compute nodes that name it; other nodes are in no zone, and may have volumes."""
    assert inventory_of(load_site(write())).zones() == {}
    site = inventory_of(load_site(write(TEXT.replace("[compute]", "[compute]\n    availability_zone: rack1"))))
    assert site.zones() == {"rack1": ["compute01"]}
    assert site.nodes["compute01"].volumes


BAD = {
    "unknown key": ("release: epoxy", "relase: epoxy", "unknown key 'relase'; did you mean 'release'? (known here: "),
    "unknown key of a node": ("roles: [compute]", "role: [compute]", "nodes.compute01: unknown key 'role'; did you"),
    "unknown key of a network": (
        "gateway:",
        "gatway:",
        "networks.provider: unknown key 'gatway'; did you mean 'gateway'?",
    ),
    "unknown network": (
        "  management: {cidr",
        "  mgmt: {cidr",
        "'mgmt' is unknown; expected 'management' or 'provider'",
    ),
    "bad address": ("10.0.0.20,", "10.0.0.300,", "nodes.compute01.management.address: '10.0.0.300' is not an address"),
    "address for a network": ("10.0.0.0/24", "10.0.0.1/24", "'10.0.0.1/24' is an address; the network is 10.0.0.0/24"),
    "bad network": ("10.0.0.0/24", "ten", "networks.management.cidr: 'ten' is not a network such as 10.0.0.0/24"),
    "address outside": ("10.0.0.20,", "10.0.1.20,", "10.0.1.20 is not in 10.0.0.0/24, the management network"),
    "address twice": (
        "10.0.0.20,",
        "10.0.0.10,",
        "compute01.management.address: 10.0.0.10 is already used by controller",
    ),
    "address in the pool": ("192.168.35.20,", "192.168.35.120,", "192.168.35.120 is in networks.provider.pool"),
    "gateway outside": ("35.2\n", "36.2\n", "networks.provider.gateway: 192.168.36.2 is not in 192.168.35.0/24"),
    "pool outside": ("[192.168.35.100", "[192.168.34.100", "networks.provider.pool: 192.168.34.100 is not in"),
    "pool turned round": ("[192.168.35.100, ", "[192.168.35.201, ", "192.168.35.201 comes after 192.168.35.200; swap"),
    "half a pool": (
        "[192.168.35.100, 192.168.35.200]",
        "[192.168.35.100]",
        "the list is too short: entry 2 is missing",
    ),
    "networks overlap": ("cidr: 192.168.35.0/24", "cidr: 10.0.0.0/8", "10.0.0.0/8 overlaps the management network"),
    "role unknown": ("[compute]", "[computer]", "'computer' is unknown; expected 'controller', 'compute' or 'storage'"),
    "roles empty": ("[compute]", "[]", "nodes.compute01.roles: the list is empty; at least one entry is required"),
    "dashboard of any name": (
        "release: epoxy-trixie\n",
        "release: epoxy-trixie\ndashboard_names: ['*']\n",
        "dashboard_names.0: '*' is not a name or address such as cloud.example.org",
    ),
    "public host is a URL": (
        "release: epoxy-trixie\n",
        "release: epoxy-trixie\npublic_host: http://192.168.35.10\n",
        "public_host: 'http://192.168.35.10' is not a name or address such as cloud.example.org",
    ),
    "roles no list": ("[compute]", "compute", "nodes.compute01.roles: expected a list"),
    "two controllers": (
        "[compute]",
        "[compute, controller]",
        "controller is already the controller; there can be only one",
    ),
    "disks of no storage node": (
        "[compute]",
        "[compute]\n    disks: {swift: {devices: [/dev/sdb, /dev/sdc]}}",
        "nodes.compute01.disks: requires the role storage; add it to the node's roles",
    ),
    "disks of an unknown service": (
        "[compute]",
        "[compute, storage]\n    disks: {swfit: {devices: [/dev/sdb, /dev/sdc]}}",
        "'swfit' is unknown; expected 'swift' or 'cinder'",
    ),
    "unknown key of disks": (
        "[compute]",
        "[compute, storage]\n    disks: {swift: {devices: [/dev/sdb, /dev/sdc], wype: true}}",
        "nodes.compute01.disks.swift: unknown key 'wype'; did you mean 'wipe'? (known here: devices, wipe)",
    ),
    "a disk for two": (
        "[compute]",
        "[compute, storage]\n    disks: {cinder: {devices: [/dev/sdc]}, swift: {devices: [/dev/sdb, /dev/sdc]}}",
        "nodes.compute01.disks.swift.devices: /dev/sdc is already used by cinder; list each disk once",
    ),
    "a disk twice": (
        "[compute]",
        "[compute, storage]\n    disks: {swift: {devices: [/dev/sdb, /dev/sdb]}}",
        "nodes.compute01.disks.swift.devices: /dev/sdb is already used by swift; list each disk once",
    ),
    "two disks of one name": (
        "[compute]",
        "[compute, storage]\n    disks: {swift: {devices: [/dev/sdb, /dev/disk/sdb]}}",
        "nodes.compute01.disks.swift.devices: /dev/disk/sdb is already used by swift; list each disk once",
    ),
    "no device": (
        "[compute]",
        "[compute, storage]\n    disks: {swift: {devices: [sdb, sdc]}}",
        "nodes.compute01.disks.swift.devices: sdb is not a device path such as /dev/sdb",
    ),
    "no devices": (
        "[compute]",
        "[compute, storage]\n    disks: {swift: {devices: []}}",
        "nodes.compute01.disks.swift.devices: the list is empty; at least one entry is required",
    ),
    "one disk for two copies": (
        "[compute]",
        "[compute, storage]\n    disks: {swift: {devices: [/dev/sdb]}}",
        "nodes.compute01.disks.swift.devices: two replicas need two disks",
    ),
    "volumes of no compute node": (
        "[controller]",
        "[controller]\n    volumes: false",
        "nodes.controller.volumes: only nodes with the role compute run servers; remove it",
    ),
    "volumes, perhaps": (
        "[compute]",
        "[compute]\n    volumes: some",
        "nodes.compute01.volumes: 'some' is neither true nor false",
    ),
    "zone of no compute node": (
        "[controller]",
        "[controller]\n    availability_zone: rack1",
        "nodes.controller.availability_zone: only nodes with the role compute run servers; remove it",
    ),
    "zone of nova's own": (
        "[compute]",
        "[compute]\n    availability_zone: nova",
        "nodes.compute01.availability_zone: nova is reserved by nova; choose another name, or omit the key",
    ),
    "zone of no name": (
        "[compute]",
        "[compute]\n    availability_zone: 'rack 1:a'",
        "nodes.compute01.availability_zone: 'rack 1:a' is not the name of a zone",
    ),
    "node name": ("  compute01:", "  Compute_1:", "'Compute_1' is not a name: lower case letters, digits and hyphens"),
    "node name twice": ("  compute01:", "  controller:   # again", "duplicate key 'controller'"),
    "release": (
        "epoxy-trixie",
        "zed",
        "release: 'zed' is unknown; known releases: caracal-bookworm, caracal-jammy, epoxy-trixie, gazpacho-bookworm",
    ),
    "image file": ("guest.img", "none.img", "none.img; give a file, a URL or test-guest"),
    "ssh key": ("user: root", "key: no/key", "no/key; without the key, ssh uses its own settings"),
    "ssh configuration": ("user: root", "config: none", "ssh.config: no file "),
    "ssh port": ("user: root", "port: ssh", "ssh.port: expected a port from 1 to 65535"),
    "secrets file": ("secrets: generated", "secrets: none.yaml", "none.yaml; give a file, or generated"),
    "secrets no path": ("secrets: generated", "secrets: 5", "secrets: expected generated, guide or a file path"),
    "node localhost": ("  compute01:", "  localhost:", "nodes.localhost: this name refers to every machine itself"),
    "network address": ("10.0.0.20,", "10.0.0.0,", "10.0.0.0 is the network address of 10.0.0.0/24"),
    "broadcast address": ("10.0.0.20,", "10.0.0.255,", "10.0.0.255 is the broadcast address of 10.0.0.0/24"),
    "gateway's address": ("192.168.35.20,", "192.168.35.2,", "192.168.35.2 is already the network's gateway"),
    "gateway is the network": ("35.2\n", "35.0\n", "networks.provider.gateway: 192.168.35.0 is the network address"),
    "gateway in the pool": (
        "[192.168.35.100, ",
        "[192.168.35.2, ",
        "networks.provider.pool: contains the gateway 192.168.35.2",
    ),
    "one interface": ("35.20, interface: eth1", "35.20, interface: eth0", "eth0 is already the management interface"),
    "interface is a path": ("35.20, interface: eth1", "35.20, interface: ../eth1", "is not an interface name"),
    "interface of two lines": (
        "35.20, interface: eth1",
        '35.20, interface: "a\\nb"',
        "contains a line break or another control",
    ),
    "host is an option": (
        "[compute]",
        "[compute]\n    ssh_host: -oProxyCommand=reboot",
        "nodes.compute01.ssh_host: '-oProxyCommand=reboot' is not a name or address",
    ),
    "wipe without a serial number": (
        "[compute]\n",
        "[compute, storage]\n    disks: {swift: {devices: [/dev/sdb, /dev/sdc], wipe: true}}\n",
        "nodes.compute01.disks.swift.wipe: expected a list of quoted serial numbers",
    ),
    "disk that is a path elsewhere": (
        "[compute]\n",
        "[compute, storage]\n    disks: {swift: {devices: [/dev/../etc/x, /dev/sdc]}}\n",
        "nodes.compute01.disks.swift.devices",
    ),
    "two nodes at one address": (
        "[compute]\n",
        "[compute]\n    ssh_host: 10.0.0.10\n",
        "nodes.compute01.ssh_host: 10.0.0.10 is already used by controller",
    ),
    "user is an option": ("user: root", "user: -oProxyCommand=reboot", "is not a user name such as ubuntu"),
    "port too large": ("user: root", "port: 65536", "ssh.port: expected a port from 1 to 65535"),
    "port zero": ("user: root", "port: 0", "ssh.port: expected a port from 1 to 65535"),
    "time server of two lines": (
        "release: epoxy-trixie\n",
        'release: epoxy-trixie\ntime_servers: ["a\\nallow all"]\n',
        "contains a line break or another control character",
    ),
    "release is a path": (
        "epoxy-trixie",
        "../releases/epoxy-trixie",
        "is unknown; known releases: caracal-bookworm, caracal-jammy",
    ),
    "option of two lines": (
        "secrets: generated\n",
        'secrets: generated\nconfig: {nova: {/etc/nova/nova.conf: {DEFAULT: {debug: "a\\nb"}}}}\n',
        "contains a line break or another control character",
    ),
    "file outside": (
        "secrets: generated\n",
        "secrets: generated\nconfig: {nova: {/etc/nova/../passwd: {DEFAULT: {debug: true}}}}\n",
        "config.nova: /etc/nova/../passwd is not an absolute path",
    ),
    "alias": (
        "user: root",
        "user: &a root, key: *a",
        "*a is an alias, which is refused because a few can fill the memory",
    ),
    "not YAML": ("  compute01:", "  compute01: ]", "not valid YAML: "),
    "tab": ("ssh: {user: root}", "ssh:\n\tuser: root", "not valid YAML: "),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_value(case: str, write: Callable[..., Path]) -> None:
    """The message has the line of the value, the problem and a correct value."""
    before, after, message = BAD[case]
    assert TEXT.count(before) == 1, "the test itself"
    text = TEXT.replace(before, after)
    path = write(text)
    with pytest.raises(InputError) as raised:
        load_site(path)
    line = text[: TEXT.index(before) + len(after.rstrip())].count("\n") + 1
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert message in str(raised.value)


class TestOctavia:
    """The section octavia."""

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("network: 10.0.0.0/8", "octavia.network: 10.0.0.0/8 overlaps the management network, 10.0.0.0/24"),
            ("network: 192.168.35.0/24", "192.168.35.0/24 overlaps the provider network, 192.168.35.0/24"),
            ("network: 172.16.0.0/25", "octavia.network: 172.16.0.0/25 is too small; at least 256 addresses (/24)"),
            ("network: 172.16.0.1/24", "octavia.network: '172.16.0.1/24' is an address; the network is 172.16.0.0/24"),
            ("flavor: {vcpu: 1, ram: 512, disk: 2}", "octavia.flavor: unknown key 'vcpu'; did you mean 'vcpus'?"),
            ("nework: 172.16.0.0/24", "octavia: unknown key 'nework'; did you mean 'network'?"),
        ],
    )
    def test_invalid_option(self, line: str, message: str, write: Callable[..., Path]) -> None:
        """Reported at its line."""
        path = write(TEXT + f"octavia:\n  image: {{source: guest.img}}\n  {line}\n")
        with pytest.raises(InputError) as raised:
            load_site(path)
        assert str(raised.value).startswith(f"{path}:{line_of(path.read_text(), line)}: ")
        assert message in str(raised.value)

    def test_without_an_image(self, write: Callable[..., Path]) -> None:
        """There is no sensible default."""
        path = write(TEXT + "octavia:\n  network: 172.16.0.0/22\n")
        with pytest.raises(InputError, match="octavia: 'image' is missing"):
            load_site(path)

    def test_default_network_overlaps(self, write: Callable[..., Path]) -> None:
        """A site that uses this network itself has to choose another one."""
        text = TEXT.replace("10.0.0.", "172.20.0.") + "octavia:\n  image: {source: guest.img}\n"
        path = write(text)
        with pytest.raises(InputError) as raised:
            load_site(path)
        assert str(raised.value).startswith(
            f"{path}:{line_of(text, 'octavia:')}: octavia.network: 172.16.0.0/12 overlaps"
        )

    def test_image_is_private(self, write: Callable[..., Path]) -> None:
        """Nobody else can boot it; other images are public by default."""
        inventory = inventory_of(load_site(write(TEXT + "octavia:\n  image: {source: guest.img}\n")))
        assert inventory.octavia is not None
        assert (inventory.octavia.image.visibility, inventory.images["cirros"].visibility) == ("private", "public")


@pytest.mark.parametrize(
    ("gone", "line", "message"),
    [
        pytest.param("site: small\n", "release", "'site' is missing", id="site"),
        pytest.param(
            "    roles: [compute]\n", "  compute01:", "nodes.compute01: 'roles' is missing", id="roles of a node"
        ),
        pytest.param("address: 10.0.0.20, ", "{interface: eth0}", "management: 'address' is missing", id="address"),
        pytest.param(
            TEXT[TEXT.index("  compute01") : TEXT.index("ssh:")], "nodes:", "no node has the role compute", id="role"
        ),
        pytest.param(
            "  management: {cidr: 10.0.0.0/24}\n", "networks:", "networks.management is missing", id="network"
        ),
    ],
)
def test_missing_key(gone: str, line: str, message: str, write: Callable[..., Path]) -> None:
    """Missing keys are reported where they belong."""
    text = TEXT.replace(gone, "")
    path = write(text)
    with pytest.raises(InputError) as raised:
        load_site(path)
    assert str(raised.value).startswith(f"{path}:{line_of(text, line)}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["", "- a\n", "hello\n"], ids=["empty", "list", "word"])
def test_not_a_mapping(text: str, write: Callable[..., Path]) -> None:
    """The message points to the example."""
    path = write(text)
    with pytest.raises(
        InputError, match=rf"{re.escape(str(path))}:1: expected a mapping .*`stackspec init` writes an example"
    ):
        load_site(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"site: \x00\n"], ids=["not UTF-8", "control characters"])
def test_not_text(content: bytes, write: Callable[..., Path]) -> None:
    """For example an image passed as inventory by mistake."""
    path = write()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r":1: not a YAML file"):
        load_site(path)


def test_no_file(tmp_path: Path) -> None:
    """A path or folder without an inventory."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match=r"no such file; choose an inventory with --inventory PATH"):
            load_site(path)


def test_comments_and_blank_lines_count_as_lines(write: Callable[..., Path]) -> None:
    """Line numbers include comments and blank lines."""
    path = write("# a\n\n" + TEXT.replace("10.0.0.20,", "10.0.0.300,"))
    with pytest.raises(InputError) as raised:
        load_site(path)
    assert f"{path}:{line_of(TEXT, '10.0.0.20,') + 2}: " in str(raised.value)


def test_ssh_paths_are_relative_to_the_inventory(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative key is found from any working directory."""
    (tmp_path / "key").touch()
    path = write(TEXT.replace("user: root", "key: key"))
    monkeypatch.chdir("/")
    assert load_site(path).inventory.ssh.key == tmp_path / "key"


class Zone(Strict):
    """A section of a made-up service."""

    mail: Annotated[str, matches(r"[^@]+@[^@]+", "an address such as a@b.org")]


class WithZones(Inventory):
    """An inventory with that section."""

    zones: Mapping[str, Zone] = {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "org: {mial: a@b.org}",
            "zones.org: unknown key 'mial'; did you mean 'mail'? (known here: mail)",
        ),
        ("org: {mail: nobody}", "zones.org.mail: 'nobody' is not an address such as a@b.org"),
        ("org: nothing", "zones.org: expected a mapping (key: value)"),
        ("org: {}", "zones.org: 'mail' is missing; `stackspec init` writes an example"),
    ],
)
def test_reader_uses_the_model_of_a_service(line: str, message: str, write: Callable[..., Path]) -> None:
    """The service defines keys, checks and messages; the reader adds the line and a suggestion."""
    path = write(TEXT + f"zones:\n  {line}\n")
    with pytest.raises(InputError) as raised:
        load_inventory(path, WithZones)
    assert str(raised.value) == f"{path}:{line_of(path.read_text(), line)}: {message}"


def test_reader_knows_no_service(write: Callable[..., Path]) -> None:
    """Undeclared keys are refused, and are not sections whose absence excludes a step."""
    text = TEXT + "octavia:\n  image: {source: guest.img}\n"
    assert load_inventory(write(text), CloudInventory).has("octavia")
    with pytest.raises(InputError, match="unknown key 'octavia' \\(known here: "):
        load_inventory(write(text), Inventory)


def test_options_of_an_unknown_step(write: Callable[..., Path]) -> None:
    """Otherwise they would be ignored."""
    path = write(TEXT + "config:\n  nova: {}\n  glace: {}\n")
    with pytest.raises(InputError) as raised:
        check_config(load_site(path), ["nova", "glance"])
    line = line_of(path.read_text(), "glace")
    assert str(raised.value) == f"{path}:{line}: config.glace: there is no such step; did you mean 'glance'?"


def test_default_route_needs_a_gateway(write: Callable[..., Path]) -> None:
    """The bridge takes over the route, with the network's gateway."""
    text = TEXT.replace("35.20, interface: eth1", "35.20, interface: eth1, default_route: true")
    assert load_inventory(write(text), CloudInventory).nodes["compute01"].provider.default_route
    with pytest.raises(InputError, match="default_route: requires networks"):
        load_inventory(write(text.replace("    gateway: 192.168.35.2\n", "")), CloudInventory)


def test_endless_nesting(write: Callable[..., Path]) -> None:
    """An inventory must not exhaust the stack."""
    with pytest.raises(InputError, match=r"site.yaml:1: nested too deeply"):
        load_site(write("site: " + "[" * 5000 + "]" * 5000))
