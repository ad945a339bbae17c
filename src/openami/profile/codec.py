"""Bytes ↔ Envelope: a fast decoder for the stream, a strict audit for whatever the fast one refuses.

The fast decoder only says yes or no. Whatever it refuses goes to the audit, which reads the message
again with the standard library's parser, judges every member, and names each fault with its code,
requirement and JSON pointer. So codes are made in one place, and a vendor sees all faults at once.

The two agree on every message but one kind: a duplicate member, which the fast decoder cannot see (the
last one wins) and the audit refuses. A property test holds them to that (decision 0004).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeGuard, cast

import msgspec
from msgspec import UNSET, UnsetType

from openami.profile.errors import Code, ProfileError, pointer
from openami.profile.event import Event
from openami.profile.identifiers import (
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    check_gateway_name,
    check_id,
    is_id,
)
from openami.profile.obis import Obis
from openami.profile.telemetry import (
    SCHEMA_VERSION,
    Envelope,
    Quality,
    RegisterReading,
    Value,
    utc_text,
)

# Decision 0016: 170 registers fit; brokers of small villages bound messages at the same size.
MESSAGE_BYTES_MAX: Final = 64 * 1024
# The envelope needs 3 (object, registers, item); the rest is room for members we do not know.
MESSAGE_DEPTH_MAX: Final = 16
# JSON numbers are doubles for almost every peer: beyond ±(2**53 - 1) neighbours become one.
INTEGER_MAX: Final = 2**53 - 1

_OPENINGS_OF_ENVELOPE = 2
_DEPTH_OF_ITEM = 3

TIME_PATTERN: Final = (
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
    r"(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
)
_is_time = re.compile(TIME_PATTERN, re.ASCII).fullmatch
VERSION_PATTERN: Final = r"0\.[1-9]\d{0,3}"
_is_known_version = re.compile(VERSION_PATTERN, re.ASCII).fullmatch


class WireEnvelope(msgspec.Struct, kw_only=True, rename="camel"):
    """The envelope's members as they stand on the wire; the schema is generated from this type."""

    schema_version: str = SCHEMA_VERSION
    ts: str
    feeder_id: str
    gateway_id: str
    meter_serial: str
    session_id: str | UnsetType = UNSET
    registers: tuple[RegisterReading, ...]
    # Extension members may be somebody else's: a shape that is not ours is ignored, not refused.
    seq: object = UNSET
    event: object = UNSET


def _obis_from_wire(kind: type, text: object) -> Obis:
    if kind is Obis and isinstance(text, str):
        return Obis.parse(text)
    raise NotImplementedError(kind)


_decode_wire = msgspec.json.Decoder(WireEnvelope, dec_hook=_obis_from_wire).decode
_encode_wire = msgspec.json.Encoder(enc_hook=str).encode


