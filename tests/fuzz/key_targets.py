"""Key files, certificates, and what is said at enrolment, by a gateway or by whoever poses as its village."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fuzz.target import Target, directory
from tests.keys.villages import GATEWAY, NOW, new_village

from openami.gateway.enrolment import EnrolmentFailed, _authority_in, _refusal
from openami.headend.enrolment import EnrolmentDesk
from openami.headend.village import Village, add_gateway
from openami.keyfiles import KeyFileError, load_roots, load_signer, print_roots, save_roots
from openami.pki.certificates import (
    CertificateError,
    TransportKey,
    common_name_of,
    issued_by,
    new_transport_key,
    print_certificate,
    print_key,
    read_certificate,
    read_key,
    read_signing_request,
    renewed_from,
    same_key,
)
from openami.pki.enrolment import (
    EnrolmentError,
    Request,
    make_request,
    read_answer,
    read_request,
    read_token,
    token_text,
)
from openami.sip.canonical import read_document
from openami.sip.keys import KeySigner


@dataclass(frozen=True)
class Enrolling:
    """A village, a gateway that asks to be enrolled in it, and the answer it got."""

    village: Village
    transport_key: TransportKey
    payload: bytes
    request: Request
    answer: bytes


@cache
def enrolling() -> Enrolling:
    village = new_village(directory("village") / "operator")
    signer = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    key = new_transport_key()
    payload = make_request(GATEWAY, signer, signer.public, key, iat=int(NOW.timestamp()))
    request = read_request(payload)
    add_gateway(village, request, [load_signer(village.root_key_file(1))], now=NOW)
    answer = EnrolmentDesk(village, lambda: NOW).enrol_by_hand(payload)
    return Enrolling(village, key, payload, request, answer)


@cache
def _place() -> Path:
    place = directory("keys")
    place.chmod(0o700)
    return place


def _file(data: bytes) -> Path:
    path = _place() / "fuzzed"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def signing_key_file(data: bytes) -> None:
    """KeyFileError, or a key that signs what it then verifies."""
    try:
        signer = load_signer(_file(data))
    except KeyFileError:
        return
    assert signer.public.verify(signer.sign(b"x"), b"x")


def roots_file(data: bytes) -> None:
    """KeyFileError, or pins that are written and read again as the same."""
    try:
        roots = load_roots(_file(data))
    except KeyFileError:
        return
    save_roots(_place() / "again", roots)
    again = load_roots(_place() / "again")
    assert (again.threshold, set(again.keys)) == (roots.threshold, set(roots.keys))


def pem(data: bytes) -> None:
    """CertificateError, whichever of the three readers gets the bytes; what was read of a certificate is whole."""
    for read in (read_signing_request, read_key):
        with suppress(CertificateError):
            read(data)
    try:
        certificate = read_certificate(data)
    except CertificateError:
        return
    same_key(certificate, enrolling().transport_key.public_key())
    common_name_of(certificate)
    renewed_from(certificate)
    issued_by(certificate, certificate)


def enrolment_request(data: bytes) -> None:
    """EnrolmentError in one line, or the request as both keys signed it."""
    try:
        request = read_request(data)
    except EnrolmentError as error:
        assert error.detail.isprintable(), error.detail
        return
    assert request.digest == enrolling().request.digest


def enrolment_answer(data: bytes) -> None:
    """EnrolmentError in one line, or an answer with a certificate for our own key and a keyring that was signed.

    Read without the fingerprint, as by somebody who trusts the stick: so all that is behind it is reached.
    """
    us = enrolling()
    try:
        answer = read_answer(data, us.request, village=None)
    except EnrolmentError as error:
        assert error.detail.isprintable(), error.detail
        return
    assert same_key(answer.certificate, us.transport_key.public_key())
    assert read_document(answer.keyring_payload).digest == answer.keyring.digest


def answer_of_anybody(data: bytes) -> None:
    """EnrolmentFailed in one line from whoever answers at the server's address; our village's authority from it."""
    us = enrolling()
    said = str(_refusal("https://h", 403, data))
    assert said.isprintable(), said
    try:
        authority = _authority_in(data, "https://h", village=us.village.fingerprint())
    except EnrolmentFailed as error:
        assert str(error).isprintable(), str(error)
        return
    assert read_certificate(authority.encode()) == us.village.authority().certificate


def token(data: bytes) -> None:
    """EnrolmentError, or a token that prints as it was read."""
    text = data.decode(errors="replace")
    try:
        secret, village = read_token(text)
    except EnrolmentError:
        return
    assert token_text(secret, village) == text.strip()


def _pems() -> Sequence[bytes]:
    us = enrolling()
    request = read_document(us.payload).members["csr"].encode()
    certificate = us.village.issue(
        us.request.transport_key, GATEWAY.common_name, now=NOW + timedelta(days=1)
    )
    return [request, print_certificate(certificate), print_key(us.transport_key)]


def _roots() -> Sequence[bytes]:
    path = _place() / "sound"
    save_roots(path, enrolling().village.roots())
    return [path.read_bytes()]


def _villages() -> Sequence[bytes]:
    told = {
        "authority": print_certificate(enrolling().village.authority().certificate).decode(),
        "roots": print_roots(enrolling().village.roots()),
    }
    return [json.dumps(told).encode(), b'{"code":"BAD_TOKEN","detail":"have a new one made"}']


def _signing_keys() -> Sequence[bytes]:
    us = enrolling()
    return [us.village.root_key_file(1).read_bytes(), print_key(us.transport_key)]


TARGETS = (
    Target("signing_key_file", signing_key_file, _signing_keys, 100),
    Target("roots_file", roots_file, _roots, 100),
    Target("pem", pem, _pems, 100),
    Target("enrolment_request", enrolment_request, lambda: [enrolling().payload], 150),
    Target("enrolment_answer", enrolment_answer, lambda: [enrolling().answer], 150),
    Target("answer_of_anybody", answer_of_anybody, _villages, 150),
    Target("token", token, lambda: [token_text(bytes(16), "A" * 43).encode()], 150),
)
