"""How a gateway becomes one of the village's: its request, and the answer (pure).

The gateway makes both of its keys itself; no private key ever travels. The request carries the certificate
request, the public signing key, and an act by that key over all of it, so that nobody can have another's key
enrolled as his own. The answer carries the certificate, the authority, the pinned roots and a keyring. Both are the
same bytes by HTTPS and on a stick.

What the gateway cannot judge by itself is whether the answer comes from its village: the fingerprint of
authority and roots tells. It stands in the one-time token, and on the paper of ``openami headend init``.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from cryptography import x509

from openami.keyfiles import print_roots, read_roots
from openami.pki.certificates import (
    CertificateError,
    TransportKey,
    TransportPublicKey,
    common_name_of,
    fingerprint,
    issued_by,
    make_signing_request,
    print_certificate,
    read_certificate,
    read_signing_request,
    same_key,
)
from openami.pki.names import BadName, GatewayName
from openami.profile import one_line
from openami.sip import fields
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import (
    SIGNATURE,
    canonical_bytes,
    decode_base64url,
    digest_of,
    encode_base64url,
    read_document,
)
from openami.sip.compose import sign
from openami.sip.errors import SipError
from openami.sip.keyring import Keyring, Roots, admit_keyring
from openami.sip.keys import PublicKey, Signer

FORM: Final = "openami-enrolment-1"
TOKEN_BYTES: Final = 16  # nobody guesses 128 bits in the day a token holds
# A keyring has at most 16 kB, the certificates 2 kB; escapes of the PEM's line ends double nothing.
ANSWER_BYTES_MAX: Final = 64 * 1024
_REQUEST_MEMBERS = ("enrolment", "feederId", "gatewayId", "csr", "sipKey")
_PEM_CHARS_MAX: Final = 8 * 1024


class Refusal(StrEnum):
    """Why a request is refused, or an answer not installed; stable, and told to the gateway."""

    BAD_TOKEN = "BAD_TOKEN"  # noqa: S105 - a code
    """Unknown, used for another request, or expired: which of them is not told."""
    BAD_REQUEST = "BAD_REQUEST"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    WEAK_KEY = "WEAK_KEY"
    WRONG_NAME = "WRONG_NAME"
    UNKNOWN_GATEWAY = "UNKNOWN_GATEWAY"
    REVOKED = "REVOKED"
    NOT_DUE = "NOT_DUE"
    NO_KEYRING = "NO_KEYRING"
    WRONG_VILLAGE = "WRONG_VILLAGE"
    BAD_ANSWER = "BAD_ANSWER"


class EnrolmentError(ValueError):
    """A request or an answer that is refused; ``code`` for the wire, ``detail`` for a person."""

    def __init__(self, code: Refusal, detail: str) -> None:
        self.code = code
        self.detail = one_line(detail)  # it may name what a stranger sent, and goes into logs
        super().__init__(f"{code}: {self.detail}")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was signed by the keys it is about."""

    name: GatewayName
    transport_key: TransportPublicKey
    sip_key: PublicKey
    digest: str


def make_request(
    name: GatewayName,
    signer: Signer,
    sip_key: PublicKey,
    transport_key: TransportKey,
    *,
    iat: int,
) -> bytes:
    """Return a gateway's request, to be sent as it is, and again as it is when no answer came."""
    members = {
        "enrolment": FORM,
        "feederId": name.feeder_id,
        "gatewayId": name.gateway_id,
        "csr": make_signing_request(transport_key, name.common_name).decode("ascii"),
        "sipKey": encode_base64url(sip_key.raw),
    }
    return _printed(sign(members, signer, ActType.ENROL, iat=iat))


def read_request(payload: bytes) -> Request:
    """Return the request the bytes are, if both keys signed it. Raises EnrolmentError."""
    try:
        document = read_document(payload)
        members = fields.closed(
            document.members, "", required=_REQUEST_MEMBERS, optional=(SIGNATURE,)
        )
        if members["enrolment"] != FORM:
            raise EnrolmentError(Refusal.BAD_REQUEST, f"not a request of the form {FORM}")
        csr = fields.text(members["csr"], "csr", chars_max=_PEM_CHARS_MAX)
        raw = decode_base64url(fields.text(members["sipKey"], "sipKey", chars_max=64))
    except SipError as error:
        raise EnrolmentError(Refusal.BAD_REQUEST, error.detail) from None
    name = _gateway_name(members["feederId"], members["gatewayId"])
    try:
        sip_key = PublicKey(raw)
    except SipError as error:
        raise EnrolmentError(Refusal.WEAK_KEY, error.detail) from None
    try:
        acts = verified_acts(document, {sip_key.kid: sip_key})
    except SipError as error:
        raise EnrolmentError(Refusal.BAD_SIGNATURE, error.detail) from None
    if [act.type for act in acts] != [ActType.ENROL]:
        raise EnrolmentError(Refusal.BAD_SIGNATURE, "one act of enrolment is asked for")
    return Request(name, _transport_key(csr, name), sip_key, document.digest)


def _gateway_name(feeder_id: object, gateway_id: object) -> GatewayName:
    if not isinstance(feeder_id, str) or not isinstance(gateway_id, str):
        raise EnrolmentError(Refusal.WRONG_NAME, "feederId and gatewayId are strings")
    try:
        return GatewayName.parse(f"{feeder_id}/{gateway_id}")
    except BadName as error:
        raise EnrolmentError(Refusal.WRONG_NAME, str(error)) from None


