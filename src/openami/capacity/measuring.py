"""One measurement from the empty directory to the figures; whatever ends it, what it made is gone."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.capacity import probes
from openami.capacity.doubts import Conditions, Doubt, DoubtCode, doubts
from openami.capacity.machine import Usage, conditions, load_average
from openami.capacity.probes import Latency, Rate
from openami.capacity.reckoning import Load, Reach, Room, reach
from openami.capacity.trial_store import TrialStore, trial_store
from openami.capacity.village import Village
from openami.clock import SystemClock
from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.headend.intake import Intake
from openami.headend.statistics import Statistics
from openami.headend.store.open import open_store
from openami.profile import shipped_catalogue

INTERVALS_S: Final = (900, 60)
REGISTERS: Final = (3, 8)
# The trial's files, at most: a million readings with their log, and an outbox of 40,000 entries.
ROOM_NEEDED_BYTES: Final = 256 * 1024 * 1024
# Fewer, and the tables' fixed cost is most of a reading's: the benchmark's figure is taken then.
READINGS_TELLING_MIN: Final = 50_000
# Measured: docs/scale.md. Of SQLite with everything kept beside the readings, of PostgreSQL the readings' table.
_USUAL_BYTES: Final = {"sqlite": 37.5, "postgresql": 97.0}

# How the time is divided; each share twice where both numbers of registers are measured.
_SYNCED, _JUDGED, _COMMITTED, _TAKEN_IN, _APPENDED = 0.1, 0.1, 0.2, 0.2, 0.1


class PlaceError(Exception):
    """The directory cannot be measured in; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was measured, under which conditions, and how far it goes."""

    engine: str
    directory: Path
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
    free_bytes: int
    bytes_per_reading: float
    bytes_from_readings: int
    conditions: Conditions
    doubts: list[Doubt]
    room: Room | None
    reaches: list[Reach]


async def measure(
    url: str,
    directory: Path,
    *,
    seconds: float,
    now: datetime,
    server_disk: bool,
    tell: Callable[[str], None],
) -> Capacity:
    """Measure in so many seconds, and the few that making and dropping the store takes.

    ``server_disk``: the directory is on the database server's disk. ``tell`` hears what is measured next.
    Raises PlaceError, StoreError, OutboxError.
    """
    with _scratch(directory) as scratch:
        free_bytes = _free_bytes(scratch)
        if free_bytes < ROOM_NEEDED_BYTES:
            raise PlaceError(
                f"{directory} has {free_bytes / 1e6:.0f} MB left; a measurement needs "
                f"{ROOM_NEEDED_BYTES / 1e6:.0f} MB for a moment",
                "free some space, or name a directory on another disk with --directory",
            )
        async with trial_store(url, scratch) as trial:
            return await _measured(
                trial,
                directory,
                scratch,
                seconds=seconds,
                now=now,
                free_bytes=free_bytes,
                server_disk=server_disk,
                tell=tell,
            )


async def _measured(
    trial: TrialStore,
    directory: Path,
    scratch: Path,
    *,
    seconds: float,
    now: datetime,
    free_bytes: int,
    server_disk: bool,
    tell: Callable[[str], None],
) -> Capacity:
    engine = "sqlite" if trial.url.startswith("sqlite:") else "postgresql"
    is_file = engine == "sqlite"
    village = Village(now)
    catalogue, most = shipped_catalogue(), max(REGISTERS)
    async with open_store(trial.url) as store:
        intake = Intake(store, catalogue=catalogue, statistics=Statistics())
        await probes.introduced(intake, village, most)
    size_before = await trial.size()
    load_before, before = load_average(), Usage.now()
    tell("the disk's syncs")
    synced = await probes.synced(scratch, seconds * _SYNCED)
    tell("the judge and the store")
    async with open_store(trial.url) as store:
        aside = Intake(store, catalogue=catalogue, statistics=Statistics())
        other = Village(
            now
        )  # what is only judged may leave no gap in the numbers of what is stored
        judged = {n: await probes.judged(aside, other, n, seconds * _JUDGED) for n in REGISTERS}
        intake = Intake(store, catalogue=catalogue, statistics=Statistics())
        committed = await probes.committed(intake, village, seconds * _COMMITTED)
        taken_in = {
            n: await probes.taken_in(intake, village, n, seconds * _TAKEN_IN) for n in REGISTERS
        }
    grown = await trial.size() - size_before
    tell("the gateway's outbox")
    async with open_outbox(scratch / "gateway.db", OutboxLimits(), SystemClock()) as outbox:
        appended, cycle = await probes.appended(outbox, Village(now), seconds * _APPENDED)
    met = conditions(scratch, before, load_before, alone=is_file)
    stored = committed.samples * 3 + sum(n * rate.count for n, rate in taken_in.items())
    found = doubts(met, sync_p50_s=synced.p50_s)
    bytes_per_reading = grown / stored
    if stored < READINGS_TELLING_MIN:
        found.append(_few(stored, bytes_per_reading, _USUAL_BYTES[engine]))
        bytes_per_reading = _USUAL_BYTES[engine]
    room = Room(free_bytes, bytes_per_reading) if is_file or server_disk else None
    reaches = [
        reach(
            Load(interval_s, n),
            intake_per_s=taken_in[n].per_s,
            commit_p99_s=committed.p99_s,
            room=room,
        )
        for interval_s in INTERVALS_S
        for n in REGISTERS
    ]
    return Capacity(
        engine, directory, synced, committed, judged, taken_in, appended, cycle, free_bytes,
        bytes_per_reading, stored, met, found, room, reaches,
    )  # fmt: skip


def _few(stored: int, seen: float, usual: float) -> Doubt:
    return Doubt(
        DoubtCode.FEW_READINGS,
        f"only {stored:,} readings were stored in the time ({seen:.0f} bytes each, mostly the tables' own); "
        f"reckoned is with {usual:.1f} bytes; measure for longer with --seconds",
    )


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Make a directory for the trial's files; gone afterwards. Raises PlaceError."""
    try:
        with tempfile.TemporaryDirectory(prefix=".openami-capacity-", dir=directory) as scratch:
            yield Path(scratch).resolve()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlaceError(
                f"{directory}: {error.strerror} while it was measured",
                "free some space, or name a directory on another disk with --directory",
            ) from error
        raise PlaceError(
            f"{directory} cannot be measured in: {error.strerror or error}",
            "name a directory on the store's disk that you may write to with --directory",
        ) from error
