"""The first hour judged: each rule's verdict, what was measured, and what to do (pure).

A rule that could not be tried says so as a warning; it never passes for want of evidence.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from openami.gateway.commissioning.hour import HOUR, MeterHour
from openami.gateway.commissioning.meter_rules import Asked, judge_meter
from openami.gateway.driver import PollGroup
from openami.gateway.event_types import EventType
from openami.sip.commissioning import Acceptance, Limits, RuleResult, RuleVerdict

# The sum of many counters, each read to its last place, is known no better than this many of those places.
_STEPS_FOR_A_BALANCE: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkFacts:
    """What became of the hour's messages on their way north."""

    sent: int
    waiting: int
    held: int
    """Of those that wait, the ones whose time was not known."""
    refused: int
    oldest_waiting: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFacts:
    """What is known of the gateway itself when it is judged."""

    uplink: UplinkFacts
    clock: MeterHour
    """What the gateway told of its own clock within the hour."""
    certificate_until: datetime | None
    room_days: float | None


def remaining(began_at: datetime, now: datetime) -> timedelta:
    """Return how long the hour still lasts; nothing once it is over."""
    return max(timedelta(0), began_at + HOUR - now)


def judge(
    hours: Mapping[str, MeterHour],
    *,
    meters: Sequence[str],
    schedule: Mapping[PollGroup, int],
    gateway: GatewayFacts,
    feeder_meter: str | None,
    limits: Limits,
    began_at: datetime,
    now: datetime,
) -> Acceptance:
    """Judge the hour from ``began_at``; ``schedule`` is how many seconds lie between two polls of a group."""
    assert not remaining(began_at, now), "an hour is judged when it is over"
    asked = {
        group: int(HOUR.total_seconds()) // interval_s for group, interval_s in schedule.items()
    }
    results: list[RuleResult] = []
    for serial in meters:
        hour = hours.get(serial, MeterHour())
        results += judge_meter(serial, hour, Asked(asked), limits)
    results += _feeder(hours, meters, feeder_meter, limits)
    results += _gateway(gateway, limits, now)
    return Acceptance(
        began_at=began_at,
        ended_at=began_at + HOUR,
        judged_at=now,
        feeder_meter=feeder_meter,
        limits=limits,
        results=tuple(results),
    )


# --- the feeder ----------------------------------------------------------------------------------


def _feeder(
    hours: Mapping[str, MeterHour], meters: Sequence[str], feeder_meter: str | None, limits: Limits
) -> Iterator[RuleResult]:
    rule = "feeder_balance"
    if feeder_meter is None:
        yield RuleResult(
            rule=rule,
            verdict=RuleVerdict.WARN,
            measured="not tried: no feeder's meter is named",
            remedy="where the feeder has one: `openami gateway commission start --feeder-meter SERIAL`",
        )
        return
    head = hours.get(feeder_meter, MeterHour()).imported
    houses = [hours.get(serial, MeterHour()) for serial in meters if serial != feeder_meter]
    known = [house.imported for house in houses if house.imported is not None]
    if head is None or not known:
        yield RuleResult(
            rule=rule,
            meter=feeder_meter,
            verdict=RuleVerdict.FAIL,
            measured="the feeder's meter told no energy"
            if head is None
            else "no house's meter told its energy",
            remedy="see what is said of those meters first",
        )
        return
    supplied = head.moved
    fed = sum(house.exported.moved for house in houses if house.exported is not None)
    sold = sum(each.moved for each in known) - fed
    told = f"supplied {supplied:.3f} kWh, sold {sold:.3f} kWh to {len(known)} of {len(houses)}"
    uncertain = head.step + sum(each.step for each in known)
    if supplied < _STEPS_FOR_A_BALANCE * uncertain:
        yield RuleResult(
            rule=rule,
            meter=feeder_meter,
            verdict=RuleVerdict.WARN,
            measured=f"not shown: {told}, and the counters' last places come to {uncertain:.3f} kWh",
            remedy="judge an hour with more load, or look at the head-end's balance of the first day",
        )
        return
    loss = (supplied - sold) / supplied
    yield RuleResult(
        rule=rule,
        meter=feeder_meter,
        verdict=_loss_verdict(loss, len(known) == len(houses), limits),
        measured=f"{told}: {loss:+.1%} not accounted for",
        remedy=""
        if limits.loss_share_min <= loss <= limits.loss_share_warn
        else _loss_remedy(loss),
    )


