"""Certificates: OpenSSL accepts the chain for its purpose and its time, and no name gets signed that is not one."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from tests.keys.villages import NOW, wall

from openami.pki.certificates import (
    BACK_DATED,
    LIFE,
    Authority,
    CertificateError,
    check_public_key,
    common_name_of,
    issue_client,
    issue_server,
    make_authority,
    make_signing_request,
    new_serial,
    new_transport_key,
    print_certificate,
    print_key,
    read_signing_request,
    renewal_due,
    renewed_from,
)
from openami.pki.names import BadName, CommonName, GatewayName, headend_name
from openami.pki.revocation import revocation_list


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(new_transport_key(), "a village", now=wall(), serial=new_serial())


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Run OpenSSL's handshake in memory; return the server's end. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    open_ends = list(ends)
    for _ in range(10):
        for end in list(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
        if not open_ends:
            return ends[1]
    raise AssertionError("the handshake does not end")


def contexts(
    directory: Path,
    authority: Authority,
    server: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    client: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    ca = print_certificate(authority.certificate).decode()
    ends = []
    for purpose, (certificate, key) in (
        (ssl.Purpose.CLIENT_AUTH, server),
        (ssl.Purpose.SERVER_AUTH, client),
    ):
        file = directory / f"{certificate.serial_number}.pem"
        file.write_bytes(print_certificate(certificate) + print_key(key))
        context = ssl.create_default_context(purpose, cadata=ca)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(file)
        ends.append(context)
    return ends[0], ends[1]


def test_openssl_accepts_both_ends(authority: Authority, tmp_path: Path) -> None:
    """Server by name and by address, client by its purpose; strict RFC 5280 checks on."""
    now, server_key, client_key = wall(), new_transport_key(), new_transport_key()
    names = ["broker.example", "127.0.0.1", "::1"]
    server = issue_server(authority, server_key.public_key(), names, now=now, serial=new_serial())
    client = issue_client(
        authority, client_key.public_key(), CommonName("f/g"), now=now, serial=new_serial()
    )
    pair = contexts(tmp_path, authority, (server, server_key), (client, client_key))
    for name in names:
        seen = shake_hands(*pair, name).getpeercert()
        assert seen is not None
        assert seen["subject"] == ((("commonName", "f/g"),),)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(*pair, "other.example")


@pytest.mark.parametrize("what", ["client as server", "server as client", "expired", "future"])
def test_openssl_refuses_the_wrong_purpose_and_time(
    authority: Authority, tmp_path: Path, what: str
) -> None:
    """A gateway's certificate is no broker's, a broker's no gateway's, and dates count."""
    now, key = wall(), new_transport_key()
    server = issue_server(authority, key.public_key(), ["b"], now=now, serial=new_serial())
    client = issue_client(
        authority, key.public_key(), CommonName("f/g"), now=now, serial=new_serial()
    )
    match what:
        case "client as server":
            server = client
        case "server as client":
            client = server
        case "expired":
            client = issue_client(
                authority,
                key.public_key(),
                CommonName("f/g"),
                now=now - LIFE - timedelta(minutes=1),
                serial=new_serial(),
            )
        case _:
            client = issue_client(
                authority,
                key.public_key(),
                CommonName("f/g"),
                now=now + BACK_DATED + timedelta(minutes=1),
                serial=new_serial(),
            )
    with pytest.raises(ssl.SSLError):
        shake_hands(*contexts(tmp_path, authority, (server, key), (client, key)), "b")


def test_openssl_reads_the_list_of_the_revoked(authority: Authority, tmp_path: Path) -> None:
    """A revoked client is refused by serial number, another one is not."""
    now, key = wall(), new_transport_key()
    server = issue_server(authority, key.public_key(), ["b"], now=now, serial=new_serial())
    good, bad = (
        issue_client(
            authority, key.public_key(), CommonName(f"f/{n}"), now=now, serial=new_serial()
        )
        for n in "ab"
    )
    revoked = revocation_list(authority, {bad.serial_number: now}, now=now, number=1)
    (tmp_path / "revoked.pem").write_bytes(revoked.public_bytes(Encoding.PEM))
    for client, accepted in ((good, True), (bad, False)):
        pair = contexts(tmp_path, authority, (server, key), (client, key))
        pair[0].load_verify_locations(tmp_path / "revoked.pem")
        pair[0].verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if accepted:
            shake_hands(*pair, "b")
        else:
            with pytest.raises(ssl.SSLError, match="revoked"):
                shake_hands(*pair, "b")
    # Past its date it would lock everybody out: it ends with the authority, not before.
    assert revoked.next_update_utc == authority.certificate.not_valid_after_utc


def test_a_certificate_lives_a_year_and_a_month_before(authority: Authority) -> None:
    """Back-dated 30 days for clocks that are slow, renewed when two thirds are over, to the second."""
    key = new_transport_key().public_key()
    certificate = issue_client(authority, key, CommonName("f/g"), now=NOW, serial=7)
    assert certificate.not_valid_before_utc == NOW - timedelta(days=30)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)
    assert certificate.serial_number == 7
    due = renewed_from(certificate)
    assert (due - certificate.not_valid_before_utc) / timedelta(days=395) == pytest.approx(2 / 3)
    assert renewal_due(certificate, due)
    assert not renewal_due(certificate, due - timedelta(seconds=1))


def test_gateway_names() -> None:
    """Two ids and one slash, 64 characters at most, nothing that stands for more or for a head-end."""
    GatewayName.parse("f/g")
    assert len(GatewayName.parse(f"{'f' * 40}/{'g' * 23}").common_name) == 64
    bad = ["g", "f/g/x", "f/", "/g", "+/+", "f/#", "f/+", "f /g", "f/g\n", "f/é", "f//g", ""]
    bad += [f"{'f' * 41}/{'g' * 23}", "f/hes-1", "f/HES-1", "hes-1"]
    for text in bad:
        with pytest.raises(BadName):
            GatewayName.parse(text)


def test_a_head_end_is_hes_and_more() -> None:
    assert headend_name("hes-1") == "hes-1"
    for text in ["hes", "hes-", "HES-1", "hes-1/x", "hes-+", "market", "hes-" + "1" * 61]:
        with pytest.raises(BadName):
            headend_name(text)


# --- requests for certificates ---------------------------------------------------------------------


def test_a_request_is_read_back() -> None:
    key = new_transport_key()
    name, public = read_signing_request(make_signing_request(key, CommonName("f/g")))
    assert name == "f/g"
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.public_numbers() == key.public_key().public_numbers()


def test_weak_and_strange_keys_are_refused() -> None:
    """RSA whatever its length, an old curve, and the points that sign anything."""
    for key in (
        rsa.generate_private_key(65537, 1024).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP192R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
    ):
        with pytest.raises(CertificateError, match="weak key"):
            check_public_key(key)
    check_public_key(ec.generate_private_key(ec.SECP384R1()).public_key())
    check_public_key(Ed25519PrivateKey.generate().public_key())


def test_a_request_with_a_key_that_signs_anything_is_refused() -> None:
    """The neutral point in place of an Ed25519 key: OpenSSL would believe its signatures."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "f/g")])
    good = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)
    read_signing_request(good.public_bytes(Encoding.PEM))
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    forged = good.public_bytes(Encoding.DER).replace(raw, b"\x01" + bytes(31))
    with pytest.raises(CertificateError, match="weak key: a point of small order"):
        read_signing_request(x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM))


