"""Bytes ↔ Envelope, at the speed of a stream.

The fast decoder only says yes or no, and says yes only where the audit would. Whatever it refuses goes
to the audit, which names the faults (decision 0004). A property test holds the two to one verdict.

What the parser below does not look at, members it skips and members that stand twice, is told by
counting colons: each member has one outside of strings, so a message with no more of them than the
members we know and the times and codes we have read has nothing else in it. Only a message with more
than that is read a second time.
"""

import math
import re
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from openami.profile.audit import (
    VERSION_PATTERN,
    audit_envelope,
    is_known_version,
    is_seq,
    read_extensions,
)
from openami.profile.errors import Code, ProfileError, pointer
from openami.profile.identifiers import (
    ID_CHARS_MAX,
    ID_PATTERN,
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    is_short_id,
    name_a_meter,
)
from openami.profile.obis import Obis
from openami.profile.reader import MESSAGE_BYTES_MAX, JsonObject, read_document
from openami.profile.telemetry import SCHEMA_VERSION, Envelope, RegisterReading
from openami.profile.times import TIME_PATTERN, read_time, utc_text

# Lengths are bounded by the parser, patterns by caches and code: a pattern here would cost four times
# all the rest. For the schema they stand here all the same.
_id_in_schema = Meta(max_length=ID_CHARS_MAX, extra_json_schema={"pattern": f"^{ID_PATTERN}$"})

_Extension = Annotated[
    Any, Meta(description="an extension member; of another shape than ours it is ignored")
]


class WireEnvelope(msgspec.Struct, kw_only=True, rename="camel", gc=False):
    """One meter's registers at one moment. Members that are not listed here are ignored by readers."""

    schema_version: (
        Annotated[str, Meta(extra_json_schema={"pattern": f"^{VERSION_PATTERN}$"})] | UnsetType
    ) = UNSET
    ts: Annotated[str, Meta(extra_json_schema={"pattern": f"^{TIME_PATTERN}$"})]
    feeder_id: Annotated[FeederId, _id_in_schema]
    gateway_id: Annotated[GatewayId, _id_in_schema]
    meter_serial: Annotated[MeterSerial, _id_in_schema]
    session_id: Annotated[SessionId, _id_in_schema] | UnsetType = UNSET
    registers: Annotated[tuple[RegisterReading, ...], Meta(min_length=1)]
    # Extension members may be somebody else's: a shape that is not ours is ignored, not refused.
    # Not `object`: the decoder would take that for a type of its own and ask the hook for it.
    seq: _Extension = UNSET
    event: _Extension = UNSET


_REQUIRED_MEMBERS: Final = 5
_MEMBERS_OF_REGISTER: Final = 4
_BACKSLASH: Final = 0x5C

# A meter has tens of codes; a flood of invented ones pushes the cache over, it does not grow it.
_CACHED_CODES_MAX: Final = 4096


@lru_cache(maxsize=_CACHED_CODES_MAX)
def _obis_from_wire(kind: type, text: object) -> Obis:
    assert kind is Obis, kind
    if not isinstance(text, str):
        raise ValueError
    return Obis.parse(text)


def _obis_to_wire(value: object) -> str:
    if isinstance(value, Obis):
        return str(value)
    raise TypeError(f"{value!r} cannot be sent")


_decode_wire = msgspec.json.Decoder(WireEnvelope, dec_hook=_obis_from_wire).decode
_encode_wire = msgspec.json.Encoder(enc_hook=_obis_to_wire).encode


