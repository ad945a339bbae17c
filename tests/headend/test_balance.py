"""The account: a range with who was heard, estimates named, poles, reasons, and no word without a head meter."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from openami.headend.balance import Balance, PlaceHours, Range, ReasonKind, Silence
from openami.headend.balance.account import balance_of
from openami.headend.consumption import Known

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = 16
N = DAYS * 24
EDGES = [BEGIN + n * HOUR for n in range(N + 1)]
PERIOD = N - 48


def place(serial: str, hourly: int, *, pole: str | None = None, **changes: object) -> PlaceHours:
    made = PlaceHours(
        serials=(serial,), wh=(hourly,) * N, known=(Known.MEASURED,) * N, pole_id=pole, phase="A"
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def silent(each: PlaceHours, hours: range) -> PlaceHours:
    wh = tuple(None if n in hours else told for n, told in enumerate(each.wh))
    known = tuple(Known.NOTHING if n in hours else told for n, told in enumerate(each.known))
    return replace(each, wh=wh, known=known)


def balanced(
    *customers: PlaceHours, head: int | None = 1000, poles: tuple[PlaceHours, ...] = ()
) -> Balance:
    heads = [] if head is None else [place("H", head)]
    return balance_of("f", EDGES, PERIOD, heads=heads, poles=poles, customers=customers)


def kinds(found: Balance) -> list[ReasonKind]:
    return [reason.kind for reason in found.reasons]


def test_all_heard_is_one_number() -> None:
    found = balanced(place("a", 400), place("b", 550))
    assert found.supplied_wh == 48 * 1000
    assert found.sold == Range(48 * 950, 48 * 950)
    assert found.unaccounted == Range(48 * 50, 48 * 50)
    assert found.unaccounted_percent == (5.0, 5.0)
    assert (found.heard, found.meters) == (2, 2)
    assert len(found.hours) == 48


def test_a_silent_meter_makes_a_range_and_is_named() -> None:
    found = balanced(place("a", 400), silent(place("b", 550), range(N - 10, N)))
    assert found.unaccounted == Range(48 * 50, 48 * 50 + 10 * 550)
    [quiet] = found.unheard
    assert (quiet.serial, quiet.hours, quiet.why) == ("b", 10, Silence.NOT_REPORTED)
    assert quiet.may_be == Range(0, 5500)
    assert found.heard == 1
    assert ReasonKind.NOT_REPORTED in kinds(found)
    assert [hour.unknown for hour in found.hours] == [0] * 38 + [1] * 10


def test_a_late_meter_is_late_and_not_silent() -> None:
    late = replace(silent(place("b", 550), range(N - 10, N)), late=True)
    found = balanced(place("a", 400), late)
    assert found.unheard[0].why is Silence.LATE
    assert kinds(found)[0] is ReasonKind.LATE


def test_a_meter_nobody_ever_heard_may_be_anything_a_customer_is() -> None:
    found = balanced(place("a", 400), silent(place("b", 1), range(N)))
    [quiet] = found.unheard
    assert (quiet.why, quiet.may_be) == (Silence.NEVER, Range(0, 48 * 400))


def test_hours_without_the_head_meter_do_not_count() -> None:
    head = silent(place("H", 1000), range(N - 24, N))
    found = balance_of("f", EDGES, PERIOD, heads=[head], customers=[place("a", 900)])
    assert (found.head_hours, found.supplied_wh) == (24, 24_000)
    assert found.unaccounted == Range(2400, 2400)
    assert [hour.supplied_wh for hour in found.hours[-24:]] == [None] * 24


def test_without_a_head_meter_nothing_is_missing_and_nobody_named() -> None:
    found = balanced(place("a", 900), head=None)
    assert (found.refusal, found.supplied_wh, found.unaccounted_percent) == ("no_head", 0, None)
    assert not found.suspicions


def test_a_lower_bound_opens_the_range() -> None:
    known = (Known.MEASURED,) * (N - 1) + (Known.AT_LEAST,)
    lower = place("a", 900, known=known, wh=(900,) * (N - 1) + (100,))
    found = balanced(lower)
    assert found.sold == Range(47 * 900 + 100, 48 * 900)
    assert [(each.serial, each.at_least_wh) for each in found.estimated] == [("a", 100)]


def test_spread_energy_is_named_as_an_estimate_but_is_no_range() -> None:
    known = (Known.MEASURED,) * (N - 4) + (Known.SPREAD,) * 4
    found = balanced(place("a", 900, known=known))
    assert found.unaccounted.low == found.unaccounted.high
    assert found.estimated[0].spread_wh == 3600


def test_more_sold_than_supplied_is_a_wrong_head_meter_or_list() -> None:
    found = balanced(place("a", 1100))
    assert found.unaccounted == Range(-4800, -4800)
    assert ReasonKind.HEAD_WRONG in kinds(found)


def test_a_pole_is_balanced_by_its_own_meter() -> None:
    found = balanced(
        place("a", 400, pole="p1"), place("b", 550, pole="p2"), poles=(place("P", 470, pole="p1"),)
    )
    [pole] = found.poles
    assert (pole.pole_id, pole.supplied_wh, pole.sold) == (
        "p1", 48 * 470, Range(48 * 400, 48 * 400),
    )  # fmt: skip


def test_technical_losses_rise_with_the_square() -> None:
    loads = [500 + 37 * (n % 24) for n in range(N)]
    head = place("H", 0, wh=tuple(load + load * load // 20_000 for load in loads))
    found = balance_of("f", EDGES, 0, heads=[head], customers=[place("a", 0, wh=tuple(loads))])
    technical = next(each for each in found.reasons if each.kind is ReasonKind.TECHNICAL)
    assert technical.wh.low <= found.unaccounted.low <= technical.wh.high + N
    assert ReasonKind.UNMETERED not in kinds(found)


def test_a_load_of_nobodys_meter_names_nobody() -> None:
    loads = [500 + 37 * (n % 24) for n in range(N)]
    head = place("H", 0, wh=tuple(load + 200 * (n // 24 % 2) for n, load in enumerate(loads)))
    found = balance_of("f", EDGES, 0, heads=[head], customers=[place("a", 0, wh=tuple(loads))])
    assert ReasonKind.UNMETERED in kinds(found)
    assert not found.suspicions


def test_a_stuck_meter_is_worth_a_look_and_no_accusation() -> None:
    found = balance_of(
        "f", EDGES, 0, heads=[place("H", 1000)],
        customers=[place("a", 900), place("b", 0, flows=True), place("c", 20, bypassed_a=3.2)],
    )  # fmt: skip
    stuck = [each for each in found.reasons if each.kind is ReasonKind.STUCK]
    assert [each.serials for each in stuck] == [("b",), ("c",)]
    assert not found.suspicions


@pytest.mark.parametrize("days", [3, 13])
def test_too_few_days_name_nobody(days: int) -> None:
    edges = EDGES[: days * 24 + 1]
    known = (Known.MEASURED,) * (days * 24)
    found = balance_of(
        "f",
        edges,
        0,
        heads=[place("H", 0, wh=(900,) * len(known), known=known)],
        customers=[place("a", 0, wh=(900,) * len(known), known=known)],
    )
    assert found.refusal == "too_short"