def test_a_request_another_key_signed_is_refused() -> None:
    """Who does not have the key cannot have a certificate for it."""
    der = x509.load_pem_x509_csr(make_signing_request(new_transport_key(), CommonName("f/g")))
    forged = bytearray(der.public_bytes(Encoding.DER))
    forged[-1] ^= 1
    with pytest.raises(CertificateError, match="not signed by its own key"):
        read_signing_request(x509.load_der_x509_csr(bytes(forged)).public_bytes(Encoding.PEM))


def test_a_request_with_two_names_is_refused() -> None:
    """Brokers differ in which of two common names they take."""
    key = new_transport_key()
    for pairs in (
        [(NameOID.COMMON_NAME, "f/g"), (NameOID.COMMON_NAME, "hes-1")],
        [(NameOID.COMMON_NAME, "f/g"), (NameOID.ORGANIZATION_NAME, "x")],
        [(NameOID.ORGANIZATION_NAME, "f/g")],
        [],
    ):
        subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        pem = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        with pytest.raises(CertificateError, match="one common name"):
            read_signing_request(pem)


def test_what_a_request_asks_for_besides_is_not_signed(authority: Authority) -> None:
    """A request for an authority's certificate gets a client's."""
    key = new_transport_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "f/g")])
    pem = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    name, public = read_signing_request(pem)
    certificate = issue_client(authority, public, CommonName(name), now=NOW, serial=1)
    assert common_name_of(certificate) == "f/g"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_text_is_no_request() -> None:
    for pem in (
        b"",
        b"text",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
    ):
        with pytest.raises(CertificateError):
            read_signing_request(pem)
