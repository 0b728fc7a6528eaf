"""Flavors. The guide uses m1.tiny and never makes it (erratum E37)."""

from __future__ import annotations

from dataclasses import dataclass

from ..resources.base import Context, Difference
from .api_object import ApiObject, compare
from .cloud import Cloud


@dataclass(frozen=True)
class Flavor(ApiObject):
    """A public flavor.

    :param name: its name
    :param vcpus: virtual processors
    :param ram: memory in MiB
    :param disk: root disk in GiB
    """

    name: str
    vcpus: int
    ram: int
    disk: int

    @property
    def title(self) -> str:
        return f"flavor {self.name}"

    def differences(self, cloud: Cloud, context: Context) -> list[Difference]:
        found = cloud.find("compute.flavors", name=self.name)
        return compare(found, {"vcpus": self.vcpus, "ram": self.ram, "disk": self.disk}, self.title)

    def make(self, cloud: Cloud, context: Context) -> None:
        compute = cloud.connection.compute
        if found := cloud.find("compute.flavors", name=self.name):
            # A flavor cannot be changed; servers keep what they were made of.
            compute.delete_flavor(found)
        compute.create_flavor(name=self.name, vcpus=self.vcpus, ram=self.ram, disk=self.disk)