def decode_envelope(payload: bytes) -> Envelope:
    """Return the envelope a message holds.

    Raises ProfileError, and nothing else, whatever the bytes.
    """
    try:
        return _decode_fast(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        audit = audit_envelope(payload)
    if audit.errors:
        raise audit.errors[0]
    raise AssertionError(f"the audit passes what the decoder refuses: {payload[:200]!r}")


def _decode_fast(payload: bytes) -> Envelope:
    if len(payload) > MESSAGE_BYTES_MAX:
        raise ValueError
    if not payload.isascii():
        payload.decode()  # the decoder does not look inside members it skips
    wire = _decode_wire(payload)
    registers = wire.registers
    ts = _time(wire.ts)
    if (
        ts is None
        or not registers
        or not is_id(wire.feeder_id)
        or not is_id(wire.gateway_id)
        or not is_id(wire.meter_serial)
        or not (wire.schema_version == SCHEMA_VERSION or _is_known_version(wire.schema_version))
    ):
        raise ValueError
    for register in registers:
        if type(register.value) is int and not -INTEGER_MAX <= register.value <= INTEGER_MAX:
            raise ValueError
    # Every register opens one level; what opens beside them bounds how deep the rest can be.
    openings_beside = (
        payload.count(b"{") + payload.count(b"[") - len(registers) - _OPENINGS_OF_ENVELOPE
    )
    if openings_beside + _DEPTH_OF_ITEM > MESSAGE_DEPTH_MAX:
        _check_depth(payload.decode())
    if b"\\u0000" in payload and any(_has_nul(r) for r in registers):
        raise ValueError
    session_id: SessionId | None = None
    if wire.session_id is not UNSET:
        if not is_id(wire.session_id):
            raise ValueError
        session_id = SessionId(wire.session_id)
    if len(wire.feeder_id) + len(wire.gateway_id) > 63:
        check_gateway_name(wire.feeder_id, wire.gateway_id, pointer("gatewayId"))
    seq, event, ignored = _extensions(wire.seq, wire.event)
    return Envelope(
        ts=ts,
        feeder_id=FeederId(wire.feeder_id),
        gateway_id=GatewayId(wire.gateway_id),
        meter_serial=MeterSerial(wire.meter_serial),
        registers=registers,
        session_id=session_id,
        schema_version=wire.schema_version,
        seq=seq,
        event=event,
        ignored=ignored,
    )


def _has_nul(register: RegisterReading) -> bool:
    return "\0" in register.unit or (isinstance(register.value, str) and "\0" in register.value)


def _extensions(seq: object, event: object) -> tuple[int | None, Event | None, tuple[str, ...]]:
    if seq is UNSET and event is UNSET:
        return None, None, ()
    ignored: list[str] = []
    known_seq: int | None = None
    if _is_seq(seq):
        known_seq = seq
    elif seq is not UNSET:
        ignored.append("seq")
    known_event: Event | None = None
    if event is not UNSET:
        try:
            known_event = msgspec.convert(event, Event)
        except msgspec.ValidationError:
            ignored.append("event")
    return known_seq, known_event, tuple(ignored)


def _is_seq(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= INTEGER_MAX


def _time(text: str) -> datetime | None:
    if _is_time(text) is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # 31 April; 9999-12-31T23:59:59-23:59
        return None


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the message's bytes. Raises ProfileError if a receiver would have to reject it."""
    event = UNSET if envelope.event is None else msgspec.to_builtins(envelope.event)
    payload = _encode_wire(
        WireEnvelope(
            schema_version=envelope.schema_version,
            ts=utc_text(envelope.ts),
            feeder_id=envelope.feeder_id,
            gateway_id=envelope.gateway_id,
            meter_serial=envelope.meter_serial,
            session_id=UNSET if envelope.session_id is None else envelope.session_id,
            registers=envelope.registers,
            seq=UNSET if envelope.seq is None else envelope.seq,
            event=event,
        )
    )
    decode_envelope(payload)  # one judge for both directions
    return payload


# --- the audit -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audit:
    """The strict verdict on one message.

    ``envelope`` holds the good items when the header is sound and at least one item is: one bad register
    does not cost the customer the others (decision 0006). ``errors`` are all faults, header first.
    ``places`` tells where in the message each of the envelope's registers stood.
    """

    envelope: Envelope | None
    errors: tuple[ProfileError, ...]
    places: tuple[int, ...] = ()


def audit_envelope(payload: bytes) -> Audit:
    """Judge a message member by member, with the standard library's parser."""
    try:
        document = read_json(payload)
    except ProfileError as error:
        return Audit(None, (error,))
    return _Auditor().judge(document)


class _Object(dict[str, object]):
    """A JSON object that remembers the members that were there twice."""

    duplicates: tuple[str, ...] = ()


class _OutOfRange(str):
    """A number that a double cannot hold, kept as its text."""

    __slots__ = ()


_NUMBER_CHARS_MAX = 400  # int() is quadratic and refuses beyond 4,300 digits; a double needs 17


def read_json(payload: bytes) -> object:
    """Parse strictly: bounded size and depth, UTF-8, no NaN, no lone surrogate, numbers that fit.

    Duplicate members are remembered in the objects, to be reported with their place.
    Raises ProfileError: TOO_LARGE, BAD_UTF8, TOO_DEEP, BAD_JSON.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise ProfileError(
            Code.TOO_LARGE,
            "OA-ENV-001",
            "",
            f"the message has {len(payload)} bytes, at most {MESSAGE_BYTES_MAX} are accepted",
        )
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise ProfileError(
            Code.BAD_UTF8, "OA-ENV-003", "", f"byte {error.start} is not UTF-8"
        ) from None
    _check_depth(text)
    try:
        document: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except ValueError as error:
        raise ProfileError(
            Code.BAD_JSON, "OA-ENV-003", "", f"the message is not JSON: {error}"
        ) from None
    _check_surrogates(document)
    return document


_string_or_bracket = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def _check_depth(text: str) -> None:
    """Refuse before any recursive parser sees it: depth costs stack, not bytes."""
    depth = 0
    for found in _string_or_bracket.finditer(text):
        match found.group()[0]:
            case "{" | "[":
                depth += 1
                if depth > MESSAGE_DEPTH_MAX:
                    raise ProfileError(
                        Code.TOO_DEEP,
                        "OA-ENV-002",
                        "",
                        f"objects and arrays are nested more than {MESSAGE_DEPTH_MAX} deep",
                    )
            case "}" | "]":
                depth -= 1


def _object(pairs: list[tuple[str, object]]) -> _Object:
    members = _Object(pairs)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        members.duplicates = tuple(name for name, count in counts.items() if count > 1)
    return members


def _integer(text: str) -> object:
    if len(text) > _NUMBER_CHARS_MAX:
        return _OutOfRange(text[:40])
    value = int(text)
    return value if -INTEGER_MAX <= value <= INTEGER_MAX else _OutOfRange(text[:40])


def _number(text: str) -> object:
    value = float(text)
    return value if value - value == 0 else _OutOfRange(text[:40])


def _constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")


def _check_surrogates(document: object) -> None:
    places: list[object] = [document]
    while places:
        place = places.pop()
        if isinstance(place, dict):
            places.extend(place)
            places.extend(place.values())
        elif isinstance(place, list):
            places.extend(place)
        elif isinstance(place, str) and not place.isascii():
            try:
                place.encode()
            except UnicodeEncodeError:
                raise ProfileError(
                    Code.BAD_JSON, "OA-ENV-003", "", "a string holds half a surrogate pair"
                ) from None


_REQUIRED = ("ts", "feederId", "gatewayId", "meterSerial", "registers")


class _Auditor:
    """Judges one message; collects the faults instead of stopping at the first."""

    def __init__(self) -> None:
        self.errors: list[ProfileError] = []

    def judge(self, document: object) -> Audit:
        if not isinstance(document, _Object):
            self._note(Code.NOT_AN_OBJECT, "OA-ENV-004", "", "an envelope is a JSON object")
            return Audit(None, tuple(self.errors))
        self._duplicates(document, ())
        for name in _REQUIRED:
            if name not in document:
                self._note(Code.MISSING_MEMBER, "OA-ENV-005", pointer(name), f"{name} is missing")
        version = self._version(document)
        ts = self._ts(document)
        ids = {
            name: self._id(document, name, "OA-ENV-007")
            for name in ("feederId", "gatewayId", "meterSerial")
        }
        session_id = self._id(document, "sessionId", "OA-ENV-009")
        self._checked(
            lambda: check_gateway_name(
                ids["feederId"] or "", ids["gatewayId"] or "", pointer("gatewayId")
            )
        )
        header_is_sound = not self.errors
        registers = self._registers(document)
        if not header_is_sound or not registers:
            return Audit(None, tuple(self.errors))
        seq, event, ignored = _extensions(document.get("seq", UNSET), document.get("event", UNSET))
        envelope = Envelope(
            ts=cast(datetime, ts),
            feeder_id=FeederId(ids["feederId"] or ""),
            gateway_id=GatewayId(ids["gatewayId"] or ""),
            meter_serial=MeterSerial(ids["meterSerial"] or ""),
            registers=tuple(registers.values()),
            session_id=None if session_id is None else SessionId(session_id),
            schema_version=version,
            seq=seq,
            event=event,
            ignored=ignored,
        )
        return Audit(envelope, tuple(self.errors), tuple(registers))

    def _note(self, code: Code, requirement: str, path: str, detail: str) -> None:
        self.errors.append(ProfileError(code, requirement, path, detail))

    def _checked(self, check: Callable[[], None]) -> bool:
        try:
            check()
        except ProfileError as error:
            self.errors.append(error)
            return False
        return True

    def _duplicates(self, place: object, parts: tuple[str | int, ...]) -> None:
        """Note every duplicate member; the depth is already bounded."""
        children: Sequence[tuple[str | int, object]] = ()
        if isinstance(place, _Object):
            for name in place.duplicates:
                self._note(
                    Code.DUPLICATE_MEMBER,
                    "OA-ENV-010",
                    pointer(*parts, name),
                    f"{name[:80]!r} stands twice: readers differ in which one they take",
                )
            children = tuple(place.items())
        elif isinstance(place, list):
            children = tuple(enumerate(place))
        for part, child in children:
            self._duplicates(child, (*parts, part))

    def _text(self, members: _Object, name: str, requirement: str, *parts: str | int) -> str | None:
        """Return a member that has to be a string; None, with the fault noted, when it is not."""
        value = members.get(name)
        if isinstance(value, str) and not isinstance(value, _OutOfRange):
            return value
        if name in members:
            self._note(
                Code.WRONG_TYPE,
                requirement,
                pointer(*parts, name),
                f"{name} is {_kind(value)}, a string is asked for",
            )
        return None

    def _version(self, members: _Object) -> str:
        if "schemaVersion" not in members:
            return SCHEMA_VERSION
        version = self._text(members, "schemaVersion", "OA-ENV-006")
        if version is not None and not _is_known_version(version):
            self._note(
                Code.UNKNOWN_VERSION,
                "OA-ENV-006",
                pointer("schemaVersion"),
                f"{version[:20]!r} is not a version this reader knows: 0.1, or a later 0.x",
            )
        return version or SCHEMA_VERSION

    def _ts(self, members: _Object) -> datetime | None:
        text = self._text(members, "ts", "OA-ENV-008")
        if text is None:
            return None
        ts = _time(text)
        if ts is None:
            self._note(
                Code.BAD_TIME,
                "OA-ENV-008",
                pointer("ts"),
                f"{text[:40]!r} is not an RFC 3339 time with a zone and at most 6 decimals, "
                "e.g. 2026-06-22T14:30:00Z",
            )
        return ts

    def _id(self, members: _Object, name: str, requirement: str) -> str | None:
        text = self._text(members, name, requirement)
        if text is not None:
            self._checked(lambda: check_id(text, pointer(name)))
        return text

    def _registers(self, members: _Object) -> dict[int, RegisterReading]:
        """Return the good items by their place in the array."""
        items = members.get("registers")
        if not isinstance(items, list):
            if "registers" in members:
                self._note(
                    Code.WRONG_TYPE,
                    "OA-ENV-005",
                    pointer("registers"),
                    f"registers is {_kind(items)}, an array is asked for",
                )
            return {}
        if not items:
            self._note(
                Code.EMPTY_REGISTERS,
                "OA-REG-001",
                pointer("registers"),
                "an envelope without registers says nothing; a lost meter's last values are "
                "sent as comms_lost",
            )
        readings = {index: self._register(item, index) for index, item in enumerate(items)}
        return {index: reading for index, reading in readings.items() if reading is not None}

    def _register(self, item: object, index: int) -> RegisterReading | None:
        if not isinstance(item, _Object):
            self._note(
                Code.WRONG_TYPE,
                "OA-REG-001",
                pointer("registers", index),
                f"a register is {_kind(item)}, an object is asked for",
            )
            return None
        faults_before = len(self.errors)
        for name in ("obis", "value", "unit", "quality"):
            if name not in item:
                self._note(
                    Code.MISSING_MEMBER,
                    "OA-REG-003",
                    pointer("registers", index, name),
                    f"{name} is missing: all four members of a register are required",
                )
        obis = self._obis(item, index)
        value = self._value(item, index)
        unit = self._text(item, "unit", "OA-REG-005", "registers", index)
        quality = self._quality(item, index)
        for name in ("value", "unit"):
            text = item.get(name)
            if isinstance(text, str) and "\0" in text:
                self._note(
                    Code.BAD_STRING,
                    "OA-REG-007",
                    pointer("registers", index, name),
                    f"{name} holds the character U+0000, which databases refuse in text",
                )
        if len(self.errors) > faults_before or obis is None or unit is None or quality is None:
            return None
        return RegisterReading(obis=obis, value=cast(Value, value), unit=unit, quality=quality)

    def _obis(self, item: _Object, index: int) -> Obis | None:
        text = self._text(item, "obis", "OA-REG-002", "registers", index)
        if text is None:
            return None
        try:
            return Obis.parse(text)
        except ProfileError as error:
            path = pointer("registers", index, "obis")
            self._note(error.code, error.requirement, path, error.detail)
            return None

    def _value(self, item: _Object, index: int) -> object:
        value = item.get("value")
        path = pointer("registers", index, "value")
        if isinstance(value, _OutOfRange):
            self._note(
                Code.BAD_NUMBER,
                "OA-REG-004",
                path,
                f"{value} does not fit a double: whole numbers to ±(2^53-1), finite otherwise",
            )
        elif "value" in item and not isinstance(value, bool | int | float | str):
            self._note(
                Code.WRONG_TYPE,
                "OA-REG-004",
                path,
                f"value is {_kind(value)}; a number, string or boolean is asked for "
                "(a lost meter's last value is sent as comms_lost)",
            )
        return value

    def _quality(self, item: _Object, index: int) -> Quality | None:
        text = self._text(item, "quality", "OA-REG-006", "registers", index)
        if text is None:
            return None
        try:
            return Quality(text)
        except ValueError:
            self._note(
                Code.BAD_QUALITY,
                "OA-REG-006",
                pointer("registers", index, "quality"),
                f"{text[:40]!r} is not one of good, suspect, comms_lost",
            )
            return None


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case _OutOfRange() | int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
