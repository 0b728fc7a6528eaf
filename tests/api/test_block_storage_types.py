"""Types of volumes: the default one, private ones, quality of service, and a type that no backend has."""

from __future__ import annotations

from typing import Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.block_storage import ask, default_type
from stackspec.fixtures.connections import Tenant
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.volumes import Volumes
from stackspec.plugin.session import RUN


def test_default_type(request: pytest.FixtureRequest, volumes: Volumes) -> None:
    """There is a default type, and users see it in the list; on our sites it is the guide's."""
    default = default_type(volumes.connection)
    assert default["id"] in {each.id for each in volumes.connection.block_storage.types()}
    assert request.config.stash[RUN].site is None or default["name"] == "lvm"
    assert "extra_specs" not in default or "volume_backend_name" not in default["extra_specs"], "users see the backend"


def test_private_type(volumes: Volumes, cloud: Connection, owned: Owned, member_tenant: Tenant) -> None:
    """A private type is visible only to projects with access to it."""
    made = owned(cloud, "volume_type", "private", is_public=False, description="a test's")
    cloud.block_storage.update_type_extra_specs(made, flower="rose")
    assert made.id not in {each.id for each in volumes.connection.block_storage.types()}
    cloud.block_storage.add_type_access(made, member_tenant.project_id)
    assert made.id in {each.id for each in volumes.connection.block_storage.types()}
    assert ask(volumes.connection, "DELETE", f"/types/{made.id}").status_code == 403
    cloud.block_storage.remove_type_access(made, member_tenant.project_id)
    assert made.id not in {each.id for each in volumes.connection.block_storage.types()}


def test_quality_of_service(volumes: Volumes, cloud: Connection, owned: Owned) -> None:
    """QoS specs associated with a type cannot be deleted. Users do not see them."""
    limits = owned(cloud, "qos_spec", "slow", consumer="front-end", total_iops_sec="100")
    kind = owned(cloud, "volume_type", "slow")
    cloud.block_storage.associate_qos_spec(limits, kind.id)
    assert cloud.block_storage.get_qos_spec(limits.id).specs == {"total_iops_sec": "100"}
    assert [each.id for each in cloud.block_storage.qos_spec_associations(limits)] == [kind.id]
    answer = ask(cloud, "DELETE", f"/qos-specs/{limits.id}")
    assert answer.status_code == 400, answer.text
    assert ask(volumes.connection, "GET", f"/qos-specs/{limits.id}").status_code == 403
    cloud.block_storage.disassociate_qos_spec(limits, kind.id)
    assert list(cloud.block_storage.qos_spec_associations(limits)) == []


def test_type_that_no_backend_has(volumes: Volumes, cloud: Connection, other_member: Connection, owned: Owned) -> None:
    """The volume goes to error; its user gets a message with the reason and can delete it, others cannot."""
    kind = owned(cloud, "volume_type", "nowhere", extra_specs={"volume_backend_name": "no-such-backend"})
    made = owned(volumes.connection, "volume", "nowhere", size=1, volume_type=kind.name)
    volumes.settle("volume", made.id, "error")
    (told,) = volumes.messages(made.id)
    assert "Could not find any available weighted backend" in told
    (message,) = [each for each in _messages(volumes.connection) if each["resource_uuid"] == made.id]
    assert (message["message_level"], message["resource_type"]) == ("ERROR", "VOLUME")
    # Cinder lists the messages of all projects (seen with 2025.1), but shows none by id to others.
    for method in ("GET", "DELETE"):
        assert ask(other_member, method, f"/messages/{message['id']}").status_code == 404
    assert ask(volumes.connection, "DELETE", f"/messages/{message['id']}").status_code == 204
    assert volumes.messages(made.id) == []


def _messages(connection: Connection) -> list[dict[str, Any]]:
    return list(ask(connection, "GET", "/messages").json()["messages"])
