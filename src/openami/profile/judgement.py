"""What is judged once a message is decoded: against its topic, and against the register list.

Shared by the head-end and the checker, so that a vendor's file is judged at home as it will be in the
field. Two verdicts differ in kind. A wrong unit or type makes the number mean something else, so the
item is rejected (decision 0015). An implausible value may be true, so it is stored with a finding.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from openami.profile.errors import Code, ProfileError, pointer
from openami.profile.registers import Register
from openami.profile.telemetry import Envelope, RegisterReading, Value
from openami.profile.times import utc_text
from openami.profile.topics import EventTopic, TelemetryTopic

# Decision 0005: a clock that is kept at all drifts less; and a time in the future would stay "the
# latest" until it comes.
AHEAD_OF_CLOCK_MAX_S: Final = 5 * 60
# The profile is younger; a clock that lost its battery says 1970 or 2000 (decision 0005).
OLDEST_TS: Final = datetime(2020, 1, 1, tzinfo=UTC)

AHEAD_OF_CLOCK_MAX: Final = timedelta(seconds=AHEAD_OF_CLOCK_MAX_S)


def judge_topic(envelope: Envelope, topic: TelemetryTopic | EventTopic) -> tuple[ProfileError, ...]:
    """Return where a message and the topic it came on name different things (decision 0006)."""
    pairs = (
        ("feederId", envelope.feeder_id, topic.feeder_id),
        ("gatewayId", envelope.gateway_id, topic.gateway_id),
        ("meterSerial", envelope.meter_serial, topic.meter_serial),
    )
    return tuple(
        ProfileError(
            Code.TOPIC_MISMATCH,
            "OA-TOP-002",
            pointer(name),
            f"the message says {name} {in_body!r}, its topic {in_topic!r}",
        )
        for name, in_body, in_topic in pairs
        if in_body != in_topic
    )


def judge_clock(ts: datetime, now: datetime) -> ProfileError | None:
    """Return why a measured time cannot be right, by the receiver's clock; None when it can (decision 0005)."""
    if ts > now + AHEAD_OF_CLOCK_MAX:
        return ProfileError(
            Code.TIME_IN_FUTURE,
            "OA-ENV-011",
            pointer("ts"),
            f"{utc_text(ts)} is more than {AHEAD_OF_CLOCK_MAX_S} s ahead of the "
            f"head-end's clock, {utc_text(now)}: set the gateway's clock; the message is "
            "kept and can be replayed",
        )
    if ts < OLDEST_TS:
        return ProfileError(
            Code.TIME_TOO_OLD,
            "OA-ENV-012",
            pointer("ts"),
            f"{utc_text(ts)} is before {utc_text(OLDEST_TS)}: "
            "the gateway's clock was not set when this was measured",
        )
    return None


def judge_register(
    reading: RegisterReading, register: Register, *, path: str = ""
) -> ProfileError | None:
    """Return why a reading cannot be what the list says its code is; None when it can.

    ``path`` is the pointer to the item, e.g. ``/registers/0``. An entry without unit or without type
    accepts any. Case does not count in units, because meters and their texts differ in it and no two
    units of the list differ in nothing else.
    """
    unit = register.unit
    if unit and reading.unit != unit and reading.unit.casefold() != unit.casefold():
        return ProfileError(
            Code.WRONG_UNIT,
            "OA-REG-008",
            path + pointer("unit"),
            f"{reading.obis} is in {reading.unit[:20]!r}, the register list has it in "
            f"{register.unit!r}: convert the value, or publish it under its own code",
        )
    if register.type is not None and json_type(reading.value) != register.type:
        return ProfileError(
            Code.WRONG_VALUE_TYPE,
            "OA-REG-009",
            path + pointer("value"),
            f"{reading.obis} is a {json_type(reading.value)}, the register list has it as a "
            f"{register.type}",
        )
    return None


def implausible(reading: RegisterReading, register: Register) -> str | None:
    """Return in words why a value is hard to believe; None when nothing speaks against it.

    The list's range includes its bounds. The unit and type must have been judged before.
    """
    value = reading.value
    if register.range is not None and isinstance(value, (int, float)):
        low, high = register.range
        if not low <= value <= high:
            return (
                f"{reading.obis} is {value:g} {reading.unit}, "
                f"plausible is {low:g} to {high:g} {register.unit}"
            )
    if register.values is not None and value not in register.values:
        return f"{reading.obis} is {str(value)[:40]!r}, known are {', '.join(register.values)}"
    return None


def json_type(value: Value) -> str:
    """Return what JSON calls a value: ``number``, ``string`` or ``boolean``."""
    if isinstance(value, str):
        return "string"
    return "boolean" if isinstance(value, bool) else "number"
