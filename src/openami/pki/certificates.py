"""Certificates: the village's authority, and what it signs (pure: ``now`` and serial numbers are arguments).

The keys are P-256: any TLS library and any secure element has it. They are other keys than those that sign
commands, on purpose: a network program has to hold a transport key in memory, and is not to be able to switch
a household off.

Only TLS validates these certificates. What is decided here is what gets signed: whose name, for which purpose,
from when to when.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openami.pki.names import CommonName
from openami.sip.errors import SipError
from openami.sip.keys import PublicKey

LIFE: Final = timedelta(days=365)
# A gateway without a battery clock starts in the past; a certificate "not yet valid" would keep it out.
BACK_DATED: Final = timedelta(days=30)
# Renewed when two thirds are over: four months are left to a village that is cut off.
RENEWED_AFTER: Final = 2 / 3
# Longer than the operator's machines live; a new authority means a visit to every gateway.
AUTHORITY_LIFE: Final = timedelta(days=20 * 365)

TransportKey = ec.EllipticCurvePrivateKey
TransportPublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey
# What a gateway may ask to have signed. RSA is left out: nothing in this system needs it, and its weak
# keys are many.
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


# RFC 1123: labels of letters, digits and hyphens; one of digits alone would be half an address.
_is_host_name = re.compile(
    r"(?=.*[A-Za-z])(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    re.ASCII,
).fullmatch
_HOST_NAME_CHARS_MAX: Final = 253


class CertificateError(ValueError):
    """A certificate, request or key that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The village's authority: its certificate and its key."""

    certificate: x509.Certificate
    key: TransportKey


def new_transport_key() -> TransportKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(key: TransportKey, name: str, *, now: datetime, serial: int) -> Authority:
    """Return an authority that signs end certificates and revocation lists, and no further authority."""
    subject = _named(name)
    certificate = (
        _begun(subject, subject, key.public_key(), now=now, life=AUTHORITY_LIFE, serial=serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def issue_server(
    authority: Authority,
    key: TransportPublicKey,
    names: Sequence[str],
    *,
    now: datetime,
    serial: int,
) -> x509.Certificate:
    """Return a server's certificate for host names and addresses. Raises CertificateError."""
    check_server_names(names)
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = _end_entity(
        authority, key, _named(names[0][:64]), ExtendedKeyUsageOID.SERVER_AUTH, now, serial
    )
    return builder.add_extension(alternatives, critical=False).sign(authority.key, hashes.SHA256())


def check_server_names(names: Sequence[str]) -> None:
    """Raise CertificateError unless a server's certificate can be for all these names."""
    if not names:
        raise CertificateError("a server's certificate needs the names clients call it by")
    for name in names:
        _general_name(name)


def issue_client(
    authority: Authority,
    key: TransportPublicKey,
    common_name: CommonName,
    *,
    now: datetime,
    serial: int,
) -> x509.Certificate:
    """Return a client's certificate. Raises CertificateError for a weak key."""
    check_public_key(key)
    return _end_entity(
        authority, key, _named(common_name), ExtendedKeyUsageOID.CLIENT_AUTH, now, serial
    ).sign(authority.key, hashes.SHA256())


def check_public_key(key: object) -> TransportPublicKey:
    """Return the key if a certificate may carry it. Raises CertificateError for a weak or strange one."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, Ed25519PublicKey):
        try:
            PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        except SipError as error:
            raise CertificateError(f"weak key: {error.detail}") from None
        return key
    raise CertificateError("weak key: P-256, P-384 or Ed25519 is asked for")


def make_signing_request(key: TransportKey, common_name: CommonName) -> bytes:
    """Return a request (PKCS#10, PEM) for a certificate with this name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_named(common_name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def read_signing_request(pem: bytes) -> tuple[str, TransportPublicKey]:
    """Return the one name and the key of a request that its key signed. Raises CertificateError.

    Whatever else the request asks for (purposes, other names) is not looked at: nothing of it is signed.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        attributes = list(request.subject)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(f"not a certificate request: {error}") from None
    checked = check_public_key(key)
    if not signed:
        raise CertificateError("the request is not signed by its own key")
    if len(attributes) != 1 or attributes[0].oid != NameOID.COMMON_NAME:
        raise CertificateError("the request has to name its subject by one common name alone")
    return str(attributes[0].value), checked


def new_serial() -> int:
    """Return a random serial number (RFC 5280: unique, positive, at most 20 bytes)."""
    return x509.random_serial_number()


def common_name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's common name; empty without one."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def renewal_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether two thirds of the certificate's life are over."""
    return now >= renewed_from(certificate)


def renewed_from(certificate: x509.Certificate) -> datetime:
    """Return from when on a certificate is renewed."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * RENEWED_AFTER


def same_key(certificate: x509.Certificate, key: TransportPublicKey) -> bool:
    """Return whether a certificate is for this key."""
    return _spki(certificate.public_key()) == _spki(key)


def same_public_key(one: TransportPublicKey, other: TransportPublicKey) -> bool:
    """Return whether two keys are one."""
    return _spki(one) == _spki(other)


def print_certificate(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def print_key(key: TransportKey) -> bytes:
    """Return a private key as PEM, PKCS#8, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM text. Raises CertificateError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        # These are parsed when they are asked for: what is broken in them is told here, not to a later caller.
        _ = certificate.public_key(), certificate.subject, certificate.issuer
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(f"not a certificate: {error}") from None
    return certificate


def read_key(pem: bytes) -> TransportKey:
    """Return the first private key of a PEM text. Raises CertificateError."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"not an unencrypted private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("a P-256 key is asked for")
    return key


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether the authority's key signed the certificate; its dates are TLS's to judge."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _end_entity(
    authority: Authority,
    key: TransportPublicKey,
    subject: x509.Name,
    purpose: x509.ObjectIdentifier,
    now: datetime,
    serial: int,
) -> x509.CertificateBuilder:
    issuer = authority.certificate
    return (
        _begun(subject, issuer.subject, key, now=now, life=LIFE, serial=serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: TransportPublicKey,
    *,
    now: datetime,
    life: timedelta,
    serial: int,
) -> x509.CertificateBuilder:
    begin = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(begin - BACK_DATED)
        .not_valid_after(begin + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _is_host_name(name) is None or len(name) > _HOST_NAME_CHARS_MAX:
        raise CertificateError(f"{name[:80]!r} is neither a host name nor an address")
    return x509.DNSName(name)


def _spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey | Ed25519PublicKey)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
