"""The account of a meter and day: expected, received, late, suspect, missing, and why."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.test_gap_life import GAP

from openami.headend.completeness import (
    LATE_AFTER_MINUTES,
    SETTLED_AFTER_S,
    SPACINGS_MIN,
    Arrival,
    DayAccount,
    Missing,
    MissingReason,
    Told,
    account,
    usual_interval,
)
from openami.headend.gap_life import GapReason, GapState, Span
from openami.headend.interval_gaps import INTERVALS_MIN, Silence, noticed_silences, silences
from openami.headend.store.closed_arrivals import lag_minutes_of
from openami.headend.store.identity import to_ms
from openami.profile import Quality

DAY = date(2026, 6, 22)
MIDNIGHT = datetime(2026, 6, 22, tzinfo=UTC)
NEXT_DAY = MIDNIGHT + timedelta(days=2)
QUARTER = timedelta(minutes=15)
SECOND, MINUTE, HOUR = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours"))
METER = ("feeder-1", "gateway-1", "M-1")
ALL = list(range(96))


def at(quarter: int) -> datetime:
    return MIDNIGHT + quarter * QUARTER


def arrival(ts: datetime, received_at: datetime, quality: Quality = Quality.GOOD) -> Arrival:
    return Arrival(to_ms(ts), lag_minutes_of(to_ms(received_at) - to_ms(ts)), quality)


def arrivals(*quarters: int, **wanted: Any) -> list[Arrival]:
    return [
        arrival(
            at(q) + wanted.get("off", timedelta()),
            at(q) + wanted.get("lag", 2 * SECOND),
            wanted.get("quality", Quality.GOOD),
        )
        for q in quarters
    ]


def accounted(found: list[Arrival], **wanted: Any) -> DayAccount:
    around: dict[str, Any] = {
        "interval_s": 900,
        "known_since": MIDNIGHT - HOUR,
        # By default the gateway has measured something in every interval.
        "told": Told(gateway_ms=[to_ms(at(q)) for q in ALL]),
        "now": NEXT_DAY,
    }
    return account(METER, DAY, found, **(around | wanted))


def figures(told: DayAccount) -> tuple[int | None, int, int, int, int | None]:
    return told.expected, told.received, told.late, told.suspect, told.missing


# --- counting ------------------------------------------------------------------------------------


def test_a_whole_day_of_quarter_hours_is_ninety_six() -> None:
    assert figures(accounted(arrivals(*ALL))) == (96, 96, 0, 0, 0)


@given(st.sets(st.integers(0, 95)))
def test_what_did_not_come_is_missing_and_adds_up(came: set[int]) -> None:
    told = accounted(arrivals(*sorted(came)))
    assert figures(told) == (96, len(came), 0, 0, 96 - len(came))
    covered = {
        quarter for gap in told.gaps for quarter in ALL if gap.begin <= at(quarter) <= gap.end
    }
    assert covered == set(ALL) - came


def test_a_poll_that_is_off_the_quarter_hour_is_in_step_with_itself() -> None:
    off = timedelta(minutes=7, seconds=29)
    told = accounted(arrivals(*(q for q in ALL if q != 50), off=off))
    assert figures(told) == (96, 95, 0, 0, 1)
    assert [gap.begin for gap in told.gaps] == [at(50) + off]


def test_what_jitters_around_midnight_of_its_step_is_not_missing() -> None:
    """Readings a little before and after the quarter hour belong to it, also at the day's ends."""
    found = [arrival(at(q) + (SECOND if q % 2 else SECOND / 2), at(q) + MINUTE) for q in ALL]
    assert figures(accounted(found)) == (96, 96, 0, 0, 0)


def test_an_extra_reading_at_a_restart_fills_no_second_interval() -> None:
    extra = arrival(at(10) + 3 * MINUTE, at(10) + 4 * MINUTE)
    told = accounted(sorted([*arrivals(*(q for q in ALL if q != 20)), extra]))
    assert figures(told) == (96, 95, 0, 0, 1)


