"""Certificates for the tests: good ones, and each kind of bad one a field engineer meets."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as files."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    cert_file: Path


class Pki:
    """Two authorities: ours, and a foreign one nobody should believe."""

    def __init__(self, directory: Path, now: dt.datetime) -> None:
        self._directory = directory
        self._now = now
        self._ours = self._authority("ca", "OpenAMI test CA")
        self._foreign = self._authority("foreign-ca", "Somebody else's CA")
        self.ca_file = self._ours.cert_file
        self.foreign_ca_file = self._foreign.cert_file

    def server(
        self,
        *,
        host: str = "localhost",
        address: str | None = "127.0.0.1",
        valid_from: dt.timedelta = -_DAY,
        valid_for: dt.timedelta = 30 * _DAY,
    ) -> Identity:
        """Issue a server certificate for a host name and an address."""
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if address is not None:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        return self._issue(
            self._ours, host, ExtendedKeyUsageOID.SERVER_AUTH, names, valid_from, valid_for
        )

    def expired_server(self) -> Identity:
        """Issue a server certificate that ended yesterday."""
        return self.server(valid_from=-10 * _DAY, valid_for=9 * _DAY)

    def future_server(self) -> Identity:
        """Issue a server certificate that begins tomorrow: what a gateway set to 1970 sees."""
        return self.server(valid_from=_DAY)

    def client(self, name: str) -> Identity:
        """Issue a client certificate with this common name."""
        return self._issue(self._ours, name, ExtendedKeyUsageOID.CLIENT_AUTH, [], -_DAY, 30 * _DAY)

    def foreign_client(self, name: str) -> Identity:
        """Issue a client certificate the broker's authority did not sign."""
        return self._issue(
            self._foreign, name, ExtendedKeyUsageOID.CLIENT_AUTH, [], -_DAY, 30 * _DAY
        )

    def revoked_file(self) -> Path:
        """Write our authority's list of revoked certificates, with nobody on it."""
        path = self._directory / "revoked.pem"
        self._write_revoked(path)
        return path

    def revoke(self, cert_file: Path, revoked_file: Path) -> None:
        """Write a list of revoked certificates with this one on it."""
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(self._now)
            .build()
        )
        self._write_revoked(revoked_file, entry)

    def _write_revoked(self, path: Path, *entries: x509.RevokedCertificate) -> None:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._ours.name)
            .last_update(self._now - _DAY)
            .next_update(self._now + 30 * _DAY)
        )
        for entry in entries:
            builder = builder.add_revoked_certificate(entry)
        revocations = builder.sign(self._ours.key, hashes.SHA256())
        path.write_bytes(revocations.public_bytes(serialization.Encoding.PEM))

    def _authority(self, stem: str, name: str) -> _Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(subject, subject, key.public_key(), -10 * _DAY, 100 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = self._directory / f"{stem}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return _Issuer(subject, key, path)

    def _issue(
        self,
        issuer: _Issuer,
        name: str,
        purpose: x509.ObjectIdentifier,
        alternatives: list[x509.GeneralName],
        valid_from: dt.timedelta,
        valid_for: dt.timedelta,
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            self._builder(subject, issuer.name, key.public_key(), valid_from, valid_for)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        certificate = builder.sign(issuer.key, hashes.SHA256())
        return self._write(name, key, certificate)

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePublicKey,
        valid_from: dt.timedelta,
        valid_for: dt.timedelta,
    ) -> x509.CertificateBuilder:
        begin = self._now + valid_from
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + valid_for)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _write(
        self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> Identity:
        stem = f"{name.replace('/', '_')}-{certificate.serial_number % 10**9}"
        identity = Identity(self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        identity.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        identity.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return identity


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
