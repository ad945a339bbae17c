"""The daily certificate: a gateway's statement, the head-end's own account, and all it takes to judge them (pure).

One JSON document, signed by the head-end: the statement's parts and the keyrings stand in it verbatim, each under
its own signatures, so that who has the operator's roots on paper needs nothing else, no network and no trust in
whoever hands the file over (decision 0032). A key counts by the newest keyring of the file that was in force when
it signed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from openami.sip import fields
from openami.sip.account import MeterDay, begin_of
from openami.sip.actions import Role
from openami.sip.acts import ActType, read_acts, verified_acts
from openami.sip.canonical import SIGNATURE, Document, read_document
from openami.sip.compose import sign
from openami.sip.errors import SipCode, SipError
from openami.sip.fields import print_moment
from openami.sip.keyring import Identity, Keyring, Roots, admit_keyring
from openami.sip.keys import Signer
from openami.sip.statements import (
    METERS_PER_PART_MAX,
    PARTS_MAX,
    Stated,
    Statement,
    account_members,
    read_account,
    read_day,
    read_statement,
)

FORMAT: Final = "openami-certificate/1"
# Twenty-five parts and thirty keyrings of 16 kB each, as JSON in JSON, and the accounts.
CERTIFICATE_BYTES_MAX: Final = 2 * 1024 * 1024
# Of ten years of monthly keyrings only those are in the file that changed roots or were in force.
KEYRINGS_MAX: Final = 30
_METERS_MAX = METERS_PER_PART_MAX * PARTS_MAX


class CertificateFault(StrEnum):
    """Why a certificate proves nothing; stable."""

    NOT_A_CERTIFICATE = "NOT_A_CERTIFICATE"
    NO_STATEMENT = "NO_STATEMENT"
    NO_READINGS = "NO_READINGS"
    KEYRING = "KEYRING"
    GATEWAY = "GATEWAY"
    HEAD_END = "HEAD_END"
    CONTRADICTORY = "CONTRADICTORY"


_REMEDIES: Final[Mapping[CertificateFault, str]] = {
    CertificateFault.NOT_A_CERTIFICATE: "name a file that `openami feeder certificate` has written; a copy may be "
    "damaged: copy it again",
    CertificateFault.NO_STATEMENT: "a gateway states a day half an hour after it is over by UTC; has it a key, a "
    "network, a clock that is right?",
    CertificateFault.NO_READINGS: "a certificate of that day made in time, an export or a backup has them",
    CertificateFault.KEYRING: "are these the roots of that village, and of that time? Compare their fingerprints",
    CertificateFault.GATEWAY: "believe nothing of it: ask the operator for the certificate again",
    CertificateFault.HEAD_END: "believe nothing of it: ask the operator for the certificate again",
    CertificateFault.CONTRADICTORY: "believe nothing of it: what its head-end signed does not agree with itself",
}


class CertificateError(Exception):
    """A certificate that is not to be believed, or cannot be made."""

    def __init__(self, fault: CertificateFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.remedy = _REMEDIES[fault]


@dataclass(frozen=True, slots=True)
class Difference:
    """A meter of which the two accounts are not the same."""

    meter: str
    stated: int
    """Readings the gateway recorded."""
    stored: int
    """Readings the head-end has; as many and yet not the same ones is a difference too."""
    thinned: int
    """Envelopes the gateway says its full outbox gave up."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A certificate every signature of which holds, and what it comes to."""

    feeder_id: str
    gateway_id: str
    day: date
    stated_by: Identity
    stated_at: datetime
    certified_by: Identity
    certified_at: datetime
    keyring_versions: tuple[int, ...]
    meters: int
    readings: int
    differences: tuple[Difference, ...]

    @property
    def complete(self) -> bool:
        """Whether the head-end has exactly what the gateway recorded."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class Link:
    """A keyring, admitted, and its bytes."""

    keyring: Keyring
    payload: bytes
    changes_roots: bool


def chain_of(
    payloads: Iterable[bytes], roots: Roots, *, feeder_id: str, gateway_id: str
) -> tuple[Link, ...]:
    """Admit keyrings one after the other, as a gateway does. Raises SipError for the first that is not to be."""
    links: list[Link] = []
    for payload in payloads:
        keyring = admit_keyring(
            read_document(payload),
            roots=roots,
            in_force=links[-1].keyring.version if links else 0,
            feeder_id=feeder_id,
            gateway_id=gateway_id,
        )
        links.append(Link(keyring, payload, keyring.roots is not roots))
        roots = keyring.roots
    return tuple(links)


def covering(chain: Sequence[Link], moment_s: int) -> Link | None:
    """Return the newest keyring that was in force at a second since 1970."""
    for link in reversed(chain):
        keyring = link.keyring
        if keyring.valid_from.timestamp() <= moment_s <= keyring.valid_to.timestamp():
            return link
    return None


def signed_by(document: Document, chain: Sequence[Link], type_: ActType) -> tuple[Identity, int]:
    """Return whose one act over a document it is, and when it was made. Raises SipError."""
    acts = read_acts(document)
    if len(acts) != 1 or acts[0].type is not type_:
        raise SipError(SipCode.WRONG_TYPE, f"one {type_} is asked for")
    iat = acts[0].iat
    link = covering(chain, iat)
    if link is None:
        when = datetime.fromtimestamp(iat, UTC)
        raise SipError(SipCode.KEYRING_EXPIRED, f"no keyring here was in force on {when:%F %T}")
    verified_acts(document, link.keyring.keys)
    return link.keyring.identities[acts[0].kid], iat


def whole_statement(payloads: Iterable[bytes]) -> tuple[Statement, ...]:
    """Return a statement's parts in their order, if they are all there and belong together. Raises SipError."""
    parts = tuple(read_statement(read_document(payload)) for payload in payloads)
    about = {(s.feeder_id, s.gateway_id, s.day, s.parts) for s in parts}
    if len(about) != 1 or [s.part for s in parts] != list(range(1, parts[0].parts + 1)):
        raise fields.bad("statement", "every part of one statement, in order, is asked for")
    fields.distinct([stated.meter for part in parts for stated in part.meters], "statement")
    return parts


