"""Can the head-end do its work (pure): write what comes, hear its broker, and go on doing so.

``fail`` is a head-end that does nothing for the village now; ``degraded`` one that still does, but not for long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from openami.headend.standing import Standing

# The write-ahead log of a busy day (64 MiB), once for itself and once for the file it is copied to.
DISK_FREE_BYTES_MIN: Final = 256 * 1024 * 1024
# A year of 500 meters in SQLite is some 3 GB: below two there are months to act, and no hurry.
DISK_LOW_BYTES: Final = 2 * 1024 * 1024 * 1024
# Renewed daily where `openami headend renew` is set up, so a week means that it is not.
CERTIFICATE_SOON: Final = timedelta(days=7)


class CheckState(StrEnum):
    """The result of one check. Only a failure makes the head-end not ready."""

    OK = "ok"
    DEGRADED = "degraded"
    FAIL = "fail"


_WORST_FIRST: Final = (CheckState.FAIL, CheckState.DEGRADED, CheckState.OK)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the head-end needs for its work, and how it stands."""

    name: str
    state: CheckState
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the checks judge."""

    store_fault: str
    """Why nothing can be written; empty when a write has just succeeded."""
    broker_heard: bool
    broker_reason: str = ""
    disk_free_bytes: int | None = None
    """None where the store is not on a disk of this machine."""
    certificate_until: datetime | None = None
    standing: Standing | None = None
    """None where one head-end takes everything."""
    closing_fault: str = ""
    """Why months are not closed, or what of them is damaged."""
    now: datetime


def checks(facts: Facts) -> Sequence[Check]:
    """Return every check, the worst first."""
    found = [_database(facts), _broker(facts)]
    if facts.disk_free_bytes is not None:
        found.append(_disk(facts.disk_free_bytes))
    if facts.certificate_until is not None:
        found.append(_certificate(facts.certificate_until - facts.now))
    if facts.standing is not None:
        found.append(_slices(facts.standing))
    if facts.closing_fault:
        found.append(Check("closing", CheckState.DEGRADED, facts.closing_fault))
    return sorted(found, key=lambda check: _WORST_FIRST.index(check.state))


def _database(facts: Facts) -> Check:
    return Check(
        "database", CheckState.FAIL if facts.store_fault else CheckState.OK, facts.store_fault
    )


def _broker(facts: Facts) -> Check:
    if facts.broker_heard:
        return Check("broker", CheckState.OK)
    return Check("broker", CheckState.FAIL, facts.broker_reason or "not joined")


def _disk(free_bytes: int) -> Check:
    left = f"{free_bytes // (1024 * 1024)} MiB left on the store's disk"
    if free_bytes < DISK_FREE_BYTES_MIN:
        return Check("disk", CheckState.FAIL, left)
    return Check(
        "disk", CheckState.DEGRADED if free_bytes < DISK_LOW_BYTES else CheckState.OK, left
    )


def _slices(standing: Standing) -> Check:
    """Without a slice it stands by: that is ready. A slice that nobody holds is for all of them to take."""
    state = CheckState.DEGRADED if standing.free else CheckState.OK
    return Check("slices", state, standing.sentence)


def _certificate(left: timedelta) -> Check:
    if left <= timedelta(0):
        return Check("certificate", CheckState.DEGRADED, "the head-end's certificate has ended")
    if left < CERTIFICATE_SOON:
        said = f"the head-end's certificate ends in {left.days} days"
        return Check("certificate", CheckState.DEGRADED, said)
    return Check("certificate", CheckState.OK)
