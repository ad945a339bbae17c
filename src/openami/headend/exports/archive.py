"""Everything the head-end holds as one file that says what it is.

A zip with a ``manifest.json`` that names every member, how many rows it has, what they mean, and its SHA-256:
readings as Parquet by month, assets as GeoJSON, the rest as JSON Lines. It can be read without this program.
Passwords, tokens and keys are not in it.

Memory is bounded whatever the store holds: readings go a row group at a time into a file beside the archive, lists
a page at a time.
"""

import base64
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from openami import __version__
from openami.headend.assets.geojson import geojson_of
from openami.headend.audit import print_link
from openami.headend.exports.parquet import write_readings
from openami.headend.exports.selection import Selection, months_of, next_month, selected_readings
from openami.headend.store.commands import AUDIT_PAGE_MAX, HeadEndStore
from openami.headend.store.pages import PAGE_MAX, Key, Placed, Wanted
from openami.profile import Obis, utc_text

FORMAT: Final = "openami-archive"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
# Copied and hashed at a time.
COPY_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class Member(msgspec.Struct, frozen=True, rename="camel"):
    """One file of the archive."""

    name: str
    rows: int
    bytes: int
    sha256: str
    meaning: str
    restored: bool
    """Whether an import brings it back; the rest is evidence."""


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What the archive is."""

    format: str
    version: int
    created_at: str
    created_by: str
    members: tuple[Member, ...]
    columns: dict[str, str]
    """The columns of the readings, and what each says."""


COLUMNS: Final = {
    "feeder_id": "the feeder",
    "gateway_id": "the gateway through which the meter spoke last",
    "meter_serial": "the meter's serial, unique on its feeder",
    "obis": "the register, by its reduced OBIS code",
    "ts": "measured time, UTC, to the millisecond; with feeder, meter and register the reading's identity",
    "kind": "the value's JSON type: float, int, bool or text",
    "number": "the value, unless it is text",
    "text": "the value, when it is text",
    "unit": "its unit",
    "quality": "good, suspect or comms_lost",
    "received_at": "when the head-end received it, UTC",
}


@dataclass(frozen=True, slots=True)
class _List:
    """A member of JSON Lines and what its rows are."""

    name: str
    meaning: str
    restored: bool
    rows: Callable[[HeadEndStore], AsyncIterator[str]]


async def write_archive(
    store: HeadEndStore, path: Path, *, now: datetime, tell: Callable[[str], None] = lambda _: None
) -> Manifest:
    """Write an archive; it appears under its name when it is whole. Raises OSError, StoreError."""
    partial = path.with_name(f"{path.name}.part")
    members: list[Member] = []
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            async with aclosing(_written(store, archive, path.parent)) as written:
                async for member in written:
                    members.append(member)
                    tell(f"{member.name}: {member.rows} rows")
            manifest = Manifest(
                FORMAT, VERSION, utc_text(now), f"openami {__version__}", tuple(members), COLUMNS
            )
            archive.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


async def _written(
    store: HeadEndStore, archive: zipfile.ZipFile, directory: Path
) -> AsyncGenerator[Member, None]:
    for month in await months_of(store):
        readings = selected_readings(store, Selection(since=month, until=next_month(month)))
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".parquet") as file:
            rows = await write_readings(readings, file)
            if rows:
                file.flush()
                yield _copied(archive, Path(file.name), f"readings/{month:%Y-%m}.parquet", rows)
    for feeder in await store.feeder_list():
        body = msgspec.json.encode(geojson_of(await store.assets(feeder.id)))
        rows = body.count(b'"Feature"')
        yield _lines(
            archive,
            f"assets/{feeder.id}.geojson",
            "poles, meters, customers and settings of a feeder, as GeoJSON",
            iter([body.decode()]),
            rows=rows,
        )
    for each in _LISTS:
        with tempfile.TemporaryFile("w+", dir=directory, encoding="utf-8") as spool:
            async for line in each.rows(store):
                spool.write(line + "\n")
            spool.seek(0)
            yield _lines(
                archive,
                each.name,
                each.meaning,
                (line.rstrip("\n") for line in spool),
                restored=each.restored,
            )


def _copied(archive: zipfile.ZipFile, source: Path, name: str, rows: int) -> Member:
    """Put a file into the archive; Parquet is compressed already."""
    digest, size = hashlib.sha256(), 0
    info = zipfile.ZipInfo(name)
    with source.open("rb") as file, archive.open(info, "w", force_zip64=True) as member:
        while portion := file.read(COPY_BYTES):
            digest.update(portion)
            size += len(portion)
            member.write(portion)
    return Member(name, rows, size, digest.hexdigest(), "readings of a month, by UTC", True)


def _lines(
    archive: zipfile.ZipFile,
    name: str,
    meaning: str,
    lines: Iterator[str],
    *,
    restored: bool = True,
    rows: int | None = None,
) -> Member:
    digest, size, count = hashlib.sha256(), 0, 0
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as member:
        for line in lines:
            data = line.encode() + b"\n"
            digest.update(data)
            size += len(data)
            count += 1
            member.write(data)
    return Member(
        name, count if rows is None else rows, size, digest.hexdigest(), meaning, restored
    )


# --- lists ---------------------------------------------------------------------------------------


def line_of(row: object) -> str:
    """Return a row as one line of JSON: times in UTC, bytes in Base64."""
    return json.dumps(row, default=_plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    match value:
        case datetime():
            return utc_text(value)
        case bytes():
            return base64.b64encode(value).decode()
        case Obis():
            return str(value)
        case Enum():
            return value.name.lower()
        case frozenset() | set():
            return sorted(value)
        case _:
            return asdict(value)  # type: ignore[call-overload]  # anything else is a bug


async def _paged(
    page: Callable[..., Awaitable[Sequence[Placed[T]]]],
) -> AsyncIterator[T]:
    after: Key | None = None
    while True:
        rows = await page(Wanted(), after=after, at_most=PAGE_MAX)
        for placed in rows:
            yield placed.row
        if len(rows) < PAGE_MAX:
            return
        after = tuple(rows[-1].key)


async def _tariffs(store: HeadEndStore) -> AsyncIterator[str]:
    for price in await store.tariffs():
        yield line_of({**asdict(price), "price_per_kwh": str(price.price_per_kwh)})


async def _events(store: HeadEndStore) -> AsyncIterator[str]:
    async for event in _paged(store.events_page):
        yield line_of(asdict(event))


async def _conflicts(store: HeadEndStore) -> AsyncIterator[str]:
    for meter in await store.meters():
        for conflict in await store.conflicts(meter.feeder_id, meter.meter_serial):
            other = conflict.other
            yield line_of(
                {
                    "feeder_id": other.feeder_id,
                    "gateway_id": meter.gateway_id,
                    "meter_serial": other.meter_serial,
                    "obis": other.obis,
                    "ts": other.ts,
                    "value": other.value,
                    "unit": other.unit,
                    "quality": str(other.quality),
                    "received_at": other.received_at,
                }
            )


async def _commands(store: HeadEndStore) -> AsyncIterator[str]:
    async for command in _paged(store.commands_page):
        yield line_of(asdict(command))


async def _sessions(store: HeadEndStore) -> AsyncIterator[str]:
    async for session in _paged(store.sessions_page):
        yield line_of(asdict(session))


async def _budgets(store: HeadEndStore) -> AsyncIterator[str]:
    for (feeder_id, gateway_id), month_bytes in sorted((await store.budgets()).items()):
        yield line_of(
            {"feeder_id": feeder_id, "gateway_id": gateway_id, "month_bytes": month_bytes}
        )


async def _bulks(store: HeadEndStore) -> AsyncIterator[str]:
    async for bulk in _paged(store.bulks_page):
        houses = [asdict(meter) for meter, _ in await store.bulk_meters(bulk.id)]
        yield line_of({**asdict(bulk), "houses": houses})


async def _findings(store: HeadEndStore) -> AsyncIterator[str]:
    async for finding in _paged(store.findings_page):
        yield line_of(asdict(finding))


async def _rejected(store: HeadEndStore) -> AsyncIterator[str]:
    async for kept in _paged(store.rejects_page):
        whole = await store.reject(kept.id)
        yield line_of({**asdict(kept), "payload": None if whole is None else whole.payload})


async def _completeness(store: HeadEndStore) -> AsyncIterator[str]:
    for feeder_id, interval_s in (await store.intervals()).items():
        yield line_of({"row": "interval", "feeder_id": feeder_id, "interval_s": interval_s})
    for gap in await store.gaps():
        yield line_of({"row": "gap", **asdict(gap)})


async def _audit(store: HeadEndStore) -> AsyncIterator[str]:
    after = 0
    while links := await store.audit_links(after=after, at_most=AUDIT_PAGE_MAX):
        for link in links:
            yield print_link(link)
        after = links[-1].number


_LISTS: Final = (
    _List("assets/tariffs.jsonl", "prices, each from when it holds", True, _tariffs),
    _List(
        "conflicts.jsonl",
        "other values told for a reading that was there already",
        True,
        _conflicts,
    ),
    _List("events.jsonl", "events, each with the message it came in", True, _events),
    _List(
        "budgets.jsonl", "what each gateway may send in a month of UTC, in bytes", True, _budgets
    ),
    _List("findings.jsonl", "what was implausible, by day, meter and register", False, _findings),
    _List("rejected.jsonl", "messages that were not let in, with their bytes", False, _rejected),
    _List(
        "completeness.jsonl",
        "gaps of the gateways, and how often meters are expected to report",
        False,
        _completeness,
    ),
    _List("commands.jsonl", "commands with their signed documents and reports", False, _commands),
    _List(
        "bulk_disconnections.jsonl",
        "houses cut off by one decision, each with the command that asked for it",
        False,
        _bulks,
    ),
    _List("sessions.jsonl", "sessions with the gateways", False, _sessions),
    _List("audit.jsonl", "the audit log: `openami audit verify` checks it", False, _audit),
)
