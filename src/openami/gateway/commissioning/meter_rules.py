"""The rules of the first hour that are about one meter (pure)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from openami.gateway.commissioning.hour import EnergySpan, MeterHour
from openami.gateway.driver import PollGroup
from openami.sip.commissioning import Limits, RuleResult, RuleVerdict

_W_PER_KW: Final = 1000.0
_S_PER_HOUR: Final = 3600.0
# Below this mean power nothing is drawn: a meter's own zero is not exact.
_IDLE_KW: Final = 0.002
# An energy is compared with its power once it is this many of its counter's last places; less could be rounding.
_STEPS_TO_COMPARE: Final = 4.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How many polls of each group an hour has."""

    polls: Mapping[PollGroup, int]

    def of(self, hour: MeterHour) -> tuple[PollGroup, int]:
        """Return the group a meter is counted by: the most frequent it has registers of."""
        for group in (PollGroup.FAST, PollGroup.BILLING):
            if hour.answered(group):
                return group, self.polls[group]
        return PollGroup.FAST, self.polls[PollGroup.FAST]


def judge_meter(serial: str, hour: MeterHour, asked: Asked, limits: Limits) -> Iterator[RuleResult]:
    """Yield the rules' results for one meter; of one that never answered only that."""
    result = partial(RuleResult, meter=serial)
    group, wanted = asked.of(hour)
    answered = hour.answered(group)
    share = min(1.0, answered / wanted)
    yield result(
        rule="read",
        verdict=_banded(share, limits.read_share_pass, limits.read_share_warn),
        measured=f"{answered} of {wanted} polls answered ({share:.0%})",
        remedy=""
        if share >= limits.read_share_pass
        else "termination and shield of the line, its length and speed, or another meter's address",
    )
    yield result(
        rule="clash",
        verdict=RuleVerdict.FAIL if hour.clashes else RuleVerdict.PASS,
        measured=f"another meter answered {hour.clashes} times" if hour.clashes else "none",
        remedy="two meters share an address, or the meter was exchanged: give it an address of its own"
        if hour.clashes
        else "",
    )
    if not hour.readings:
        return
    yield _plausible(serial, hour)
    if hour.clock_drift_s is not None:
        yield _clock(serial, hour.clock_drift_s, limits)
    yield _voltage(serial, hour, limits)
    yield _direction(serial, hour, limits)


def _banded(share: float, least_pass: float, least_warn: float) -> RuleVerdict:
    if share >= least_pass:
        return RuleVerdict.PASS
    return RuleVerdict.WARN if share >= least_warn else RuleVerdict.FAIL


def _plausible(serial: str, hour: MeterHour) -> RuleResult:
    doubts = ", ".join(f"{count} × {kind.value}" for kind, count in sorted(hour.doubts.items()))
    bad = hour.suspect or hour.doubts
    return RuleResult(
        rule="plausible",
        meter=serial,
        verdict=RuleVerdict.FAIL if bad else RuleVerdict.PASS,
        measured=f"{hour.suspect} of {hour.readings} values suspect"
        + (f" ({doubts})" if doubts else ""),
        remedy="is it the right map? `openami doctor` shows the bytes in all four orders"
        if bad
        else "",
    )


def _clock(serial: str, drift_s: float, limits: Limits) -> RuleResult:
    off_s = abs(drift_s)
    verdict = RuleVerdict.PASS
    if off_s > limits.clock_drift_s_fail:
        verdict = RuleVerdict.FAIL
    elif off_s > limits.clock_drift_s_warn:
        verdict = RuleVerdict.WARN
    return RuleResult(
        rule="meter_clock",
        meter=serial,
        verdict=verdict,
        measured=f"its clock is {off_s:.0f} s {'ahead' if drift_s > 0 else 'behind'}",
        remedy="" if verdict is RuleVerdict.PASS else "set the meter's clock, and its time zone",
    )


def _voltage(serial: str, hour: MeterHour, limits: Limits) -> RuleResult:
    if hour.voltage is None:
        return RuleResult(
            rule="voltage",
            meter=serial,
            verdict=RuleVerdict.WARN,
            measured="not tried: it told no voltage",
            remedy="does its map have one?",
        )
    low, high = hour.voltage.low, hour.voltage.high
    furthest = max(abs(low - limits.nominal_v), abs(high - limits.nominal_v)) / limits.nominal_v
    verdict = RuleVerdict.PASS
    if furthest > limits.voltage_share_fail:
        verdict = RuleVerdict.FAIL
    elif furthest > limits.voltage_share_warn:
        verdict = RuleVerdict.WARN
    return RuleResult(
        rule="voltage",
        meter=serial,
        verdict=verdict,
        measured=f"{low:.1f} to {high:.1f} V, nominal {limits.nominal_v:g} V",
        remedy=""
        if verdict is RuleVerdict.PASS
        else "neutral and terminals at the meter, the feeder's cable and load, the transformer's tap",
    )


def _direction(serial: str, hour: MeterHour, limits: Limits) -> RuleResult:
    """Energy has to go where the power goes, and about as far."""
    result = partial(RuleResult, rule="energy_direction", meter=serial)
    mean_kw, counter = hour.mean_kw(), hour.imported
    if mean_kw is None or counter is None:
        return result(
            verdict=RuleVerdict.WARN,
            measured="not tried: it told no power"
            if mean_kw is None
            else "not tried: it told no energy",
            remedy="does its map have both?",
        )
    backwards = mean_kw < -_IDLE_KW
    if backwards and hour.exported is not None:
        counter = hour.exported
    hours = (counter.last_at - counter.first_at).total_seconds() / _S_PER_HOUR
    expected = abs(mean_kw) * hours
    told = (
        f"mean power {mean_kw * _W_PER_KW:.0f} W, so {expected:.3f} kWh; its "
        f"{'export' if counter is hour.exported else 'import'} counter went on by {counter.moved:.3f} kWh"
    )
    if backwards and counter is not hour.exported:
        return result(
            verdict=RuleVerdict.FAIL,
            measured=told + ", and it has no export counter",
            remedy="power flows backwards: phase and neutral, or the transformer, are the wrong way round",
        )
    if expected < _STEPS_TO_COMPARE * counter.step:
        return _idle(serial, counter, told)
    if abs(counter.moved - expected) <= limits.energy_share * expected + 2 * counter.step:
        if backwards:
            return result(
                verdict=RuleVerdict.WARN,
                measured=told,
                remedy="it feeds in: has the house a generator? If not, the meter is wired backwards",
            )
        return result(verdict=RuleVerdict.PASS, measured=told)
    return result(
        verdict=RuleVerdict.FAIL,
        measured=told,
        remedy="wrong scale or word order in its map, a transformer's ratio, or wired the wrong way round; a meter "
        "that counts whole kWh needs an hour with more load",
    )


def _idle(serial: str, counter: EnergySpan, told: str) -> RuleResult:
    """Too little was drawn to compare; a counter that runs all the same is wrong."""
    runs = abs(counter.moved) > 2 * _STEPS_TO_COMPARE * counter.step
    return RuleResult(
        rule="energy_direction",
        meter=serial,
        verdict=RuleVerdict.FAIL if runs else RuleVerdict.WARN,
        measured=told if runs else f"not shown: {told}",
        remedy="its counter runs without power: is it the right map?"
        if runs
        else "the house drew too little: switch a load on for some minutes and judge another hour",
    )
