"""The inventory: which nodes, networks, roles, release and options. Read, checked, and refused with file and line."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import InputError
from .yaml_file import YamlSource, plain_data, read_yaml

Role = Literal["controller", "compute", "storage"]
Options = dict[str, dict[str, dict[str, dict[str, str | int | bool | None]]]]
"""step -> file -> section -> option -> value; None removes the option."""
_HOST = r"^[A-Za-z0-9][A-Za-z0-9_.:%-]*$"
"""A name or an address; what begins with a hyphen would be an option of ssh."""


_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Strict):
    """A network of the site: `cidr`, and what the provider network needs to be made (gateway, pool, resolvers)."""

    cidr: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address | None = None
    pool: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None = None
    dns: tuple[ipaddress.IPv4Address, ...] = ()
    shared: bool = False


class Attachment(_Strict):
    """How a node is on a network: its address there and the interface."""

    address: ipaddress.IPv4Address
    interface: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")


class ProviderAttachment(Attachment):
    """The same for the provider network; `default_route`: the node's own way out leads over it, by a bridge then."""

    default_route: bool = False


class Disks(_Strict):
    """Whole disks that a storage service has for itself, and the ids of those whose content may be lost, once."""

    devices: tuple[str, ...] = Field(min_length=1)
    wipe: tuple[str, ...] = ()

    @field_validator("wipe", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if value is False:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise ValueError(
                'a list of serial numbers in quotes is expected, such as ["S3Z9NB0K"], each of which counts once: the '
                "refusal of a disk that holds something says its own"
            )
        return tuple(value)


class Node(_Strict):
    """A node reached by ssh."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    roles: tuple[Role, ...] = Field(min_length=1)
    management: Attachment
    provider: ProviderAttachment
    ssh_host: str | None = Field(default=None, pattern=_HOST)
    disks: dict[Literal["swift", "cinder"], Disks] = {}
    volumes: bool = True
    availability_zone: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")

    @cached_property
    def address(self) -> str:
        """Management address: where services listen and other nodes find this one."""
        return str(self.management.address)

    def devices(self, use: str) -> tuple[str, ...]:
        """Devices that the storage service `use` has on this node."""
        return next((disks.devices for name, disks in self.disks.items() if name == use), ())


class Ssh(_Strict):
    """How nodes are reached; what is not named here is as the user's own ssh configuration has it."""

    user: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")
    port: int | None = Field(default=None, ge=1, le=65535)
    key: Path | None = None
    config: Path | None = None


BUILT_IMAGES = ("test-guest", "test-amphora")
"""Images that the lab builds: a small guest, and the system of Octavia's load balancers."""


class Image(_Strict):
    """An image of the site: a local file or URL, or one of BUILT_IMAGES."""

    source: str
    disk_format: Literal["qcow2", "raw", "vmdk", "iso"] = "qcow2"
    visibility: Literal["public", "private", "shared", "community"] = "public"
    checksum: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    properties: dict[str, str] = {}


class Flavor(_Strict):
    """A flavor of the site: processors, memory in MiB, root disk in GiB."""

    vcpus: int = Field(ge=1)
    ram: int = Field(ge=64)
    disk: int = Field(ge=0)


class AmphoraImage(Image):
    """An image for a service's own servers, which nobody else sees unless the inventory says so."""

    visibility: Literal["public", "private", "shared", "community"] = "private"


class Octavia(_Strict):
    """Load balancers: the image and the flavor of amphorae, and the network by which they are managed."""

    image: AmphoraImage
    network: ipaddress.IPv4Network = ipaddress.IPv4Network("172.16.0.0/12")
    flavor: Flavor = Flavor(vcpus=1, ram=1024, disk=2)


class LabSection(BaseModel):
    """Only in the lab's own inventory; the lab reads its details itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(pattern=r"^[a-z][a-z0-9]{0,7}$")


class Inventory(_Strict):
    """A site as its owner describes it (inventories/example/site.yaml explains each key)."""

    site: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    release: str
    region: str = "RegionOne"
    networks: dict[Literal["management", "provider"], Network]
    nodes: dict[str, Node]
    ssh: Ssh = Ssh()
    secrets: Literal["generated", "guide"] | Path = "generated"
    time_servers: tuple[Annotated[str, Field(pattern=_HOST)], ...] = ()
    images: dict[str, Image] = {}
    flavors: dict[str, Flavor] = {"m1.tiny": Flavor(vcpus=1, ram=512, disk=1)}
    octavia: Octavia | None = None
    tunnel: Literal["management", "provider"] = "management"
    datapath: Literal["system", "netdev"] = "system"
    virt_type: Literal["kvm", "qemu"] = "kvm"
    keystone_limits: bool = True
    public_host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")
    dashboard_names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")], ...] = ()
    config: Options = {}
    lab: LabSection | None = None

    def has(self, section: str) -> bool:
        """Whether there is a section: of the site, such as `octavia`, or of any node, such as `disks.swift`."""
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
                f"nodes.{others[0]}.roles: {first} is the controller; as in the guide, exactly one node can be that"
            )
        self._check_networks()
        for step, files in self.config.items():
            for name in files:
                if not name.startswith("/") or ".." in PurePosixPath(name).parts:
                    raise ValueError(
                        f"config.{step}: {name} is not the whole path of a file such as /etc/nova/nova.conf"
                    )
        for node in self.nodes.values():
            self._check_disks(node)
            self._check_compute(node)
        swift = [(node.name, device) for node in self.nodes.values() for device in node.devices("swift")]
        if len(swift) == 1:
            raise ValueError(f"nodes.{swift[0][0]}.disks.swift.devices: two copies of everything need two disks")
        seen: dict[str, str] = {}
        for node in self.nodes.values():
            if node.name == "localhost":
                raise ValueError("nodes.localhost: every machine calls itself that; choose another name")
            if node.management.interface == node.provider.interface:
                raise ValueError(
                    f"nodes.{node.name}.provider.interface: {node.provider.interface} is the management interface "
                    "already; the provider's goes into a bridge, so it must be another one"
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
                    raise ValueError(f"{where} is the network's gateway already; choose another")
                owner = seen.setdefault(str(attachment.address), node.name)
                if owner != node.name:
                    raise ValueError(f"{where} is {owner}'s already; each node needs an address of its own")
                if isinstance(attachment, ProviderAttachment) and attachment.default_route and not network.gateway:
                    raise ValueError(
                        f"nodes.{node.name}.{kind}.default_route: it needs networks.{kind}.gateway; add it"
                    )
                if network.pool and network.pool[0] <= attachment.address <= network.pool[1]:
                    raise ValueError(f"{where} is in networks.{kind}.pool, whose addresses are for servers")
        reached: dict[str, str] = {}
        for node in self.nodes.values():
            host = node.ssh_host or node.address
            if (other := reached.setdefault(host, node.name)) != node.name:
                raise ValueError(f"nodes.{node.name}.ssh_host: {host} is how {other} is reached already")
        return self

    @staticmethod
    def _check_disks(node: Node) -> None:
        if node.disks and "storage" not in node.roles:
            raise ValueError(f"nodes.{node.name}.disks: the node needs the role storage for them; add it to its roles")
        users: dict[str, str] = {}
        for use, disks in node.disks.items():
            for device in disks.devices:
                where = f"nodes.{node.name}.disks.{use}.devices: {device}"
                path = PurePosixPath(device)
                if path.parts[:2] != ("/", "dev") or str(path) != device or ".." in path.parts or len(path.parts) < 3:
                    raise ValueError(f"{where} is not the path of a device such as /dev/sdb")
                # Services call a disk by the last part of its path.
                if path.name in users:
                    raise ValueError(f"{where} is {users[path.name]}'s already; name each disk once")
                users[path.name] = use

    @staticmethod
    def _check_compute(node: Node) -> None:
        if "compute" not in node.roles:
            for key in ("volumes", "availability_zone"):
                if key in node.model_fields_set:
                    raise ValueError(
                        f"nodes.{node.name}.{key}: only nodes with the role compute run servers; remove it"
                    )
        if node.availability_zone in ("nova", "internal"):
            raise ValueError(
                f"nodes.{node.name}.availability_zone: {node.availability_zone} is nova's own; choose another name, or "
                "leave it out: nodes without one are in the zone nova"
            )

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
                    f"networks.{kind}.pool: the gateway, {network.gateway}, is in it; its addresses are for servers"
                )
            if network.pool and network.pool[0] > network.pool[1]:
                raise ValueError(f"networks.{kind}.pool: {network.pool[0]} comes after {network.pool[1]}; swap them")
            if self.octavia is not None and self.octavia.network.overlaps(network.cidr):
                raise ValueError(
                    f"octavia.network: {self.octavia.network} overlaps the {kind} network, {network.cidr}; amphorae "
                    "need a network of their own, such as 172.16.0.0/22"
                )
        if self.octavia is not None and self.octavia.network.prefixlen > 24:
            raise ValueError(f"octavia.network: {self.octavia.network} is too small; 256 addresses (/24) are the least")

    def zones(self) -> dict[str, list[str]]:
        """The availability zones that the inventory names, each with its compute nodes."""
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            if node.availability_zone is not None:
                found.setdefault(node.availability_zone, []).append(node.name)
        return found

    def all_images(self) -> dict[tuple[str, ...], Image]:
        """Every image that the inventory names, by where it stands there."""
        found: dict[tuple[str, ...], Image] = {("images", name): image for name, image in self.images.items()}
        if self.octavia is not None:
            found["octavia", "image"] = self.octavia.image
        return found


def load_inventory(path: Path) -> Inventory:
    """Read and check the inventory at `path` (a site.yaml or the folder that holds one).

    :raises InputError: with file:line, what is wrong and what would be right
    """
    if path.is_dir():
        path = path / "site.yaml"
    if not path.exists():
        raise InputError(f"{path}: no such file; name an inventory with --inventory PATH")
    data, source = read_yaml(path)
    _refuse_control_characters(data, source)
    return parse(Inventory, data, source)


def _reserved(network: ipaddress.IPv4Network, address: ipaddress.IPv4Address) -> str:
    """What an address is that no machine may have, or ""."""
    if network.prefixlen > 30:
        return ""
    names = {network.network_address: "network address", network.broadcast_address: "broadcast address"}
    return names.get(address, "")


def _refuse_control_characters(data: Any, source: YamlSource, location: tuple[int | str, ...] = ()) -> None:
    """Values end up in lines of files on the nodes: one with a line break would be two lines there.

    :raises InputError: with file:line
    """
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if any(isinstance(text, str) and not text.isprintable() for text in (key, value)):
            dotted = ".".join(str(part) for part in (*location, key))
            raise InputError(
                f"{source.path}:{source.line((*location, key))}: {dotted!r}: a line break or another control character "
                "is in it; one line of text is expected"
            )
        _refuse_control_characters(value, source, (*location, key))


def parse(model: type[_Model], data: Any, source: YamlSource) -> _Model:
    """Check `data` against `model`.

    :raises InputError: the first thing that is wrong, with file:line and, for an unknown key, the keys that exist
    """
    plain = plain_data(data)
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        # A misspelt key is unknown and leaves another one missing: say the former.
        errors = error.errors()
        first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
        location = tuple(part for part in first["loc"] if part != "[key]")
        message = _explain(first, location)
        if first["type"] == "extra_forbidden":
            known = _known_keys(model, location[:-1])
            near = difflib.get_close_matches(str(location[-1]), known, 1)
            message += f"; did you mean {near[0]!r}?" if near else ""
            message += f" (known here: {', '.join(known)})" if known else ""
        shown = location[:-1] if first["type"] in ("extra_forbidden", "missing") else _existing(plain, location)
        if not location:
            # A message of our own names the key that it is about: find its line.
            location = tuple(message.split(":")[0].split(" ")[0].split("."))
        dotted = ".".join(str(part) for part in shown)
        raise InputError(f"{source.path}:{source.line(location)}: {dotted + ': ' if dotted else ''}{message}") from None


def _existing(data: Any, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """`location` as far as it is in the file: the checks of a union add names of types to it."""
    for place, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            # The last part may be a key that has a wrong name, such as a network's.
            return location[:place]
    return location


def _explain(error: Any, location: tuple[int | str, ...]) -> str:
    """What is wrong and what would be right."""
    kind, found = error["type"], error["input"]
    if location[:1] == ("secrets",):
        return "generated, guide or the path of a file is expected"
    if location[:1] == ("config",):
        return "step -> file -> section -> option -> value is expected; a value is text, a number, true, false or null"
    if kind == "missing" and isinstance(location[-1], int):
        return "two addresses are expected, the first and the last"
    if kind == "string_pattern_mismatch" and location[0] in ("dashboard_names", "public_host"):
        return f"{found!r} is not a name or address such as cloud.example.org"
    if kind == "string_pattern_mismatch" and (location[0] == "time_servers" or location[-1] == "ssh_host"):
        return f"{found!r} is not a name or address such as controller.example.org"
    if kind == "string_pattern_mismatch" and location[-1] == "interface":
        return f"{found!r} is not the name of an interface such as eth0: at most 15 letters, digits and . _ -"
    if kind == "string_pattern_mismatch" and location == ("ssh", "user"):
        return f"{found!r} is not the name of a user such as ubuntu"
    if location == ("ssh", "port") and kind in ("greater_than_equal", "less_than_equal"):
        return f"{found} is not a port; 1 to 65535 is expected"
    if kind == "string_pattern_mismatch" and location[-1] == "name":
        return f"{found!r} is not a name: lower case letters, digits and hyphens, a letter first"
    if kind == "ip_v4_network" and isinstance(found, str):
        try:
            return f"{found!r} is an address; the network is {ipaddress.IPv4Network(found, strict=False)}"
        except ValueError:
            return f"{found!r} is not a network such as 10.0.0.0/24"
    if kind == "string_pattern_mismatch" and location[-1] == "availability_zone":
        return f"{found!r} is not the name of a zone: letters, digits, hyphens, dots and underscores"
    messages: dict[str, Callable[[], str]] = {
        "extra_forbidden": lambda: f"unknown key {location[-1]!r}",
        "missing": lambda: f"{location[-1]!r} is missing; `stackspec init` writes an example",
        "ip_v4_address": lambda: f"{found!r} is not an address such as 10.0.0.10",
        "literal_error": lambda: f"{found!r} is not known; {error['ctx']['expected']} is expected",
        "string_pattern_mismatch": lambda: f"{found!r} does not match {error['ctx']['pattern']}",
        "bool_parsing": lambda: f"{found!r} is neither true nor false",
        "bool_type": lambda: f"{found!r} is neither true nor false",
        "int_parsing": lambda: f"{found!r} is not a whole number",
        "too_short": lambda: "the list is empty; name at least one",
        "dict_type": lambda: "a mapping (key: value) is expected here",
        "model_type": lambda: "a mapping (key: value) is expected here",
        "tuple_type": lambda: "a list is expected here, such as [one, two]",
    }
    if kind in messages:
        return messages[kind]()
    text: str = error["msg"]
    return text.removeprefix("Value error, ")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    fields: dict[tuple[int | str, ...], type[BaseModel]] = {
        (): model,
        ("networks",): Network,
        ("nodes",): Node,
        ("ssh",): Ssh,
        ("images",): Image,
        ("flavors",): Flavor,
        ("octavia",): Octavia,
        ("octavia", "image"): Image,
        ("octavia", "flavor"): Flavor,
    }
    if location[:1] == ("nodes",) and len(location) > 2:
        return sorted((Disks if location[2] == "disks" else Attachment).model_fields)
    found = fields.get(location) or fields.get(location[:1] if location else ())
    return sorted(set(found.model_fields) - {"name"}) if found else []
