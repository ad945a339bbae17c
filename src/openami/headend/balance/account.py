"""Supplied minus sold as a range: what is known, what is silent, what is estimated. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

from openami.headend.balance import (
    Balance,
    Estimated,
    HourBalance,
    PlaceHours,
    PoleBalance,
    Range,
    Silence,
    Unheard,
)
from openami.headend.balance.following import Attribution, attribute
from openami.headend.balance.reasons import reasons_of
from openami.headend.balance.shapes import HOURS_A_DAY
from openami.headend.consumption import Known

# A silent meter is taken to have counted between nothing and what it counts in its twenty-first best hour of
# these at that time of day: a bound that is passed once in twenty hours cannot be passed for days.
PLAUSIBLE_QUANTILE: Final = 0.95
# Of a meter nobody ever heard: between nothing and what all but the tenth greatest customers count.
_NEVER_QUANTILE: Final = 0.9


def balance_of(
    feeder_id: str,
    edges: Sequence[datetime],
    period: int,
    *,
    heads: Sequence[PlaceHours],
    poles: Sequence[PlaceHours] = (),
    customers: Sequence[PlaceHours],
) -> Balance:
    """Return the balance of a period.

    ``edges``: where the hours begin, history and period together, and where the last one ends; the first begins a
    local day. ``period``: the number of the hour the period begins with.
    """
    supply = _supply(heads, len(edges) - 1)
    counted = [n for n in range(period, len(supply)) if supply[n] is not None]
    supplied = sum(supply[n] or 0 for n in counted)
    may = _may_be(customers)
    sold_by = [
        _sold(place, counted, at_most) for place, at_most in zip(customers, may, strict=True)
    ]
    sold = sum(sold_by, Range(0, 0))
    unheard = tuple(
        each
        for place, at_most in zip(customers, may, strict=True)
        if (each := _unheard(place, counted, at_most)) is not None
    )
    found = _attribution(supply, customers, heads)
    balance = Balance(
        feeder_id=feeder_id,
        begin=edges[period],
        end=edges[-1],
        supplied_wh=supplied,
        sold=sold,
        unaccounted=Range(supplied - sold.high, supplied - sold.low),
        meters=len(customers),
        heard=len(customers) - len(unheard),
        head_hours=len(counted),
        hours=tuple(_strip(edges, period, supply, customers)),
        unheard=tuple(sorted(unheard, key=lambda each: -each.may_be.high)),
        estimated=tuple(_estimated(customers, counted)),
        poles=tuple(_poles(poles, customers, may, range(period, len(supply)))),
        reasons=(),
        refusal=found.refusal,
    )
    return reasons_of(balance, customers, found, [supply[n] or 0 for n in counted], counted)


def _supply(heads: Sequence[PlaceHours], hours: int) -> list[int | None]:
    """Return what all head meters counted; None in an hour in which one of them is not known."""
    if not heads:
        return [None] * hours
    return [
        None
        if any(
            head.wh[n] is None or head.known[n] in (Known.AT_LEAST, Known.NOTHING) for head in heads
        )
        else sum(head.wh[n] or 0 for head in heads)
        for n in range(hours)
    ]


def _may_be(customers: Sequence[PlaceHours]) -> list[list[int]]:
    """Return for each customer the most it plausibly counts, by the hour of the day."""
    told = [_by_hour_of_day(place) for place in customers]
    means = sorted(sum(map(sum, each)) / max(1, sum(map(len, each))) for each in told if any(each))
    stranger = round(means[int(len(means) * _NEVER_QUANTILE)]) if means else 0
    return [
        [_quantile(hours, PLAUSIBLE_QUANTILE) if hours else stranger for hours in each]
        for each in told
    ]


def _by_hour_of_day(place: PlaceHours) -> list[list[int]]:
    if max(place.known, default=Known.MEASURED) <= Known.SPREAD and None not in place.wh:
        return [
            list(cast(Sequence[int], place.wh[hour::HOURS_A_DAY])) for hour in range(HOURS_A_DAY)
        ]
    hours: list[list[int]] = [[] for _ in range(HOURS_A_DAY)]
    for n, (wh, known) in enumerate(zip(place.wh, place.known, strict=True)):
        if wh is not None and known <= Known.SPREAD:
            hours[n % HOURS_A_DAY].append(wh)
    return hours


def _quantile(values: Sequence[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _sold(place: PlaceHours, counted: Sequence[int], may: Sequence[int]) -> Range:
    if max(place.known, default=Known.MEASURED) < Known.AT_LEAST and None not in place.wh:
        sold = sum(cast(int, place.wh[n]) for n in counted)
        return Range(sold, sold)
    low = high = 0
    for n in counted:
        wh = place.wh[n]
        low += wh or 0
        is_open = wh is None or place.known[n] >= Known.AT_LEAST
        high += max(wh or 0, may[n % HOURS_A_DAY]) if is_open else wh or 0
    return Range(low, high)


def _unheard(place: PlaceHours, counted: Sequence[int], may: Sequence[int]) -> Unheard | None:
    if None not in place.wh or not (missing := [n for n in counted if place.wh[n] is None]):
        return None
    never = all(wh is None for wh in place.wh)
    why = Silence.LATE if place.late else Silence.NEVER if never else Silence.NOT_REPORTED
    most = sum(may[n % HOURS_A_DAY] for n in missing)
    return Unheard(place.serial, place.name, why, len(missing), Range(0, most), place.last_at)


def _estimated(customers: Sequence[PlaceHours], counted: Sequence[int]) -> list[Estimated]:
    found = []
    for place in customers:
        if not place.breaks and not any(place.known):
            continue
        sums = {Known.SPREAD: 0, Known.AT_LEAST: 0}
        for n in counted:
            if place.known[n] in sums:
                sums[place.known[n]] += place.wh[n] or 0
        if any(sums.values()) or place.breaks:
            found.append(
                Estimated(
                    place.serial, place.name, sums[Known.SPREAD], sums[Known.AT_LEAST], place.breaks
                )
            )
    return found


def _strip(
    edges: Sequence[datetime],
    period: int,
    supply: Sequence[int | None],
    customers: Sequence[PlaceHours],
) -> list[HourBalance]:
    told_by_hour = zip(*(place.wh[period:] for place in customers), strict=True)
    told = list(told_by_hour) or [()] * (len(supply) - period)
    return [
        HourBalance(begin, supplied, sum(filter(None, each)), each.count(None))
        for begin, supplied, each in zip(edges[period:-1], supply[period:], told, strict=True)
    ]


def _poles(
    poles: Sequence[PlaceHours],
    customers: Sequence[PlaceHours],
    may: Sequence[Sequence[int]],
    period: range,
) -> list[PoleBalance]:
    found = []
    for pole in poles:
        counted = [n for n in period if pole.wh[n] is not None and pole.known[n] <= Known.SPREAD]
        sold = sum(
            (
                _sold(place, counted, at_most)
                for place, at_most in zip(customers, may, strict=True)
                if place.pole_id == pole.pole_id
            ),
            Range(0, 0),
        )
        supplied = sum(pole.wh[n] or 0 for n in counted)
        found.append(PoleBalance(pole.pole_id or "", supplied, sold, len(counted)))
    return found


def _attribution(
    supply: Sequence[int | None], customers: Sequence[PlaceHours], heads: Sequence[PlaceHours]
) -> Attribution:
    if not heads:
        return Attribution((), 0, "no_head")
    # An hour shared out over a gap has the gap's mean, not the hour's own ups and downs.
    hours = [
        [
            wh if known is Known.MEASURED else None
            for wh, known in zip(place.wh, place.known, strict=True)
        ]
        if any(place.known)
        else place.wh
        for place in customers
    ]
    return attribute(supply, hours, [place.phase for place in customers])