def _transport_key(csr: str, name: GatewayName) -> TransportPublicKey:
    try:
        common_name, key = read_signing_request(csr.encode())
    except CertificateError as error:
        weak = str(error).startswith("weak key")
        code = Refusal.WEAK_KEY if weak else Refusal.BAD_SIGNATURE
        raise EnrolmentError(code, str(error)) from None
    if common_name != name.common_name:
        raise EnrolmentError(
            Refusal.WRONG_NAME,
            f"the certificate request is for {common_name[:80]!r}, the rest of it for {name}",
        )
    return key


class _AnswerMembers(msgspec.Struct, forbid_unknown_fields=True):
    enrolment: str
    feeder_id: str = msgspec.field(name="feederId")
    gateway_id: str = msgspec.field(name="gatewayId")
    request: str
    certificate: str
    authority: str
    roots: dict[str, Any]
    keyring: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gateway installs: it was checked against its request, and against the village's fingerprint."""

    name: GatewayName
    certificate: x509.Certificate
    authority: x509.Certificate
    roots: Roots
    keyring: Keyring
    keyring_payload: bytes

    @property
    def village(self) -> str:
        """The fingerprint of the village it comes from."""
        return village_fingerprint(self.authority, self.roots)


def make_answer(
    request: Request,
    certificate: x509.Certificate,
    *,
    authority: x509.Certificate,
    roots: Roots,
    keyring: bytes,
) -> bytes:
    """Return the answer to a request."""
    return msgspec.json.encode(
        _AnswerMembers(
            enrolment=FORM,
            feeder_id=request.name.feeder_id,
            gateway_id=request.name.gateway_id,
            request=request.digest,
            certificate=print_certificate(certificate).decode("ascii"),
            authority=print_certificate(authority).decode("ascii"),
            roots=print_roots(roots),
            keyring=msgspec.Raw(keyring),
        )
    )


def read_answer(payload: bytes, request: Request, *, village: str | None) -> Answer:
    """Return the answer, if it is one to this request, consistent, and from the village. Raises EnrolmentError.

    ``village`` is the fingerprint to be found; None believes whoever handed the answer over, as one believes
    the person with the stick.
    """
    members = _read_members(payload)
    if (members.feeder_id, members.gateway_id, members.request) != (
        request.name.feeder_id,
        request.name.gateway_id,
        request.digest,
    ):
        raise _bad_answer("it answers another request")
    try:
        certificate = read_certificate(members.certificate.encode())
        authority = read_certificate(members.authority.encode())
        roots = read_roots(members.roots)
    except ValueError as error:
        raise _bad_answer(str(error)) from None
    if village is not None and village_fingerprint(authority, roots) != village:
        raise EnrolmentError(
            Refusal.WRONG_VILLAGE,
            "authority and roots are not those of the fingerprint: it comes from somebody else, or "
            "the roots were exchanged since",
        )
    _check_certificate(certificate, authority, request)
    keyring = bytes(members.keyring)
    try:
        admitted = admit_keyring(
            read_document(keyring),
            roots=roots,
            in_force=0,
            feeder_id=request.name.feeder_id,
            gateway_id=request.name.gateway_id,
        )
    except SipError as error:
        raise _bad_answer(f"its keyring: {error}") from None
    return Answer(request.name, certificate, authority, roots, admitted, keyring)


def _read_members(payload: bytes) -> _AnswerMembers:
    if len(payload) > ANSWER_BYTES_MAX:
        raise _bad_answer(f"more than {ANSWER_BYTES_MAX} bytes")
    try:
        members = msgspec.json.decode(payload, type=_AnswerMembers)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_answer(str(error)) from None
    if members.enrolment != FORM:
        raise _bad_answer(f"not of the form {FORM}")
    return members


def _check_certificate(
    certificate: x509.Certificate, authority: x509.Certificate, request: Request
) -> None:
    if not same_key(certificate, request.transport_key):
        raise _bad_answer("the certificate is for another key")
    if common_name_of(certificate) != request.name.common_name:
        raise _bad_answer(f"the certificate is not for {request.name}")
    if not issued_by(certificate, authority):
        raise _bad_answer("the certificate is not by the authority beside it")


def village_fingerprint(authority: x509.Certificate, roots: Roots) -> str:
    """Return the fingerprint of a village: of its authority's certificate and its roots together."""
    keys = sorted(encode_base64url(key.raw) for key in roots.keys.values())
    pins = {"threshold": roots.threshold, "keys": keys, "authority": fingerprint(authority)}
    return digest_of(canonical_bytes(pins))


def token_text(secret: bytes, village: str) -> str:
    """Return a one-time token as a person carries it: the secret, and the village it is for."""
    assert len(secret) == TOKEN_BYTES
    return f"{encode_base64url(secret)}.{village}"


def read_token(text: str) -> tuple[bytes, str]:
    """Return a token's secret and the village's fingerprint. Raises EnrolmentError BAD_TOKEN."""
    secret_text, dot, village = text.strip().partition(".")
    try:
        secret = decode_base64url(secret_text)
        pin = decode_base64url(village)
    except SipError:
        secret, pin = b"", b""
    if not dot or len(secret) != TOKEN_BYTES or len(pin) != hashlib.sha256().digest_size:
        raise EnrolmentError(
            Refusal.BAD_TOKEN, "not a token as `openami headend enroll-token` prints it"
        )
    return secret, village


def token_hash(secret: bytes) -> bytes:
    """Return what is stored of a token: who reads the register cannot enrol."""
    return hashlib.sha256(b"openami enrolment token\0" + secret).digest()


def _bad_answer(why: str) -> EnrolmentError:
    return EnrolmentError(Refusal.BAD_ANSWER, why)


def _printed(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
