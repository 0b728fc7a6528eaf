"""Identity: tokens, projects, users and roles, permissions of ordinary users, the catalog."""

from __future__ import annotations

import secrets

import pytest
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant, Tenants, catalog_of, connect_as, new_login, service_types
from stackspec.fixtures.owned import Owned
from stackspec.openstack.versions import identity_v3

INTERFACES = ("public", "internal", "admin")


@pytest.fixture(scope="module")
def account(tenants: Tenants) -> Tenant:
    """A temporary user with a known password."""
    return tenants.get("account")


@pytest.mark.smoke
def test_token_names_user_project_and_role(cloud: Connection, account: Tenant) -> None:
    """A token is issued and validates with its scope."""
    token = new_login(account).auth_token
    answer = identity_v3(cloud).get("/auth/tokens", headers={"X-Subject-Token": token})
    assert answer.status_code == 200, f"validation of a fresh token: {answer.status_code} {answer.text[:200]}"
    found = answer.json()["token"]
    assert found["user"]["id"] == account.user_id
    assert found["project"]["id"] == account.project_id
    assert "member" in {role["name"] for role in found["roles"]}


def test_revoked_token_is_refused(cloud: Connection, account: Tenant) -> None:
    """A revoked token no longer validates or grants access."""
    connection = new_login(account)
    token = connection.auth_token
    headers = {"X-Subject-Token": token}
    assert identity_v3(cloud).delete("/auth/tokens", headers=headers).status_code == 204
    assert identity_v3(cloud).get("/auth/tokens", headers=headers).status_code == 404
    answer = connection.session.get(
        f"{_identity(connection)}/auth/projects", headers={"X-Auth-Token": token}, authenticated=False, raise_exc=False
    )
    assert answer.status_code == 401, f"a revoked token gets {answer.status_code}, expected 401"


def _identity(connection: Connection) -> str:
    interface = connection.config.get_interface() or "public"
    return str(connection.session.get_endpoint(service_type="identity", interface=interface, version=3)).rstrip("/")


def test_wrong_password_is_refused(account: Tenant) -> None:
    """401, without revealing whether user name or password is wrong."""
    connection = connect_as(
        account.connection, "wrong-password", user_id=account.user_id, project_id=account.project_id
    )
    with pytest.raises(auth_errors.Unauthorized) as raised:
        connection.session.get_token()
    assert raised.value.http_status == 401


def test_unknown_user_is_refused_alike(account: Tenant) -> None:
    """An unknown user gets the same response as a wrong password."""
    connection = connect_as(
        account.connection, "wrong-password", user_id=secrets.token_hex(16), project_id=account.project_id
    )
    with pytest.raises(auth_errors.Unauthorized) as raised:
        connection.session.get_token()
    assert raised.value.http_status == 401


def test_project_is_created_changed_and_deleted(cloud: Connection, owned: Owned) -> None:
    """A project is created, changed and deleted."""
    project = owned(cloud, "project", "project", description="before")
    assert identity_v3(cloud).get_project(project.id).description == "before"
    identity_v3(cloud).update_project(project, description="after", is_enabled=False)
    found = identity_v3(cloud).get_project(project.id)
    assert (found.description, found.is_enabled) == ("after", False)
    identity_v3(cloud).delete_project(project)
    with pytest.raises(exceptions.NotFoundException):
        identity_v3(cloud).get_project(project.id)


def test_project_name_is_unique_in_its_domain(cloud: Connection, owned: Owned) -> None:
    """A duplicate name is a conflict."""
    project = owned(cloud, "project", "unique")
    with pytest.raises(exceptions.ConflictException):
        identity_v3(cloud).create_project(name=project.name, domain_id=project.domain_id)


def test_role_admits_and_its_removal_excludes(cloud: Connection, owned: Owned) -> None:
    """A user can log in to a project only with a role there."""
    password = secrets.token_urlsafe(18)
    project = owned(cloud, "project", "assigned")
    user = owned(cloud, "user", "assigned", password=password, domain_id=project.domain_id)
    role = identity_v3(cloud).find_role("member", ignore_missing=False)

    def enter() -> None:
        connect_as(cloud, password, user_id=user.id, project_id=project.id).session.get_token()

    with pytest.raises(auth_errors.Unauthorized):
        enter()
    identity_v3(cloud).assign_project_role_to_user(project, user, role)
    enter()
    assigned = list(identity_v3(cloud).role_assignments(user_id=user.id, scope_project_id=project.id))
    assert [each.role["id"] for each in assigned] == [role.id]
    identity_v3(cloud).unassign_project_role_from_user(project, user, role)
    with pytest.raises(auth_errors.Unauthorized):
        enter()


