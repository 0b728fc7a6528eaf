"""Certificate authorities and certificates of a site: created once, stored with its secrets, renewed in time.

Python 3.13 verifies chains strictly, so each certificate has keyUsage, subject and authority key identifiers.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=3650)
RENEWED = datetime.timedelta(days=90)
"""A certificate is renewed this long before it expires."""
_ALL_USES = dict.fromkeys(
    (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)


def make_authority(name: str, passphrase: str) -> str:
    """A certificate authority: its certificate and its encrypted key, as PEM.

    :param name: its common name
    :param passphrase: encrypts its key
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    uses = x509.KeyUsage(**{**_ALL_USES, "key_cert_sign": True, "crl_sign": True})
    builder = builder.add_extension(uses, critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    certificate = builder.sign(key, hashes.SHA256())
    protection = serialization.BestAvailableEncryption(passphrase.encode())
    return _pem(certificate) + _key_pem(key, protection)


def make_client(name: str, authority: str, passphrase: str) -> str:
    """A client's certificate and its key, as PEM.

    :param name: its common name
    :param authority: the result of `make_authority`
    :param passphrase: the authority's
    """
    signer, signer_key = _load(authority, passphrase)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), signer.subject, key.public_key()).add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(x509.KeyUsage(**{**_ALL_USES, "digital_signature": True}), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False
    )
    return _pem(builder.sign(signer_key, hashes.SHA256())) + _key_pem(key, serialization.NoEncryption())


def is_usable(bundle: str, passphrase: str | None = None, *, authority: str = "") -> bool:
    """Whether a certificate matches its key and is valid for long enough.

    :param bundle: both, as PEM
    :param passphrase: of its key
    :param authority: the expected signer
    """
    try:
        certificate, key = _load(bundle, passphrase)
        if authority:
            certificate.verify_directly_issued_by(certificate_of(authority))
    except Exception:  # unusable, whatever the reason
        return False
    ends = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    return certificate.public_key() == key.public_key() and ends > RENEWED


def certificate_of(bundle: str) -> x509.Certificate:
    """The certificate in a bundle of PEM."""
    return x509.load_pem_x509_certificate(bundle.encode())


def certificate_part(bundle: str) -> str:
    """The certificate in a bundle, as PEM."""
    return _pem(certificate_of(bundle))


def key_part(bundle: str) -> str:
    """The private key in a bundle, as PEM."""
    return bundle[len(certificate_part(bundle)) :]


def _load(bundle: str, passphrase: str | None) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    password = passphrase.encode() if passphrase else None
    key = serialization.load_pem_private_key(key_part(bundle).encode(), password)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return certificate_of(bundle), key


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    # A node's clock may be behind this machine's clock.
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + LIFETIME)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey, protection: serialization.KeySerializationEncryption) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection).decode()
