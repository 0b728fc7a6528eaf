"""Compute for ordinary users: flavors, keypairs, groups, limits, and servers without a guest system."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant, Tenants, project_of
from stackspec.fixtures.owned import Owned
from stackspec.openstack.versions import identity_v3
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.compute.v2.flavor import Flavor
    from openstack.compute.v2.server import Server
    from openstack.image.v2.image import Image

SMALL = {"ram": 64, "vcpus": 1, "disk": 1}


def test_flavor_is_created_read_and_deleted(nova: object, cloud: Connection, member: Connection, owned: Owned) -> None:
    """A flavor created by an administrator is visible to everybody until it is deleted."""
    made = owned(cloud, "flavor", "flavor", description="a test's", **SMALL)
    found = member.compute.get_flavor(made.id)
    assert (found.ram, found.vcpus, found.disk, found.is_public) == (64, 1, 1, True)
    cloud.compute.delete_flavor(made, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        member.compute.get_flavor(made.id)


def test_flavor_of_some_projects_only(
    nova: object, cloud: Connection, member: Connection, other_member: Connection, owned: Owned
) -> None:
    """A private flavor is visible only to projects with access to it."""
    made = owned(cloud, "flavor", "private", is_public=False, **SMALL)
    cloud.compute.flavor_add_tenant_access(made, project_of(member))
    assert made.id in {each.id for each in member.compute.flavors()}
    assert made.id not in {each.id for each in other_member.compute.flavors()}
    cloud.compute.flavor_remove_tenant_access(made, project_of(member))
    assert made.id not in {each.id for each in member.compute.flavors()}


def test_extra_specs_of_a_flavor(nova: object, cloud: Connection, owned: Owned) -> None:
    """Extra specs are set, changed and removed; an invalid value is refused."""
    made = owned(cloud, "flavor", "extra", **SMALL)
    cloud.compute.create_flavor_extra_specs(made, {"hw:cpu_policy": "shared"})
    assert cloud.compute.fetch_flavor_extra_specs(made).extra_specs == {"hw:cpu_policy": "shared"}
    wrong = {"extra_specs": {"hw:cpu_policy": "nonsense"}}
    answer = cloud.compute.post(f"/flavors/{made.id}/os-extra_specs", json=wrong, microversion="2.86")
    assert answer.status_code == 400, f"an invalid value: {answer.status_code}, expected 400"
    cloud.compute.delete_flavor_extra_specs_property(made, "hw:cpu_policy")
    assert cloud.compute.fetch_flavor_extra_specs(made).extra_specs == {}


def test_ordinary_user_makes_no_flavor(nova: object, member: Connection, cloud: Connection, owned: Owned) -> None:
    """Only administrators can create flavors."""
    with pytest.raises(exceptions.ForbiddenException):
        owned(member, "flavor", "not-allowed", **SMALL)


def test_keypair_made_by_nova(nova: object, member: Connection, owned: Owned) -> None:
    """Nova generates a key pair and returns the private key only once."""
    made = owned(member, "keypair", "made")
    assert "PRIVATE KEY" in made.private_key
    found = member.compute.get_keypair(made.name)
    assert found.public_key == made.public_key
    assert not found.private_key, "nova stores and shows a private key"


def test_keypair_of_ones_own(nova: object, member: Connection, owned: Owned, guest_key: Path) -> None:
    """A public key is imported unchanged, with its fingerprint; a duplicate name is a conflict; then it is deleted."""
    public = guest_key.with_suffix(".pub").read_text()
    made = owned(member, "keypair", "imported", public_key=public)
    assert member.compute.find_keypair(made.name), f"the key {made.name} was created, but nova does not know its name"
    found = member.compute.get_keypair(made.name)
    assert found.public_key.split()[:2] == public.split()[:2]
    digest = hashlib.md5(b64decode(public.split()[1]), usedforsecurity=False).hexdigest()
    assert found.fingerprint == ":".join(digest[at : at + 2] for at in range(0, 32, 2))
    with pytest.raises(exceptions.ConflictException):
        member.compute.create_keypair(name=made.name, public_key=public)
    member.compute.delete_keypair(made.name, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        member.compute.get_keypair(made.name)


def test_invalid_keypair_is_refused(nova: object, member: Connection, owned: Owned) -> None:
    """An invalid public key is a bad request."""
    with pytest.raises(exceptions.BadRequestException):
        owned(member, "keypair", "nonsense", public_key="ssh-rsa nonsense")


def test_keypairs_are_each_users_own(
    nova: object, member: Connection, other_member: Connection, owned: Owned, guest_key: Path
) -> None:
    """Another user does not see it."""
    made = owned(member, "keypair", "mine", public_key=guest_key.with_suffix(".pub").read_text())
    with pytest.raises(exceptions.NotFoundException):
        other_member.compute.get_keypair(made.name)


@pytest.mark.parametrize("policy", ["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"])
def test_server_group(nova: object, member: Connection, owned: Owned, policy: str) -> None:
    """A server group of each policy is created, read and deleted."""
    made = owned(member, "server_group", policy, policy=policy)
    found = member.compute.get_server_group(made.id)
    assert found.policy == policy
    assert made.id in {each.id for each in member.compute.server_groups()}
    member.compute.delete_server_group(made, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        member.compute.get_server_group(made.id)


def test_limits_of_a_project(nova: object, member: Connection) -> None:
    """The project's absolute limits and usage leave room for a server."""
    limits = member.compute.get_limits().absolute
    for name, most, used in (
        ("instances", limits.instances, limits.instances_used),
        ("cores", limits.total_cores, limits.total_cores_used),
        ("ram", limits.total_ram, limits.total_ram_used),
    ):
        assert used >= 0, f"usage of {name} is {used}"
        assert most == -1 or most > used, f"the quota of {name} leaves no room for a server: {used} of {most} used"


