"""Secrets that belong together: containers of certificates, and keys made on order."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant
from stackspec.fixtures.key_manager import TEXT
from stackspec.fixtures.owned import Owned
from stackspec.openstack.ownership import within
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.key_manager.v1.secret import Secret

WORKER_WITHIN = 60


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
