"""Certificate authorities, and client certificates that they sign."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature

from stackspec import certificates


class TestCertificates:
    """Certificate authorities, and client certificates that they sign."""

    passphrase = "open sesame"

    @pytest.fixture
    def authority(self) -> str:
        """A certificate authority."""
        return certificates.make_authority("authority", self.passphrase)

    def test_client_verifies(self, authority: str) -> None:
        """With strict X.509 checks; not with another authority."""
        client = certificates.certificate_of(certificates.make_client("node", authority, self.passphrase))
        signer = certificates.certificate_of(authority)
        client.verify_directly_issued_by(signer)
        other = certificates.certificate_of(certificates.make_authority("authority", self.passphrase))
        with pytest.raises(InvalidSignature):
            client.verify_directly_issued_by(other)
        for certificate in (client, signer):
            names = {extension.oid._name for extension in certificate.extensions}
            assert {"keyUsage", "subjectKeyIdentifier", "authorityKeyIdentifier", "basicConstraints"} <= names

    def test_certificate_is_usable(self, authority: str) -> None:
        """Only with its pass phrase and its authority."""
        client = certificates.make_client("node", authority, self.passphrase)
        assert certificates.is_usable(authority, self.passphrase)
        assert certificates.is_usable(client, authority=authority)
        other = certificates.make_authority("authority", self.passphrase)
        assert not certificates.is_usable(authority, "another")
        assert not certificates.is_usable(client, authority=other)
        mixed = certificates.certificate_part(authority) + certificates.key_part(other)
        assert not certificates.is_usable(mixed, self.passphrase)
        assert not certificates.is_usable("000000", self.passphrase)

    def test_certificate_is_renewed_before_it_expires(self, authority: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Renewed while the old one is still valid."""
        monkeypatch.setattr(certificates, "RENEWED", certificates.LIFETIME)
        assert not certificates.is_usable(authority, self.passphrase)

    def test_key_is_encrypted(self, authority: str) -> None:
        """Its file alone is useless."""
        assert "ENCRYPTED" in certificates.key_part(authority)
