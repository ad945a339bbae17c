"""What was missed is asked for exactly once, whatever the pattern of outages, restarts and clocks."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from openami.gateway.driver import PollGroup, RawReading, RegisterInfo
from openami.gateway.late_readings import late_readings
from openami.gateway.normalise import KnownValue
from openami.gateway.outages import (
    BACK_DAYS_MAX,
    FAILURES_MAX,
    OUTAGES_MAX,
    STRETCH_INTERVALS_MAX,
    BillingInstants,
    History,
    Moment,
    Outage,
    Stretch,
    dated,
    finished,
    is_dated,
    moment_of,
    next_stretch,
    of_earlier_boot,
    polled,
)
from openami.gateway.schedule import Schedule
from openami.profile import Obis, Quality, shipped_catalogue

QUARTERS = BillingInstants.of(Schedule())
# The night in which central Europe's clocks go back an hour.
START = datetime(2026, 10, 24, 22, tzinfo=UTC)
IMPORT = Obis.parse("1.8.0")
INFOS = {
    IMPORT: RegisterInfo(IMPORT, "kWh", PollGroup.BILLING, decimals=2, minimum=0, monotonic=True)
}
_decode = msgspec.json.Decoder(History).decode


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def after_polls(*moments: datetime | Moment, instants: BillingInstants = QUARTERS) -> History:
    history = History()
    for moment in moments:
        stamp = moment if isinstance(moment, Moment) else Moment(moment)
        history = polled(
            history, stamp, instants=instants, floor={}, ceiling={}, clock_doubted=False
        )
    return history


def asked(history: History, now: datetime, instants: BillingInstants = QUARTERS) -> list[Stretch]:
    """Ask until nothing is left, as a meter that holds nothing would have it."""
    stretches = []
    while stretch := next_stretch(history, instants, now):
        stretches.append(stretch)
        done = late_readings(
            stretch,
            (),
            infos=INFOS,
            catalogue=shipped_catalogue(),
            now=now,
            clock_compared=True,
        )
        history = history.with_changed(stretch.outage, done.outage)
    return stretches


def test_polls_at_their_instants_miss_nothing() -> None:
    history = after_polls(*(at(15 * n + 0.2) for n in range(100)))
    assert history == History(billed=Moment(at(15 * 99 + 0.2)))


def test_a_meter_that_was_never_read_before_has_no_past() -> None:
    assert after_polls(at(7)).outages == ()


def test_an_outage_is_the_instants_between_two_polls_and_not_those_beside_them() -> None:
    history = after_polls(at(0.01), at(60.5))
    (stretch,) = asked(history, at(61))
    assert [moment_of(instant) for instant in stretch.instants] == [at(15), at(30), at(45)]
    assert (stretch.first, stretch.last) == (at(7.5), at(52.5) - timedelta(milliseconds=1))


@pytest.mark.parametrize(("poll_s", "missed"), [(59, 0), (60, 0), (61, 1)])
def test_a_poll_stands_for_an_instant_within_a_minute(poll_s: int, missed: int) -> None:
    """The bound of drift of a clock that is believed: nearer, a captured value may contradict the polled one."""
    history = after_polls(at(15) - timedelta(seconds=poll_s), at(30))
    assert sum(len(stretch.instants) for stretch in asked(history, at(31))) == missed


def test_a_day_is_asked_for_in_stretches_the_oldest_first() -> None:
    stretches = asked(after_polls(at(0), at(24 * 60)), at(24 * 60 + 1))
    assert [len(stretch.instants) for stretch in stretches] == [24, 24, 24, 23]
    assert stretches == sorted(stretches, key=lambda stretch: stretch.first)


def test_nothing_older_than_a_month_is_asked_for() -> None:
    now = START + timedelta(days=BACK_DAYS_MAX + 3)
    history = after_polls(START, now)
    stretches = asked(history, now)
    assert moment_of(stretches[0].instants[0]) > now - timedelta(days=BACK_DAYS_MAX)
    assert sum(len(stretch.instants) for stretch in stretches) == BACK_DAYS_MAX * 96 - 1


def test_what_failed_is_asked_for_by_halves_and_then_given_up() -> None:
    history = after_polls(at(0), at(24 * 60))
    (outage,) = history.outages
    sizes = []
    for failures in range(FAILURES_MAX):
        tried = replace(outage, failures=failures)
        stretch = next_stretch(History(outages=(tried,)), QUARTERS, at(24 * 60))
        assert stretch is not None
        sizes.append(len(stretch.instants))
    assert sizes == [24, 12, 6, 3, 1]
    given_up = History(outages=(replace(outage, failures=FAILURES_MAX),))
    assert next_stretch(given_up, QUARTERS, at(24 * 60)) is None
    assert finished(given_up, QUARTERS, at(24 * 60)) is given_up.outages[0]


def test_a_meter_whose_clock_was_wrong_at_either_end_is_not_asked() -> None:
    history = polled(
        after_polls(at(0)),
        Moment(at(60)),
        instants=QUARTERS,
        floor={},
        ceiling={},
        clock_doubted=True,
    )
    assert next_stretch(history, QUARTERS, at(61)) is None
    assert finished(history, QUARTERS, at(61)) == history.outages[0]


def test_too_many_outages_lose_the_oldest_and_remember_how_much() -> None:
    history = after_polls(*(at(60 * n) for n in range(OUTAGES_MAX + 3)))
    assert len(history.outages) == OUTAGES_MAX
    assert history.outages[0].lost == 2 * 3
    assert history.outages[0].after == Moment(at(120))


# --- an untrusted clock --------------------------------------------------------------------------


def test_an_outage_that_ends_under_an_untrusted_clock_waits_for_it() -> None:
    history = after_polls(at(0), Moment(datetime(1970, 1, 1, tzinfo=UTC), 20.0))
    assert not is_dated(history)
    assert next_stretch(history, QUARTERS, at(120)) is None
    assert finished(history, QUARTERS, at(120)) is None
    after = dated(history, at(60), QUARTERS)
    assert is_dated(after)
    (outage,) = after.outages
    assert outage.before == Moment(at(60) + timedelta(seconds=20))


def test_a_restart_between_two_polls_under_an_untrusted_clock_is_no_outage() -> None:
    dark = datetime(1970, 1, 1, tzinfo=UTC)
    history = after_polls(at(0), Moment(dark, 20.0), Moment(dark, 900.0))
    after = dated(history, at(10), QUARTERS)
    assert after.outages == ()
    assert after.billed == Moment(at(25))


def test_what_a_boot_never_dated_is_one_outage_with_what_follows() -> None:
    dark = datetime(1970, 1, 1, tzinfo=UTC)
    history = after_polls(at(0), at(60), at(75), Moment(dark, 20.0), Moment(dark, 9000.0))
    kept = of_earlier_boot(history)
    assert kept.billed == Moment(at(75))
    assert [outage.before for outage in kept.outages] == [Moment(at(60))]
    never = of_earlier_boot(after_polls(Moment(dark, 20.0), Moment(dark, 9000.0)))
    assert never == History()


# --- what a row means ----------------------------------------------------------------------------


def row(when: datetime, value: str = "100") -> RawReading:
    return RawReading(IMPORT, Decimal(value), "kWh", when)


def judged(
    history: History, rows: Sequence[RawReading], *, compared: bool = True
) -> list[tuple[datetime, object, Quality]]:
    stretch = next_stretch(history, QUARTERS, at(24 * 60))
    assert stretch is not None
    late = late_readings(
        stretch,
        rows,
        infos=INFOS,
        catalogue=shipped_catalogue(),
        now=at(24 * 60),
        clock_compared=compared,
    )
    assert late.outage.held == len({timed.ts for timed in late.readings})
    return [(timed.ts, timed.reading.value, timed.reading.quality) for timed in late.readings]


def between(floor: float, ceiling: float) -> History:
    def known(value: float) -> dict[str, KnownValue]:
        return {IMPORT.full: KnownValue(START, value, "kWh")}

    return polled(
        after_polls(at(0)),
        Moment(at(60)),
        instants=QUARTERS,
        floor=known(floor),
        ceiling=known(ceiling),
        clock_doubted=False,
    )


def test_of_a_finer_profile_the_rows_nearest_to_the_instants_are_taken() -> None:
    rows = [row(at(5 * n)) for n in range(13)]
    assert [ts for ts, _, _ in judged(between(0, 200), rows)] == [at(15), at(30), at(45)]


def test_of_a_coarser_profile_there_is_what_there_is() -> None:
    assert [ts for ts, _, _ in judged(between(0, 200), [row(at(30))])] == [at(30)]


def test_rows_outside_the_span_or_without_a_time_are_no_answer() -> None:
    naive = at(30).replace(tzinfo=None)
    strays = [row(at(0)), row(at(60)), row(naive), RawReading(IMPORT, 1, "kWh")]
    assert judged(between(0, 200), strays) == []


def test_an_hour_that_came_twice_with_two_values_is_nobodys() -> None:
    rows = [row(at(15), "100"), row(at(30), "101"), row(at(15), "104"), row(at(30), "101")]
    assert [ts for ts, _, _ in judged(between(0, 200), rows)] == [at(30)]


def test_a_counter_lies_between_what_it_was_polled_at_before_and_after() -> None:
    rows = [row(at(15), "99"), row(at(30), "105"), row(at(45), "111")]
    assert judged(between(100, 110), rows) == [
        (at(15), 99.0, Quality.SUSPECT),
        (at(30), 105.0, Quality.GOOD),
        (at(45), 111.0, Quality.SUSPECT),
    ]


def test_a_counter_that_began_anew_meanwhile_has_no_ceiling() -> None:
    rows = [row(at(15), "100"), row(at(30), "101")]
    assert {quality for _, _, quality in judged(between(99, 2), rows)} == {Quality.GOOD}


def test_without_a_clock_to_compare_nothing_is_vouched_for() -> None:
    found = judged(between(0, 200), [row(at(15))], compared=False)
    assert found == [(at(15), 100.0, Quality.SUSPECT)]


# --- any pattern ---------------------------------------------------------------------------------

# Minutes to the next answered poll, and whether the gateway was restarted before it.
polls = st.lists(
    st.tuples(st.integers(1, 3 * 24 * 60), st.booleans()), min_size=1, max_size=OUTAGES_MAX
)
schedules = st.sampled_from([60, 300, 900, 1800, 3600]).map(
    lambda billing_s: BillingInstants.of(Schedule(fast_s=60, billing_s=billing_s))
)
# DLMS meters capture by their local clock, whose offset is a multiple of a quarter of an hour.
periods = st.sampled_from([60, 300, 600, 900, 1800, 3600, 86400])
zones = st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin", "Asia/Kathmandu"])


@given(polls=polls, instants=schedules, period_s=periods, zone=zones)
def test_whatever_the_meter_holds_of_an_outage_is_asked_for_exactly_once(
    polls: list[tuple[int, bool]], instants: BillingInstants, period_s: int, zone: str
) -> None:
    now, history = START, after_polls(START, instants=instants)
    moments = [now]
    for minutes, restarted in polls:
        if restarted:
            history = of_earlier_boot(_decode(msgspec.json.encode(history)))
        now += timedelta(minutes=minutes)
        moments.append(now)
        history = polled(
            history, Moment(now), instants=instants, floor={}, ceiling={}, clock_doubted=False
        )
    lost = sum(outage.lost for outage in history.outages)
    stretches = asked(history, now, instants)
    missed = [
        instant for after, before in pairwise(moments) for instant in instants.missed(after, before)
    ]
    found = [instant for stretch in stretches for instant in stretch.instants]
    oldest = (now - timedelta(days=BACK_DAYS_MAX)).timestamp()
    assert lost == 0
    assert found == [instant for instant in missed if instant > oldest]
    assert all(0 < len(stretch.instants) <= STRETCH_INTERVALS_MAX for stretch in stretches)
    _each_row_once(stretches, instants, period_s, ZoneInfo(zone))


def _each_row_once(
    stretches: list[Stretch], instants: BillingInstants, period_s: int, zone: ZoneInfo
) -> None:
    """No captured row lies in two spans, and one at an instant, by the meter's local clock, lies in one."""
    for earlier, later in pairwise(stretches):
        assert earlier.last < later.first
    for stretch in stretches:
        assert stretch.last - stretch.first < timedelta(
            seconds=instants.interval_s * STRETCH_INTERVALS_MAX
        )
        for instant in stretch.instants:
            captured = moment_of(instant - instant % period_s).astimezone(zone)
            if captured.timestamp() == instant:
                assert stretch.first <= captured <= stretch.last


@given(
    rows=st.lists(st.tuples(st.integers(0, 3600), st.integers(0, 50)), max_size=40),
    period_s=periods,
)
def test_no_two_readings_of_a_stretch_are_at_one_instant(
    rows: list[tuple[int, int]], period_s: int
) -> None:
    told = [row(START + timedelta(seconds=second), str(value)) for second, value in rows]
    found = judged(between(0, 200), told)
    nearest = [round(ts.timestamp() / 900) for ts, _, _ in found]
    assert len(nearest) == len(set(nearest))
    assert all(at(7.5) <= ts < at(52.5) for ts, _, _ in found)


def test_outages_survive_as_they_are(tmp_path: object) -> None:
    outage = Outage(
        after=Moment(at(0)),
        before=Moment(at(60), 12.5),
        floor={IMPORT.full: KnownValue(at(0), 5.0, "kWh")},
        asked_until=at(30),
        held=2,
        failures=1,
    )
    history = History(billed=Moment(at(60), 12.5), outages=(outage,))
    assert _decode(msgspec.json.encode(history)) == history
