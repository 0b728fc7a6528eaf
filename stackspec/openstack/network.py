"""Networks of the provider (guide: neutron, last paragraph) and of services (guide: octavia)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..resources.base import Context, Difference
from .api_object import ApiObject, compare, not_ours
from .cloud import SharedCloud

OWNER = "admin"
"""The project of the provider network: the administrator's."""
MARK = "made by stackspec"
"""Description of objects created by deployments; others are never changed or deleted."""


def ours(found: Any, kind: str, title: str, project: str) -> Any:
    """The object found by name, if a deployment created it.

    :param found: the object, or None
    :param kind: its name in the `openstack` command
    :raises ActionError: somebody else created it
    """
    if found is not None and found.description != MARK:
        hand_over = f"openstack {kind} set --description '{MARK}' {found.id}"
        advice = f"rename it; or, to hand it over to the deployment: {hand_over}"
        raise not_ours(title, kind, found, project, advice)
    return found


@dataclass(frozen=True)
class Network(ApiObject):
    """An external network on a physical network."""

    name: str
    physical_network: str
    network_type: str = "flat"
    external: bool = True
    shared: bool = False

    @property
    def title(self) -> str:
        return f"network {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        wanted = {
            "provider_physical_network": self.physical_network,
            "provider_network_type": self.network_type,
            "is_router_external": self.external,
            "is_shared": self.shared,
        }
        return compare(cloud.owned("network.networks", self.name, OWNER), wanted, self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        network = cloud.connection.network
        if found := ours(cloud.owned("network.networks", self.name, OWNER), "network", self.title, OWNER):
            network.update_network(found, **{"router:external": self.external, "shared": self.shared})
            return
        network.create_network(
            name=self.name,
            description=MARK,
            provider_physical_network=self.physical_network,
            provider_network_type=self.network_type,
            is_router_external=self.external,
            shared=self.shared,
        )


@dataclass(frozen=True)
class Subnet(ApiObject):
    """The subnet of a provider network, from the inventory's network of that name."""

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

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        return compare(cloud.owned("network.subnets", self.name, OWNER), self._wanted(context), self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        network = cloud.connection.network
        wanted = self._wanted(context)
        if found := ours(cloud.owned("network.subnets", self.name, OWNER), "subnet", self.title, OWNER):
            wanted.pop("cidr")
            network.update_subnet(found, **wanted)
            return
        parent = network.find_network(self.network, ignore_missing=False, project_id=_project_id(cloud, OWNER))
        network.create_subnet(name=self.name, description=MARK, network_id=parent.id, ip_version=4, **wanted)


@dataclass(frozen=True)
class ServiceNetwork(ApiObject):
    """An isolated network of a service, with a subnet that has DHCP but no gateway.

    :param name: the network
    :param subnet: its subnet
    :param cidr: the subnet's addresses
    :param pool: first and last address of the allocation pool
    :param project: the project that owns it
    """

    name: str
    subnet: str
    cidr: str
    pool: tuple[str, str]
    project: str = "service"

    @property
    def title(self) -> str:
        return f"network {self.name}"

    def _wanted(self) -> dict[str, Any]:
        pools = [{"start": self.pool[0], "end": self.pool[1]}]
        return {"cidr": self.cidr, "allocation_pools": pools, "gateway_ip": None}

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        return [
            *compare(cloud.owned("network.networks", self.name, self.project), {"is_shared": False}, self.title),
            *compare(
                cloud.owned("network.subnets", self.subnet, self.project), self._wanted(), f"subnet {self.subnet}"
            ),
        ]

    def make(self, cloud: SharedCloud, context: Context) -> None:
        network = cloud.connection.network
        project = _project_id(cloud, self.project)
        parent = ours(cloud.owned("network.networks", self.name, self.project), "network", self.title, self.project)
        if parent is None:
            parent = network.create_network(name=self.name, description=MARK, project_id=project)
        found = cloud.owned("network.subnets", self.subnet, self.project)
        if ours(found, "subnet", f"subnet {self.subnet}", self.project):
            network.update_subnet(found, gateway_ip=None, allocation_pools=self._wanted()["allocation_pools"])
        else:
            owner = {"network_id": parent.id, "project_id": project}
            network.create_subnet(name=self.subnet, description=MARK, ip_version=4, **owner, **self._wanted())


@dataclass(frozen=True)
class SecurityGroup(ApiObject):
    """A security group of a service with ingress rules for one network.

    :param name: its name
    :param rules: protocol and port; None for a protocol without ports
    :param source: the network from which traffic is allowed
    :param project: the project that owns it
    """

    name: str
    rules: tuple[tuple[str, int | None], ...]
    source: str
    project: str = "service"

    @property
    def title(self) -> str:
        return f"security group {self.name}"

    def _missing(self, found: Any) -> list[tuple[str, int | None]]:
        there = {
            (rule["protocol"], rule["port_range_min"])
            for rule in found.security_group_rules
            if rule["direction"] == "ingress" and rule["remote_ip_prefix"] == self.source
        }
        return [rule for rule in self.rules if rule not in there]

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.owned("network.security_groups", self.name, self.project)
        if found is None:
            return compare(None, {}, self.title)
        return [
            Difference(f"rule of {self.title}", f"{protocol} {port or ''}".strip() + f" from {self.source}", "absent")
            for protocol, port in self._missing(found)
        ]

    def make(self, cloud: SharedCloud, context: Context) -> None:
        network = cloud.connection.network
        project = _project_id(cloud, self.project)
        found = cloud.owned("network.security_groups", self.name, self.project)
        found = ours(found, "security group", self.title, self.project)
        missing = self._missing(found) if found is not None else self.rules
        if found is None:
            found = network.create_security_group(name=self.name, description=MARK, project_id=project)
        for protocol, port in missing:
            network.create_security_group_rule(
                security_group_id=found.id,
                project_id=project,
                direction="ingress",
                ether_type="IPv4",
                protocol=protocol,
                remote_ip_prefix=self.source,
                **({"port_range_min": port, "port_range_max": port} if port is not None else {}),
            )


@dataclass(frozen=True)
class ServicePort(ApiObject):
    """A port that connects a process on a node to a service's network.

    :param name: its name
    :param network: the network
    :param subnet: the subnet of its address
    :param address: its address
    :param security_group: its only group
    :param owner: device_owner
    :param host: the node, by the host name of its neutron agent
    :param project: the project that owns it
    """

    name: str
    network: str
    subnet: str
    address: str
    security_group: str
    owner: str
    host: str
    project: str = "service"

    @property
    def title(self) -> str:
        return f"port {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.owned("network.ports", self.name, self.project)
        differences = compare(found, {"device_owner": self.owner, "binding_host_id": self.host}, self.title)
        addresses = [each["ip_address"] for each in found.fixed_ips] if found is not None else []
        if found is not None and addresses != [self.address]:
            differences.append(Difference(f"address of {self.title}", self.address, ", ".join(addresses) or "none"))
        return differences

    def make(self, cloud: SharedCloud, context: Context) -> None:
        network = cloud.connection.network
        if found := ours(cloud.owned("network.ports", self.name, self.project), "port", self.title, self.project):
            # Its address cannot always be changed in place; users of the port read address and MAC again.
            network.delete_port(found)
        project = _project_id(cloud, self.project)
        parent = network.find_network(self.network, ignore_missing=False, project_id=project)
        subnet = network.find_subnet(self.subnet, ignore_missing=False, project_id=project)
        group = network.find_security_group(self.security_group, ignore_missing=False, project_id=project)
        network.create_port(
            name=self.name,
            description=MARK,
            project_id=project,
            network_id=parent.id,
            fixed_ips=[{"subnet_id": subnet.id, "ip_address": self.address}],
            security_group_ids=[group.id],
            device_owner=self.owner,
            binding_host_id=self.host,
        )


def _project_id(cloud: SharedCloud, name: str) -> str:
    return str(cloud.connection.identity.find_project(name, ignore_missing=False, domain_id="default").id)
