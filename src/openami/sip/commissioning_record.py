"""The commissioning record as one signed file, and what it proves (pure, decision 0063).

The file *is* the RFC 8785 form, signature and all, so that there is one file for one record: a byte that was
changed is told even where it changes no meaning. It is signed by the gateway's own key. The keyring that names the
key stands in it where the gateway had one, so that whoever has the operator's roots needs nothing else; a gateway
that never had a network yet has none, and whoever verifies brings it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import rfc8785
from msgspec import Meta

from openami.sip.actions import Role
from openami.sip.acts import ActType, make_act, signed
from openami.sip.canonical import SIGNATURE, Document, canonical_bytes, read_document
from openami.sip.certificate import KEYRINGS_MAX, chain_of, signed_by
from openami.sip.commissioning import Content, Point, open_points
from openami.sip.errors import SipCode, SipError
from openami.sip.keyring import KEYRING_PREFIX, Identity, Roots
from openami.sip.keys import Signer

FORMAT: Final = "openami-commissioning/1"
FORMATS: Final = "openami-commissioning/"
# A thousand meters under a dozen rules of some 250 bytes each, their ticks, and a keyring.
RECORD_BYTES_MAX: Final = 8 * 1024 * 1024


class RecordFault(StrEnum):
    """Why a record proves nothing; stable."""

    NOT_A_RECORD = "NOT_A_RECORD"
    KEYRING = "KEYRING"
    GATEWAY = "GATEWAY"
    REWRITTEN = "REWRITTEN"
    CONTRADICTORY = "CONTRADICTORY"


_REMEDIES: Final[Mapping[RecordFault, str]] = {
    RecordFault.NOT_A_RECORD: "name a file that `openami gateway commission record` has written; a copy may be "
    "damaged: copy it again",
    RecordFault.KEYRING: "name the feeder's keyring with --keyring; are these the roots of that village?",
    RecordFault.GATEWAY: "believe nothing of it: let the gateway write its record again",
    RecordFault.REWRITTEN: "what it says was not changed, but this is not the file that was signed: ask for the "
    "file itself",
    RecordFault.CONTRADICTORY: "believe nothing of it: what was signed does not agree with itself",
}


class RecordError(Exception):
    """A record that is none, or is not to be believed."""

    def __init__(self, fault: RecordFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.remedy = _REMEDIES[fault]


class Record(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What the gateway signs."""

    format: str
    content: Content
    accepted: bool
    """Whether nothing is open that nobody answers for."""
    keyrings: Annotated[tuple[str, ...], Meta(max_length=KEYRINGS_MAX)] = ()


@dataclass(frozen=True, slots=True)
class VerifiedRecord:
    """A record whose signature holds: what it says, whose key, and what is still open."""

    content: Content
    signed_by: Identity
    signed_at: datetime
    sha256: str
    open_points: tuple[Point, ...]

    @property
    def accepted(self) -> bool:
        """Whether the installation was accepted."""
        return not self.open_points


def seal(content: Content, signer: Signer, *, keyrings: Sequence[bytes] = ()) -> bytes:
    """Return the record's file. ``made_at`` is when it is signed, in whole seconds of UTC."""
    record = Record(
        format=FORMAT,
        content=content,
        accepted=not open_points(content),
        keyrings=tuple(each.decode() for each in keyrings),
    )
    members: dict[str, Any] = msgspec.to_builtins(record)
    document = read_document(canonical_bytes(members), RECORD_BYTES_MAX)
    iat = int(content.made_at.timestamp())
    data = rfc8785.dumps(
        signed(document.members, [make_act(signer, document, ActType.COMMISSIONING, iat=iat)])
    )
    _read(data)  # one judge for both directions
    return data


