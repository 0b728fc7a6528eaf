"""Secrets of the key manager: they can be read back, only with permission, and not after their expiry."""

from __future__ import annotations

import base64
import os
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenants, connect_as, project_of
from stackspec.fixtures.key_manager import TEXT
from stackspec.fixtures.owned import Owned
from stackspec.openstack.versions import identity_v3
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.key_manager.v1.secret import Secret

LIFE = 4
"""Seconds until a secret expires: enough to read it once before."""


def get(connection: Connection, secret: Secret, what: str = "") -> Any:
    """The API's response for a secret, whatever its status."""
    headers = {"Accept": "text/plain"} if what == "payload" else {}
    path = "/".join(part for part in ("/secrets", secret.secret_id, what) if part)
    return connection.key_manager.get(path, headers=headers)


@pytest.mark.smoke
def test_text_comes_back(secrets_user: Connection, secret: Secret) -> None:
    """The secret's payload can be read back; its metadata does not contain it."""
    found = secrets_user.key_manager.get_secret(secret.secret_id)
    assert (found.status, found.payload) == ("ACTIVE", "open sesame")
    assert "sesame" not in get(secrets_user, secret).text
    assert secret.secret_id in {each.secret_id for each in secrets_user.key_manager.secrets(name=secret.name)}


def test_reference_is_the_endpoint_s(secrets_user: Connection, secret: Secret) -> None:
    """Secrets are referenced by URL, so it must be reachable for others."""
    endpoint = str(secrets_user.key_manager.get_endpoint())
    assert str(secret.secret_ref).startswith(endpoint.split("/v1")[0]), f"{secret.secret_ref} is not below {endpoint}"


@pytest.mark.parametrize("size", [pytest.param(32, id="key"), pytest.param(10000, id="large")])
def test_bytes_come_back(secrets_user: Connection, owned: Owned, size: int) -> None:
    """Binary data, sent as base64, comes back unchanged."""
    data = os.urandom(size)
    made = owned(
        secrets_user,
        "secret",
        "bytes",
        payload=base64.b64encode(data).decode(),
        payload_content_type="application/octet-stream",
        payload_content_encoding="base64",
        algorithm="aes",
        bit_length=256,
        mode="cbc",
        secret_type="symmetric",
    )
    found = secrets_user.key_manager.get_secret(made.secret_id)
    assert found.payload == data
    assert (found.algorithm, found.bit_length, found.mode, found.secret_type) == ("aes", 256, "cbc", "symmetric")


def test_payload_in_a_second_call(secrets_user: Connection, owned: Owned) -> None:
    """A payload can be added to an empty secret only once."""
    made = owned(secrets_user, "secret", "later")
    assert get(secrets_user, made, "payload").status_code == 404
    path = f"/secrets/{made.secret_id}"
    first = secrets_user.key_manager.put(path, data="first", headers={"Content-Type": "text/plain"})
    second = secrets_user.key_manager.put(path, data="second", headers={"Content-Type": "text/plain"})
    assert (first.status_code, second.status_code) == (204, 409)
    assert get(secrets_user, made, "payload").text == "first"


def test_metadata(secrets_user: Connection, owned: Owned) -> None:
    """User metadata of a secret is set, added, changed and removed."""
    made = owned(secrets_user, "secret", "metadata", payload="x", **TEXT)
    path = f"/secrets/{made.secret_id}/metadata"
    api = secrets_user.key_manager
    assert api.put(path, json={"metadata": {"use": "test", "place": "here"}}).status_code == 201
    assert api.post(path, json={"key": "colour", "value": "blue"}).status_code == 201
    assert api.put(f"{path}/place", json={"key": "place", "value": "there"}).status_code == 200
    assert api.delete(f"{path}/use").status_code == 204
    assert api.get(path).json() == {"metadata": {"place": "there", "colour": "blue"}}


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"payload": "", **TEXT}, id="empty payload"),
        pytest.param({"payload": "x" * 30000, **TEXT}, id="too large"),
        pytest.param({"payload": "x"}, id="no content type"),
        pytest.param({"payload": "x", **TEXT, "expiration": "2001-01-01T00:00:00"}, id="expired before it is made"),
    ],
)
def test_wrong_secret_is_refused(secrets_user: Connection, attributes: dict[str, str]) -> None:
    """Refused with the reason, and no secret is created."""
    answer = secrets_user.key_manager.post("/secrets", json=attributes)
    assert answer.status_code in (400, 413), answer.text
    assert answer.json()["description"]


