"""The monthly cap's rule: a month stays under it, by a stated order, whatever the month brings."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.test_budget import meter, plan

from openami.gateway.budget import month_bytes
from openami.gateway.cap_forecast import bytes_per_day
from openami.gateway.link_account import UNANSWERED_BYTES, LinkAccount
from openami.gateway.monthly_cap import (
    ORDER,
    RESERVED_SHARE,
    Balance,
    CapStage,
    Month,
    backlog_may_go,
    lived,
    period_began,
    stage_after,
)
from openami.link_cost import Assumptions, exchange_link_bytes, idle_bytes, packet_size

MB = 1_000_000
PER_DAY: Mapping[CapStage, float] = dict(zip(ORDER, (3e6, 1e6, 4e5, 2e5, 1e5), strict=True))


def _naive(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None)


moments = st.datetimes(_naive(2026), _naive(2031), timezones=st.just(UTC))


# --- the month ------------------------------------------------------------------------------------


@given(moments, st.integers(1, 28))
def test_every_moment_lies_in_one_month_and_the_next_begins_where_it_ends(
    now: datetime, first_day: int
) -> None:
    month = Month.of(now, first_day)
    assert month.begin <= now < month.end
    assert month.begin.day == month.end.day == first_day
    assert Month.of(month.end, first_day).begin == month.end
    assert 28 <= (month.end - month.begin).days <= 31
    assert 0 < month.left_days(now) <= 31


def test_the_month_turns_at_midnight_in_utc() -> None:
    turn = datetime(2026, 3, 15, tzinfo=UTC)
    before, after = Month.of(turn - timedelta(milliseconds=1), 15), Month.of(turn, 15)
    assert (before.begin, before.end) == (datetime(2026, 2, 15, tzinfo=UTC), turn)
    assert (after.begin, after.end) == (turn, datetime(2026, 4, 15, tzinfo=UTC))


def test_hours_and_days_begin_in_utc() -> None:
    now = datetime(2026, 7, 1, 13, 45, 12, tzinfo=UTC)
    assert period_began(CapStage.HOURLY, now) == now.replace(minute=0, second=0)
    assert period_began(CapStage.DAILY, now) == datetime(2026, 7, 1, tzinfo=UTC)
    for stage in (CapStage.FULL, CapStage.SLOWER, CapStage.ESSENTIAL):
        assert period_began(stage, now) is None


# --- one look -------------------------------------------------------------------------------------


def balance(used_mb: float, *, left_days: float = 15, cap_mb: float = 100) -> Balance:
    return Balance(round(cap_mb * MB), round(used_mb * MB), left_days, PER_DAY)


@pytest.mark.parametrize(
    ("used_mb", "stage"),
    [
        (45, CapStage.FULL),  # 90 may be planned with, and a day of everything is 3
        (45.1, CapStage.SLOWER),
        (75, CapStage.SLOWER),
        (75.1, CapStage.HOURLY),
        (84.1, CapStage.DAILY),
        (87.1, CapStage.ESSENTIAL),
        (500, CapStage.ESSENTIAL),
    ],
)
def test_the_mildest_stage_whose_rest_of_the_month_fits(used_mb: float, stage: CapStage) -> None:
    assert stage_after(CapStage.FULL, balance(used_mb), may_ease=False) is stage


def test_milder_only_where_it_may_and_with_room_to_spare() -> None:
    harsh = CapStage.ESSENTIAL
    assert stage_after(harsh, balance(0), may_ease=False) is harsh
    assert stage_after(harsh, balance(0), may_ease=True) is CapStage.FULL
    # 45 fits exactly, and a tenth of what is left is not spare: one milder than it fits is not taken.
    assert stage_after(harsh, balance(45), may_ease=True) is CapStage.SLOWER
    assert stage_after(CapStage.SLOWER, balance(45), may_ease=True) is CapStage.SLOWER


def test_what_waits_goes_with_what_is_over() -> None:
    assert backlog_may_go(CapStage.FULL, balance(44))
    assert not backlog_may_go(CapStage.FULL, balance(44.1))
    assert not backlog_may_go(CapStage.HOURLY, balance(0))


# --- a month --------------------------------------------------------------------------------------

STEPS_A_DAY = 4
DAYS = 30
shares = st.lists(st.floats(0, 4), min_size=DAYS, max_size=DAYS)


@given(
    cap_mb=st.floats(1, 200),
    telemetry=shares,
    essential=st.lists(st.floats(0, 1.5), min_size=DAYS, max_size=DAYS),
    waiting_mb=st.floats(0, 500),
)
def test_a_month_stays_under_its_cap_whatever_it_brings(
    cap_mb: float, telemetry: Sequence[float], essential: Sequence[float], waiting_mb: float
) -> None:
    """Up to four times the telemetry that was foretold, and a backlog of any size.

    The margin: what is sent between two looks, and what always goes beyond what was foretold of it. Nothing here
    can hold an event or a command back: what is essential is counted, and never asked whether it may.
    """
    cap, used, waiting = cap_mb * MB, 0.0, waiting_mb * MB
    essential_day = PER_DAY[CapStage.ESSENTIAL]
    stage, largest, beyond = CapStage.FULL, 0.0, 0.0
    for step in range(DAYS * STEPS_A_DAY):
        day = step // STEPS_A_DAY
        at = Balance(round(cap), round(used), DAYS - step / STEPS_A_DAY, PER_DAY)
        stage = stage_after(stage, at, may_ease=step % STEPS_A_DAY == 0)
        always = essential_day / STEPS_A_DAY * essential[day]
        told = (PER_DAY[stage] - essential_day) / STEPS_A_DAY * telemetry[day]
        if backlog_may_go(stage, at):
            sent = min(waiting, 50_000.0)
            waiting, told = waiting - sent, told + sent
        used += always + told
        largest = max(largest, told)
        beyond += max(0.0, always - essential_day / STEPS_A_DAY)
    foretold = max(cap * (1 - RESERVED_SHARE), essential_day * DAYS)
    assert used <= foretold + largest + beyond + 1


@given(cap_mb=st.floats(1, 200))
def test_a_month_as_foretold_is_lived_in_full_as_far_as_the_cap_reaches(cap_mb: float) -> None:
    stages = list(lived(round(cap_mb * MB), PER_DAY, DAYS))
    assert sum(each.days for each in stages) == pytest.approx(DAYS)
    fits = [s for s in ORDER if PER_DAY[s] * DAYS <= cap_mb * MB * (1 - RESERVED_SHARE)]
    if fits:
        assert stages[-1].used_bytes <= cap_mb * MB
        # The mildest that fits all month long is the harshest that is ever needed.
        assert max(ORDER.index(each.stage) for each in stages) <= ORDER.index(fits[0])
    if CapStage.FULL in fits:
        assert [each.stage for each in stages] == [CapStage.FULL]


def test_each_stage_is_cheaper_than_the_one_before() -> None:
    per_day = bytes_per_day(plan(*(meter(f"M-{n}") for n in range(20))))
    for milder, harsher in pairwise(ORDER):
        assert per_day[milder] > per_day[harsher]
    nothing_told = month_bytes(plan())
    assert per_day[CapStage.ESSENTIAL] * 30 == pytest.approx(nothing_told, rel=0.05)


# --- what is counted ------------------------------------------------------------------------------


def test_messages_handshakes_and_pings_are_counted_as_they_are_foretold() -> None:
    assumed = Assumptions()
    account = LinkAccount(assumed, protocol="5", keepalive_s=60)
    account.connected(0.0, resumed=False)
    account.disconnected(86_400.0)
    assert account.used_bytes * 30 == idle_bytes(0, 60, assumed)
    before = account.used_bytes
    account.connected(100_000.0, resumed=True)
    for second in range(100_000, 100_600, 30):
        account.exchanged("a/topic", b"x" * 100, float(second))
    packet = packet_size(7, 100, property_bytes=1)
    message = packet + assumed.puback_bytes + exchange_link_bytes(packet, assumed)
    told = account.used_bytes - before
    assert told == assumed.resumed_handshake_bytes + 20 * message  # and no ping


def test_an_attempt_nobody_answers_costs_little() -> None:
    account = LinkAccount(Assumptions(), protocol="3.1.1", keepalive_s=60)
    account.failed(answered=False)
    assert account.used_bytes == UNANSWERED_BYTES
    account.failed(answered=True)
    assert account.used_bytes == UNANSWERED_BYTES + Assumptions().handshake_bytes
