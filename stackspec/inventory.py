"""The inventory: nodes, networks, roles, release and options. Errors are reported with file and line.

The keys of the cloud are a separate model, which extends these classes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .errors import InputError
from .schema import Strict, matches, parse
from .yaml_file import YamlSource, read_yaml

Role = Literal["controller", "compute", "storage"]
Options = dict[str, dict[str, dict[str, dict[str, str | int | bool | None]]]]
"""step -> file -> section -> option -> value; None removes the option."""
AnyInventory = TypeVar("AnyInventory", bound="Inventory")


# A leading hyphen would make it an ssh option.
Host = Annotated[str, matches(r"[A-Za-z0-9][A-Za-z0-9_.:%-]*", "a name or address such as controller.example.org")]
PublicHost = Annotated[str, matches(r"[A-Za-z0-9][A-Za-z0-9.-]*", "a name or address such as cloud.example.org")]
Interface = Annotated[
    str,
    matches(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}",
        "an interface name such as eth0: at most 15 letters, digits and . _ -",
    ),
]
Name = Annotated[
    str, matches(r"[a-z][a-z0-9-]{0,30}", "a name: lower case letters, digits and hyphens, starting with a letter")
]
User = Annotated[str, matches(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", "a user name such as ubuntu")]


class Network(Strict):
    """A network of the site: `cidr`, and for the provider network gateway, pool and resolvers."""

    cidr: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address | None = None
    pool: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None = None
    dns: tuple[ipaddress.IPv4Address, ...] = ()
    shared: bool = False


class Attachment(Strict):
    """A node's address and interface on a network."""

    address: ipaddress.IPv4Address
    interface: Interface


class ProviderAttachment(Attachment):
    """The same for the provider network; `default_route`: the node's default route uses it, then through a bridge."""

    default_route: bool = False


