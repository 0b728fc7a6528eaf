"""The lab's view of its inventory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from ..yaml_file import YamlSource, plain_data, read_yaml

MANAGEMENT = "management"

# No dash: `ss-<name>-<node>` must not be readable as the name of another lab. Interface names are 15 characters.
_LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_NODE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")
_INTERFACE = re.compile(r"[a-z][a-z0-9]{0,9}")
# A UML kernel has its own disk names.
_DISKS = {"container": re.compile(r"/dev/((?:s|v|xv)d[a-z])"), "uml": re.compile(r"/dev/(ubd[b-p])")}
_DISK_SIZES = {"cinder": 20 << 30}
_DISK_SIZE = 2 << 30  # bytes; enough for the tests
_NODE_KEYS = {"kind", "memory"}
_SUITES = ("bookworm", "trixie")

Kind = Literal["container", "uml"]


@dataclass(frozen=True)
class Network:
    """A network of the lab: one bridge, with the lab's own `address`."""

    name: str
    address: IPv4Interface

    @property
    def cidr(self) -> IPv4Network:
        return self.address.network


@dataclass(frozen=True)
class Port:
    """A node's interface on a network; `default_route`: the default route uses it, not management.

    All others get their addresses from the deployment, not from the lab.
    """

    network: str
    interface: str
    address: IPv4Address
    default_route: bool = False


@dataclass(frozen=True)
class Disk:
    """A disk besides the one that a node boots from: its name below /dev, and how many bytes it has."""

    device: str
    size: int


@dataclass(frozen=True)
class Node:
    """A node of the lab: a container on the host's kernel, or one with its own kernel (`uml`).

    `memory` (MiB) is the limit of a UML node; containers share the host's memory.
    """

    name: str
    ports: tuple[Port, ...]
    disks: tuple[Disk, ...] = ()
    kind: Kind = "container"
    memory: int = 3072

    @property
    def management(self) -> Port:
        return next(port for port in self.ports if port.network == MANAGEMENT)

    @property
    def way_out(self) -> Port:
        """The interface of its default route."""
        return next((port for port in self.ports if port.default_route), self.management)


