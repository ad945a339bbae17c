"""Readings as files: CSV, JSON Lines and Parquet, made in parts, so that a year takes no more memory than a day."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

import msgspec

from openami.headend.store import Reading
from openami.headend.web.problems import Problem
from openami.profile import utc_text

CSV: Final = "text/csv"
JSON_LINES: Final = "application/jsonl"
PARQUET: Final = "application/vnd.apache.parquet"

# A part of a stream: a hundred kilobytes, some milliseconds of work between two looks at everything else.
PART_ROWS_MAX: Final = 1_000
# A row group: what a reader of Parquet skips as a whole; some ten megabytes while it is made.
ROW_GROUP_ROWS_MAX: Final = 50_000

COLUMNS: Final = (
    *("feederId", "meterSerial", "obis", "ts", "value", "unit", "quality", "receivedAt"),
)
# What a spreadsheet takes for a formula when a cell begins with it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "|", "%")


async def as_csv(readings: AsyncIterator[Reading]) -> AsyncGenerator[bytes, None]:
    """Yield a CSV file (RFC 4180, UTF-8) with a line of headings.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    async for part in _parts(readings, PART_ROWS_MAX):
        writer.writerows([_csv_cell(cell) for cell in _row(reading)] for reading in part)
        yield _taken(out)
    if rest := _taken(out):
        yield rest


async def as_json_lines(readings: AsyncIterator[Reading]) -> AsyncGenerator[bytes, None]:
    """Yield one JSON object a line, with the members of the JSON answer."""
    async for part in _parts(readings, PART_ROWS_MAX):
        yield b"".join(
            msgspec.json.encode(dict(zip(COLUMNS, _row(reading), strict=True))) + b"\n"
            for reading in part
        )


async def as_parquet(readings: AsyncIterator[Reading]) -> AsyncGenerator[bytes, None]:
    """Yield a Parquet file. Numbers are in ``value``; what is no number is in ``text``, and null in ``value``.

    Raises Problem 501 where pyarrow is not installed.
    """
    try:
        from openami.headend.web.api.parquet import ParquetParts
    except ModuleNotFoundError as missing:
        if missing.name != "pyarrow":
            raise
        raise Problem(
            HTTPStatus.NOT_IMPLEMENTED,
            "not-installed",
            "this head-end was installed without what writes Parquet",
            remedy="pip install 'openami[parquet]', or ask for csv or jsonl",
        ) from None
    parts = ParquetParts()
    async for group in _parts(readings, ROW_GROUP_ROWS_MAX):
        # Compressing takes tens of milliseconds: not on the loop that serves everybody.
        if made := await asyncio.to_thread(parts.written, group):
            yield made
    yield parts.end()


async def _parts(readings: AsyncIterator[Reading], rows_max: int) -> AsyncIterator[list[Reading]]:
    found: Any = readings
    part: list[Reading] = []
    async with aclosing(found) as rows:
        async for reading in rows:
            part.append(reading)
            if len(part) == rows_max:
                yield part
                part = []
    if part:
        yield part


def _row(reading: Reading) -> tuple[Any, ...]:
    return (
        *(reading.feeder_id, reading.meter_serial, str(reading.obis), utc_text(reading.ts)),
        *(reading.value, reading.unit, str(reading.quality), utc_text(reading.received_at)),
    )


def _csv_cell(cell: object) -> object:
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return f"'{cell}"
    return cell


def _taken(out: io.StringIO) -> bytes:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.encode("utf-8", "replace")
