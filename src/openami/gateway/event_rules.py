"""From a meter's answers to events, where no log of the meter tells them (pure, decision 0057).

What lasts is judged with a hysteresis and over several answers: only when so many in a row say it does it begin,
and only when so many say the contrary is it over. An answer that does not have a register, or has it with a doubt,
says nothing. What is told of a condition is kept in `Telling`; this module keeps what is between: how many answers
have said the contrary of what is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import msgspec

from openami.gateway.driver import RegisterInfo, RelayPosition
from openami.gateway.event_limits import LOW_CREDIT_KWH, EventLimits, Rule
from openami.gateway.event_types import (
    CREDIT,
    CURRENTS,
    LEAKAGE_AC,
    LEAKAGE_DC,
    MAGNET,
    METER_COVER,
    NEUTRAL_CURRENT,
    POWER_FAILURES,
    RELAY,
    TERMINAL_COVER,
    VOLTAGE_THD,
    VOLTAGES,
    EventType,
)
from openami.gateway.relay_orders import RelayOrder
from openami.gateway.telling import Telling, key_of
from openami.profile import EventState, Obis, Severity, Value

# Safety does not wait for a third answer, and one may be a spike.
LEAKAGE_POLLS: Final = 2
# A threshold of money or of leakage is left by this part of it before it is over: one that is not left is not over.
LEFT_SHARE: Final = 0.1
SILENCE: Final = "silence"
"""The part of `EventType.POWER_FAIL` that silence among answering neighbours says."""

_NET, _IMPORT, _EXPORT = (Obis.parse(text) for text in ("16.7.0", "1.7.0", "2.7.0"))
_COUNTERS: Final[Sequence[tuple[EventType, Sequence[Obis]]]] = (
    (EventType.POWER_FAIL, POWER_FAILURES),
    (EventType.METER_COVER_OPEN, METER_COVER),
    (EventType.TERMINAL_COVER_OPEN, TERMINAL_COVER),
    (EventType.MAGNETIC_FIELD, MAGNET),
)
_LASTING: Final[Mapping[EventType, Rule]] = {
    EventType.POWER_FAIL: Rule.POWER_FAIL,
    EventType.OVER_VOLTAGE: Rule.OVER_VOLTAGE,
    EventType.UNDER_VOLTAGE: Rule.UNDER_VOLTAGE,
    EventType.PHASE_MISSING: Rule.PHASE_MISSING,
    EventType.REVERSE_CURRENT: Rule.REVERSE_CURRENT,
    EventType.NEUTRAL_DISTURBANCE: Rule.NEUTRAL,
    EventType.THD_OVER_LIMIT: Rule.THD,
    EventType.RELAY_FAILURE: Rule.RELAY,
    EventType.LOW_CREDIT: Rule.CREDIT,
    EventType.CREDIT_EXHAUSTED: Rule.CREDIT,
    EventType.LEAKAGE_ALARM: Rule.LEAKAGE,
}
_CONNECTED, _DISCONNECTED, _READY = RelayPosition


class RuleMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the rules remember of one meter.

    ``contrary`` counts, by key, the answers in a row that say the contrary of what is told. ``settled`` is the
    relay order that has been seen carried out: a change after it is another's.
    """

    contrary: Mapping[str, int] = {}
    settled: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer as the rules see it: values that were vouched for, and those of before."""

    values: Mapping[Obis, Value]
    before: Mapping[Obis, Value]
    infos: Mapping[Obis, RegisterInfo]
    limits: EventLimits
    order: RelayOrder | None = None

    def number(self, obis: Obis) -> float | None:
        """Return a register's number, where the answer has one."""
        return _number(self.values.get(obis))

    def all_numbers(self, codes: Sequence[Obis]) -> list[tuple[Obis, float]]:
        """Return those registers the meter has of these; empty unless the answer has all of them.

        A meter has what it has told: a map, or a SunSpec model, may name three phases to a meter of one.
        """
        there = [
            obis
            for obis in codes
            if obis in self.infos and (obis in self.before or obis in self.values)
        ]
        found = [(obis, value) for obis in there if (value := self.number(obis)) is not None]
        return found if len(found) == len(there) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """An event that an answer gives rise to; what registers go with it is its type's."""

    type: EventType
    state: EventState
    detail: str
    part: str = ""
    severity: Severity | None = None


