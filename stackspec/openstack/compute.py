"""Flavors, key pairs, quotas and availability zones. The guide uses m1.tiny but never creates it (erratum E37)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException

from ..resources.base import Context, Difference
from ..site import Site
from .api_object import ApiObject, compare
from .cloud import SharedCloud

UNREADABLE = (SDKException, ClientException)
"""The object's service is not up yet: the object is read again when its step runs."""


@dataclass(frozen=True)
class Flavor(ApiObject):
    """A flavor.

    :param name: its name
    :param vcpus: virtual processors
    :param ram: memory in MiB
    :param disk: root disk in GiB
    :param id: its id; default: chosen by nova
    :param public: whether every project may use it
    """

    name: str
    vcpus: int
    ram: int
    disk: int
    id: str = ""
    public: bool = True

    @property
    def title(self) -> str:
        return f"flavor {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.find("compute.flavors", name=self.name)
        wanted = {"vcpus": self.vcpus, "ram": self.ram, "disk": self.disk, "is_public": self.public}
        return compare(found, {**wanted, **({"id": self.id} if self.id else {})}, self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        compute = cloud.connection.compute
        if found := cloud.find("compute.flavors", name=self.name):
            # Flavors are immutable; servers keep a copy of theirs.
            compute.delete_flavor(found)
        options: dict[str, Any] = {"id": self.id} if self.id else {}
        if not self.public:
            options["is_public"] = False
        compute.create_flavor(name=self.name, vcpus=self.vcpus, ram=self.ram, disk=self.disk, **options)


@dataclass(frozen=True)
class Keypair(ApiObject):
    """A key pair for a service's servers; its private key is the site's secret `<name> private key`.

    Key pairs belong to a user, and only that user can create them.

    :param name: its name
    :param user: the service's user, in project service
    """

    name: str
    user: str

    @property
    def title(self) -> str:
        return f"key pair {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        user = cloud.find("identity.users", name=self.user, domain_id="default")
        if user is None:
            return compare(None, {}, self.title)
        try:
            found = cloud.connection.compute.find_keypair(self.name, user_id=user.id)
        except UNREADABLE:
            found = None
        public = (found.public_key or "").split()[:2] if found is not None else None
        if public == self._public(context.site).split():
            return []
        return [Difference(self.title, "the site's key", "absent" if found is None else "another")]

    def _public(self, site: Site) -> str:
        def make() -> str:
            key = ed25519.Ed25519PrivateKey.generate()
            arguments = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
            return key.private_bytes(*arguments).decode()

        def usable(text: str) -> bool:
            return text.startswith("-----BEGIN OPENSSH")

        private = site.secrets.document(f"{self.name} private key", make, usable)
        public = serialization.load_ssh_private_key(private.encode(), None).public_key()
        return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()

    def make(self, cloud: SharedCloud, context: Context) -> None:
        compute = cloud.as_service(self.user).compute
        if compute.find_keypair(self.name) is not None:
            compute.delete_keypair(self.name)
        compute.create_keypair(name=self.name, public_key=self._public(context.site))


UNLIMITED = -1
_COMPUTE = ("instances", "cores", "ram", "server_groups", "server_group_members")
_NETWORK = ("networks", "ports", "security_groups", "security_group_rules")


@dataclass(frozen=True)
class NoQuota(ApiObject):
    """Unlimited servers, ports and security groups for a project in which a service creates objects for all users."""

    project: str

    @property
    def title(self) -> str:
        return f"quotas of project {self.project}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        project = cloud.find("identity.projects", name=self.project, domain_id="default")
        if project is None:
            return compare(None, {}, self.title)
        connection = cloud.connection
        try:
            compute, network = connection.compute.get_quota_set(project), connection.network.get_quota(project.id)
        except UNREADABLE:
            return compare(None, {}, self.title)
        return [
            *compare(compute, dict.fromkeys(_COMPUTE, UNLIMITED), self.title),
            *compare(network, dict.fromkeys(_NETWORK, UNLIMITED), self.title),
        ]

    def make(self, cloud: SharedCloud, context: Context) -> None:
        connection = cloud.connection
        project = connection.identity.find_project(self.project, ignore_missing=False, domain_id="default")
        connection.compute.update_quota_set(project, **dict.fromkeys(_COMPUTE, UNLIMITED))
        connection.network.update_quota(project.id, **dict.fromkeys(_NETWORK, UNLIMITED))


@dataclass(frozen=True)
class AvailabilityZone(ApiObject):
    """An availability zone with exactly these nodes: a host aggregate of its name.

    :param name: the zone
    :param hosts: its compute nodes
    """

    name: str
    hosts: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"availability zone {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.find("compute.aggregates", name=self.name)
        differences = compare(found, {"availability_zone": self.name}, self.title)
        if found is not None and set(found.hosts or ()) != set(self.hosts):
            shown = " ".join(sorted(found.hosts or ())) or "none"
            differences.append(Difference(f"nodes of {self.title}", " ".join(sorted(self.hosts)), shown))
        return differences

    def make(self, cloud: SharedCloud, context: Context) -> None:
        compute = cloud.connection.compute
        found = cloud.find("compute.aggregates", name=self.name)
        if found is None:
            found = compute.create_aggregate(name=self.name, availability_zone=self.name)
        elif found.availability_zone != self.name:
            compute.update_aggregate(found, availability_zone=self.name)
        there = set(found.hosts or ())
        for host in sorted(there - set(self.hosts)):
            compute.remove_host_from_aggregate(found, host)
        for host in sorted(set(self.hosts) - there):
            for other in cloud.list("compute.aggregates"):
                # A node can be in only one zone.
                if other.name != self.name and other.availability_zone and host in (other.hosts or ()):
                    compute.remove_host_from_aggregate(other, host)
            compute.add_host_to_aggregate(found, host)
