"""What is asked of closed months: their files, proved and opened."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from openami.headend.consumption import DAY_MS
from openami.headend.store import StoreError
from openami.headend.store.closed import ClosedDamaged, ClosedFile
from openami.headend.store.closed_arrivals import Told, packed, told_in, unpacked
from openami.headend.store.identity import Stored, from_ms, ms_at, place
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row, Steps, ask

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading

CONTENT: Final = "c.feeder_id, c.meter_serial, c.first_bucket, c.last_bucket, c.sha256, c.content"
SPANS: Final = (
    "SELECT first_bucket, last_bucket FROM closed WHERE feeder_id = ?1 AND meter_serial = ?2 "
    "AND first_bucket <= ?4 AND last_bucket >= ?3 ORDER BY first_bucket"
)
_OF_SERIES: Final = (
    f"SELECT {CONTENT}, s.obis FROM series s JOIN closed c ON c.feeder_id = s.feeder_id "
    "AND c.meter_serial = s.meter_serial WHERE s.id = ?1 AND c.first_bucket <= ?3 AND c.last_bucket >= ?2"
)
OF_METER: Final = (
    f"SELECT {CONTENT} FROM closed c WHERE c.feeder_id = ?1 AND c.meter_serial = ?2 "
    "AND c.first_bucket <= ?4 AND c.last_bucket >= ?3 ORDER BY c.first_bucket"
)


def parquet_files() -> ModuleType:
    """Return what writes and reads the files. Raises StoreError where pyarrow is not installed."""
    try:
        from openami.headend.store import closed_file
    except ModuleNotFoundError as missing:
        if missing.name != "pyarrow":
            raise
        raise StoreError(
            "closed months are Parquet, and pyarrow is not installed",
            remedy="pip install 'openami[parquet]'",
            permanent=True,
        ) from None
    return closed_file


def opened(row: Row, **chosen: Any) -> list["ClosedReading"]:
    """Return readings of a row of CONTENT, proved by its hash. Raises ClosedDamaged."""
    feeder_id, meter_serial, first, _, digest, content = cast(Any, row[:6])
    prove(content, digest, feeder_id, meter_serial, first)
    try:
        return cast("list[ClosedReading]", parquet_files().read(bytes(content), **chosen))
    except ValueError as error:
        raise _damaged(feeder_id, meter_serial, first, str(error)) from None


def arrivals_in(row: Row, begin_ms: int, end_ms: int) -> Iterator[Told]:
    """Yield what came within a time, by what is packed beside a file, the last column, or else by the file itself.

    Raises ClosedDamaged.
    """
    feeder_id, meter_serial, first, *_, beside = cast(Any, row)
    if beside is None:
        yield from told_in(opened(row, since_ms=begin_ms, until_ms=end_ms))
        return
    try:
        yield from unpacked(bytes(beside), begin_ms, end_ms)
    except ValueError as error:
        raise damaged_beside(feeder_id, meter_serial, first, str(error)) from None


def packed_of(file: ClosedFile, content: bytes) -> bytes:
    """Return what is kept for completeness beside a file. Raises ClosedDamaged."""
    about = (file.feeder_id, file.meter_serial, file.first_bucket, file.last_bucket)
    return packed(opened((*about, file.sha256, content)))


def charted(row: Row, *of: Any, **steps: Any) -> list[Row]:
    """Return a register's steps in a row of CONTENT, proved by its hash. Raises ClosedDamaged."""
    feeder_id, meter_serial, first, _, digest, content = cast(Any, row[:6])
    prove(content, digest, feeder_id, meter_serial, first)
    try:
        return cast(list[Row], parquet_files().charted(bytes(content), *of, **steps))
    except ValueError as error:
        raise _damaged(feeder_id, meter_serial, first, str(error)) from None


def prove(content: bytes, digest: str, feeder_id: str, meter_serial: str, first: int) -> None:
    """Raise ClosedDamaged unless a file's bytes are those that were written."""
    if sha256(content).hexdigest() != digest:
        raise _damaged(feeder_id, meter_serial, first, "its bytes are not those that were written")


def _damaged(feeder_id: str, meter_serial: str, first_bucket: int, why: str) -> ClosedDamaged:
    begin = from_ms(ms_at(first_bucket, 0)).date()
    return ClosedDamaged(
        f"the closed readings of {feeder_id} {meter_serial} from {begin} on are damaged: {why}",
        remedy="bring a backup back beside this store and copy the row of table `closed` from there",
    )


def damaged_beside(feeder_id: str, meter_serial: str, first_bucket: int, why: str) -> ClosedDamaged:
    """Return the error for what is packed beside a file, which itself may be sound."""
    begin = from_ms(ms_at(first_bucket, 0)).date()
    return ClosedDamaged(
        f"what is kept for completeness beside the closed readings of {feeder_id} {meter_serial} from {begin} on "
        f"is damaged: {why}",
        remedy="delete its row of table `closed_arrivals`: `openami headend close` makes it anew from the file",
    )


def split(value: Stored) -> tuple[Cell, Cell]:
    """Return a value as both engines answer one: a number or a text."""
    return (None, value) if isinstance(value, str) else (value, None)


def closed_days(days: Iterable[tuple[int, int]]) -> Steps[list[Row]]:
    """Return the closed readings of UTC days of series, as ENERGY_READINGS tells live ones."""
    [(through,)] = cast(Any, (yield from ask("SELECT through FROM closing")))
    wanted: dict[int, set[int]] = defaultdict(set)
    for series, day in days:
        if through is not None and place(day * DAY_MS)[0] <= through:
            wanted[series].add(day)
    found: list[Row] = []
    for series, its_days in sorted(wanted.items()):
        begin, end = min(its_days) * DAY_MS, (max(its_days) + 1) * DAY_MS
        for content in (yield from ask(_OF_SERIES, series, place(begin)[0], place(end - 1)[0])):
            for row in opened(content, obis=content[6], since_ms=begin, until_ms=end):
                day = ms_at(row.bucket, row.ms) // DAY_MS
                if day in its_days:
                    told = (row.bucket, row.ms, *split(row.value), row.flags, row.unit)
                    found.append((series, day, *told))
    return found


def with_live(closed: Iterable[Row], live: Iterable[Row]) -> list[Row]:
    """Return rows of ENERGY_READINGS, of both: where both tell a reading, the live one stands."""
    return list({row[:4]: row for row in chain(closed, live)}.values())