def _loss_verdict(loss: float, whole: bool, limits: Limits) -> RuleVerdict:
    if loss < limits.loss_share_min:
        return RuleVerdict.FAIL  # a house not heard would only make it worse
    if not whole:
        return RuleVerdict.WARN  # what is missing may be theirs
    if loss > limits.loss_share_fail:
        return RuleVerdict.FAIL
    return RuleVerdict.WARN if loss > limits.loss_share_warn else RuleVerdict.PASS


def _loss_remedy(loss: float) -> str:
    if loss < 0:
        return (
            "more is sold than supplied: is the feeder's meter wired behind a house, or are its transformer's "
            "ratios too small?"
        )
    return (
        "is a house connected before its meter, a phase not metered, a transformer's ratio wrong, or a meter "
        "not in the configuration?"
    )


# --- the gateway ---------------------------------------------------------------------------------


def _gateway(gateway: GatewayFacts, limits: Limits, now: datetime) -> Iterator[RuleResult]:
    yield _clock(gateway)
    yield _uplink(gateway.uplink, limits, now)
    yield _certificate(gateway.certificate_until, limits, now)
    yield _room(gateway.room_days, limits)


def _clock(gateway: GatewayFacts) -> RuleResult:
    rule, held = "gateway_clock", gateway.uplink.held
    lost = gateway.clock.clock_told[EventType.CLOCK_INVALID]
    steps = gateway.clock.clock_told[EventType.CLOCK_ADJUSTED]
    if held or lost:
        return RuleResult(
            rule=rule,
            verdict=RuleVerdict.FAIL,
            measured=f"not trusted: lost {lost} times, {held} messages wait for their time",
            remedy='give it a time source (NTP), or a battery-backed clock and clock = "rtc"',
        )
    if steps:
        return RuleResult(
            rule=rule,
            verdict=RuleVerdict.WARN,
            measured=f"trusted, and set {steps} times within the hour",
            remedy="judge another hour, now that it is right",
        )
    return RuleResult(rule=rule, verdict=RuleVerdict.PASS, measured="trusted throughout")


def _uplink(uplink: UplinkFacts, limits: Limits, now: datetime) -> RuleResult:
    told = f"{uplink.sent} of the hour's messages acknowledged, {uplink.waiting} wait"
    verdict, remedy = RuleVerdict.PASS, ""
    waited_s = 0.0
    if uplink.oldest_waiting is not None:
        waited_s = (now - uplink.oldest_waiting).total_seconds()
        told += f", the oldest measured {waited_s:.0f} s ago"
    if uplink.refused:
        verdict = RuleVerdict.FAIL
        told += f"; {uplink.refused} refused by the broker"
        remedy = "the broker's access list does not let this gateway publish: `openami headend broker-config`"
    elif not uplink.sent:
        verdict = RuleVerdict.FAIL
        remedy = "the gateway's page says what the uplink complains of"
    elif waited_s > limits.unsent_s_warn:
        verdict = RuleVerdict.WARN
        remedy = "is the link slow, or interrupted? What waits is not lost"
    return RuleResult(rule="uplink", verdict=verdict, measured=told, remedy=remedy)


def _certificate(until: datetime | None, limits: Limits, now: datetime) -> RuleResult:
    rule = "certificate"
    if until is None:
        return RuleResult(
            rule=rule,
            verdict=RuleVerdict.WARN,
            measured="none: the broker knows this gateway by a password, or not at all",
            remedy="enrol it: `openami gateway enroll`",
        )
    left = until - now
    told = f"valid until {until:%Y-%m-%d}"
    if left <= timedelta(0):
        return RuleResult(
            rule=rule, verdict=RuleVerdict.FAIL, measured=told, remedy="enrol the gateway anew"
        )
    if left < timedelta(days=limits.certificate_days_warn):
        return RuleResult(
            rule=rule,
            verdict=RuleVerdict.WARN,
            measured=told,
            remedy="it renews itself where [enrolment] names the server: does it reach it?",
        )
    return RuleResult(rule=rule, verdict=RuleVerdict.PASS, measured=told)


def _room(days: float | None, limits: Limits) -> RuleResult:
    rule = "disk"
    if days is None:
        return RuleResult(
            rule=rule,
            verdict=RuleVerdict.WARN,
            measured="not known yet how long the outbox lasts without a broker",
            remedy="judge again when an hour of readings is stored",
        )
    told = f"lasts {days:.1f} days without a broker"
    if days >= limits.room_days_warn:
        return RuleResult(rule=rule, verdict=RuleVerdict.PASS, measured=told)
    return RuleResult(
        rule=rule,
        verdict=RuleVerdict.FAIL if days < limits.room_days_fail else RuleVerdict.WARN,
        measured=told,
        remedy="a larger disk, a greater outbox.bytes_max, or fewer polls (schedule.fast_s)",
    )