def check_statement(parts: Sequence[Statement], chain: Sequence[Link]) -> tuple[Identity, datetime]:
    """Return who stated a day, and when he was done. Raises SipError."""
    feeder_id, gateway_id, day = parts[0].feeder_id, parts[0].gateway_id, parts[0].day
    over_s = (begin_of(day) + timedelta(days=1)).timestamp()
    signers: list[tuple[int, Identity]] = []
    for part in parts:
        identity, iat = signed_by(part.document, chain, ActType.STATEMENT)
        if (identity.role, identity.id) != (Role.GATEWAY, gateway_id):
            raise SipError(
                SipCode.NOT_ALLOWED, f"{identity.id} states for {feeder_id}/{gateway_id}"
            )
        if iat < over_s:
            raise SipError(SipCode.NOT_YET_VALID, f"stated before {day} was over")
        signers.append((iat, identity))
    iat, identity = max(signers, key=lambda each: each[0])
    return identity, datetime.fromtimestamp(iat, UTC)


def differences_of(
    stated: Iterable[Stated], stored: Mapping[str, MeterDay]
) -> tuple[Difference, ...]:
    """Return the meters of which the accounts are not the same."""
    return tuple(
        Difference(each.meter, each.account.readings, mine.readings, each.thinned)
        for each in stated
        if (mine := stored.get(each.meter, MeterDay())).digest != each.account.digest
        or mine.readings != each.account.readings
    )


# --- making --------------------------------------------------------------------------------------


def certificate(
    parts: Sequence[bytes],
    stored: Mapping[str, MeterDay],
    chain: Sequence[Link],
    *,
    signer: Signer,
    now: datetime,
) -> bytes:
    """Return a certificate, signed. ``parts`` and ``chain`` were checked by whoever calls. Raises SipError."""
    statement = whole_statement(parts)
    stated = [each for part in statement for each in part.meters]
    now_s = int(now.timestamp())
    moments = [act.iat for part in statement for act in part.acts]
    needed = {link.keyring.version for link in chain if link.changes_roots}
    needed |= {
        link.keyring.version for s in (*moments, now_s) if (link := covering(chain, s)) is not None
    }
    differences = differences_of(stated, stored)
    members: dict[str, Any] = {
        "format": FORMAT,
        "feederId": statement[0].feeder_id,
        "gatewayId": statement[0].gateway_id,
        "day": statement[0].day.isoformat(),
        "madeAt": print_moment(now),
        "statement": [payload.decode() for payload in parts],
        "account": [
            account_members(each.meter, stored.get(each.meter, MeterDay())) for each in stated
        ],
        "verdict": _verdict(differences),
        "differences": [_difference_members(each) for each in differences],
        "keyrings": [link.payload.decode() for link in chain if link.keyring.version in needed],
    }
    return json.dumps(sign(members, signer, ActType.CERTIFICATE, iat=now_s), indent=1).encode()