@pytest.fixture(scope="module")
def quota_tenant(nova: object, tenants: Tenants) -> Tenant:
    """A project whose quota a test may change."""
    return tenants.get("compute-quota")


@pytest.fixture
def no_servers(nova: object, cloud: Connection, quota_tenant: Tenant, owned: Owned) -> Iterator[Connection]:
    """A project with a quota of no servers, in nova, or in keystone if nova uses unified limits."""
    project = quota_tenant.project_id
    registered = [each for each in identity_v3(cloud).registered_limits() if each.resource_name == "servers"]
    for limit in registered:
        owned(
            cloud,
            "limit",
            "no-servers",
            project_id=project,
            service_id=limit.service_id,
            region_id=limit.region_id,
            resource_name="servers",
            resource_limit=0,
        )
    if not registered:
        cloud.compute.update_quota_set(project, instances=0)
        found = cloud.compute.get_quota_set(project).instances
        assert found == 0, f"quota of servers: set to 0, found {found}"
    yield quota_tenant.connection
    if not registered:
        cloud.compute.revert_quota_set(project)


def test_quota_of_servers_is_enforced(
    glance: object, nova: object, no_servers: Connection, guest_image: Image, guest_flavor: Flavor, owned: Owned
) -> None:
    """A server over the quota is refused with 403, and the message names the quota."""
    with pytest.raises(exceptions.ForbiddenException, match=r"(?i)quota|limit") as raised:
        owned(
            no_servers,
            "server",
            "over-quota",
            image_id=guest_image.id,
            flavor_id=guest_flavor.id,
            networks="none",
        )
    assert "instances" in str(raised.value) or "servers" in str(raised.value), str(raised.value)


@pytest.fixture(scope="module")
def bare_server(
    glance: object,
    nova_discover: object,
    neutron: object,
    nova_networking: object,
    member: Connection,
    guest_image: Image,
    guest_flavor: Flavor,
    module_owned: Owned,
) -> Server:
    """A server without network, which does not need its guest to boot."""
    made = module_owned(
        member,
        "server",
        "bare",
        image_id=guest_image.id,
        flavor_id=guest_flavor.id,
        networks="none",
        metadata={"color": "red"},
    )

    def active() -> Server | None:
        server = member.compute.get_server(made.id)
        assert server.status != "ERROR", f"server {made.id} went to ERROR: {server.fault}"
        return server if server.status == "ACTIVE" else None

    return wait_for(f"server {made.id} is ACTIVE", active, 300)


def test_server_metadata_tags_and_name(bare_server: Server, member: Connection, owned: Owned) -> None:
    """Metadata, tags and name can be changed, and servers can be filtered by them."""
    compute, made = member.compute, bare_server
    compute.set_server_metadata(made.id, color="blue", shape="round")
    assert compute.get_server(made.id).metadata == {"color": "blue", "shape": "round"}
    compute.delete_server_metadata(made.id, ["shape"])
    assert compute.get_server(made.id).metadata == {"color": "blue"}
    renamed = owned.name("renamed")
    compute.update_server(made.id, name=renamed)
    assert [each.id for each in compute.servers(name=renamed)] == [made.id]
    answer = compute.put(f"/servers/{made.id}/tags", json={"tags": ["one"]}, microversion="2.26")
    assert answer.json()["tags"] == ["one"]
    assert made.id in {each.id for each in compute.servers(tags="one")}


def test_server_of_unknown_image_or_flavor_is_refused(
    glance: object, nova: object, member: Connection, guest_image: Image, guest_flavor: Flavor, owned: Owned
) -> None:
    """400, and nothing is created. The guide makes no flavor at all (erratum E37)."""
    nobody = "00000000-0000-0000-0000-000000000000"
    for image, flavor in ((nobody, guest_flavor.id), (guest_image.id, nobody)):
        with pytest.raises(exceptions.BadRequestException):
            owned(member, "server", "refused", image_id=image, flavor_id=flavor, networks="none")


def test_another_projects_server_is_not_found(
    bare_server: Server, member: Connection, other_member: Connection
) -> None:
    """Another project's user can neither read nor delete it."""
    made = bare_server
    with pytest.raises(exceptions.NotFoundException):
        other_member.compute.get_server(made.id)
    with pytest.raises(exceptions.NotFoundException):
        other_member.compute.delete_server(made.id, ignore_missing=False)
    assert member.compute.get_server(made.id).id == made.id


def test_actions_of_a_server_are_recorded(bare_server: Server, member: Connection) -> None:
    """Nova records a server's actions, with user and result."""
    actions = list(member.compute.server_actions(bare_server.id))
    assert [each.action for each in actions][-1] == "create"
    assert all(each.user_id == member.current_user_id for each in actions if each.action == "create")


def test_pause_and_go_on(bare_server: Server, member: Connection) -> None:
    """A server can be paused and unpaused."""
    compute, made = member.compute, bare_server

    def status(wanted: str) -> None:
        wait_for(f"server {made.id} is {wanted}", lambda: compute.get_server(made.id).status == wanted, 60)

    compute.pause_server(made.id)
    status("PAUSED")
    compute.unpause_server(made.id)
    status("ACTIVE")
