"""Values that only the cloud knows."""

from __future__ import annotations

from dataclasses import dataclass

from ..resources.base import Context, Reference
from .cloud import Cloud


@dataclass(frozen=True)
class Id(Reference):
    """Id of an API object.

    :param kind: endpoint, network, subnet, port, project, image, flavor or security_group
    :param name: its name; for an endpoint ``service type/interface``
    :param attribute: what is wanted of it, when that is not the id
    """

    kind: str
    name: str
    attribute: str = "id"

    def resolve(self, context: Context) -> str | None:
        cloud = context.shared.get(Cloud)
        if self.kind == "endpoint":
            service_type, interface = self.name.split("/")
            service = cloud.find("identity.services", type=service_type)
            found = service and cloud.find("identity.endpoints", service_id=service.id, interface=interface)
        else:
            service_of = {"project": "identity", "image": "image", "flavor": "compute"}.get(self.kind, "network")
            found = cloud.find(f"{service_of}.{self.kind}s", name=self.name)
        return str(getattr(found, self.attribute)) if found else None
