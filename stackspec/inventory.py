"""The inventory: which nodes, networks, roles, release and options. Read, checked, and refused with file and line."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from .errors import InputError

Role = Literal["controller", "compute", "storage"]
Options = dict[str, dict[str, dict[str, dict[str, str | int | bool | None]]]]
"""step -> file -> section -> option -> value; None removes the option."""


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
    interface: str


class Node(_Strict):
    """A node reached by ssh."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    roles: tuple[Role, ...] = Field(min_length=1)
    management: Attachment
    provider: Attachment
    ssh_host: str | None = None
    disks: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Management address: where services listen and other nodes find this one."""
        return str(self.management.address)


class Ssh(_Strict):
    """How nodes are reached; what is not named here is as the user's own ssh configuration has it."""

    user: str | None = None
    port: int | None = None
    key: Path | None = None
    config: Path | None = None


class Image(_Strict):
    """An image of the site: a local file or URL, or `test-guest`, the guest that the lab builds."""

    source: str
    disk_format: Literal["qcow2", "raw", "vmdk", "iso"] = "qcow2"
    visibility: Literal["public", "private", "shared", "community"] = "public"
    checksum: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")


class Flavor(_Strict):
    """A flavor of the site: processors, memory in MiB, root disk in GiB."""

    vcpus: int = Field(ge=1)
    ram: int = Field(ge=64)
    disk: int = Field(ge=0)


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
    time_servers: tuple[str, ...] = ()
    images: dict[str, Image] = {}
    flavors: dict[str, Flavor] = {"m1.tiny": Flavor(vcpus=1, ram=512, disk=1)}
    tunnel: Literal["management", "provider"] = "management"
    datapath: Literal["system", "netdev"] = "system"
    virt_type: Literal["kvm", "qemu"] = "kvm"
    keystone_limits: bool = True
    config: Options = {}
    lab: LabSection | None = None

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
        if sum("controller" in node.roles for node in self.nodes.values()) != 1:
            raise ValueError("nodes: exactly one node can have the role controller, as in the guide")
        seen: dict[str, str] = {}
        for node in self.nodes.values():
            for kind in ("management", "provider"):
                attachment: Attachment = getattr(node, kind)
                network = self.networks[kind]  # type: ignore[index]
                if attachment.address not in network.cidr:
                    raise ValueError(f"nodes.{node.name}.{kind}.address: {attachment.address} is not in {network.cidr}")
                owner = seen.setdefault(str(attachment.address), node.name)
                if owner != node.name:
                    raise ValueError(f"nodes.{node.name}.{kind}.address: {attachment.address} is {owner}'s already")
        provider = self.networks["provider"]
        for field, address in [("gateway", provider.gateway), *(("pool", edge) for edge in provider.pool or ())]:
            if address is not None and address not in provider.cidr:
                raise ValueError(f"networks.provider.{field}: {address} is not in {provider.cidr}")
        return self


def load_inventory(path: Path) -> Inventory:
    """Read and check the inventory at `path` (a site.yaml or the folder that holds one).

    :raises InputError: with file:line, what is wrong and what would be right
    """
    if path.is_dir():
        path = path / "site.yaml"
    data, source = read_yaml(path)
    return parse(Inventory, data, source)


def read_yaml(path: Path) -> tuple[Any, YamlSource]:
    """Read a YAML file and keep where each key stands.

    :raises InputError: the file is missing or is not YAML (a key twice in one mapping is refused, too)
    """
    try:
        data = YAML().load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name an inventory with --inventory PATH") from None
    except MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        problem = " ".join(str(error.problem).split())
        raise InputError(f"{path}:{line}: not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: a mapping is expected here, see inventories/example/site.yaml")
    return data, YamlSource(path, data)


class YamlSource:
    """Finds the line of a key in a loaded YAML file."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self._data = data

    def line(self, location: tuple[int | str, ...]) -> int:
        """1-based line of the key at `location`, or of its nearest parent that is in the file."""
        line, here = 1, self._data
        for key in location:
            try:
                line = here.lc.key(key)[0] + 1 if isinstance(here, dict) else here.lc.item(key)[0] + 1
                here = here[key]
            except (KeyError, IndexError, AttributeError, TypeError):
                break
        return line


def parse(model: type[_Model], data: Any, source: YamlSource) -> _Model:
    """Check `data` against `model`.

    :raises InputError: the first thing that is wrong, with file:line and, for an unknown key, the keys that exist
    """
    try:
        return model.model_validate(_plain(data))
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(part for part in first["loc"] if part != "[key]")
        message = first["msg"].removeprefix("Value error, ")
        dotted = ".".join(str(part) for part in location)
        if first["type"] == "extra_forbidden":
            message = f"unknown key {location[-1]!r}"
            known = _known_keys(model, location[:-1])
            if known:
                message += f"; known here: {', '.join(known)}"
            dotted = ".".join(str(part) for part in location[:-1])
        elif first["type"] == "missing":
            message = f"{location[-1]!r} is missing"
            dotted = ".".join(str(part) for part in location[:-1])
        elif not location:
            # A message of our own names the key that it is about: find its line.
            location = tuple(message.split(":")[0].split(" ")[0].split("."))
        line = source.line(location)
        raise InputError(f"{source.path}:{line}: {dotted + ': ' if dotted else ''}{message}") from None


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    fields = {(): model, ("networks",): Network, ("nodes",): Node, ("ssh",): Ssh, ("images",): Image}
    if len(location) == 3:
        return sorted(Attachment.model_fields)
    found = fields.get(location[:1] if location else ())
    return sorted(set(found.model_fields) - {"name"}) if found else []


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return data
