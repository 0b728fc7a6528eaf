"""The catalog: every service that it names is there for whoever asks."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from keystoneauth1 import exceptions as auth_errors
from openstack.connection import Connection

from stackspec.fixtures.cloud import catalog_of
from stackspec.pace import pace
from stackspec.plugin_keys import SITE
from stackspec.session import RUN

INTERFACES = ("public", "internal", "admin")


@pytest.mark.steps("glance", "placement", "nova_discover", "neutron_compute", "nova_networking")
def test_every_service_of_the_catalog_answers(request: pytest.FixtureRequest, user_cloud: Connection) -> None:
    """Each service has its endpoints in the region, and each of these answers.

    On a site of ours all three interfaces. Of somebody else's cloud only the interface that this user is to use can be
    asked for: the others are often kept from users, and an admin endpoint is not needed any more.
    """
    site = request.config.stash.get(SITE, None)
    region = user_cloud.config.get_region_name()
    wanted = INTERFACES if site is not None else (user_cloud.config.get_interface() or "public",)
    deployed = request.config.stash[RUN].services()
    # A token shows the catalog as it was when it was issued, and a deployment may go on beside.
    user_cloud.session.invalidate()
    services = catalog_of(user_cloud)
    missing = deployed - {service["type"] for service in services}
    problems = [f"{kind}: deployed, and not in the catalog" for kind in sorted(missing)]
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
    # The root, without a token: versions are told to everybody, and 401 is an answer, too.
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
