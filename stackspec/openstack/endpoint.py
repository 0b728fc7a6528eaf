"""Services and endpoints of the catalog. Guide: each service's chapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..resources.base import Context, Difference
from ..site import Site
from .api_object import ApiObject, compare
from .cloud import SharedCloud

INTERFACES = ("public", "internal", "admin")


@dataclass(frozen=True)
class Endpoint(ApiObject):
    """A service and its three endpoints.

    :param type: service type in the catalog
    :param name: the service's name
    :param description: as in the guide
    :param url: URL of all three interfaces; the public one is on the inventory's `public_host`
    :param admin_url: URL of the admin interface, if different
    """

    type: str
    name: str
    description: str
    url: str
    admin_url: str = ""

    def _url(self, interface: str, site: Site) -> str:
        if interface == "public":
            return site.public(self.url)
        return self.admin_url or self.url if interface == "admin" else self.url

    @property
    def title(self) -> str:
        return f"endpoints of {self.type}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        service = cloud.find("identity.services", type=self.type)
        differences = compare(service, self._service(), f"service {self.type}")
        for interface in INTERFACES:
            found = self._endpoints(cloud, service, interface)
            wanted = self._url(interface, cloud.site)
            urls = [each.url if each.is_enabled else f"{each.url} (disabled)" for each in found]
            if urls != [wanted]:
                differences.append(
                    Difference(f"{interface} endpoint of {self.type}", wanted, " and ".join(urls) or "none")
                )
        return differences

    def _service(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "is_enabled": True}

    def _endpoints(self, cloud: SharedCloud, service: Any, interface: str) -> list[Any]:
        """Those of the site's region, with the wanted one first."""
        found = [
            each
            for each in cloud.list("identity.endpoints")
            if service is not None
            and (each.service_id, each.region_id, each.interface) == (service.id, cloud.site.region, interface)
        ]
        return sorted(found, key=lambda each: each.url != self._url(interface, cloud.site))

    def make(self, cloud: SharedCloud, context: Context) -> None:
        identity = cloud.connection.identity
        wanted = self._service()
        service = cloud.find("identity.services", type=self.type)
        if service is None:
            service = identity.create_service(type=self.type, **wanted)
        elif compare(service, wanted):
            service = identity.update_service(service, **wanted)
        for interface in INTERFACES:
            found = self._endpoints(cloud, service, interface)
            url = self._url(interface, cloud.site)
            if not found:
                identity.create_endpoint(
                    service_id=service.id, interface=interface, url=url, region_id=context.site.region
                )
            elif found[0].url != url or not found[0].is_enabled:
                identity.update_endpoint(found[0], url=url, is_enabled=True)
            # If there are several, clients use any of them.
            for more in found[1:]:
                identity.delete_endpoint(more)
        cloud.renew()