def test_group_gives_its_role_to_its_members(cloud: Connection, owned: Owned) -> None:
    """A user has the roles of its groups."""
    password = secrets.token_urlsafe(18)
    project = owned(cloud, "project", "grouped")
    user = owned(cloud, "user", "grouped", password=password, domain_id=project.domain_id)
    group = owned(cloud, "group", "group", domain_id=project.domain_id)
    role = identity_v3(cloud).find_role("member", ignore_missing=False)
    identity_v3(cloud).assign_project_role_to_group(project, group, role)
    identity_v3(cloud).add_user_to_group(user, group)
    connect_as(cloud, password, user_id=user.id, project_id=project.id).session.get_token()
    identity_v3(cloud).remove_user_from_group(user, group)
    with pytest.raises(auth_errors.Unauthorized):
        connect_as(cloud, password, user_id=user.id, project_id=project.id).session.get_token()


def test_disabled_user_is_refused(cloud: Connection, owned: Owned) -> None:
    """A disabled user cannot log in; enabled again and with a new password, it can."""
    old, new = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
    project = owned(cloud, "project", "disabled")
    user = owned(cloud, "user", "disabled", password=old, domain_id=project.domain_id)
    role = identity_v3(cloud).find_role("member", ignore_missing=False)
    identity_v3(cloud).assign_project_role_to_user(project, user, role)
    identity_v3(cloud).update_user(user, is_enabled=False)
    with pytest.raises(auth_errors.Unauthorized):
        connect_as(cloud, old, user_id=user.id, project_id=project.id).session.get_token()
    identity_v3(cloud).update_user(user, is_enabled=True, password=new)
    connect_as(cloud, new, user_id=user.id, project_id=project.id).session.get_token()


def test_role_is_created_renamed_and_deleted(cloud: Connection, owned: Owned) -> None:
    """A custom role."""
    role = owned(cloud, "role", "role")
    other = owned.name("renamed")
    identity_v3(cloud).update_role(role, name=other)
    assert identity_v3(cloud).find_role(other, ignore_missing=False).id == role.id
    identity_v3(cloud).delete_role(role)
    assert identity_v3(cloud).find_role(other) is None


def test_domain_keeps_its_projects_apart(cloud: Connection, owned: Owned) -> None:
    """Names are unique only within a domain; an enabled domain cannot be deleted."""
    domain = owned(cloud, "domain", "domain")
    here = owned(cloud, "project", "same")
    there = owned.adopt(cloud, "project", identity_v3(cloud).create_project(name=here.name, domain_id=domain.id))
    assert there.id != here.id
    with pytest.raises(exceptions.ForbiddenException):
        identity_v3(cloud).delete_domain(domain)


def test_application_credential_logs_in_and_expires_with_its_removal(account: Tenant, owned: Owned) -> None:
    """An application credential grants access to the user's project until it is deleted."""
    connection = new_login(account)
    made = owned(connection, "application_credential", "credential", user=account.user_id)

    def enter() -> Connection:
        program = connect_as(
            connection,
            "",
            auth_type="v3applicationcredential",
            application_credential_id=made.id,
            application_credential_secret=made.secret,
        )
        program.session.get_token()
        return program

    assert enter().current_project_id == account.project_id
    identity_v3(connection).delete_application_credential(account.user_id, made.id)
    with pytest.raises((auth_errors.Unauthorized, auth_errors.NotFound)):
        enter()


def test_credential_is_kept_as_it_was_given(cloud: Connection, account: Tenant) -> None:
    """A stored EC2 credential can be read back, which requires keystone's credential encryption keys."""
    blob = '{"access": "a", "secret": "s"}'
    made = identity_v3(cloud).create_credential(
        type="ec2", blob=blob, user_id=account.user_id, project_id=account.project_id
    )
    try:
        assert identity_v3(cloud).get_credential(made.id).blob == blob
    finally:
        identity_v3(cloud).delete_credential(made.id)
    with pytest.raises(exceptions.NotFoundException):
        identity_v3(cloud).get_credential(made.id)


@pytest.mark.parametrize("what", ["projects", "users", "services", "roles"])
def test_ordinary_user_is_no_administrator(member: Connection, cloud: Connection, what: str) -> None:
    """Administrator requests, reading and writing, are refused with 403."""
    assert identity_v3(member).get(f"/{what}").status_code == 403
    one = what.removesuffix("s")
    answer = identity_v3(member).post(f"/{what}", json={one: {"name": "not-allowed", "type": "none"}})
    assert answer.status_code == 403, f"POST /{what} by an ordinary user: {answer.status_code}, expected 403"


def test_service_and_endpoint_appear_in_the_catalog(cloud: Connection, owned: Owned, account: Tenant) -> None:
    """A new endpoint appears in the catalog of the next token, and disappears with its service."""
    kind = owned.name("kind")
    service = owned(cloud, "service", "service", type=kind)
    region = cloud.config.get_region_name() or next(iter(identity_v3(cloud).regions())).id
    url = "http://192.0.2.1/"
    identity_v3(cloud).create_endpoint(service_id=service.id, interface="public", url=url, region_id=region)
    entry = next((each for each in catalog_of(new_login(account)) if each["type"] == kind), None)
    assert entry is not None, f"service {kind} is not in the catalog of a token issued after its creation"
    assert [each["url"] for each in entry["endpoints"]] == [url]
    identity_v3(cloud).delete_service(service)
    assert kind not in service_types(new_login(account))