class Level(Enum):
    """Where a value stands between the threshold it crosses and the one it has to come back over."""

    HOLDS = auto()
    BETWEEN = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one rule makes of one answer."""

    type: EventType
    level: Level
    polls: int
    detail: str


def derive(
    memory: RuleMemory, telling: Telling, answer: Answer
) -> tuple[RuleMemory, list[Derived]]:
    """Return the events that an answer gives rise to, given what has been told."""
    contrary = dict(memory.contrary)
    found: list[Derived] = []
    for look in _looks(memory, answer):
        key = key_of(look.type)
        state, contrary[key] = step(contrary.get(key, 0), look.level, look.polls, key, telling)
        if state is not None:
            found.append(Derived(type=look.type, state=state, detail=look.detail))
    found += _counted(answer)
    found += _moved(memory, telling, answer)
    found += _turned_off(telling, answer.limits)
    after = RuleMemory(
        contrary={key: count for key, count in contrary.items() if count},
        settled=_settled(memory, answer),
    )
    return after, found


def step(
    contrary: int, level: Level, polls: int, key: str, telling: Telling
) -> tuple[EventState | None, int]:
    """Return what a condition does at one answer, and how many answers now say the contrary of what is told.

    One whose beginning was one too many is offered again with each answer, until there is room for it or it is
    over.
    """
    if key in telling.withheld and level is Level.HOLDS:
        return EventState.RAISED, 0
    begun = key in telling.open or key in telling.withheld
    if level is not (Level.OVER if begun else Level.HOLDS):
        return None, 0
    if contrary + 1 < polls:
        return None, contrary + 1
    return (EventState.CLEARED if begun else EventState.RAISED), 0


def _turned_off(telling: Telling, limits: EventLimits) -> Iterator[Derived]:
    """Yield the end of what a rule had begun to tell that is not followed any more: nothing else would end it."""
    for kind, rule in _LASTING.items():
        followed = limits.on(rule) and not (kind is EventType.REVERSE_CURRENT and limits.exports)
        if not followed and key_of(kind) in telling.open | telling.withheld:
            words = "the gateway does not look at it any more"
            yield Derived(type=kind, state=EventState.CLEARED, detail=words)


# --- what lasts ------------------------------------------------------------------------------------


def _looks(memory: RuleMemory, answer: Answer) -> Iterator[_Look]:
    limits = answer.limits
    if volts := answer.all_numbers(VOLTAGES):
        yield from _voltages(volts, answer)
    if limits.on(Rule.REVERSE_CURRENT) and not limits.exports:
        yield from _reverse(answer)
    if limits.on(Rule.NEUTRAL):
        yield from _neutral(answer)
    if limits.on(Rule.THD) and (thd := answer.all_numbers(VOLTAGE_THD)):
        worst = max(value for _, value in thd)
        yield _Look(
            type=EventType.THD_OVER_LIMIT,
            level=_above(worst, limits.thd_percent, limits.thd_percent * (1 - LEFT_SHARE)),
            polls=limits.polls,
            detail=f"{worst:g} %, the limit is {limits.thd_percent:g} %",
        )
    if limits.on(Rule.CREDIT):
        yield from _credit(answer)
    if limits.on(Rule.LEAKAGE):
        yield from _leakage(answer)
    if limits.on(Rule.RELAY):
        yield from _failure(memory, answer)


def _voltages(volts: Sequence[tuple[Obis, float]], answer: Answer) -> Iterator[_Look]:
    limits, nominal = answer.limits, answer.limits.nominal_v
    percents = [100 * value / nominal for _, value in volts]
    told = ", ".join(f"{value:g} V" for _, value in volts)
    left = limits.hysteresis_percent
    missing, under = limits.missing_percent, limits.under_voltage_percent
    low = [percent for percent in percents if percent >= missing]

    def look(kind: EventType, level: Level, words: str) -> _Look:
        detail = f"{told}; {words}" if level is Level.HOLDS else told
        return _Look(type=kind, level=level, polls=limits.polls, detail=detail)

    if limits.on(Rule.OVER_VOLTAGE):
        over = limits.over_voltage_percent
        level = _above(max(percents), over, over - left)
        words = f"the limit is {over * nominal / 100:g} V"
        yield look(EventType.OVER_VOLTAGE, level, words)
    if limits.on(Rule.UNDER_VOLTAGE):
        # A phase that is dead is missing, and not low; it does not say that the voltage is normal again either.
        level = _above(-min(low), -under, -(under + left)) if low else Level.BETWEEN
        if level is Level.OVER and len(low) < len(percents):
            level = Level.BETWEEN
        words = f"the limit is {under * nominal / 100:g} V"
        yield look(EventType.UNDER_VOLTAGE, level, words)
    dead = len(percents) - len(low)
    if limits.on(Rule.PHASE_MISSING) and len(percents) > 1:
        level = Level.HOLDS if 0 < dead < len(percents) else Level.OVER
        yield look(EventType.PHASE_MISSING, level if low else Level.BETWEEN, f"{dead} missing")
    if limits.on(Rule.POWER_FAIL):
        level = Level.OVER if low else Level.HOLDS
        if not low and _is_open(answer):
            level = Level.BETWEEN  # behind an open contactor there is no voltage, by right
        yield look(EventType.POWER_FAIL, level, "no voltage on any phase")


def _reverse(answer: Answer) -> Iterator[_Look]:
    limit = answer.limits.reverse_kw
    for obis, sign in ((_EXPORT, 1), (_NET, -1), (_IMPORT, -1)):
        if (power := answer.number(obis)) is not None:
            yield _Look(
                type=EventType.REVERSE_CURRENT,
                level=_above(sign * power, limit, limit / 2),
                polls=answer.limits.polls,
                detail=f"{sign * power:g} kW flow back from a customer who only imports",
            )
            return


def _neutral(answer: Answer) -> Iterator[_Look]:
    phase, neutral = answer.number(CURRENTS[0]), answer.number(NEUTRAL_CURRENT)
    three_phases = any(obis in answer.infos for obis in CURRENTS[1:])
    if phase is None or neutral is None or three_phases:
        return  # of three phases the neutral carries the difference, by right
    limits = answer.limits
    limit = max(limits.neutral_a, limits.neutral_percent / 100 * max(phase, neutral))
    yield _Look(
        type=EventType.NEUTRAL_DISTURBANCE,
        level=_above(abs(phase - neutral), limit, limit / 2),
        polls=limits.polls,
        detail=f"{phase:g} A in the phase, {neutral:g} A in the neutral",
    )


def _credit(answer: Answer) -> Iterator[_Look]:
    obis = next((code for code in CREDIT if answer.number(code) is not None), None)
    if obis is None or (credit := answer.number(obis)) is None:
        return
    unit = answer.infos[obis].unit
    low = answer.limits.low_credit
    if low is None and unit == "kWh":
        low = LOW_CREDIT_KWH
    detail = f"{credit:g} {unit}"
    if low is not None:
        yield _Look(
            type=EventType.LOW_CREDIT,
            level=_above(-credit, -low, -low - LEFT_SHARE * abs(low), inclusive=True),
            polls=1,
            detail=detail,
        )
    yield _Look(
        type=EventType.CREDIT_EXHAUSTED,
        level=Level.HOLDS if credit <= 0 else Level.OVER,
        polls=1,
        detail=detail,
    )


def _leakage(answer: Answer) -> Iterator[_Look]:
    limits = answer.limits
    shares = [
        (obis, value, value / limit)
        for codes, limit in (
            (LEAKAGE_AC, limits.leakage_ac_ma),
            (LEAKAGE_DC, limits.leakage_dc_ma),
        )
        for obis, value in answer.all_numbers(codes)
    ]
    if not shares:
        return
    _, worst, share = max(shares, key=lambda each: each[2])
    yield _Look(
        type=EventType.LEAKAGE_ALARM,
        level=_above(share, 1.0, 1.0 - LEFT_SHARE),
        polls=min(LEAKAGE_POLLS, limits.polls),
        detail=f"{worst:g} mA, {share:.0%} of the threshold",
    )


def _failure(memory: RuleMemory, answer: Answer) -> Iterator[_Look]:
    place, order = _position(answer), _pending(memory, answer)
    if place is None:
        return
    _, position = place
    # Only a command that was seen to be given to the meter can fail at it; arming is the customer's to end.
    fails = (
        order is not None
        and not order.recalled
        and order.position is not _READY
        and not _follows(position, order)
    )
    words = f", ordered {order.position}" if order is not None else ""
    yield _Look(
        type=EventType.RELAY_FAILURE,
        level=Level.HOLDS if fails else Level.OVER,
        polls=answer.limits.polls,
        detail=f"the contactor is {position}{words}",
    )


def _above(value: float, limit: float, left: float, *, inclusive: bool = False) -> Level:
    if value > limit or (inclusive and value == limit):
        return Level.HOLDS
    return Level.OVER if value <= left else Level.BETWEEN


# --- what happens ----------------------------------------------------------------------------------


def _counted(answer: Answer) -> Iterator[Derived]:
    """Yield an event for each counter of happenings that has gone on; several of one kind are one."""
    if not answer.limits.on(Rule.COUNTERS):
        return
    for kind, codes in _COUNTERS:
        for obis in codes:
            now, before = answer.number(obis), _number(answer.before.get(obis))
            if now is not None and before is not None and now > before:
                yield Derived(
                    type=kind,
                    state=EventState.INSTANT,
                    detail=f"{now - before:g} times since it was last read: {obis} is {now:g}",
                    # It is over: the supply is back, and nobody has to go.
                    severity=Severity.MINOR if kind is EventType.POWER_FAIL else None,
                )
                break


def _moved(memory: RuleMemory, telling: Telling, answer: Answer) -> Iterator[Derived]:
    """Yield the event of a contactor that stands elsewhere than when it was last read."""
    place = _position(answer)
    if place is None or not answer.limits.on(Rule.RELAY):
        return
    obis, now = place
    before = answer.before.get(obis)
    if before is None or before == now or before not in list(RelayPosition):
        return
    order = _pending(memory, answer)
    if order is not None and _follows(now, order):
        why = "as ordered by a command"
    elif (before, now) == (_READY, _CONNECTED):
        why = "by the button at the meter"
    elif now is _DISCONNECTED and _is_exhausted(telling, answer):
        why = "the credit is exhausted"
    else:
        yield Derived(
            type=EventType.RELAY_UNORDERED,
            state=EventState.INSTANT,
            detail=f"{now}, {before} before; no command of this gateway ordered it",
        )
        return
    kinds = {
        _CONNECTED: EventType.RELAY_CONNECTED,
        _DISCONNECTED: EventType.RELAY_DISCONNECTED,
        _READY: EventType.READY_FOR_RECONNECTION,
    }
    yield Derived(type=kinds[now], state=EventState.INSTANT, detail=why)


def _position(answer: Answer) -> tuple[Obis, RelayPosition] | None:
    for obis in RELAY:
        if (told := answer.values.get(obis)) in list(RelayPosition):
            return obis, RelayPosition(str(told))
    return None


def _is_open(answer: Answer) -> bool:
    """Whether the contactor was open when it was last read."""
    told = [answer.values.get(obis, answer.before.get(obis)) for obis in RELAY]
    return any(position in (_DISCONNECTED, _READY) for position in told)


def _pending(memory: RuleMemory, answer: Answer) -> RelayOrder | None:
    """Return the last order, if it has not been seen carried out before."""
    order = answer.order
    return None if order is None or order.identity == memory.settled else order


def _follows(position: RelayPosition, order: RelayOrder) -> bool:
    """Whether a contactor stands as it was ordered to; a reconnection may only arm it."""
    return position is order.position or (position, order.position) == (_READY, _CONNECTED)


def _settled(memory: RuleMemory, answer: Answer) -> str:
    place, order = _position(answer), answer.order
    if place is not None and order is not None and place[1] is order.position:
        return order.identity
    return memory.settled


def _is_exhausted(telling: Telling, answer: Answer) -> bool:
    credits = [answer.number(code) for code in CREDIT]
    told = [credit for credit in credits if credit is not None]
    if told:
        return told[0] <= 0
    return key_of(EventType.CREDIT_EXHAUSTED) in telling.open | telling.withheld


def _number(value: Value | None) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


# --- silence ----------------------------------------------------------------------------------------


def silent_among_answering(
    memory: RuleMemory, telling: Telling, *, polls: int, neighbours: int
) -> tuple[RuleMemory, Derived | None]:
    """A meter did not answer at a poll at which ``neighbours`` of its line did.

    It may have lost its supply, or its cable alone: so it is minor, beside ``comms_lost``, which is not. Where the
    whole line is silent this is not called: then it is the line, and nothing is known of anybody's supply.
    """
    assert neighbours > 0
    key = key_of(EventType.POWER_FAIL, SILENCE)
    state, count = step(memory.contrary.get(key, 0), Level.HOLDS, polls, key, telling)
    contrary = {**memory.contrary, key: count} if count else _without(memory.contrary, key)
    after = msgspec.structs.replace(memory, contrary=contrary)
    if state is None:
        return after, None
    return after, Derived(
        type=EventType.POWER_FAIL,
        state=state,
        detail=f"silent while {neighbours} on its line answer: its supply, or its cable",
        part=SILENCE,
        severity=Severity.MINOR,
    )


def answers_again(memory: RuleMemory, telling: Telling) -> tuple[RuleMemory, Derived | None]:
    """A meter answered: whatever it was silent for, it has a supply."""
    key = key_of(EventType.POWER_FAIL, SILENCE)
    after = memory
    if key in memory.contrary:
        after = msgspec.structs.replace(memory, contrary=_without(memory.contrary, key))
    if key not in telling.open | telling.withheld:
        return after, None
    return after, Derived(
        type=EventType.POWER_FAIL,
        state=EventState.CLEARED,
        detail="it answers again",
        part=SILENCE,
    )


def _without(contrary: Mapping[str, int], key: str) -> Mapping[str, int]:
    return {each: count for each, count in contrary.items() if each != key}
