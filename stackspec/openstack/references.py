"""References to values known only to the cloud."""

from __future__ import annotations

from dataclasses import dataclass

from ..resources.base import Context, Reference
from .cloud import SharedCloud


@dataclass(frozen=True)
class Id(Reference):
    """Id of an API object.

    :param kind: endpoint, network, subnet, port, project, image, flavor or security_group
    :param name: its name; for an endpoint ``service type/interface``
    :param attribute: the attribute to use instead of the id
    :param project: its project in the Default domain, for kinds that have one

    Unknown while there is no such object; CannotTell if the cloud cannot be queried.
    """

    kind: str
    name: str
    attribute: str = "id"
    project: str = "service"

    def resolve(self, context: Context) -> str | None:
        cloud = context.shared.get(SharedCloud)
        if self.kind == "endpoint":
            service_type, interface = self.name.split("/")
            service = cloud.find("identity.services", type=service_type)
            found = service and cloud.find("identity.endpoints", service_id=service.id, interface=interface)
        elif self.kind == "project":
            found = cloud.find("identity.projects", name=self.name, domain_id="default")
        elif self.kind == "flavor":
            found = cloud.find("compute.flavors", name=self.name)
        else:
            service_of = "image" if self.kind == "image" else "network"
            found = cloud.owned(f"{service_of}.{self.kind}s", self.name, self.project)
        return str(getattr(found, self.attribute)) if found else None