def _verdict(differences: Sequence[Difference]) -> str:
    return "incomplete" if differences else "complete"


def _difference_members(difference: Difference) -> dict[str, Any]:
    return {
        "meter": difference.meter,
        "stated": difference.stated,
        "stored": difference.stored,
        "thinned": difference.thinned,
    }


# --- verifying -----------------------------------------------------------------------------------


def verify_certificate(payload: bytes, roots: Roots) -> Verified:
    """Return what a certificate proves to whoever has the roots. Raises CertificateError."""
    try:
        document = read_document(payload, CERTIFICATE_BYTES_MAX)
        members = _read_members(document)
        texts, keyrings = _texts(members, "statement"), _texts(members, "keyrings")
        day = read_day(members["day"], "day")
        accounts = fields.listed(members["account"], "account", _account, least=0, most=_METERS_MAX)
        fields.distinct([meter for meter, _ in accounts], "account")
        parts = whole_statement(texts)
    except SipError as error:
        raise CertificateError(CertificateFault.NOT_A_CERTIFICATE, str(error)) from None
    feeder_id, gateway_id = members["feederId"], members["gatewayId"]
    if (parts[0].feeder_id, parts[0].gateway_id, parts[0].day) != (feeder_id, gateway_id, day):
        raise CertificateError(
            CertificateFault.CONTRADICTORY,
            f"the statement is of {parts[0].feeder_id}/{parts[0].gateway_id} on {parts[0].day}, the "
            f"certificate of {feeder_id}/{gateway_id} on {day}",
        )
    try:
        chain = chain_of(keyrings, roots, feeder_id=feeder_id, gateway_id=gateway_id)
    except SipError as error:
        raise CertificateError(
            CertificateFault.KEYRING, f"the roots do not vouch for its keyrings: {error}"
        ) from None
    try:
        stated_by, stated_at = check_statement(parts, chain)
    except SipError as error:
        raise CertificateError(
            CertificateFault.GATEWAY, f"not what {feeder_id}/{gateway_id} signed: {error}"
        ) from None
    try:
        certified_by, certified_s = signed_by(document, chain, ActType.CERTIFICATE)
        if certified_by.role is not Role.HES:
            raise SipError(SipCode.NOT_ALLOWED, f"{certified_by.id} is no head-end")
    except SipError as error:
        raise CertificateError(
            CertificateFault.HEAD_END, f"not what a head-end signed: {error}"
        ) from None
    stated = [each for part in parts for each in part.meters]
    differences = differences_of(stated, dict(accounts))
    told = (members["verdict"], members["differences"])
    if told != (_verdict(differences), [_difference_members(each) for each in differences]):
        raise CertificateError(
            CertificateFault.CONTRADICTORY, "its verdict does not follow from its two accounts"
        )
    return Verified(
        feeder_id,
        gateway_id,
        day,
        stated_by,
        stated_at,
        certified_by,
        datetime.fromtimestamp(certified_s, UTC),
        tuple(link.keyring.version for link in chain),
        len(stated),
        sum(each.account.readings for each in stated),
        differences,
    )


def _read_members(document: Document) -> Mapping[str, Any]:
    members = fields.closed(
        document.members,
        "",
        required=(
            "format", "feederId", "gatewayId", "day", "madeAt", "statement", "account", "verdict",
            "differences", "keyrings", SIGNATURE,
        ),
    )  # fmt: skip
    if members["format"] != FORMAT:
        raise fields.bad("format", f"{FORMAT} is asked for")
    fields.identifier(members["feederId"], "feederId")
    fields.identifier(members["gatewayId"], "gatewayId")
    fields.moment(members["madeAt"], "madeAt")
    return members


def _texts(members: Mapping[str, Any], name: str) -> tuple[bytes, ...]:
    def text(value: object, place: str) -> bytes:
        if not isinstance(value, str):
            raise fields.bad(place, "a text is asked for")
        return value.encode()

    return fields.listed(
        members[name], name, text, least=0, most=PARTS_MAX if name == "statement" else KEYRINGS_MAX
    )


def _account(value: object, place: str) -> tuple[str, MeterDay]:
    members = fields.closed(
        value, place, required=("meter", "readings", "digest"), optional=("first", "last")
    )
    return fields.identifier(members["meter"], f"{place}/meter"), read_account(members, place)
