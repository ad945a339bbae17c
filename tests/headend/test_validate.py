"""Findings: what a person should know about a message that is stored as it came."""

from datetime import timedelta
from typing import Any

import pytest
from tests.headend.messages import (
    EVENT,
    EVENT_TOPIC,
    EXAMPLE,
    RECEIVED,
    message,
    message_of,
    payload,
    register,
)

from openami.headend.ingest import Accepted, Finding, Message, ingest
from openami.headend.store import Reading
from openami.headend.validate import (
    FINDINGS_PER_MESSAGE_MAX,
    FindingCode,
    LatestValues,
    validate,
)
from openami.profile import Obis, Quality, Value, shipped_catalogue, utc_text

CATALOGUE = shipped_catalogue()


def findings(given: Message, latest: LatestValues | None = None) -> list[Finding]:
    decision = ingest(given, catalogue=CATALOGUE)
    assert isinstance(decision, Accepted), decision
    found = validate(
        decision, catalogue=CATALOGUE, latest=LatestValues() if latest is None else latest
    )
    again = ingest(given, catalogue=CATALOGUE)
    assert isinstance(again, Accepted)
    assert decision.envelope == again.envelope, "findings change nothing"
    return list(found)


def codes(given: Message, latest: LatestValues | None = None) -> list[str]:
    return [finding.code for finding in findings(given, latest)]


def of(*registers: dict[str, Any], **members: Any) -> Message:
    return message(payload(registers=list(registers), **members))


def test_of_the_profiles_example_there_is_nothing_to_say() -> None:
    assert codes(message()) == []
    assert codes(message(payload(event=EVENT), topic=EVENT_TOPIC)) == []


@pytest.mark.parametrize(
    ("obis", "unit", "inside", "outside"),
    [
        ("1.8.0", "kWh", 0, -0.001),
        ("1.8.0", "kWh", 999_999_999.999, 1_000_000_000),
        ("32.7.0", "V", 1000, 1000.1),
        ("13.7.0", "1", -1, -1.01),
    ],
)
def test_a_value_outside_its_range(obis: str, unit: str, inside: Value, outside: Value) -> None:
    assert codes(of(register(obis=obis, unit=unit, value=inside))) == []
    (finding,) = findings(of(register(obis=obis, unit=unit, value=outside)))
    assert finding.code == FindingCode.OUT_OF_RANGE
    assert (finding.meter_serial, finding.obis) == ("DS1000-88421", obis)
    assert str(outside).rstrip("0") in finding.detail.replace("1e+09", "1000000000")


@pytest.mark.parametrize("word", ["connected", "disconnected", "ready_for_reconnection"])
def test_a_word_of_the_list_is_known(word: str) -> None:
    assert codes(of(register(obis="96.11.1", unit="enum", value=word))) == []
    other = register(obis="96.11.1", unit="enum", value=word.upper())
    assert codes(of(other)) == [FindingCode.UNKNOWN_VALUE]


def test_a_register_outside_the_list_is_named() -> None:
    (finding,) = findings(of(register(obis="1-0:99.98.97*255")))
    assert finding.code == FindingCode.UNKNOWN_REGISTER
    assert finding.obis == "1-0:99.98.97*255"


def test_a_later_draft_is_named() -> None:
    assert codes(message(payload(schemaVersion="0.2"))) == [FindingCode.NEWER_VERSION]
    assert codes(message(payload(schemaVersion=None))) == []


def test_an_extension_of_another_shape_is_named() -> None:
    assert codes(message(payload(seq=7))) == []
    assert codes(message(payload(seq="seven"))) == [FindingCode.EXTENSION_IGNORED]
    (finding,) = findings(message(payload(event={"what": "?"}), topic=EVENT_TOPIC))
    assert finding.code == FindingCode.EXTENSION_IGNORED
    assert "event" in finding.detail


def test_an_event_without_details_is_named_and_telemetry_needs_none() -> None:
    assert codes(message(topic=EVENT_TOPIC)) == [FindingCode.EVENT_WITHOUT_DETAILS]
    assert codes(message(payload(report={"status": "done"}), topic=EVENT_TOPIC)) == []


def test_what_is_said_of_one_message_is_bounded() -> None:
    strange = [register(obis=f"9.{n // 200}.{n % 200}") for n in range(FINDINGS_PER_MESSAGE_MAX)]
    assert len(codes(of(*strange))) == FINDINGS_PER_MESSAGE_MAX
    assert len(codes(of(*strange, *strange))) == FINDINGS_PER_MESSAGE_MAX


