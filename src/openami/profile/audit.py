"""The strict verdict on one message: every fault with its code, requirement and JSON pointer.

The audit reads a message with the standard library's parser and judges member by member. The codes of
rejected messages are made here and nowhere else, so a vendor sees all faults at once, in the same words
whoever asks (decision 0004).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeGuard, cast

from openami.profile.errors import Code, ProfileError, pointer
from openami.profile.event import Event, read_event
from openami.profile.identifiers import (
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    check_gateway_name,
    check_id,
)
from openami.profile.obis import Obis
from openami.profile.reader import (
    JsonObject,
    NumberBeyondDouble,
    duplicates_in,
    read_document,
)
from openami.profile.telemetry import (
    INTEGER_MAX,
    SCHEMA_VERSION,
    Envelope,
    Quality,
    RegisterReading,
    Value,
)
from openami.profile.times import read_time

# 64 KiB hold 20,000 registers that are none; a vendor learns from the first faults, not from all of them.
FAULTS_KEPT_MAX: Final = 256

VERSION_PATTERN: Final = r"0\.[1-9][0-9]{0,3}"
_is_known_version = re.compile(VERSION_PATTERN).fullmatch

_REQUIRED = ("ts", "feederId", "gatewayId", "meterSerial", "registers")
_REQUIRED_OF_REGISTER = ("obis", "value", "unit", "quality")


@dataclass(frozen=True, slots=True)
class Audit:
    """The strict verdict on one message.

    ``envelope`` holds the good items when the header is sound and at least one item is: one bad register
    does not cost the customer the others (decision 0006). ``places`` tells where in the message each of
    them stood. ``errors`` are the faults, header first, at most FAULTS_KEPT_MAX of the ``faults`` there
    are. Without an envelope there is at least one.
    """

    envelope: Envelope | None
    errors: tuple[ProfileError, ...]
    places: tuple[int, ...]
    faults: int


def audit_envelope(payload: bytes) -> Audit:
    """Judge a message, whatever its bytes."""
    try:
        root = read_document(payload).root
    except ProfileError as error:
        return Audit(None, (error,), (), 1)
    return _Auditor().judge(root)


def is_known_version(text: str) -> bool:
    """Return whether this reader can read the version: 0.1, or a later 0.x (decision 0017)."""
    return text == SCHEMA_VERSION or _is_known_version(text) is not None


def is_seq(value: object) -> TypeGuard[int]:
    """Return whether a member ``seq`` is the counter of decision 0008, and not somebody else's."""
    return type(value) is int and 0 <= value <= INTEGER_MAX


def read_extensions(members: JsonObject) -> tuple[int | None, Event | None, tuple[str, ...]]:
    """Return ``seq`` and ``event``, and the names of those that are there with another shape."""
    ignored: list[str] = []
    seq: int | None = None
    if "seq" in members:
        found = members["seq"]
        if is_seq(found):
            seq = found
        else:
            ignored.append("seq")
    event: Event | None = None
    if "event" in members:
        event = read_event(members["event"])
        if event is None:
            ignored.append("event")
    return seq, event, tuple(ignored)