@dataclass(frozen=True)
class LabSpec:
    """A lab: name, networks (management first), nodes, and package source (None: the host's).

    `suite` is the Debian release of its nodes.
    """

    name: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    mirror: str | None = None
    security_mirror: str | None = None
    suite: str = "trixie"

    @property
    def prefix(self) -> str:
        """Prefix of all names that the lab creates on the host."""
        return f"ss-{self.name}"

    @property
    def management(self) -> Network:
        return self.networks[0]

    def node(self, name: str) -> Node:
        """The node of that name.

        :raises InputError: naming the existing nodes
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise InputError(f"The lab has no node {name!r}; it has {', '.join(node.name for node in self.nodes)}")

    def network(self, name: str) -> Network:
        """The network of that name."""
        return next(network for network in self.networks if network.name == name)


def load(inventory: Path, name: str | None = None) -> LabSpec:
    """Read the lab from an inventory: networks, the nodes' interfaces, and the section `lab`.

    :param inventory: the YAML file of the site, or the folder that holds it as site.yaml
    :param name: a name for the lab instead of the inventory's
    :raises InputError: with file:line, and which key is wrong
    """
    data, source = read_yaml(inventory / "site.yaml" if inventory.is_dir() else inventory)
    return _Reader(source).spec(plain_data(data), name)


class _Reader:
    """Reads values, with the path of the key in errors."""

    def __init__(self, source: YamlSource) -> None:
        self.source = source

    def error(self, key: str, problem: str) -> InputError:
        line = self.source.line(tuple(key.split(".")))
        return InputError(f"{self.source.path}:{line}: {key}: {problem}")

    def mapping(self, value: Any, key: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not value:
            raise self.error(key, "expected a mapping")
        return value

    def name(self, value: Any, key: str, pattern: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} is not a valid name; it must match {pattern.pattern}")
        return value

    def uri(self, value: Any, key: str) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not re.match(r"https?://[^/]+|(file://)?/", value):
            raise self.error(key, f"{value!r} is not an http or https address, a file URL or an absolute path")
        return value.rstrip("/")

    def spec(self, data: Any, name: str | None) -> LabSpec:
        root = self.mapping(data, "the file")
        if "lab" not in root:
            raise self.error("lab", "there is no such section, so this site is not an embedded lab")
        lab = self.mapping(root["lab"], "lab")
        networks = self.networks(self.mapping(root.get("networks"), "networks"))
        kinds = self.mapping(lab["nodes"], "lab.nodes") if "nodes" in lab else {}
        sections = self.mapping(root.get("nodes"), "nodes")
        if strange := sorted(set(kinds) - set(sections)):
            raise self.error(f"lab.nodes.{strange[0]}", f"there is no such node; there are {', '.join(sections)}")
        nodes = tuple(
            self.node(str(key), self.mapping(value, f"nodes.{key}"), networks, kinds.get(key, {}))
            for key, value in sections.items()
        )
        self.no_twins(nodes)
        return LabSpec(
            name=self.name(name or lab.get("name"), "lab.name", _LAB_NAME),
            networks=networks,
            nodes=nodes,
            mirror=self.uri(lab.get("mirror"), "lab.mirror"),
            security_mirror=self.uri(lab.get("security_mirror"), "lab.security_mirror"),
            suite=self.suite(lab.get("suite", LabSpec.suite)),
        )

    def suite(self, value: Any) -> str:
        if value not in _SUITES:
            raise self.error("lab.suite", f"{value!r} is unknown; expected {' or '.join(_SUITES)}")
        return str(value)

    def networks(self, section: Mapping[str, Any]) -> tuple[Network, ...]:
        if MANAGEMENT not in section:
            raise self.error(f"networks.{MANAGEMENT}", "is missing")
        names = sorted(section, key=lambda name: name != MANAGEMENT)
        return tuple(self.network(name, self.mapping(section[name], f"networks.{name}")) for name in names)

    def network(self, name: str, section: Mapping[str, Any]) -> Network:
        key = f"networks.{name}"
        try:
            cidr = IPv4Network(section.get("cidr"))
            gateway = IPv4Address(section["gateway"]) if "gateway" in section else cidr[1]
        except (ValueError, IndexError) as error:
            raise self.error(key, str(error)) from error
        if gateway not in cidr:
            raise self.error(f"{key}.gateway", f"{gateway} is not in {cidr}")
        return Network(name, IPv4Interface(f"{gateway}/{cidr.prefixlen}"))

    def node(self, name: str, section: Mapping[str, Any], networks: tuple[Network, ...], machine: Any) -> Node:
        key = f"nodes.{name}"
        self.name(name, key, _NODE_NAME)
        ports = []
        for network in networks:
            if network.name not in section:
                continue
            port_key = f"{key}.{network.name}"
            port = self.mapping(section[network.name], port_key)
            interface = self.name(port.get("interface"), f"{port_key}.interface", _INTERFACE)
            try:
                address = IPv4Address(port.get("address"))
            except ValueError as error:
                raise self.error(f"{port_key}.address", str(error)) from error
            if address not in network.cidr or address == network.address.ip:
                raise self.error(
                    f"{port_key}.address",
                    f"{address} must be in {network.cidr}, but not {network.address.ip}, the lab's own address",
                )
            ports.append(Port(network.name, interface, address, port.get("default_route") is True))
        if not ports or ports[0].network != MANAGEMENT:
            raise self.error(f"{key}.{MANAGEMENT}", "is missing")
        if len({port.interface for port in ports}) != len(ports):
            raise self.error(key, "two networks share an interface")
        kind, memory = self.machine(machine, f"lab.{key}")
        disks = tuple(self.disks(section.get("disks"), f"{key}.disks", kind))
        return Node(name, tuple(ports), disks, kind, memory)

    def machine(self, section: Any, key: str) -> tuple[Kind, int]:
        if not section:
            return Node.kind, Node.memory
        for unknown in set(self.mapping(section, key)) - _NODE_KEYS:
            raise self.error(f"{key}.{unknown}", f"unknown key (known here: {', '.join(sorted(_NODE_KEYS))})")
        kind, memory = section.get("kind", Node.kind), section.get("memory", Node.memory)
        if kind not in _DISKS:
            raise self.error(f"{key}.kind", f"{kind!r} is unknown; expected container or uml")
        if not isinstance(memory, int) or memory < 1024:
            raise self.error(f"{key}.memory", f"{memory!r} is not a number of MiB, 1024 or more")
        return kind, memory

    def disks(self, section: Any, key: str, kind: Kind) -> Iterator[Disk]:
        if section is None:
            return
        names = "/dev/ubdb" if kind == "uml" else "/dev/sdb"
        for use, value in self.mapping(section, key).items():
            devices = self.mapping(value, f"{key}.{use}").get("devices")
            if not isinstance(devices, list):
                raise self.error(f"{key}.{use}.devices", "expected a list of devices")
            for device in devices:
                found = _DISKS[kind].fullmatch(str(device))
                if not found:
                    raise self.error(f"{key}.{use}.devices", f"{device}: disks of this lab node are named like {names}")
                yield Disk(found[1], _DISK_SIZES.get(use, _DISK_SIZE))

    def no_twins(self, nodes: tuple[Node, ...]) -> None:
        owner: dict[IPv4Address, str] = {}
        for node in nodes:
            for port in node.ports:
                if port.address in owner:
                    raise self.error(f"nodes.{node.name}", f"{port.address} is the address of {owner[port.address]}")
                owner[port.address] = node.name
