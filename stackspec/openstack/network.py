"""Networks of the provider. Guide: neutron, last paragraph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..resources.base import Context, Difference
from .api_object import ApiObject, compare
from .cloud import Cloud


@dataclass(frozen=True)
class Network(ApiObject):
    """An external network on a physical one."""

    name: str
    physical_network: str
    network_type: str = "flat"
    external: bool = True
    shared: bool = False

    @property
    def title(self) -> str:
        return f"network {self.name}"

    def differences(self, cloud: Cloud, context: Context) -> list[Difference]:
        wanted = {
            "provider_physical_network": self.physical_network,
            "provider_network_type": self.network_type,
            "is_router_external": self.external,
            "is_shared": self.shared,
        }
        return compare(cloud.find("network.networks", name=self.name), wanted, self.title)

    def make(self, cloud: Cloud, context: Context) -> None:
        network = cloud.connection.network
        if found := cloud.find("network.networks", name=self.name):
            network.update_network(found, **{"router:external": self.external, "shared": self.shared})
            return
        network.create_network(
            name=self.name,
            provider_physical_network=self.physical_network,
            provider_network_type=self.network_type,
            is_router_external=self.external,
            shared=self.shared,
        )


@dataclass(frozen=True)
class Subnet(ApiObject):
    """The subnet of a provider network, by the inventory's network of that name."""

    name: str
    network: str

    @property
    def title(self) -> str:
        return f"subnet {self.name}"

    def _wanted(self, context: Context) -> dict[str, Any]:
        network = context.site.networks["provider"]
        wanted: dict[str, Any] = {"cidr": str(network.cidr), "dns_nameservers": [str(each) for each in network.dns]}
        if network.gateway is not None:
            wanted["gateway_ip"] = str(network.gateway)
        if network.pool is not None:
            wanted["allocation_pools"] = [{"start": str(network.pool[0]), "end": str(network.pool[1])}]
        return wanted

    def differences(self, cloud: Cloud, context: Context) -> list[Difference]:
        return compare(cloud.find("network.subnets", name=self.name), self._wanted(context), self.title)

    def make(self, cloud: Cloud, context: Context) -> None:
        network = cloud.connection.network
        wanted = self._wanted(context)
        if found := cloud.find("network.subnets", name=self.name):
            wanted.pop("cidr")
            network.update_subnet(found, **wanted)
            return
        parent = network.find_network(self.network, ignore_missing=False)
        network.create_subnet(name=self.name, network_id=parent.id, ip_version=4, **wanted)
