"""How many events of one meter are told: a number an hour, and the end of what was begun always."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.event_types import EVENT_TYPES, EventType
from openami.gateway.telling import Happening, Telling, admit
from openami.profile import EventState, Severity

HOUR = datetime(2026, 6, 22, 14, tzinfo=UTC)
COVER, OVER, CREDIT = EventType.METER_COVER_OPEN, EventType.OVER_VOLTAGE, EventType.LOW_CREDIT
RAISED, CLEARED, INSTANT = EventState.RAISED, EventState.CLEARED, EventState.INSTANT
PER_HOUR = 5


def moments(count: int, kind: EventType = EventType.METER_LOG_ENTRY) -> list[Happening]:
    return [Happening(kind, INSTANT)] * count


def told(
    telling: Telling, happenings: Sequence[Happening], now: datetime = HOUR
) -> tuple[Telling, list[EventState | None], list[tuple[EventState, int]]]:
    admitted = admit(telling, happenings, now, per_hour=PER_HOUR)
    storms = [(storm.state, storm.counted) for storm in admitted.storms]
    return admitted.telling, list(admitted.states), storms


def test_what_is_within_the_hours_number_is_told_as_it_stands() -> None:
    happenings = [Happening(COVER, RAISED), *moments(3), Happening(COVER, CLEARED)]
    telling, states, storms = told(Telling(), happenings)
    assert states == [RAISED, INSTANT, INSTANT, INSTANT, CLEARED]
    assert storms == []
    assert telling.open == frozenset()


def test_one_too_many_is_counted_and_said_and_the_count_told_when_the_hour_is_over() -> None:
    telling, states, storms = told(Telling(), moments(PER_HOUR + 1))
    assert states == [INSTANT] * PER_HOUR + [None]
    assert storms == [(RAISED, 1)]
    telling, states, storms = told(telling, moments(2))
    assert (states, storms) == ([None, None], [])
    telling, states, storms = told(telling, moments(1), HOUR + timedelta(hours=1))
    assert (states, storms) == ([INSTANT], [(CLEARED, 3)])


def test_the_end_of_what_was_told_is_told_in_the_worst_storm() -> None:
    telling, _, _ = told(Telling(), [Happening(COVER, RAISED), *moments(PER_HOUR)])
    _, states, _ = told(telling, [*moments(20), Happening(COVER, CLEARED)])
    assert states[-1] is CLEARED


def test_what_nobody_was_told_the_beginning_of_has_no_end() -> None:
    telling, _, _ = told(Telling(), moments(PER_HOUR))
    telling, states, _ = told(telling, [Happening(CREDIT, RAISED)])
    assert states == [None]
    telling, states, _ = told(telling, [Happening(CREDIT, CLEARED)], HOUR + timedelta(hours=1))
    assert states == [None]
    assert telling.withheld == frozenset()


def test_a_beginning_that_was_one_too_many_is_told_when_there_is_room_and_counted_once() -> None:
    telling, _, _ = told(Telling(), moments(PER_HOUR))
    for _ in range(3):
        telling, states, _ = told(telling, [Happening(COVER, RAISED)])
        assert states == [None]
    assert telling.counted == 1
    telling, states, _ = told(telling, [Happening(COVER, RAISED)], HOUR + timedelta(hours=1))
    assert states == [RAISED]


def test_the_graver_go_first_and_in_the_order_of_their_time() -> None:
    _, states, _ = told(
        Telling(), [*moments(PER_HOUR), Happening(EventType.ADDRESS_CLASH, INSTANT)]
    )
    assert states == [INSTANT] * (PER_HOUR - 1) + [None, INSTANT]


def test_a_condition_of_several_phases_is_over_with_the_last_of_them() -> None:
    both = [Happening(OVER, RAISED, phase) for phase in ("L1", "L2")]
    telling, states, _ = told(Telling(), both)
    assert states == [RAISED, RAISED]
    telling, states, _ = told(telling, [Happening(OVER, CLEARED, "L1")])
    assert states == [INSTANT]
    _, states, _ = told(telling, [Happening(OVER, CLEARED, "L2")])
    assert states == [CLEARED]


_KINDS = [COVER, OVER, CREDIT, EventType.LEAKAGE_ALARM]
_HAPPENINGS = st.builds(
    Happening,
    type=st.sampled_from(_KINDS),
    state=st.sampled_from(EventState),
    part=st.sampled_from(["", "L1", "L2"]),
)
_BATCHES = st.lists(st.tuples(st.integers(0, 90), st.lists(_HAPPENINGS, max_size=12)), max_size=20)


@given(_BATCHES)
def test_no_storm_gets_through_and_no_end_is_lost(
    batches: list[tuple[int, list[Happening]]],
) -> None:
    """For any history: a bounded number an hour, an end for each beginning at most, and none of them lost."""
    telling, now = Telling(), HOUR
    counted_in_hour: dict[int, int] = {}
    begun: set[str] = set()
    for minutes, happenings in batches:
        now += timedelta(minutes=minutes)
        # As after a restart at any step: what is remembered is all there is.
        telling = msgspec.json.decode(msgspec.json.encode(telling), type=Telling)
        telling, states, _ = told(telling, happenings, now)
        for happening, state in zip(happenings, states, strict=True):
            if happening.state is CLEARED and happening.key in begun:
                assert state in (CLEARED, INSTANT), "the end of what was told is told"
                begun.discard(happening.key)
                others = any(key.startswith(f"{happening.type}/") for key in begun)
                assert (state is INSTANT) == (others or happening.type in begun)
                continue
            if state is not None:
                hour = now.hour + 24 * now.day
                counted_in_hour[hour] = counted_in_hour.get(hour, 0) + 1
            if state is RAISED:
                begun.add(happening.key)
        assert telling.open == begun
    assert all(count <= PER_HOUR for count in counted_in_hour.values())


@pytest.mark.parametrize("kind", EventType)
def test_every_type_is_in_the_table_and_what_raises_alarms_is_worth_one(kind: EventType) -> None:
    info = EVENT_TYPES[kind]
    assert info.severity in Severity
    assert len(set(info.registers)) == len(info.registers)