def test_the_day_begins_when_the_meter_was_first_known() -> None:
    told = accounted(arrivals(*range(40, 96)), known_since=at(40))
    assert figures(told) == (56, 56, 0, 0, 0)
    told = accounted(arrivals(*range(44, 96)), known_since=at(40) - SECOND)
    assert figures(told) == (56, 52, 0, 0, 4)


def test_backlog_measured_before_it_was_known_is_no_excess() -> None:
    told = accounted(arrivals(*range(30, 96)), known_since=at(40))
    assert figures(told) == (66, 66, 0, 0, 0)


def test_the_day_ends_now_and_the_last_interval_has_time_to_come() -> None:
    settled = timedelta(seconds=SETTLED_AFTER_S)
    told = accounted(arrivals(*range(40)), now=at(40) + settled)
    assert figures(told) == (40, 40, 0, 0, 0)
    told = accounted(arrivals(*range(40)), now=at(40) + settled + SECOND)
    assert figures(told) == (41, 40, 0, 0, 1)


def test_a_day_to_come_expects_nothing() -> None:
    assert figures(accounted([], now=MIDNIGHT - HOUR)) == (0, 0, 0, 0, 0)


def test_a_meter_whose_interval_nobody_knows_is_not_complete() -> None:
    assert figures(accounted(arrivals(3, 4), interval_s=None)) == (None, 2, 0, 0, None)


def test_late_is_when_its_gateway_would_have_been_called_silent() -> None:
    bound = timedelta(minutes=LATE_AFTER_MINUTES)
    assert accounted(arrivals(*ALL, lag=bound)).late == 0
    assert accounted(arrivals(*ALL, lag=bound + SECOND)).late == 96


def test_suspect_is_what_nobody_vouches_for() -> None:
    assert accounted(arrivals(*ALL, quality=Quality.SUSPECT)).suspect == 96


# --- reasons -------------------------------------------------------------------------------------

HOLE = [q for q in ALL if not 40 <= q < 44]
TIMES = Told(gateway_ms=[to_ms(at(q)) for q in ALL])
INSIDE = Span(at(41), at(42))


def why(told: Told) -> list[tuple[int, MissingReason | GapReason]]:
    return [(gap.intervals, gap.reason) for gap in accounted(arrivals(*HOLE), told=told).gaps]


def test_without_an_explanation_it_is_unknown() -> None:
    assert accounted(arrivals(*HOLE)).gaps == (Missing(at(40), at(43), 4, MissingReason.UNKNOWN),)


def test_when_nothing_of_the_gateway_was_measured_it_was_silent() -> None:
    assert why(Told(gateway_ms=[to_ms(at(q)) for q in HOLE])) == [(4, MissingReason.GATEWAY_SILENT)]


def test_when_the_gateway_told_that_the_meter_is_silent_that_is_why() -> None:
    told = replace(TIMES, silent=[Span(at(41) + MINUTE, at(42) + MINUTE)])
    assert why(told) == [
        (1, MissingReason.UNKNOWN),
        (2, MissingReason.METER_SILENT),
        (1, MissingReason.UNKNOWN),
    ]


def test_a_reading_that_was_rejected_is_named_before_anything_else() -> None:
    told = replace(TIMES, rejected=[at(41)], silent=[Span(at(40), at(43))])
    assert why(told)[:2] == [(1, MissingReason.METER_SILENT), (1, MissingReason.REJECTED)]


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (GapState.OPEN, GapReason.IN_TRANSIT, GapReason.IN_TRANSIT),
        (GapState.ASKED, GapReason.ASKED, GapReason.IN_RESEND),
        (GapState.OPEN, GapReason.NO_KEYS, GapReason.NO_KEYS),
        (GapState.LOST, GapReason.CARD_REPLACED, GapReason.CARD_REPLACED),
    ],
)
def test_a_gap_of_its_gateway_explains_it(
    state: GapState, reason: GapReason, said: GapReason
) -> None:
    gap = replace(GAP, state=state, reason=reason, measured_from=at(39), measured_to=at(44))
    assert why(replace(TIMES, gaps=[gap])) == [(4, said)]
    closed = replace(gap, state=GapState.CLOSED)
    assert why(replace(TIMES, gaps=[closed])) == [(4, MissingReason.UNKNOWN)]


