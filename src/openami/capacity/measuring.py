"""One measurement from the empty directory to the figures; whatever ends it, what it made is gone."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.capacity import probes
from openami.capacity.conclusion import Capacity, Figures, conclude
from openami.capacity.machine import Usage, conditions, load_average
from openami.capacity.trial_store import TrialStore, trial_store
from openami.capacity.village import Village
from openami.clock import SystemClock
from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.headend.intake import Intake
from openami.headend.statistics import Statistics
from openami.headend.store import Store
from openami.headend.store.open import file_of, open_store
from openami.profile import shipped_catalogue

# A single-phase meter's least, and what a gateway reads of most.
REGISTERS: Final = (3, 8)
# The trial's files, at most: a million readings with their log, and an outbox of 40,000 entries.
ROOM_NEEDED_BYTES: Final = 256 * 1024 * 1024

# How the time is divided; judging and taking in are measured with both numbers of registers.
_SYNCED, _JUDGED, _COMMITTED, _TAKEN_IN, _APPENDED = 0.1, 0.1, 0.2, 0.2, 0.1


class PlaceError(Exception):
    """The directory cannot be measured in; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


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
    is_file = file_of(url) is not None
    with _scratch(directory) as scratch:
        free_bytes = _free_bytes(scratch)
        if free_bytes < ROOM_NEEDED_BYTES:
            raise PlaceError(
                f"{directory} has {free_bytes / 1e6:.0f} MB left; a measurement needs "
                f"{ROOM_NEEDED_BYTES / 1e6:.0f} MB for a moment",
                "free some space, or name a directory on another disk with --directory",
            )
        load_before, before = load_average(), Usage.now()
        async with trial_store(url, scratch) as trial:
            figures = await _tried(trial, scratch, seconds, now, tell)
        met = conditions(directory, before, load_before, alone=is_file)
    engine = "sqlite" if is_file else "postgresql"
    return conclude(engine, figures, met, free_bytes if is_file or server_disk else None)


async def _tried(
    trial: TrialStore, scratch: Path, seconds: float, now: datetime, tell: Callable[[str], None]
) -> Figures:
    village = Village(now)
    async with open_store(trial.url) as store:
        await probes.introduced(_intake(store), village, max(REGISTERS))
    size_before = await trial.size()
    tell("the disk's syncs")
    synced = await probes.synced(scratch, seconds * _SYNCED)
    tell("the judge and the store")
    async with open_store(trial.url) as store:
        # What is only judged is another village's: it may leave no gap in the numbers of what is stored.
        aside, elsewhere = _intake(store), Village(now)
        judged = {n: await probes.judged(aside, elsewhere, n, seconds * _JUDGED) for n in REGISTERS}
        intake = _intake(store)
        committed = await probes.committed(intake, village, seconds * _COMMITTED)
        taken_in = {
            n: await probes.taken_in(intake, village, n, seconds * _TAKEN_IN) for n in REGISTERS
        }
    grown_bytes = await trial.size() - size_before
    tell("the gateway's outbox")
    async with open_outbox(scratch / "gateway.db", OutboxLimits(), SystemClock()) as outbox:
        appended, cycle = await probes.appended(outbox, Village(now), seconds * _APPENDED)
    return Figures(
        synced=synced,
        committed=committed,
        judged=judged,
        taken_in=taken_in,
        appended=appended,
        cycle=cycle,
        readings=committed.samples * probes.COMMITTED_REGISTERS
        + sum(n * rate.count for n, rate in taken_in.items()),
        grown_bytes=grown_bytes,
    )


def _intake(store: Store) -> Intake:
    return Intake(store, catalogue=shipped_catalogue(), statistics=Statistics())


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
