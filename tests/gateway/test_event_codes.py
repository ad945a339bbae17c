"""The codes of meters' event logs: looked up under their own numbering, and never guessed."""

from datetime import UTC, datetime, timedelta

import pytest

from openami.gateway.driver import LoggedEvent
from openami.gateway.event_codes import CODES, Certainty, meanings, rows
from openami.gateway.event_types import EVENT_TYPES, EventType
from openami.gateway.log_entries import UNNAMED, Entries, entries
from openami.gateway.telling import Telling, admit
from openami.profile import EventState, MeterSerial, Quality

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
METER = MeterSerial("DS2000-1")
FRAUD_LOG = "0-0:99.98.1"


def logged(
    code: int, *, system: str = "idis", at: datetime = NOW, believed: bool = True
) -> LoggedEvent:
    return LoggedEvent(at, believed, FRAUD_LOG, code, system)


def told(
    *found: LoggedEvent, telling: Telling | None = None, recent: tuple[str, ...] = ()
) -> Entries:
    return entries(
        found,
        serial=METER,
        recent=recent,
        telling=telling or Telling(),
        now=NOW + timedelta(minutes=15),
        boottime_s=100.0,
    )


def kinds(found: Entries) -> list[tuple[str, str, str]]:
    return [
        (str(each.happening.type), str(each.happening.state), each.happening.part)
        for each in found.candidates
    ]


@pytest.mark.parametrize(
    ("system", "code", "kind", "state"),
    [
        ("dsmr", 44, "meter_cover_open", "raised"),
        ("dsmr", 45, "meter_cover_open", "cleared"),
        ("dsmr", 91, "phase_missing", "cleared"),
        ("idis", 91, "reverse_current", "instant"),
        ("dsmr", 80, "under_voltage", "instant"),
        ("smr", 80, "over_voltage", "raised"),
        ("dsmr", 89, "meter_log_entry", "instant"),
        ("idis", 89, "neutral_disturbance", "instant"),
        ("idis", 51, "meter_log_entry", "instant"),
        ("is15959", 1, "phase_missing", "raised"),
        ("idis", 1, "power_fail", "raised"),
        ("is15959", 201, "magnetic_field", "raised"),
        ("is15959", 205, "meter_log_entry", "instant"),
        ("is15959", 251, "meter_cover_open", "instant"),
        ("is15959", 44, "meter_log_entry", "instant"),
        ("maker", 44, "meter_log_entry", "instant"),
        ("idis", 60, "relay_disconnected", "instant"),
        ("idis", 68, "relay_failure", "instant"),
    ],
)
def test_the_same_number_means_what_its_own_numbering_says(
    system: str, code: int, kind: str, state: str
) -> None:
    [meaning] = meanings(system, code)
    assert (meaning.type, meaning.state) == (kind, state)


def test_what_is_raised_can_end_and_what_has_no_end_is_a_moment() -> None:
    """An alarm that no code ends would stand for ever."""
    for system in CODES:
        of_system = [meaning for name, _, meaning in rows() if name == system]
        raised = {(m.type, m.part) for m in of_system if m.state is EventState.RAISED}
        cleared = {(m.type, m.part) for m in of_system if m.state is EventState.CLEARED}
        assert raised == cleared, system
        assert all(EVENT_TYPES[kind].lasting for kind, _ in raised)


def test_a_code_that_ends_two_things_ends_the_one_that_was_told() -> None:
    found = told(logged(77, at=NOW), logged(83, at=NOW + timedelta(minutes=1)))
    assert kinds(found) == [
        ("under_voltage", "raised", "log L1"),
        ("under_voltage", "cleared", "log L1"),
    ]
    before = Telling(open=frozenset({"over_voltage/log L2"}))
    assert kinds(told(logged(84), telling=before)) == [("over_voltage", "cleared", "log L2")]
    assert [kind for kind, _, _ in kinds(told(logged(84)))] == ["over_voltage", "under_voltage"]


def test_what_the_rules_have_told_is_not_the_logs_to_end() -> None:
    """Both see a high voltage: the alarm is over when it is over for both."""
    by_rule = Telling(open=frozenset({"over_voltage"}))
    found = told(logged(7, system="is15959"), logged(8, system="is15959"), telling=by_rule)
    assert kinds(found) == [("over_voltage", "raised", "log"), ("over_voltage", "cleared", "log")]
    happenings = [candidate.happening for candidate in found.candidates]
    admitted = admit(by_rule, happenings, NOW, per_hour=60)
    assert admitted.states == (EventState.RAISED, EventState.INSTANT)


def test_an_unverified_meaning_is_said_to_be_one() -> None:
    [candidate] = told(logged(91)).candidates
    assert "unverified" in candidate.detail
    assert meanings("idis", 91)[0].certainty is Certainty.UNVERIFIED
    [candidate] = told(logged(44)).candidates
    assert "unverified" not in candidate.detail


def test_an_entry_carries_its_code_its_numbering_and_its_own_time() -> None:
    [candidate] = told(logged(44)).candidates
    [register] = candidate.registers
    assert (str(register.obis), register.value, register.unit) == ("96.11.0", 44, "code")
    assert register.quality is Quality.GOOD
    assert candidate.occurred_at == NOW
    assert candidate.ts == NOW + timedelta(minutes=15)
    assert candidate.logged is not None
    assert (candidate.logged.code_system, candidate.logged.code) == ("idis", 44)


@pytest.mark.parametrize(
    ("at", "believed"),
    [
        (NOW, False),
        (NOW + timedelta(hours=1), True),  # which is to come
        (datetime(2000, 1, 1, 0, 7, tzinfo=UTC), True),  # a clock whose battery was empty
    ],
)
def test_a_time_that_is_not_believed_is_told_in_words(at: datetime, believed: bool) -> None:
    """Between a beginning and its end such a time could put the end first, and the alarm would stand for ever."""
    [candidate] = told(logged(44, at=at, believed=believed)).candidates
    assert candidate.occurred_at == candidate.ts == NOW + timedelta(minutes=15)
    assert candidate.registers[0].quality is Quality.SUSPECT
    assert f"{at.isoformat()}, is not believed" in candidate.detail


def test_entries_of_one_answer_have_each_a_time_of_their_own() -> None:
    """Two codes at one measured time would be two values of one reading."""
    found = told(logged(44), logged(40), logged(42))
    assert len({candidate.ts for candidate in found.candidates}) == 3
    assert [c.boottime_s for c in found.candidates] == pytest.approx([100.0, 100.001, 100.002])


def test_an_entry_that_was_told_is_not_told_again_and_one_that_is_twice_there_once() -> None:
    first = told(logged(44), logged(44))
    assert len(first.candidates) == 1
    again = told(logged(44), logged(45), recent=first.ids)
    assert kinds(again) == [("meter_cover_open", "cleared", "log")]
    assert set(first.ids) < set(again.ids)


def test_a_numbering_of_no_possible_name_and_a_code_that_is_noise_do_no_harm() -> None:
    [candidate] = told(logged(44, system="a maker's own"), logged(-1), logged(2**60)).candidates
    assert candidate.logged is not None
    assert candidate.logged.code_system == UNNAMED
    assert candidate.happening.type is EventType.METER_LOG_ENTRY