def test_expired_secret_is_gone(secrets_user: Connection, owned: Owned) -> None:
    """A secret exists until its expiry, and not after it."""
    # The service's clock counts, which may differ from this machine's.
    date = secrets_user.key_manager.get("/quotas").headers.get("Date")
    now = parsedate_to_datetime(date) if date else datetime.now(timezone.utc)
    made = owned(
        secrets_user,
        "secret",
        "expiring",
        payload="soon gone",
        expires_at=(now + timedelta(seconds=LIFE)).strftime("%Y-%m-%dT%H:%M:%S"),
        **TEXT,
    )
    assert get(secrets_user, made, "payload").text == "soon gone"
    wait_for("the secret expires", lambda: get(secrets_user, made).status_code == 404, LIFE + 30)
    assert get(secrets_user, made, "payload").status_code == 404
    assert made.secret_id not in {each.secret_id for each in secrets_user.key_manager.secrets(name=made.name)}


def test_another_project_is_refused(secrets_user: Connection, other_member: Connection, secret: Secret) -> None:
    """Knowing the URL is not enough to read, delete or list a secret."""
    assert [get(other_member, secret, what).status_code for what in ("", "payload")] == [403, 403]
    with pytest.raises(exceptions.ForbiddenException):
        other_member.key_manager.delete_secret(secret.secret_id)
    answer = other_member.key_manager.get("/secrets", params={"name": secret.name})
    assert answer.status_code == 403 or answer.json()["secrets"] == [], answer.text
    assert get(secrets_user, secret, "payload").text == "open sesame"


def test_access_list_admits_one_user(secrets_user: Connection, other_member: Connection, owned: Owned) -> None:
    """With an ACL, a user of another project can read but not delete a secret; without it neither."""
    made = owned(secrets_user, "secret", "handed-on", payload="for your eyes", **TEXT)
    path = f"/secrets/{made.secret_id}/acl"
    assert get(other_member, made, "payload").status_code == 403
    answer = secrets_user.key_manager.put(path, json={"read": {"users": [other_member.current_user_id]}})
    assert answer.status_code == 200, answer.text
    assert get(other_member, made, "payload").text == "for your eyes"
    with pytest.raises(exceptions.ForbiddenException):
        other_member.key_manager.delete_secret(made.secret_id)
    assert secrets_user.key_manager.delete(path).status_code == 200
    assert get(other_member, made, "payload").status_code == 403


def test_private_secret_is_its_maker_s(secrets_user: Connection, tenants: Tenants, owned: Owned) -> None:
    """Another user of the same project can read a secret of the project, but not a private one."""
    made = owned(secrets_user, "secret", "private", payload="mine", **TEXT)
    tenants.get("member")
    admin = tenants.admin
    assert admin is not None
    password = base64.b64encode(os.urandom(18)).decode()
    colleague = owned(admin, "user", "colleague", password=password)
    for name in ("member", "creator"):
        if role := identity_v3(admin).find_role(name):
            identity_v3(admin).assign_project_role_to_user(project_of(secrets_user), colleague, role)
    theirs = connect_as(admin, password, user_id=colleague.id, project_id=secrets_user.current_project_id)
    assert get(theirs, made, "payload").text == "mine"
    answer = secrets_user.key_manager.put(f"/secrets/{made.secret_id}/acl", json={"read": {"project-access": False}})
    assert answer.status_code == 200, answer.text
    assert get(theirs, made, "payload").status_code == 403
    assert get(secrets_user, made, "payload").text == "mine"


def test_quota_of_a_project(
    barbican: object, cloud: Connection, secrets_user: Connection, secret: Secret, owned: Owned
) -> None:
    """A secret over the quota is refused; the user can read the quota but not set it."""
    project = secrets_user.current_project_id
    path = f"/project-quotas/{project}"
    count = secrets_user.key_manager.get("/secrets?limit=1").json()["total"]
    assert secrets_user.key_manager.put(path, json={"project_quotas": {"secrets": -1}}).status_code == 403
    assert cloud.key_manager.put(path, json={"project_quotas": {"secrets": count}}).status_code == 204
    try:
        assert secrets_user.key_manager.get("/quotas").json()["quotas"]["secrets"] == count
        answer = secrets_user.key_manager.post("/secrets", json={"name": owned.name("too-many")})
        assert answer.status_code == 403, answer.text
        assert "quota" in answer.text.lower()
    finally:
        assert cloud.key_manager.delete(path).status_code == 204
    owned(secrets_user, "secret", "again", payload="x", **TEXT)


def test_deleted_secret_is_gone(secrets_user: Connection, owned: Owned) -> None:
    """A deleted secret and its payload are gone."""
    made = owned(secrets_user, "secret", "deleted", payload="x", **TEXT)
    secrets_user.key_manager.delete_secret(made.secret_id)
    assert [get(secrets_user, made, what).status_code for what in ("", "payload")] == [404, 404]


def test_no_token_no_secret(secrets_user: Connection, secret: Secret) -> None:
    """Nor with an invalid token."""
    url = f"{str(secrets_user.key_manager.get_endpoint()).split('/v1')[0]}/v1/secrets/{secret.secret_id}/payload"
    for headers in ({}, {"X-Auth-Token": "gAAAAAB-not-a-token"}):
        answer = secrets_user.session.get(url, headers=headers, authenticated=False, raise_exc=False)
        assert answer.status_code == 401