class Disks(Strict):
    """Whole disks for a storage service, and the serial numbers of those that may be wiped, once."""

    devices: tuple[str, ...] = Field(min_length=1)
    wipe: tuple[str, ...] = ()

    @field_validator("wipe", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if value is False:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise ValueError(
                'expected a list of quoted serial numbers such as ["S3Z9NB0K"], each valid once: the refusal of '
                "a disk says its serial number"
            )
        return tuple(value)


class Node(Strict):
    """A node reached by ssh."""

    name: Name
    roles: tuple[Role, ...] = Field(min_length=1)
    management: Attachment
    provider: ProviderAttachment
    ssh_host: Host | None = None
    disks: Mapping[str, Disks] = {}

    @cached_property
    def address(self) -> str:
        """Management address, on which services listen and other nodes reach this one."""
        return str(self.management.address)

    def devices(self, use: str) -> tuple[str, ...]:
        """Devices of the storage service `use` on this node."""
        return self.disks[use].devices if use in self.disks else ()


class Ssh(Strict):
    """How to reach the nodes; defaults come from the user's own ssh configuration."""

    user: User | None = None
    port: int | None = Field(default=None, ge=1, le=65535, description="a port from 1 to 65535")
    key: Path | None = None
    config: Path | None = None


BUILT_IMAGES = ("test-guest", "test-amphora")
"""Images that the lab builds: a small guest, and the system of load balancers."""


class Image(Strict):
    """An image of the site: a local file or URL, or one of BUILT_IMAGES."""

    source: str
    disk_format: Literal["qcow2", "raw", "vmdk", "iso"] = "qcow2"
    visibility: Literal["public", "private", "shared", "community"] = "public"
    checksum: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    properties: Mapping[str, str] = {}


class LabSection(BaseModel):
    """Only for labs; the lab reads the details itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(pattern=r"^[a-z][a-z0-9]{0,7}$")


class Inventory(Strict):
    """A site as written by the user (inventories/example/site.yaml explains each key)."""

    site: Name
    release: str
    region: str = "RegionOne"
    networks: dict[Literal["management", "provider"], Network]
    nodes: Mapping[str, Node]
    ssh: Ssh = Ssh()
    secrets: Literal["generated", "guide"] | Path = Field(
        default="generated", description="generated, guide or a file path"
    )
    time_servers: tuple[Host, ...] = ()
    images: Mapping[str, Image] = {}
    tunnel: Literal["management", "provider"] = "management"
    public_host: PublicHost | None = None
    config: Options = Field(
        default={},
        description="step -> file -> section -> option -> value; a value is text, a number, true, false or null",
    )
    lab: LabSection | None = None

    def has(self, section: str) -> bool:
        """Whether a section exists: of the site, or, as `disks.USE`, of any node."""
        first, _, use = section.partition(".")
        if use:
            return any(use in getattr(node, first) for node in self.nodes.values())
        return getattr(self, first) is not None

    @field_validator("nodes", mode="before")
    @classmethod
    def _name_nodes(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: {**node, "name": name} if isinstance(node, dict) else node for name, node in value.items()}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Inventory:
        for needed in ("management", "provider"):
            if needed not in self.networks:
                raise ValueError(f"networks.{needed} is missing; a site needs a management and a provider network")
        for role in ("controller", "compute"):
            if not any(role in node.roles for node in self.nodes.values()):
                raise ValueError(f"nodes: no node has the role {role}; give it to at least one")
        first, *others = [node.name for node in self.nodes.values() if "controller" in node.roles]
        if others:
            raise ValueError(
                f"nodes.{others[0]}.roles: {first} is already the controller; there can be only one, as in the guide"
            )
        self._check_networks()
        for step, files in self.config.items():
            for name in files:
                if not name.startswith("/") or ".." in PurePosixPath(name).parts:
                    raise ValueError(f"config.{step}: {name} is not an absolute path such as /etc/chrony/chrony.conf")
        for node in self.nodes.values():
            self._check_disks(node)
        seen: dict[str, str] = {}
        for node in self.nodes.values():
            if node.name == "localhost":
                raise ValueError("nodes.localhost: this name refers to every machine itself; choose another name")
            if node.management.interface == node.provider.interface:
                raise ValueError(
                    f"nodes.{node.name}.provider.interface: {node.provider.interface} is already the management "
                    "interface; the provider interface goes into a bridge, so it must be another one"
                )
            for kind in ("management", "provider"):
                attachment: Attachment = getattr(node, kind)
                network = self.networks[kind]
                where = f"nodes.{node.name}.{kind}.address: {attachment.address}"
                if attachment.address not in network.cidr:
                    raise ValueError(f"{where} is not in {network.cidr}, the {kind} network")
                if reserved := _reserved(network.cidr, attachment.address):
                    raise ValueError(f"{where} is the {reserved} of {network.cidr}; choose one between them")
                if attachment.address == network.gateway:
                    raise ValueError(f"{where} is already the network's gateway; choose another")
                owner = seen.setdefault(str(attachment.address), node.name)
                if owner != node.name:
                    raise ValueError(f"{where} is already used by {owner}; each node needs its own address")
                if isinstance(attachment, ProviderAttachment) and attachment.default_route and not network.gateway:
                    raise ValueError(
                        f"nodes.{node.name}.{kind}.default_route: requires networks.{kind}.gateway; add it"
                    )
                if network.pool and network.pool[0] <= attachment.address <= network.pool[1]:
                    raise ValueError(f"{where} is in networks.{kind}.pool, which is reserved for servers")
        reached: dict[str, str] = {}
        for node in self.nodes.values():
            host = node.ssh_host or node.address
            if (other := reached.setdefault(host, node.name)) != node.name:
                raise ValueError(f"nodes.{node.name}.ssh_host: {host} is already used by {other}")
        return self

    @staticmethod
    def _check_disks(node: Node) -> None:
        if node.disks and "storage" not in node.roles:
            raise ValueError(f"nodes.{node.name}.disks: requires the role storage; add it to the node's roles")
        users: dict[str, str] = {}
        for use, disks in node.disks.items():
            for device in disks.devices:
                where = f"nodes.{node.name}.disks.{use}.devices: {device}"
                path = PurePosixPath(device)
                if path.parts[:2] != ("/", "dev") or str(path) != device or ".." in path.parts or len(path.parts) < 3:
                    raise ValueError(f"{where} is not a device path such as /dev/sdb")
                # Services identify a disk by the last part of its path.
                if path.name in users:
                    raise ValueError(f"{where} is already used by {users[path.name]}; list each disk once")
                users[path.name] = use

    def _check_networks(self) -> None:
        management, provider = self.networks["management"].cidr, self.networks["provider"].cidr
        if management.overlaps(provider):
            raise ValueError(f"networks.provider.cidr: {provider} overlaps the management network, {management}")
        for kind, network in self.networks.items():
            for field, address in [("gateway", network.gateway), *(("pool", edge) for edge in network.pool or ())]:
                if address is not None and address not in network.cidr:
                    raise ValueError(f"networks.{kind}.{field}: {address} is not in {network.cidr}")
                if address is not None and (reserved := _reserved(network.cidr, address)):
                    raise ValueError(f"networks.{kind}.{field}: {address} is the {reserved} of {network.cidr}")
            if network.pool and network.gateway and network.pool[0] <= network.gateway <= network.pool[1]:
                raise ValueError(
                    f"networks.{kind}.pool: contains the gateway {network.gateway}; the pool is reserved for servers"
                )
            if network.pool and network.pool[0] > network.pool[1]:
                raise ValueError(f"networks.{kind}.pool: {network.pool[0]} comes after {network.pool[1]}; swap them")

    def all_images(self) -> dict[tuple[str, ...], Image]:
        """Every image of the inventory, by its location there."""
        return {("images", name): image for name, image in self.images.items()}


def load_inventory(path: Path, model: type[AnyInventory]) -> AnyInventory:
    """Read and check an inventory.

    :param path: a site.yaml or its folder
    :param model: the allowed keys
    :raises InputError: with file:line, what is wrong and how to fix it
    """
    if path.is_dir():
        path = path / "site.yaml"
    if not path.exists():
        raise InputError(f"{path}: no such file; choose an inventory with --inventory PATH")
    data, source = read_yaml(path)
    _refuse_control_characters(data, source)
    return parse(model, data, source)


def _reserved(network: ipaddress.IPv4Network, address: ipaddress.IPv4Address) -> str:
    """Why no machine can have the address, or ""."""
    if network.prefixlen > 30:
        return ""
    names = {network.network_address: "network address", network.broadcast_address: "broadcast address"}
    return names.get(address, "")


def _refuse_control_characters(data: Any, source: YamlSource, location: tuple[int | str, ...] = ()) -> None:
    """Refuse control characters: values go into lines of files on the nodes, which a line break would split.

    :raises InputError: with file:line
    """
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if any(isinstance(text, str) and not text.isprintable() for text in (key, value)):
            dotted = ".".join(str(part) for part in (*location, key))
            raise InputError(
                f"{source.path}:{source.line((*location, key))}: {dotted!r}: contains a line break or another control "
                "character; one line of text is expected"
            )
        _refuse_control_characters(value, source, (*location, key))
