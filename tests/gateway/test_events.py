"""The gateway's own events: stable ids, honest registers, and the ways to a meter and a clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.clock_events import ClockLook, clock_drafts
from openami.gateway.event_types import EventType
from openami.gateway.events import (
    clock_reading,
    event_envelope,
    event_id,
    serial_reading,
)
from openami.gateway.normalise import Doubt, Source
from openami.gateway.reachability import Reachability, answered, clashed, missed
from openami.gateway.timekeeping import JUMP_TOLERANCE_S, Facts
from openami.profile import (
    Envelope,
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Quality,
    Severity,
    decode_envelope,
)

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
SOURCE = Source(FeederId("feeder-1"), GatewayId("pole-1"))
METER = MeterSerial("DS1000-88421")


def told(kind: EventType = EventType.COMMS_LOST, **changed: object) -> Envelope:
    details: dict[str, object] = {
        "source": SOURCE,
        "serial": METER,
        "occurred_at": NOW,
        "registers": (serial_reading(METER, Quality.GOOD),),
        "ts": NOW - timedelta(hours=1),
        "detail": "no answer",
        **changed,
    }
    return event_envelope(kind, EventState.RAISED, **details)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(EventType))
def test_every_event_is_a_message_a_head_end_accepts(kind: EventType) -> None:
    envelope = told(kind)
    assert decode_envelope(envelope.encode()) == envelope
    assert envelope.event is not None
    assert envelope.event.occurred_at == "2026-06-22T14:30:00Z"


def test_every_doubt_has_its_event() -> None:
    assert {doubt.value for doubt in Doubt} <= {kind.value for kind in EventType}


def test_the_same_event_has_the_same_id_and_no_other_has() -> None:
    ids = [
        told().event,
        told(EventType.ADDRESS_CLASH).event,
        told(serial=MeterSerial("B")).event,
        told(occurred_at=NOW + timedelta(seconds=1)).event,
        told(registers=(clock_reading(NOW, Quality.GOOD),)).event,
    ]
    assert len({event.event_id for event in ids if event}) == 5
    again = told(detail="in other words").event
    assert again is not None
    assert ids[0] is not None
    assert again.event_id == ids[0].event_id


def test_parts_of_an_id_do_not_run_together() -> None:
    assert event_id(METER, "ab", "c") != event_id(METER, "a", "bc")


def test_the_end_of_something_grave_is_not_grave() -> None:
    raised = told(EventType.ADDRESS_CLASH).event
    assert raised is not None
    assert raised.severity is Severity.CRITICAL
    cleared = event_envelope(
        EventType.ADDRESS_CLASH,
        EventState.CLEARED,
        source=SOURCE,
        serial=METER,
        occurred_at=NOW,
        registers=(serial_reading(METER, Quality.GOOD),),
        ts=NOW,
        detail="",
    ).event
    assert cleared is not None
    assert cleared.severity is Severity.INFO
    assert cleared.detail is None


@given(st.text(max_size=1000), st.text(max_size=1000))
def test_what_a_foreign_meter_calls_itself_cannot_break_the_message(
    found: str, detail: str
) -> None:
    envelope = told(registers=(serial_reading(found, Quality.SUSPECT),), detail=detail)
    assert decode_envelope(envelope.encode()).registers == envelope.registers


# --- reachability --------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["answer", "miss", "clash"]), max_size=40), st.integers(1, 5))
def test_what_is_told_of_a_meter_alternates(ends: list[str], misses_max: int) -> None:
    """Lost and restored take turns, raised and cleared take turns; no loss before enough misses."""
    reach = Reachability()
    lost: list[EventType] = []
    clashes: list[EventState] = []
    in_a_row = 0
    for end in ends:
        match end:
            case "answer":
                reach, said = answered(reach)
            case "miss":
                reach, said = missed(reach, misses_max=misses_max)
            case _:
                reach, said = clashed(reach)
        in_a_row = in_a_row + 1 if end == "miss" else 0
        for kind, state in said:
            if kind is EventType.ADDRESS_CLASH:
                clashes.append(state)
            else:
                assert kind is EventType.COMMS_RESTORED or in_a_row == misses_max
                lost.append(kind)
    assert lost == [EventType.COMMS_LOST, EventType.COMMS_RESTORED] * (len(lost) // 2) + [
        EventType.COMMS_LOST
    ] * (len(lost) % 2)
    assert clashes == [EventState.RAISED, EventState.CLEARED] * (len(clashes) // 2) + [
        EventState.RAISED
    ] * (len(clashes) % 2)
    assert reach.lost == bool(len(lost) % 2)
    assert reach.clashing == bool(len(clashes) % 2)


# --- the gateway's clock -------------------------------------------------------------------------


def look(wall: datetime, boottime_s: float, *, trusted: bool) -> ClockLook:
    return ClockLook(Facts(wall, boottime_s, synchronised=trusted), trusted)


def events(before: ClockLook | None, after: ClockLook) -> list[tuple[str, EventState]]:
    drafts = clock_drafts(before, after, SOURCE)
    for draft in drafts:
        assert draft.envelope.meter_serial == MeterSerial(SOURCE.gateway_id)
        assert draft.boottime_s == after.facts.boottime_s
        assert decode_envelope(draft.envelope.encode())
    return [(d.envelope.event.type, d.envelope.event.state) for d in drafts if d.envelope.event]


def test_a_clock_that_is_right_says_nothing() -> None:
    first = look(NOW, 100, trusted=True)
    assert events(None, first) == []
    drifted = look(NOW + timedelta(seconds=10 + JUMP_TOLERANCE_S), 110, trusted=True)
    assert events(first, drifted) == []


def test_a_clock_without_trust_is_told_and_told_right_again_with_the_step() -> None:
    wrong = look(datetime(1970, 1, 1, tzinfo=UTC), 10, trusted=False)
    assert events(None, wrong) == [("clock_invalid", EventState.RAISED)]
    assert events(wrong, look(NOW, 20, trusted=True)) == [
        ("clock_invalid", EventState.CLEARED),
        ("clock_adjusted", EventState.INSTANT),
    ]


def test_a_clock_that_is_set_says_by_how_much() -> None:
    before = look(NOW, 100, trusted=True)
    after = look(NOW + timedelta(seconds=10 + JUMP_TOLERANCE_S + 1), 110, trusted=True)
    (draft,) = clock_drafts(before, after, SOURCE)
    assert draft.envelope.event is not None
    assert draft.envelope.event.detail == "the gateway's clock was set by +6 s"
    assert events(after, before) == [("clock_adjusted", EventState.INSTANT)]