class _Auditor:
    """Judges one message; collects the faults instead of stopping at the first."""

    def __init__(self) -> None:
        self._errors: list[ProfileError] = []
        self._faults = 0

    def judge(self, root: object) -> Audit:
        if not isinstance(root, JsonObject):
            self._note(Code.NOT_AN_OBJECT, "OA-ENV-004", "", f"{_kind(root)} is not an envelope")
            return self._audit(None)
        self._header_duplicates(root)
        self._required(root, _REQUIRED, "OA-ENV-005")
        version = self._version(root)
        ts = self._ts(root)
        feeder_id = self._id(root, "feederId", "OA-ENV-007")
        gateway_id = self._id(root, "gatewayId", "OA-ENV-007")
        meter_serial = self._id(root, "meterSerial", "OA-ENV-007")
        session_id = self._id(root, "sessionId", "OA-ENV-009")
        self._check(lambda: check_gateway_name(feeder_id, gateway_id, pointer("gatewayId")))
        header_is_sound = self._faults == 0
        registers = self._registers(root)
        if not header_is_sound or not registers:
            return self._audit(None)
        seq, event, ignored = read_extensions(root)
        envelope = Envelope(
            ts=cast(datetime, ts),  # without it the header is not sound
            feeder_id=FeederId(feeder_id),
            gateway_id=GatewayId(gateway_id),
            meter_serial=MeterSerial(meter_serial),
            registers=tuple(registers.values()),
            session_id=SessionId(session_id) if session_id else None,
            schema_version=version,
            seq=seq,
            event=event,
            ignored=ignored,
        )
        return self._audit(envelope, tuple(registers))

    def _audit(self, envelope: Envelope | None, places: tuple[int, ...] = ()) -> Audit:
        return Audit(envelope, tuple(self._errors), places, self._faults)

    def _note(self, code: Code, requirement: str, path: str, detail: str) -> None:
        self._keep(ProfileError(code, requirement, path, detail))

    def _keep(self, error: ProfileError) -> None:
        self._faults += 1
        if len(self._errors) < FAULTS_KEPT_MAX:
            self._errors.append(error)

    def _check(self, check: Callable[[], None]) -> None:
        try:
            check()
        except ProfileError as error:
            self._keep(error)

    # --- the header ---

    def _header_duplicates(self, root: JsonObject) -> None:
        """Note what stands twice outside the registers: theirs cost the item, not the message."""
        for name in root.duplicates:
            self._duplicate(pointer(name))
        for name, member in root.items():
            if name != "registers":
                self._duplicates(member, name)

    def _duplicates(self, place: object, *parts: str | int) -> None:
        for path in duplicates_in(place, *parts):
            self._duplicate(path)

    def _duplicate(self, path: str) -> None:
        self._note(
            Code.DUPLICATE_MEMBER,
            "OA-ENV-010",
            path,
            "the member stands twice: readers differ in which one they take",
        )

    def _required(
        self,
        members: JsonObject,
        names: tuple[str, ...],
        requirement: str,
        *parts: str | int,
    ) -> None:
        for name in names:
            if name not in members:
                self._note(
                    Code.MISSING_MEMBER,
                    requirement,
                    pointer(*parts, name),
                    f"{name} is missing; required are {', '.join(names)}",
                )

    def _text(
        self, members: JsonObject, name: str, requirement: str, *parts: str | int
    ) -> str | None:
        """Return a member that has to be a string; None, with the fault noted, when it is not."""
        value = members.get(name)
        if isinstance(value, str):
            return value
        if name in members:
            self._note(
                Code.WRONG_TYPE,
                requirement,
                pointer(*parts, name),
                f"{name} is {_kind(value)}, a string is asked for",
            )
        return None

    def _version(self, members: JsonObject) -> str:
        text = self._text(members, "schemaVersion", "OA-ENV-006")
        if text is None:
            return SCHEMA_VERSION
        if not is_known_version(text):
            self._note(
                Code.UNKNOWN_VERSION,
                "OA-ENV-006",
                pointer("schemaVersion"),
                f"{text[:20]!r} is not a version this reader knows: 0.1, or a later 0.x",
            )
        return text

    def _ts(self, members: JsonObject) -> datetime | None:
        text = self._text(members, "ts", "OA-ENV-008")
        if text is None:
            return None
        ts = read_time(text)
        if ts is None:
            self._note(
                Code.BAD_TIME,
                "OA-ENV-008",
                pointer("ts"),
                f"{text[:40]!r} is not an RFC 3339 time with a zone and at most 6 decimals, "
                "e.g. 2026-06-22T14:30:00Z",
            )
        return ts

    def _id(self, members: JsonObject, name: str, requirement: str) -> str:
        """Return an id; empty, which no id is, when there is none."""
        text = self._text(members, name, requirement)
        if text is None:
            return ""
        self._check(lambda: check_id(text, pointer(name)))
        return text

    # --- the registers ---

    def _registers(self, members: JsonObject) -> dict[int, RegisterReading]:
        """Return the good items by their place in the array."""
        items = members.get("registers")
        if not isinstance(items, list):
            if "registers" in members:
                self._note(
                    Code.WRONG_TYPE,
                    "OA-REG-001",
                    pointer("registers"),
                    f"registers is {_kind(items)}, an array is asked for",
                )
            return {}
        if not items:
            self._note(
                Code.EMPTY_REGISTERS,
                "OA-REG-010",
                pointer("registers"),
                "an envelope without registers says nothing; a lost meter's last values are "
                "sent as comms_lost",
            )
        readings = {index: self._register(item, index) for index, item in enumerate(items)}
        return {index: reading for index, reading in readings.items() if reading is not None}

    def _register(self, item: object, index: int) -> RegisterReading | None:
        if not isinstance(item, JsonObject):
            self._note(
                Code.WRONG_TYPE,
                "OA-REG-001",
                pointer("registers", index),
                f"a register is {_kind(item)}, an object is asked for",
            )
            return None
        faults_before = self._faults
        self._duplicates(item, "registers", index)
        self._required(item, _REQUIRED_OF_REGISTER, "OA-REG-003", "registers", index)
        obis = self._obis(item, index)
        value = self._value(item, index)
        unit = self._text(item, "unit", "OA-REG-005", "registers", index)
        quality = self._quality(item, index)
        self._no_nul(item, index)
        if self._faults > faults_before:
            return None
        assert obis is not None
        assert unit is not None
        assert quality is not None
        return RegisterReading(obis=obis, value=cast(Value, value), unit=unit, quality=quality)

    def _obis(self, item: JsonObject, index: int) -> Obis | None:
        text = self._text(item, "obis", "OA-REG-002", "registers", index)
        if text is None:
            return None
        try:
            return Obis.parse(text)
        except ProfileError as error:
            path = pointer("registers", index, "obis")
            self._note(error.code, error.requirement, path, error.detail)
            return None

    def _value(self, item: JsonObject, index: int) -> object:
        value = item.get("value")
        path = pointer("registers", index, "value")
        if isinstance(value, NumberBeyondDouble):
            self._note(
                Code.BAD_NUMBER,
                "OA-REG-011",
                path,
                f"{value.text} does not fit a double: whole numbers to ±(2^53-1), finite otherwise",
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

    def _quality(self, item: JsonObject, index: int) -> Quality | None:
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
                f"{text[:40]!r} is not one of {', '.join(Quality)}",
            )
            return None

    def _no_nul(self, item: JsonObject, index: int) -> None:
        for name in ("value", "unit"):
            text = item.get(name)
            if isinstance(text, str) and "\0" in text:
                self._note(
                    Code.BAD_STRING,
                    "OA-REG-007",
                    pointer("registers", index, name),
                    f"{name} holds the character U+0000, which databases refuse in text",
                )


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case NumberBeyondDouble() | int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