def decode_envelope(payload: bytes) -> Envelope:
    """Return the envelope a message holds.

    Raises ProfileError, and nothing else, whatever the bytes: the first of the faults that
    `audit_envelope` finds.
    """
    try:
        return _decode_fast(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        audit = audit_envelope(payload)
    if audit.errors or audit.envelope is None:
        raise audit.errors[0]
    # The fast one may refuse too much (the caller's stack was nearly used up); the audit has the say.
    return audit.envelope


def _decode_fast(payload: bytes) -> Envelope:
    """Return the envelope. Raises MsgspecError, ValueError or RecursionError, all without meaning."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise ValueError
    wire = _decode_wire(payload)
    ts = read_time(wire.ts)
    if ts is None or not name_a_meter(wire.feeder_id, wire.gateway_id, wire.meter_serial):
        raise ValueError
    members = _REQUIRED_MEMBERS + _MEMBERS_OF_REGISTER * len(wire.registers)
    version = SCHEMA_VERSION
    if wire.schema_version is not UNSET:
        version = wire.schema_version
        members += 1
        if version != SCHEMA_VERSION and not is_known_version(version):
            raise ValueError
    session_id: SessionId | None = None
    if wire.session_id is not UNSET:
        session_id = wire.session_id
        members += 1
        if not is_short_id(session_id):
            raise ValueError
    seq: int | None = None
    if wire.seq is not UNSET and is_seq(wire.seq):
        seq = wire.seq
        members += 1
    event = None
    ignored: tuple[str, ...] = ()
    if not _has_nothing_else(payload, members=members, ts=wire.ts):
        seq, event, ignored = read_extensions(_read_again(payload, wire))
    return Envelope(
        ts=ts,
        feeder_id=wire.feeder_id,
        gateway_id=wire.gateway_id,
        meter_serial=wire.meter_serial,
        registers=wire.registers,
        session_id=session_id,
        schema_version=version,
        seq=seq,
        event=event,
        ignored=ignored,
    )


# A quote right before a digit opens a string, so this colon is inside one: `"1-0:1.8.0*255"`.
_full_codes = re.compile(rb'"[0-9]{1,3}-[0-9]{1,3}:').findall


def _has_nothing_else(payload: bytes, *, members: int, ts: str) -> bool:
    """Return whether all colons are those of the members read, and of the strings known to have some.

    With escapes nothing can be told: a colon may be written as one, and so may a second spelling of a name.
    """
    if _BACKSLASH in payload:
        return False
    in_strings = payload.count(b":") - members - ts.count(":")
    return in_strings == 0 or in_strings == len(_full_codes(payload))


def _read_again(payload: bytes, wire: WireEnvelope) -> JsonObject:
    """Look at what the parser skipped; return the members. Raises ValueError."""
    document = read_document(payload)
    if document.has_duplicates or any(_has_nul(register) for register in wire.registers):
        raise ValueError
    assert isinstance(document.root, JsonObject)
    return document.root


def _has_nul(register: RegisterReading) -> bool:
    return "\0" in register.unit or (isinstance(register.value, str) and "\0" in register.value)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the message's bytes. Raises ProfileError if a receiver would reject it, or part of it."""
    for index, register in enumerate(envelope.registers):
        _check_value(register.value, index)
    try:
        payload = _encode_wire(_to_wire(envelope))
    except UnicodeEncodeError as error:
        raise ProfileError(
            Code.BAD_STRING,
            "OA-ENV-003",
            "",
            f"{error.object[:40]!r} holds half a surrogate pair, which UTF-8 cannot carry",
        ) from None
    ignored = decode_envelope(payload).ignored  # one judge for both directions
    if ignored:
        raise ProfileError(
            Code.WRONG_TYPE,
            "OA-ENV-013",
            pointer(ignored[0]),
            f"{ignored[0]} is not of the shape a receiver reads, and would be ignored",
        )
    return payload


def _check_value(value: object, index: int) -> None:
    """Refuse what JSON would carry as something else: NaN as null, a Decimal as a string."""
    if type(value) not in (bool, int, float, str):
        raise ProfileError(
            Code.WRONG_TYPE,
            "OA-REG-004",
            pointer("registers", index, "value"),
            f"value is a {type(value).__name__}; a bool, int, float or str is asked for",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ProfileError(
            Code.BAD_NUMBER,
            "OA-REG-011",
            pointer("registers", index, "value"),
            f"{value} is not a JSON number",
        )


def _to_wire(envelope: Envelope) -> WireEnvelope:
    try:
        ts = utc_text(envelope.ts)
    except (ValueError, OverflowError) as error:
        raise ProfileError(Code.BAD_TIME, "OA-ENV-008", pointer("ts"), str(error)) from None
    return WireEnvelope(
        schema_version=envelope.schema_version,
        ts=ts,
        feeder_id=envelope.feeder_id,
        gateway_id=envelope.gateway_id,
        meter_serial=envelope.meter_serial,
        session_id=UNSET if envelope.session_id is None else envelope.session_id,
        registers=envelope.registers,
        seq=UNSET if envelope.seq is None else envelope.seq,
        event=UNSET if envelope.event is None else envelope.event,
    )


Envelope.encode = encode_envelope
