"""Without memcached the cloud is slower, and otherwise the same. Runs only when named: `./run tests/outage`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stackspec.fixtures.connections import Tenants, new_login
from stackspec.plugin.testinfra_backend import NodeHost

pytestmark = pytest.mark.disturbs("memcached")


@pytest.fixture
def stopped_memcached(memcached: object, controller: NodeHost) -> Iterator[None]:
    """Memcached is stopped during the test."""
    try:
        controller.check_output("systemctl stop memcached")
        yield
    finally:
        controller.check_output("systemctl start memcached")


def test_users_log_in_and_services_respond(
    glance: object, nova: object, neutron: object, tenants: Tenants, stopped_memcached: None
) -> None:
    """Keystone issues a token, and the services validate it."""
    user = new_login(tenants.get("cacheless"))
    assert user.auth_token
    for service, path in ((user.image, "/images"), (user.compute, "/servers"), (user.network, "/networks")):
        answer = service.get(path)
        assert answer.status_code == 200, f"{service.service_type}: {answer.status_code} {answer.text[:200]}"
