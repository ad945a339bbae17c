"""What we send: nothing a receiver would reject, and nothing that turns into something else on its way."""

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.profile.messages import EXAMPLE, as_bytes, example, register

from openami.profile import Envelope, Event, ProfileError, decode_envelope, requirements

EXAMPLE_ENVELOPE = decode_envelope(as_bytes(EXAMPLE))
READING = EXAMPLE_ENVELOPE.registers[0]
EVENT = msgspec.convert(
    {
        "eventId": "e1",
        "type": "meter_cover_open",
        "state": "raised",
        "severity": "major",
        "occurredAt": "2026-06-22T14:30:58Z",
        "source": "meter",
    },
    Event,
)


def changed(**fields: Any) -> Envelope:
    return msgspec.structs.replace(EXAMPLE_ENVELOPE, **fields)


def with_reading(**fields: Any) -> Envelope:
    return changed(registers=(READING, msgspec.structs.replace(READING, **fields)))


def with_event(**fields: Any) -> Envelope:
    return changed(event=msgspec.structs.replace(EVENT, **fields))


def test_the_example_is_written_as_the_profile_writes_it() -> None:
    assert msgspec.json.decode(EXAMPLE_ENVELOPE.encode()) == EXAMPLE


def test_a_moment_of_another_zone_is_sent_in_utc() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    payload = changed(ts=datetime(2026, 6, 22, 20, 0, tzinfo=india)).encode()
    assert b'"ts":"2026-06-22T14:30:00Z"' in payload


class Lookalike:
    """Prints like a code and is none."""

    def __str__(self) -> str:
        return "1.8.0"


@pytest.mark.parametrize(
    ("envelope", "code", "path"),
    [
        (changed(ts=datetime(2026, 6, 22, 14, 30)), "BAD_TIME", "/ts"),  # noqa: DTZ001
        (
            changed(ts=datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
            "BAD_TIME",
            "/ts",
        ),
        (changed(feeder_id="a/b"), "BAD_ID", "/feederId"),
        (changed(gateway_id=""), "BAD_ID", "/gatewayId"),
        (changed(meter_serial="m" * 65), "BAD_ID", "/meterSerial"),
        (changed(session_id="#"), "BAD_ID", "/sessionId"),
        (changed(feeder_id="f" * 32, gateway_id="g" * 32), "BAD_ID", "/gatewayId"),
        (changed(schema_version="1.0"), "UNKNOWN_VERSION", "/schemaVersion"),
        (changed(registers=()), "EMPTY_REGISTERS", "/registers"),
        (changed(registers=(READING,) * 2000), "TOO_LARGE", ""),
        (changed(seq=-1), "WRONG_TYPE", "/seq"),
        (changed(seq=2**53), "WRONG_TYPE", "/seq"),
        (changed(seq=True), "WRONG_TYPE", "/seq"),
        (with_reading(value=math.nan), "BAD_NUMBER", "/registers/1/value"),
        (with_reading(value=math.inf), "BAD_NUMBER", "/registers/1/value"),
        (with_reading(value=-math.inf), "BAD_NUMBER", "/registers/1/value"),
        (with_reading(value=2**53), "BAD_NUMBER", "/registers/1/value"),
        (with_reading(value=-(2**53)), "BAD_NUMBER", "/registers/1/value"),
        (with_reading(value=2**70), "BAD_NUMBER", "/registers/1/value"),
        (with_reading(value=None), "WRONG_TYPE", "/registers/1/value"),
        (with_reading(value=Decimal("1.5")), "WRONG_TYPE", "/registers/1/value"),
        (with_reading(value=datetime(2026, 1, 1, tzinfo=UTC)), "WRONG_TYPE", "/registers/1/value"),
        (with_reading(value=b"1842"), "WRONG_TYPE", "/registers/1/value"),
        (with_reading(value="a\0"), "BAD_STRING", "/registers/1/value"),
        (with_reading(unit="a\0"), "BAD_STRING", "/registers/1/unit"),
        (with_reading(value="\ud800"), "BAD_STRING", ""),
        (with_reading(unit="\udfff"), "BAD_STRING", ""),
        (with_reading(unit=None), "WRONG_TYPE", "/registers/1/unit"),
        (with_reading(quality="bad"), "BAD_QUALITY", "/registers/1/quality"),
        (with_reading(obis="1.8"), "BAD_OBIS", "/registers/1/obis"),
        (with_event(event_id=""), "WRONG_TYPE", "/event"),
        (with_event(occurred_at="yesterday"), "WRONG_TYPE", "/event"),
        (with_event(code=44), "WRONG_TYPE", "/event"),
        (with_event(code=2**70, code_system="dsmr"), "WRONG_TYPE", "/event"),
        (with_event(code=2**53, code_system="dsmr"), "WRONG_TYPE", "/event"),
        (with_event(detail="a\0"), "WRONG_TYPE", "/event"),
        (with_event(detail="a" * 1001), "WRONG_TYPE", "/event"),
    ],
)
def test_what_a_receiver_would_reject_or_ignore_is_not_sent(
    envelope: Envelope, code: str, path: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        envelope.encode()
    assert (caught.value.code, caught.value.path) == (code, path)
    assert caught.value.code in requirements()[caught.value.requirement].codes


def test_what_is_one_step_before_the_edge_is_sent() -> None:
    for envelope in (
        changed(seq=2**53 - 1),
        changed(seq=0),
        with_reading(value=2**53 - 1),
        with_reading(value=-(2**53) + 1),
        with_reading(value=1.7976931348623157e308),
        with_reading(value="\U0001f600"),
        with_event(code=44, code_system="dsmr"),
        with_event(detail="a" * 1000),
        changed(ts=datetime.min.replace(tzinfo=UTC)),
    ):
        assert decode_envelope(envelope.encode()) == envelope


def test_something_that_only_prints_like_a_code_is_a_bug_of_the_caller() -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        with_reading(obis=Lookalike()).encode()


def test_a_naive_moment_is_named_with_its_remedy() -> None:
    with pytest.raises(ProfileError, match=r"BAD_TIME at /ts: .* has no zone.*tzinfo=UTC"):
        changed(ts=datetime(2026, 6, 22, 14, 30)).encode()  # noqa: DTZ001


def test_what_was_ignored_is_told_and_not_sent_on() -> None:
    envelope = decode_envelope(example(seq="mine", event=["mine"]))
    assert envelope.ignored == ("seq", "event")
    assert decode_envelope(envelope.encode()).ignored == ()


def test_value_types_survive() -> None:
    for value in (1, 1.0, True, "1"):
        read = decode_envelope(register(value=value)).registers[0].value
        assert (read, type(read)) == (value, type(value))


def test_a_floats_bits_survive() -> None:
    for value in (-0.0, 0.1, 5e-324, 999_999_999.999):
        read = decode_envelope(with_reading(value=value).encode()).registers[1].value
        assert isinstance(read, float)
        assert read.hex() == value.hex()
