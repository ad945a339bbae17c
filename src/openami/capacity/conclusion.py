"""From a trial's figures to what they mean: how far the machine goes, and what is doubtful about it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from openami.capacity.doubts import Conditions, Doubt, DoubtCode, doubts
from openami.capacity.probes import Latency, Rate
from openami.capacity.reckoning import Load, Reach, Room, reach

# What villages are asked for: the profile's quarter hour, and a minute for those who watch a line.
INTERVALS_S: Final = (900, 60)
# Fewer, and the tables' fixed cost is most of a reading's: the benchmark's figure is taken then.
READINGS_TELLING_MIN: Final = 50_000
# Measured (docs/scale.md): of SQLite with everything kept beside the readings, of PostgreSQL the readings' table.
USUAL_BYTES: Final = {"sqlite": 37.5, "postgresql": 97.0}


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    synced: Latency
    """The disk's own: a page appended and synced."""
    committed: Latency
    """The store's: one message of three registers."""
    judged: Mapping[int, Rate]
    """Messages on one core, by registers."""
    taken_in: Mapping[int, Rate]
    """Messages judged and durably stored, by registers."""
    appended: Rate
    """Readings into the gateway's outbox."""
    cycle: Latency
    """One poll cycle of twenty meters into it."""
    readings: int
    """How many the store took while it grew."""
    grown_bytes: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a machine serves; ``room`` is None where nobody knows the store's disk."""

    engine: str
    figures: Figures
    conditions: Conditions
    bytes_per_reading: float
    room: Room | None
    reaches: list[Reach]
    doubts: list[Doubt]


def conclude(
    engine: str, figures: Figures, conditions: Conditions, free_bytes: int | None
) -> Capacity:
    """Return what follows from a trial. ``engine``: ``sqlite`` or ``postgresql``."""
    found = doubts(conditions, sync_p50_s=figures.synced.p50_s)
    bytes_per_reading = figures.grown_bytes / figures.readings
    if figures.readings < READINGS_TELLING_MIN:
        found.append(_few(figures.readings, bytes_per_reading, USUAL_BYTES[engine]))
        bytes_per_reading = USUAL_BYTES[engine]
    room = None if free_bytes is None else Room(free_bytes, bytes_per_reading)
    reaches = [
        reach(
            Load(interval_s, registers),
            intake_per_s=rate.per_s,
            commit_p99_s=figures.committed.p99_s,
            room=room,
        )
        for interval_s in INTERVALS_S
        for registers, rate in figures.taken_in.items()
    ]
    return Capacity(engine, figures, conditions, bytes_per_reading, room, reaches, found)


def _few(readings: int, seen: float, usual: float) -> Doubt:
    return Doubt(
        DoubtCode.FEW_READINGS,
        f"only {readings:,} readings were stored in the time ({seen:.0f} bytes each); "
        f"reckoned is with {usual:.1f} bytes; measure for longer with --seconds",
    )
