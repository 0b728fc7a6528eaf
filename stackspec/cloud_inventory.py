"""Inventory keys of OpenStack services: types, defaults, checks and messages.

Not part of `stackspec.openstack`, whose client takes a second to import.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from . import site
from .inventory import Disks, Image, Inventory, Node, PublicHost
from .schema import Strict, matches, one_of

Zone = Annotated[
    str,
    matches(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "the name of a zone: letters, digits, hyphens, dots and underscores"),
]
Use = Annotated[str, one_of("swift", "cinder")]
"""A service that uses whole disks."""


class CloudNode(Node):
    """A node, with the keys of services."""

    disks: Mapping[Use, Disks] = {}
    volumes: bool = True
    availability_zone: Zone | None = None


class Flavor(Strict):
    """A flavor of the site: processors, memory in MiB, root disk in GiB."""

    vcpus: int = Field(ge=1)
    ram: int = Field(ge=64)
    disk: int = Field(ge=0)


class AmphoraImage(Image):
    """An image for a service's own servers; private unless the inventory says otherwise."""

    visibility: Literal["public", "private", "shared", "community"] = "private"


class Octavia(Strict):
    """Load balancers: image and flavor of amphorae, and their management network."""

    image: AmphoraImage
    network: ipaddress.IPv4Network = ipaddress.IPv4Network("172.16.0.0/12")
    flavor: Flavor = Flavor(vcpus=1, ram=1024, disk=2)


class CloudInventory(Inventory):
    """A site with the keys of its cloud's services."""

    nodes: Mapping[str, CloudNode]
    flavors: Mapping[str, Flavor] = {"m1.tiny": Flavor(vcpus=1, ram=512, disk=1)}
    octavia: Octavia | None = None
    datapath: Literal["system", "netdev"] = "system"
    virt_type: Literal["kvm", "qemu"] = "kvm"
    keystone_limits: bool = True
    dashboard_names: tuple[PublicHost, ...] = ()

    @model_validator(mode="after")
    def _services(self) -> CloudInventory:
        for node in self.nodes.values():
            self._check_compute(node)
        self._check_octavia()
        swift = [(node.name, device) for node in self.nodes.values() for device in node.devices("swift")]
        if len(swift) == 1:
            raise ValueError(f"nodes.{swift[0][0]}.disks.swift.devices: two replicas need two disks")
        return self

    @staticmethod
    def _check_compute(node: CloudNode) -> None:
        if "compute" not in node.roles:
            for key in ("volumes", "availability_zone"):
                if key in node.model_fields_set:
                    raise ValueError(
                        f"nodes.{node.name}.{key}: only nodes with the role compute run servers; remove it"
                    )
        if node.availability_zone in ("nova", "internal"):
            raise ValueError(
                f"nodes.{node.name}.availability_zone: {node.availability_zone} is reserved by nova; choose another "
                "name, or omit the key: nodes without one are in the zone nova"
            )

    def _check_octavia(self) -> None:
        if self.octavia is None:
            return
        wanted = self.octavia.network
        for kind, network in self.networks.items():
            if wanted.overlaps(network.cidr):
                raise ValueError(
                    f"octavia.network: {wanted} overlaps the {kind} network, {network.cidr}; amphorae need a separate "
                    "network, such as 172.16.0.0/22"
                )
        if wanted.prefixlen > 24:
            raise ValueError(f"octavia.network: {wanted} is too small; at least 256 addresses (/24) are needed")

    def zones(self) -> dict[str, list[str]]:
        """The availability zones of the inventory, each with its compute nodes."""
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            if node.availability_zone is not None:
                found.setdefault(node.availability_zone, []).append(node.name)
        return found

    def all_images(self) -> dict[tuple[str, ...], Image]:
        """Every image of the inventory, by its location there."""
        found = super().all_images()
        if self.octavia is not None:
            found["octavia", "image"] = self.octavia.image
        return found


def inventory_of(of: site.Site) -> CloudInventory:
    """The inventory of a site, with the keys of its cloud.

    :raises TypeError: the inventory was read without them
    """
    if not isinstance(of.inventory, CloudInventory):
        raise TypeError(f"the inventory of site {of.name} was read without the keys of its cloud")
    return of.inventory


def load_site(path: Path) -> site.Site:
    """Load the site that the inventory at `path` describes.

    :raises InputError: with file:line and how to fix it
    """
    return site.load_site(path, CloudInventory)