# --- counters that go back -----------------------------------------------------------------------


def at(minute: int, value: Value, *, quality: str = "good", obis: str = "1.8.0") -> Message:
    ts = RECEIVED.replace(minute=0) + timedelta(minutes=minute)
    item = register(obis=obis, value=value, quality=quality)
    return message(
        payload(ts=utc_text(ts), registers=[item]), received_at=ts + timedelta(seconds=1)
    )


def test_a_counter_that_goes_back_is_named_once() -> None:
    latest = LatestValues()
    assert codes(at(0, 100), latest) == []
    assert codes(at(1, 100), latest) == [], "standing still is no rollback"
    (finding,) = findings(at(2, 99.999), latest)
    assert finding.code == FindingCode.REGISTER_ROLLBACK
    assert "99.999" in finding.detail
    assert "100" in finding.detail
    assert codes(at(3, 99.999), latest) == [], "it counts on from where it stands"
    assert codes(at(4, 100.5), latest) == []


def test_what_was_measured_earlier_says_nothing_of_now() -> None:
    latest = LatestValues()
    assert codes(at(10, 100), latest) == []
    assert codes(at(5, 90), latest) == [], "an outbox sends it late"
    assert codes(at(5, 200), latest) == []
    assert codes(at(10, 50), latest) == [], "the same moment again is the store's business"
    assert codes(at(11, 99), latest) == [FindingCode.REGISTER_ROLLBACK]


def test_a_value_nobody_vouches_for_is_compared_and_not_remembered() -> None:
    latest = LatestValues()
    assert codes(at(0, 100), latest) == []
    assert codes(at(1, 900, quality="suspect"), latest) == []
    assert codes(at(2, 101), latest) == [], "the wild value between did not count"
    assert codes(at(3, 7, quality="suspect"), latest) == [FindingCode.REGISTER_ROLLBACK]
    assert codes(at(4, 102), latest) == []


def test_a_value_out_of_range_is_not_remembered() -> None:
    latest = LatestValues()
    assert codes(at(0, 2_000_000_000), latest) == [FindingCode.OUT_OF_RANGE]
    assert codes(at(1, 5), latest) == []


def test_a_register_that_may_fall_may_fall() -> None:
    latest = LatestValues()
    credit = {"obis": "96.8.0"}
    assert codes(at(0, 12.4, **credit), latest) == []
    assert codes(at(1, 11.9, **credit), latest) == []
    assert len(latest) == 0


def test_meters_do_not_share_counters() -> None:
    latest = LatestValues()
    assert codes(message_of("A-1", registers=[register(value=100)]), latest) == []
    later = "2026-06-22T14:31:00Z"
    assert codes(message_of("B-1", ts=later, registers=[register(value=1)]), latest) == []
    other_feeder = {"feederId": "feeder-south", "ts": later, "registers": [register(value=1)]}
    topic = f"openami/v1/feeder-south/{EXAMPLE['gatewayId']}/meter/A-1/telemetry"
    body = payload(meterSerial="A-1", **other_feeder)
    assert codes(message(body, topic=topic), latest) == []


def test_the_memory_is_bounded_and_forgets_what_was_written_longest_ago() -> None:
    latest = LatestValues(counters_max=2)
    code = Obis.parse("1.8.0")
    for serial in ("A", "B", "A", "C"):
        latest.remember("f", serial, code, ts=RECEIVED, value=1)
    assert len(latest) == 2
    assert latest.get("f", "B", code) is None
    assert latest.get("f", "A", code) == (RECEIVED, 1)


@pytest.mark.parametrize(
    ("obis", "value", "quality", "remembered"),
    [
        ("1.8.0", 5, Quality.GOOD, True),
        ("1.8.0", 5, Quality.SUSPECT, False),
        ("1.8.0", 5, Quality.COMMS_LOST, False),
        ("1.8.0", "5", Quality.GOOD, False),
        ("1.8.0", True, Quality.GOOD, False),
        ("1.7.0", 5, Quality.GOOD, False),
        ("1-0:99.98.97*255", 5, Quality.GOOD, False),
    ],
)
def test_what_is_recalled_from_the_store(
    obis: str, value: Value, quality: Quality, remembered: bool
) -> None:
    latest = LatestValues()
    code = Obis.parse(obis)
    stored = Reading("f", "m", code, RECEIVED, value, "kWh", quality, RECEIVED)
    latest.recall(stored, catalogue=CATALOGUE)
    assert (latest.get("f", "m", code) is not None) is remembered
