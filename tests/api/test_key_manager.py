"""Key manager: secrets can be read back, only with permission, and not after their expiry."""

from __future__ import annotations

import base64
import os
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant, Tenants, connect_as, project_of
from stackspec.fixtures.owned import Owned
from stackspec.openstack.ownership import within
from stackspec.openstack.versions import identity_v3
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.key_manager.v1.secret import Secret

TEXT = {"payload_content_type": "text/plain"}
LIFE = 4
"""Seconds until a secret expires: enough to read it once before."""
WORKER_WITHIN = 60


def get(connection: Connection, secret: Secret, what: str = "") -> Any:
    """The API's response for a secret, whatever its status."""
    headers = {"Accept": "text/plain"} if what == "payload" else {}
    path = "/".join(part for part in ("/secrets", secret.secret_id, what) if part)
    return connection.key_manager.get(path, headers=headers)


@pytest.fixture(scope="module")
def secret(secrets_user: Connection, module_owned: Owned) -> Secret:
    """A secret for tests that do not modify it."""
    made: Secret = module_owned(secrets_user, "secret", "shared", payload="open sesame", **TEXT)
    return made


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


def make_certificate(name: str) -> tuple[str, str]:
    """A self-signed certificate and its private key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def test_container_of_a_certificate(secrets_user: Connection, other_member: Connection, owned: Owned) -> None:
    """A container gives access to a matching certificate and key; another project sees neither."""
    parts = dict(zip(("certificate", "private_key"), make_certificate("vault.example.org"), strict=True))
    kinds = {"certificate": "certificate", "private_key": "private"}
    refs = []
    for name, pem in parts.items():
        made = owned(secrets_user, "secret", name.replace("_", "-"), payload=pem, secret_type=kinds[name], **TEXT)
        refs.append({"name": name, "secret_ref": made.secret_ref})
    container = owned(secrets_user, "container", "tls", type="certificate", secret_refs=refs)

    found = secrets_user.key_manager.get_container(container.container_id)
    assert (found.type, found.status) == ("certificate", "ACTIVE")
    pems = {
        each["name"]: secrets_user.key_manager.get_secret(each["secret_ref"].rsplit("/", 1)[-1]).payload
        for each in found.secret_refs
    }
    certificate = x509.load_pem_x509_certificate(pems["certificate"].encode())
    key = serialization.load_pem_private_key(pems["private_key"].encode(), password=None)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=vault.example.org"
    assert other_member.key_manager.get(f"/containers/{container.container_id}").status_code == 403


def test_certificate_container_needs_a_certificate(secrets_user: Connection, secret: Secret) -> None:
    """A certificate container without its parts is refused."""
    refs = [{"name": "private_key", "secret_ref": secret.secret_ref}]
    answer = secrets_user.key_manager.post("/containers", json={"type": "certificate", "secret_refs": refs})
    assert answer.status_code == 400, answer.text


def test_consumers_of_a_container(secrets_user: Connection, secret: Secret, owned: Owned) -> None:
    """Consumers of a container are registered with it, as load balancers do."""
    refs = [{"name": "word", "secret_ref": secret.secret_ref}]
    container = owned(secrets_user, "container", "used", type="generic", secret_refs=refs)
    path = f"/containers/{container.container_id}/consumers"
    user = {"name": "listener", "URL": "https://lb.example.org/1"}
    assert secrets_user.key_manager.post(path, json=user).status_code == 200
    assert [each["name"] for each in secrets_user.key_manager.get(path).json()["consumers"]] == ["listener"]
    assert secrets_user.key_manager.delete(path, json=user).status_code == 200
    assert secrets_user.key_manager.get(path).json()["consumers"] == []


@pytest.mark.parametrize(
    ("kind", "algorithm", "bits"),
    [pytest.param("key", "aes", 256, id="key"), pytest.param("asymmetric", "rsa", 2048, id="pair")],
)
def test_key_is_made_on_order(
    secrets_user: Connection,
    member_tenant: Tenant,
    cloud: Connection,
    owned: Owned,
    kind: str,
    algorithm: str,
    bits: int,
) -> None:
    """The worker generates keys on order: a symmetric one, and a pair in a container."""
    meta = {"name": owned.name("ordered"), "algorithm": algorithm, "bit_length": bits}
    if kind == "key":
        meta |= {"mode": "cbc", "payload_content_type": "application/octet-stream"}
    made = secrets_user.key_manager.create_order(type=kind, meta=meta)
    # Only an administrator of the project can delete an order.
    owned.adopt(within(cloud, member_tenant.project_id), "order", made)

    def done() -> Any:
        answer = secrets_user.key_manager.get(f"/orders/{made.order_id}").json()
        assert answer["status"] != "ERROR", f"{answer['error_status_code']}: {answer['error_reason']}"
        return answer if answer["status"] == "ACTIVE" else None

    order = wait_for("the order is done", done, WORKER_WITHIN)
    if kind == "key":
        key = secrets_user.key_manager.get_secret(order["secret_ref"].rsplit("/", 1)[-1])
        owned.adopt(secrets_user, "secret", key)
        assert len(key.payload) * 8 == bits
        return
    pair = secrets_user.key_manager.get_container(order["container_ref"].rsplit("/", 1)[-1])
    owned.adopt(secrets_user, "container", pair)
    parts = {}
    for each in pair.secret_refs:
        part = secrets_user.key_manager.get_secret(each["secret_ref"].rsplit("/", 1)[-1])
        owned.adopt(secrets_user, "secret", part)
        parts[each["name"]] = part.payload if isinstance(part.payload, bytes) else part.payload.encode()
    private = serialization.load_pem_private_key(parts["private_key"], password=None)
    public = serialization.load_pem_public_key(parts["public_key"])
    assert private.public_key() == public
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == bits


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
