"""Missing readings: which hours of which meter have fewer readings than its interval asks for, and which numbers
of a gateway's envelopes were not seen (pure).

It says what the kit did not see by then. A gateway that holds something back for later has not lost it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import msgspec

from openami.conformance.traffic import GatewayTraffic, MeterTraffic, Traffic, usual_interval_s
from openami.profile import utc_text

# Two days by the hour; a table that is longer is a graph's work. The sums count them all.
HOURS_LISTED_MAX: Final = 48
# As many as a page of paper has lines; the sums count them all.
GAPS_LISTED_MAX: Final = 40

# An interval of 60 s that is 61 s in truth loses a reading an hour, and nothing is wrong with it.
_TOLERATED_ONE_IN = 20

_HOUR_S = 3600
_MINUTE_S = 60


class MissingHour(msgspec.Struct, frozen=True, rename="camel"):
    """An hour, by UTC, with fewer readings than expected; ``told``: the gateway said the meter did not answer."""

    hour: str
    expected: int
    came: int
    told: bool


class MeterMissing(msgspec.Struct, frozen=True, rename="camel"):
    """One meter. ``interval_s`` is the commonest spacing of its own readings, None where too few came."""

    gateway: str
    meter: str
    interval_s: int | None
    expected: int
    came: int
    hours: tuple[MissingHour, ...]
    hours_left_out: int
    outside: int


class SeqMissing(msgspec.Struct, frozen=True, rename="camel"):
    """Numbers that were not seen, and the measured times of their neighbours."""

    first: int
    last: int
    after: str
    before: str


class GatewayMissing(msgspec.Struct, frozen=True, rename="camel"):
    """One gateway; ``numbered`` tells whether its envelopes have a ``seq`` at all."""

    gateway: str
    numbered: bool
    missing: int
    gaps: tuple[SeqMissing, ...]
    gaps_left_out: int


class MissingSheet(msgspec.Struct, frozen=True, rename="camel"):
    """What was not seen, by meter and hour and by gateway and number."""

    meters: tuple[MeterMissing, ...]
    gateways: tuple[GatewayMissing, ...]


def missing_sheet(traffic: Traffic) -> MissingSheet:
    """Return what did not come, as far as the traffic itself shows it."""
    meters = sorted(traffic.meters.values(), key=lambda each: (each.gateway, each.meter))
    return MissingSheet(
        meters=tuple(
            _meter(meter, traffic.gateways[meter.gateway]) for meter in meters if meter.moments
        ),
        gateways=tuple(_gateway(each) for _, each in sorted(traffic.gateways.items())),
    )


@dataclass(slots=True)
class _Tally:
    hour: int
    expected: int
    came: int


def _meter(meter: MeterTraffic, gateway: GatewayTraffic) -> MeterMissing:
    interval_s = usual_interval_s(meter.spacings)
    tallies: list[_Tally] = []
    if interval_s is not None and meter.first_ts is not None and meter.last_ts is not None:
        # A meter that falls silent is missed for as long as its neighbours are heard.
        until = max(meter.last_ts, gateway.last_ts or meter.last_ts)
        tallies = [
            _Tally(
                hour,
                _expected(hour, meter.first_ts, until, interval_s),
                meter.minutes.get(hour, 0).bit_count(),
            )
            for hour in _hours(meter, until)
        ]
        _lend(tallies)
        _lend(tallies[::-1])
    hours = [
        MissingHour(_text(each.hour), each.expected, each.came, each.hour in meter.lost_hours)
        for each in tallies
        if each.expected - each.came > each.expected // _TOLERATED_ONE_IN
    ]
    return MeterMissing(
        gateway=meter.gateway,
        meter=meter.meter,
        interval_s=interval_s,
        expected=sum(each.expected for each in tallies),
        came=sum(min(each.came, each.expected) for each in tallies),
        hours=tuple(hours[:HOURS_LISTED_MAX]),
        hours_left_out=max(0, len(hours) - HOURS_LISTED_MAX),
        outside=meter.outside,
    )


def _lend(tallies: list[_Tally]) -> None:
    """Let an hour's surplus fill the next one's one want: who reads at 13:00 also reads at 12:59:59."""
    for this, following in pairwise(tallies):
        if this.came > this.expected and following.came == following.expected - 1:
            this.came -= 1
            following.came += 1


def _hours(meter: MeterTraffic, until: datetime) -> range:
    """Return the hours that are still counted: what was forgotten must not look as if it had not come."""
    last = int(until.timestamp()) // _HOUR_S
    return range(min(meter.minutes, default=last), last + 1)


def _expected(hour: int, first: datetime, until: datetime, interval_s: int) -> int:
    """Return how many readings an hour should have, of the part of it that was watched.

    Faster than once a minute is counted by the minute. The last interval is not over, and not asked for.
    """
    step_s = max(interval_s, _MINUTE_S)
    first_s, until_s = int(first.timestamp()), int(until.timestamp())
    begin, end = hour * _HOUR_S, (hour + 1) * _HOUR_S
    # Readings stand at first, first + step, …; those of this hour and before the one still to come.
    last_s = min(end - 1, until_s - step_s) if until_s > first_s else first_s
    if last_s < max(begin, first_s):
        return 0
    before = (max(begin, first_s) - 1 - first_s) // step_s
    return (last_s - first_s) // step_s - before


def _gateway(gateway: GatewayTraffic) -> GatewayMissing:
    gaps = sorted(gateway.gaps, key=lambda each: each.first)
    return GatewayMissing(
        gateway=gateway.name,
        numbered=gateway.last_seq is not None,
        missing=sum(gap.last - gap.first + 1 for gap in gaps),
        gaps=tuple(
            SeqMissing(gap.first, gap.last, utc_text(gap.after), utc_text(gap.before))
            for gap in gaps[:GAPS_LISTED_MAX]
        ),
        gaps_left_out=max(0, len(gaps) - GAPS_LISTED_MAX) + gateway.gaps_left_out,
    )


def _text(hour: int) -> str:
    return utc_text(datetime.fromtimestamp(0, UTC) + timedelta(hours=hour))