def test_what_was_thinned_is_named() -> None:
    told = replace(TIMES, thinned=[Span(at(30), at(60))])
    assert why(told) == [(4, MissingReason.THINNED)]


def test_what_waits_by_a_cap_is_named_and_is_no_silence() -> None:
    told = replace(TIMES, withheld=[Span(at(30), at(60))])
    assert why(told) == [(4, MissingReason.WITHHELD)]
    assert silences([accounted(arrivals(*HOLE), told=told)]) == []


# --- the interval --------------------------------------------------------------------------------


def test_the_interval_is_the_commonest_spacing() -> None:
    assert usual_interval([to_ms(at(q)) for q in (0, 1, 2, 3, 9, 10, 30)]) == 900


def test_where_none_prevails_it_is_the_median() -> None:
    times = [to_ms(MIDNIGHT) + 1000 * s for s in (0, 895, 1798, 2694, 3600, 4499)]
    assert usual_interval(times) == 899


def test_of_too_few_readings_there_is_none() -> None:
    assert usual_interval([to_ms(at(q)) for q in range(SPACINGS_MIN)]) is None
    assert usual_interval([to_ms(at(q)) for q in range(SPACINGS_MIN + 1)]) == 900
    assert usual_interval([]) is None


# --- gaps by interval ----------------------------------------------------------------------------


def test_silences_of_a_gateways_meters_are_one_where_they_meet() -> None:
    one = accounted(arrivals(*HOLE))
    other = accounted(arrivals(*(q for q in ALL if not 42 <= q < 50)))
    half = QUARTER / 2
    assert silences([one, other]) == [Silence(Span(at(40) - half, at(49) + half), 12)]


def test_one_poll_that_failed_is_no_silence_and_what_is_explained_is_none() -> None:
    few = accounted(arrivals(*(q for q in ALL if not 40 <= q < 39 + INTERVALS_MIN)))
    assert silences([few]) == []
    enough = accounted(arrivals(*(q for q in ALL if not 40 <= q < 40 + INTERVALS_MIN)))
    assert len(silences([enough])) == 1
    told = replace(TIMES, silent=[Span(at(40), at(43))])
    assert silences([accounted(arrivals(*HOLE), told=told)]) == []


def test_a_silence_is_noticed_once_and_grows_shrinks_and_closes() -> None:
    gateway = METER[:2]
    begin = at(40)

    def looked(known: list[Any], end: int | None, missing: int, now: datetime) -> list[Any]:
        found = [] if end is None else [Silence(Span(begin, at(end)), missing)]
        return noticed_silences(known, found, gateway, looked_since=MIDNIGHT, now=now)

    [gap] = looked([], 44, 4, at(50))
    assert (gap.epoch, gap.missing, gap.measured_to) == (0, 4, at(44))
    assert looked([gap], 44, 4, at(51)) == []
    [grown] = looked([gap], 46, 6, at(51))
    assert (grown.missing, grown.measured_to, grown.changed_at) == (6, at(46), at(50))
    [less] = looked([grown], 42, 2, at(52))
    assert (less.missing, less.changed_at, less.first) == (2, at(52), gap.first)
    [closed] = looked([less], None, 0, at(53))
    assert closed.state is GapState.CLOSED
    earlier = replace(less, measured_from=MIDNIGHT - SECOND)
    assert looked([earlier], None, 0, at(53)) == [], "what lies before the look is not judged by it"
