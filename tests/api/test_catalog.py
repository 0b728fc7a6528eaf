"""The catalog: every listed service responds."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from keystoneauth1 import exceptions as auth_errors
from openstack.connection import Connection

from stackspec.fixtures.connections import catalog_of
from stackspec.pace import pace
from stackspec.plugin.session import RUN

INTERFACES = ("public", "internal", "admin")


@pytest.mark.steps("glance", "placement", "nova_discover", "neutron_compute", "nova_networking")
def test_every_service_of_the_catalog_answers(request: pytest.FixtureRequest, user_cloud: Connection) -> None:
    """Each service has its endpoints in the region, and all of them respond.

    On our sites, all three interfaces are checked. On other clouds only the interface used by this user: the others are
    often not accessible to users, and admin endpoints are no longer needed.
    """
    site = request.config.stash[RUN].site
    region = user_cloud.config.get_region_name()
    wanted = INTERFACES if site is not None else (user_cloud.config.get_interface() or "public",)
    deployed = request.config.stash[RUN].services()
    # A token contains the catalog of the time it was issued, and a deployment may be in progress.
    user_cloud.session.invalidate()
    services = catalog_of(user_cloud)
    missing = deployed - {service["type"] for service in services}
    problems = [f"{kind}: deployed, but not in the catalog" for kind in sorted(missing)]
    for service in services:
        urls = {
            endpoint["interface"]: endpoint["url"]
            for endpoint in service["endpoints"]
            if not region or endpoint["region_id"] == region
        }
        for interface in wanted:
            if interface not in urls:
                problems.append(f"{service['type']}: no {interface} endpoint in region {region}")
            elif problem := _silent(user_cloud, urls[interface]):
                problems.append(f"{service['type']}: {interface} endpoint {urls[interface]}: {problem}")
    assert not problems, "\n".join(problems)


def _silent(connection: Connection, url: str) -> str | None:
    # The root, without a token: versions are public, and 401 is a valid response as well.
    parts = urlsplit(url)
    path = "/" + parts.path.strip("/").split("/")[0] if parts.port is None else "/"
    root = f"{parts.scheme}://{parts.netloc}{path}"
    try:
        answer = connection.session.get(
            root, authenticated=False, raise_exc=False, timeout=pace.seconds(30), connect_retries=3
        )
    except auth_errors.ClientException as error:
        return f"{type(error).__name__}: {error}"
    return None if answer.status_code < 500 else f"status {answer.status_code} from {root}"
