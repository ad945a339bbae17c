"""The ClosedStore port: months of meters whose readings lie as Parquet, and no longer row by row (decision 0075).

Whoever asks for readings gets both as one. A closed month is one row with its file in it, put there in the
transaction that takes the readings out of the live table: there is no moment at which one of the two has happened.

A *late* reading, of a month that is closed, is judged against the file when it comes (`Store.commit`), and lies in
the live table until its month is closed once more. Where both have a reading, the live one stands: it is the same
one, with what was told of it since. Never closed are each register's latest reading and one that has a conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from openami.headend.store import StoreError
from openami.headend.store.identity import BUCKET_MS, from_ms, place, to_ms

# Gateways keep for a week what they have sent, and a month without an uplink is a bad one: what comes later than
# that is rare, and costs a file written again.
AFTER_DAYS_MIN: Final = 31
# Of one file, at which a month is cut: a month of eleven registers every quarter hour, some tenths of a second to
# close. Of a register told each minute it is two days.
READINGS_PER_FILE_MAX: Final = 32_768
# Rows of one answer about files, each a hundred bytes without its content: eight years of a thousand meters.
FILES_LISTED_MAX: Final = 100_000
# Due months looked up in one go.
DUE_AT_ONCE_MAX: Final = 500

Span = tuple[int, int]
"""The first and the last bucket of a time, both included."""


class ClosedDamaged(StoreError):
    """A closed month is not what was written: its bytes have changed, or are no file."""


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """What is to be closed: of a meter everything from a bucket to the end of its month."""

    bucket: int
    feeder_id: str
    meter_serial: str


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """A closed month, or a part of one, without its content."""

    feeder_id: str
    meter_serial: str
    first_bucket: int
    last_bucket: int
    readings: int
    bytes: int
    closed_at: datetime
    sha256: str

    @property
    def month(self) -> str:
        """Return the month, as ``2026-06``."""
        return f"{from_ms(self.first_bucket * BUCKET_MS):%Y-%m}"


@dataclass(frozen=True, slots=True)
class ClosedTotals:
    """What is closed, and what waits for it."""

    files: int = 0
    readings: int = 0
    bytes: int = 0
    due: int = 0
    through: str | None = None
    """The last month that is closed, or about to be, as ``2026-06``; None where none is."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Months of meters that wait to be closed."""

    first: int = 0
    """Of which nothing is closed, as far as they wait."""
    first_month: int | None = None
    """The oldest of these (`months`)."""
    late: int = 0
    """That are closed, and to which something came since."""


class ClosedStore(Protocol):
    """What the head-end does about closed months. Every method raises StoreError."""

    async def months_to_close(self, before: datetime) -> Sequence[str]:
        """Return the months that ended before a moment and are open: those of which there are readings."""
        ...

    async def make_due(self, before: datetime) -> int:
        """Make due every meter's part of the first such month; return how many meters, 0 when there is none."""
        ...

    async def closing_due(self, after: Due | None = None) -> Sequence[Due]:
        """Return what is due behind ``after``, the oldest first, DUE_AT_ONCE_MAX at most."""
        ...

    async def close_month(self, due: Due, now: datetime) -> int:
        """Close one file of what is due, in one transaction; return how many readings left the live table.

        What does not fit into it stays due, from a later bucket on. Raises ClosedDamaged when a late reading
        belongs into a file that is damaged; then nothing is changed.
        """
        ...

    async def without_arrivals(self) -> Sequence[ClosedFile]:
        """Return files beside which nothing is kept for completeness, FILES_LISTED_MAX at most.

        Those closed by a program before schema 16; completeness opens them, which is slow.
        """
        ...

    async def keep_arrivals(self, file: ClosedFile) -> None:
        """Keep beside a file what completeness asks of it. Raises ClosedDamaged."""
        ...

    async def prove_arrivals(self, file: ClosedFile) -> None:
        """Raise ClosedDamaged where what is kept beside a file is not what the file says."""
        ...

    async def closing_waits(self) -> Waiting:
        """Return what is due, told apart by whether it was closed before."""
        ...

    async def closed_totals(self) -> ClosedTotals: ...

    async def closed_files(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None
    ) -> Sequence[ClosedFile]:
        """Return closed files by feeder, meter and time, FILES_LISTED_MAX at most."""
        ...

    async def closed_content(self, file: ClosedFile) -> bytes:
        """Return a file, proved by its hash. Raises ClosedDamaged."""
        ...


def month_around(bucket: int) -> Span:
    """Return the UTC month a bucket belongs to: that of its middle, so a bucket lies in one month."""
    at = from_ms(bucket * BUCKET_MS)
    first = at.replace(day=1, hour=0)
    following = (first + timedelta(days=31)).replace(day=1)
    return to_ms(first) // BUCKET_MS, to_ms(following) // BUCKET_MS - 1


def ended_before(moment: datetime) -> int:
    """Return the last bucket of the last month that had ended at a moment."""
    return month_around(place(to_ms(moment))[0])[0] - 1


def span_to_write(bucket: int, files: Sequence[Span]) -> tuple[Span, bool]:
    """Return which part of its month a bucket is closed with, and whether a file is there that has it.

    Without one, it is the time between the files around it: so the files of a closed month leave nothing out, and
    whatever comes later finds the one it belongs into.
    """
    first, last = month_around(bucket)
    for span in files:
        if span[0] <= bucket <= span[1]:
            return span, True
        if span[1] < bucket:
            first = max(first, span[1] + 1)
        else:
            last = min(last, span[0] - 1)
    return (first, last), False