def verify_record(data: bytes, roots: Roots, *, keyrings: Sequence[bytes] = ()) -> VerifiedRecord:
    """Return what a record proves to whoever has the roots. Raises RecordError.

    ``keyrings``, oldest first, are beside those in the file: a gateway may have signed before it had any.
    """
    document, record = _read(data)
    content = record.content
    try:
        chain = chain_of(
            _in_order([*keyrings, *(text.encode() for text in record.keyrings)]),
            roots,
            feeder_id=content.feeder_id,
            gateway_id=content.gateway_id,
        )
        if not chain:
            raise SipError(SipCode.UNKNOWN_KEY, "no keyring is known, to judge it by")
    except SipError as error:
        raise RecordError(
            RecordFault.KEYRING, f"the roots do not vouch for its signer: {error}"
        ) from None
    try:
        identity, iat = signed_by(document, chain, ActType.COMMISSIONING)
        if (identity.role, identity.id) != (Role.GATEWAY, content.gateway_id):
            raise SipError(SipCode.NOT_ALLOWED, f"{identity.id} signed for {content.gateway_id}")
    except SipError as error:
        fault = RecordFault.GATEWAY
        if error.code in (SipCode.UNKNOWN_KEY, SipCode.KEYRING_EXPIRED):
            fault = RecordFault.KEYRING
        raise RecordError(fault, f"not what {content.gateway_id} signed: {error}") from None
    if data != rfc8785.dumps(document.members):
        raise RecordError(RecordFault.REWRITTEN, "its bytes are not those that were signed")
    still_open = tuple(open_points(content))
    if record.accepted != (not still_open):
        raise RecordError(
            RecordFault.CONTRADICTORY, "its verdict does not follow from what it tells"
        )
    if iat != int(content.made_at.timestamp()):
        raise RecordError(RecordFault.CONTRADICTORY, "it was not signed when it says it was made")
    return VerifiedRecord(
        content,
        identity,
        datetime.fromtimestamp(iat, UTC),
        sha256_of(data),
        still_open,
    )


def sha256_of(data: bytes) -> str:
    """Return what names a record's file: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def is_record(data: bytes) -> bool:
    """Return whether bytes say that they are a record, whatever else is wrong with them."""
    try:
        format_ = read_document(data, RECORD_BYTES_MAX).members.get("format")
    except SipError:
        return False
    return isinstance(format_, str) and format_.startswith(FORMATS)


def _read(data: bytes) -> tuple[Document, Record]:
    try:
        document = read_document(data, RECORD_BYTES_MAX)
        members = {name: value for name, value in document.members.items() if name != SIGNATURE}
        record = msgspec.convert(members, Record)
    except SipError as error:
        raise RecordError(RecordFault.NOT_A_RECORD, str(error)) from None
    except msgspec.ValidationError as error:
        raise RecordError(RecordFault.NOT_A_RECORD, str(error)) from None
    if record.format != FORMAT:
        raise RecordError(RecordFault.NOT_A_RECORD, f"the format {FORMAT} is asked for")
    serials = [meter.serial for meter in record.content.meters]
    if len(set(serials)) != len(serials):
        raise RecordError(RecordFault.NOT_A_RECORD, "a meter stands twice")
    _check_times(record)
    return document, record


def _check_times(value: object) -> None:
    """Refuse times that are not UTC's: what has no zone, or leads beyond the calendar, cannot be told."""
    match value:
        case datetime():
            if value.utcoffset() != timedelta(0):
                raise RecordError(
                    RecordFault.NOT_A_RECORD, f"{value.isoformat()} is no time of UTC"
                )
        case msgspec.Struct():
            for name in value.__struct_fields__:
                _check_times(getattr(value, name))
        case tuple():
            for item in value:
                _check_times(item)
        case _:
            pass


def _in_order(keyrings: Sequence[bytes]) -> list[bytes]:
    """Return keyrings by version, each once: two copies of one are no rollback. Raises SipError."""

    def version(payload: bytes) -> str:
        return str(read_document(payload).members.get("sessionId", KEYRING_PREFIX))

    return [payload for _, payload in sorted({version(each): each for each in keyrings}.items())]
