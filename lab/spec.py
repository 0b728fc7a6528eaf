"""What the lab needs to know of its inventory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lab.error import LabError

MANAGEMENT = "management"

# No dash: `ss-<name>-<node>` must not be readable as the name of another lab. Interface names are 15 characters.
_LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_NODE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")
_INTERFACE = re.compile(r"[a-z][a-z0-9]{0,9}")
_DISK = re.compile(r"/dev/((?:s|v|xv)d[a-z])")


@dataclass(frozen=True)
class Network:
    """A network of the lab: one bridge, on which the lab itself has `address`."""

    name: str
    address: IPv4Interface

    @property
    def cidr(self) -> IPv4Network:
        return self.address.network


@dataclass(frozen=True)
class Port:
    """A node's interface on a network. The deployment, not the lab, gives addresses to all but management."""

    network: str
    interface: str
    address: IPv4Address


@dataclass(frozen=True)
class Node:
    """A machine of the lab. `disks` are names of devices below /dev, besides the one that it boots from."""

    name: str
    ports: tuple[Port, ...]
    disks: tuple[str, ...] = ()

    @property
    def management(self) -> Port:
        return next(port for port in self.ports if port.network == MANAGEMENT)


@dataclass(frozen=True)
class LabSpec:
    """A lab: its name, networks (management first) and nodes, and where packages come from (None: as the machine)."""

    name: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    mirror: str | None = None
    security_mirror: str | None = None

    @property
    def prefix(self) -> str:
        """What every name starts with that the lab makes visible to the machine."""
        return f"ss-{self.name}"

    @property
    def management(self) -> Network:
        return self.networks[0]

    def node(self, name: str) -> Node:
        """The node of that name.

        :raises LabError: naming the nodes there are
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"The lab has no node {name!r}; it has {', '.join(node.name for node in self.nodes)}")

    def network(self, name: str) -> Network:
        """The network of that name."""
        return next(network for network in self.networks if network.name == name)


def load(inventory: Path, name: str | None = None) -> LabSpec:
    """Read the lab from an inventory: networks, the nodes' interfaces, and the section `lab`.

    :param inventory: the YAML file of the site
    :param name: a name for the lab instead of the inventory's
    :raises LabError: saying which key of which file is wrong
    """
    try:
        data = YAML(typ="safe", pure=True).load(inventory.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"Cannot read the inventory {inventory}: {error.strerror}") from error
    except YAMLError as error:
        raise LabError(f"The inventory {inventory} is not YAML: {error}") from error
    return _Reader(inventory).spec(data, name)


class _Reader:
    """Reads values with the path of their key, for errors that name it."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def error(self, key: str, problem: str) -> LabError:
        return LabError(f"{self.source}: {key}: {problem}")

    def mapping(self, value: Any, key: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not value:
            raise self.error(key, "a mapping is needed here")
        return value

    def name(self, value: Any, key: str, pattern: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} is no name that the lab can use; it must match {pattern.pattern}")
        return value

    def uri(self, value: Any, key: str) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not re.match(r"https?://[^/]+", value):
            raise self.error(key, f"{value!r} is not an http or https address")
        return value.rstrip("/")

    def spec(self, data: Any, name: str | None) -> LabSpec:
        root = self.mapping(data, "the file")
        if "lab" not in root:
            raise self.error("lab", "there is no such section, so this site is not an embedded lab")
        lab = self.mapping(root["lab"], "lab")
        networks = self.networks(self.mapping(root.get("networks"), "networks"))
        nodes = tuple(
            self.node(str(key), self.mapping(value, f"nodes.{key}"), networks)
            for key, value in self.mapping(root.get("nodes"), "nodes").items()
        )
        self.no_twins(nodes)
        return LabSpec(
            name=self.name(name or lab.get("name"), "lab.name", _LAB_NAME),
            networks=networks,
            nodes=nodes,
            mirror=self.uri(lab.get("mirror"), "lab.mirror"),
            security_mirror=self.uri(lab.get("security_mirror"), "lab.security_mirror"),
        )

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

    def node(self, name: str, section: Mapping[str, Any], networks: tuple[Network, ...]) -> Node:
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
                    f"{address} must be in {network.cidr} and not be {network.address.ip}, which is the lab's own",
                )
            ports.append(Port(network.name, interface, address))
        if not ports or ports[0].network != MANAGEMENT:
            raise self.error(f"{key}.{MANAGEMENT}", "is missing")
        if len({port.interface for port in ports}) != len(ports):
            raise self.error(key, "two networks share an interface")
        return Node(name, tuple(ports), tuple(self.disks(section.get("disks"), f"{key}.disks")))

    def disks(self, section: Any, key: str) -> Iterator[str]:
        if section is None:
            return
        for use, value in self.mapping(section, key).items():
            devices = self.mapping(value, f"{key}.{use}").get("devices")
            if not isinstance(devices, list):
                raise self.error(f"{key}.{use}.devices", "a list of devices is needed here")
            for device in devices:
                found = _DISK.fullmatch(str(device))
                if not found:
                    raise self.error(f"{key}.{use}.devices", f"{device}: the lab has disks like /dev/sdb")
                yield found[1]

    def no_twins(self, nodes: tuple[Node, ...]) -> None:
        owner: dict[IPv4Address, str] = {}
        for node in nodes:
            for port in node.ports:
                if port.address in owner:
                    raise self.error(f"nodes.{node.name}", f"{port.address} is the address of {owner[port.address]}")
                owner[port.address] = node.name
