"""From a stretch of a load profile to what is published of it (pure, decision 0058).

One captured row for each missed instant, the nearest, with the meter's own time for it. A counter must lie between
what it was polled at before the outage and after it; what does not is published ``suspect``, as is everything of a
meter whose clock could not be compared with ours. Nothing is interpolated, shifted or repaired.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from openami.gateway.driver import PollGroup, RawReading, RegisterInfo
from openami.gateway.normalise import (
    KnownValue,
    Memory,
    Remembered,
    TimedReading,
    Unusable,
    normalise,
    to_the_millisecond,
)
from openami.gateway.outages import Counters, Outage, Stretch, moment_of
from openami.profile import Obis, Quality, RegisterCatalogue


@dataclass(frozen=True, slots=True)
class LateReadings:
    """What a stretch brought, and the outage after it."""

    readings: tuple[TimedReading, ...]
    unusable: tuple[Unusable, ...]
    outage: Outage


def late_readings(
    stretch: Stretch,
    told: Sequence[RawReading],
    *,
    infos: Mapping[Obis, RegisterInfo],
    catalogue: RegisterCatalogue,
    now: datetime,
    clock_compared: bool,
) -> LateReadings:
    """Judge what a load profile held of a stretch."""
    by_instant = _nearest(stretch, told)
    outage = stretch.outage
    raw = [reading for instant in sorted(by_instant) for reading in by_instant[instant]]
    judged = normalise(
        raw,
        infos=infos,
        catalogue=catalogue,
        memory=_memory(outage.floor),
        now=now,
        boottime_s=0.0,  # of no use: each reading has the meter's own time
        clock_trusted=True,
    )
    readings = tuple(_below(timed, outage.ceiling) for timed in judged.readings)
    if not clock_compared:
        readings = tuple(_doubted(timed) for timed in readings)
    held = {timed.ts for timed in readings if _is_billing(timed, infos)}
    return LateReadings(
        readings,
        judged.unusable,
        replace(
            outage,
            asked_until=moment_of(stretch.instants[-1]),
            held=outage.held + len(held),
            failures=0,
            floor=_floor(outage.floor, judged.memory),
        ),
    )


def counters(memory: Memory, infos: Mapping[Obis, RegisterInfo]) -> dict[str, KnownValue]:
    """Return what the billing counters of a meter are known to have stood at."""
    return {
        info.obis.full: remembered.known
        for info in infos.values()
        if info.group is PollGroup.BILLING
        and info.monotonic
        and (remembered := memory.get(info.obis)) is not None
        and remembered.known is not None
        and remembered.doubt is None
    }


def _nearest(stretch: Stretch, told: Iterable[RawReading]) -> dict[int, list[RawReading]]:
    """Return by instant what was captured nearest to it, within its window."""
    rows: dict[datetime, dict[Obis, RawReading]] = defaultdict(dict)
    ambiguous: set[tuple[datetime, Obis]] = set()
    for reading in told:
        at = reading.meter_time
        if at is None or at.tzinfo is None or not stretch.first <= at <= stretch.last:
            continue
        # A millisecond is what a reading is known by. Two values at one: an hour that the meter's clock had twice.
        at = to_the_millisecond(at)
        before = rows[at].setdefault(reading.obis, reading)
        if before.value != reading.value:
            ambiguous.add((at, reading.obis))
    nearest: dict[int, datetime] = {}
    for at in sorted(rows):
        instant = _instant_of(at, stretch.instants)
        known = nearest.get(instant)
        if known is None or _distance_s(at, instant) < _distance_s(known, instant):
            nearest[instant] = at
    return {
        instant: [r for obis, r in rows[at].items() if (at, obis) not in ambiguous]
        for instant, at in nearest.items()
    }


def _instant_of(at: datetime, instants: range) -> int:
    number = round((at.timestamp() - instants.start) / instants.step)
    return instants[min(max(number, 0), len(instants) - 1)]


def _distance_s(at: datetime, instant: int) -> float:
    return abs(at.timestamp() - instant)


def _is_billing(timed: TimedReading, infos: Mapping[Obis, RegisterInfo]) -> bool:
    return infos[timed.reading.obis].group is PollGroup.BILLING


def _memory(floor: Counters) -> Memory:
    return {Obis.parse(code): Remembered(known=known) for code, known in floor.items()}


def _floor(before: Counters, memory: Memory) -> dict[str, KnownValue]:
    """Return where the counters of the floor have got to, by values that were vouched for."""
    after = dict(before)
    for code in before:
        known = memory[Obis.parse(code)].known
        assert known is not None
        after[code] = known
    return after


def _below(timed: TimedReading, ceiling: Counters) -> TimedReading:
    known, value = ceiling.get(timed.reading.obis.full), timed.reading.value
    if known is None or isinstance(value, str) or isinstance(known.value, str):
        return timed
    return _doubted(timed) if value > known.value else timed


def _doubted(timed: TimedReading) -> TimedReading:
    reading = timed.reading
    if reading.quality is not Quality.GOOD:
        return timed
    return replace(timed, reading=replace(reading, quality=Quality.SUSPECT))
