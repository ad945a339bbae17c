"""Readings as Parquet, written and read a row group at a time.

A value keeps its JSON type: numbers, whole numbers and truth lie in ``number`` (whole ones are exact, for the
profile allows none beyond 2**53), text in ``text``, and ``kind`` says which it was.
"""

from collections.abc import AsyncIterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from openami.headend.exports.neutral import COLUMNS as NEUTRAL_COLUMNS
from openami.headend.exports.neutral import TableRow
from openami.headend.store import MeterRow, Reading
from openami.profile import Value

# Rows in memory: some ten megabytes of objects, and long enough for columns to compress.
ROW_GROUP_ROWS_MAX: Final = 65_536

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("ms", tz="UTC")
SCHEMA: Final = pa.schema(
    [
        ("feeder_id", _NAME),
        ("gateway_id", _NAME),
        ("meter_serial", _NAME),
        ("obis", _NAME),
        ("ts", _TIME),
        ("kind", _NAME),
        ("number", pa.float64()),
        ("text", pa.string()),
        ("unit", _NAME),
        ("quality", _NAME),
        ("received_at", _TIME),
    ]
)
_KINDS: Final[dict[type, str]] = {float: "float", int: "int", bool: "bool", str: "text"}
_OF_KIND: Final[dict[str, type]] = {kind: type_ for type_, kind in _KINDS.items()}


async def write_readings(
    readings: AsyncIterable[tuple[MeterRow, Reading]], path: Path | Any
) -> int:
    """Write readings to a file, or an open one; return how many there were."""
    count = 0
    rows: list[tuple[MeterRow, Reading]] = []
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        async for row in readings:
            rows.append(row)
            if len(rows) == ROW_GROUP_ROWS_MAX:
                writer.write_table(_table(rows))
                count += len(rows)
                rows.clear()
        writer.write_table(_table(rows))
    return count + len(rows)


def _table(rows: list[tuple[MeterRow, Reading]]) -> pa.Table:
    values = [reading.value for _, reading in rows]
    columns: list[Any] = [
        [reading.feeder_id for _, reading in rows],
        [meter.gateway_id for meter, _ in rows],
        [reading.meter_serial for _, reading in rows],
        [str(reading.obis) for _, reading in rows],
        [reading.ts for _, reading in rows],
        [_KINDS[type(value)] for value in values],
        [None if isinstance(value, str) else float(value) for value in values],
        [value if isinstance(value, str) else None for value in values],
        [reading.unit for _, reading in rows],
        [str(reading.quality) for _, reading in rows],
        [reading.received_at for _, reading in rows],
    ]
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


# --- the neutral table ---------------------------------------------------------------------------

_NEUTRAL_TYPES: Final[dict[str, pa.DataType]] = {
    "event_time_utc": _TIME,
    "received_at_utc": _TIME,
    "value": pa.float64(),
    "value_text": pa.string(),
    "record_hash": pa.string(),
}
NEUTRAL: Final = pa.schema([(name, _NEUTRAL_TYPES.get(name, _NAME)) for name in NEUTRAL_COLUMNS])


async def write_neutral(rows: AsyncIterable[TableRow], path: Path | Any) -> int:
    """Write rows of the neutral table; return how many there were."""
    count = 0
    batch: list[TableRow] = []
    with pq.ParquetWriter(path, NEUTRAL, compression="zstd") as writer:
        async for row in rows:
            batch.append(row)
            if len(batch) == ROW_GROUP_ROWS_MAX:
                writer.write_table(_neutral_table(batch))
                count += len(batch)
                batch.clear()
        writer.write_table(_neutral_table(batch))
    return count + len(batch)


def _neutral_table(rows: list[TableRow]) -> pa.Table:
    arrays = []
    for field in NEUTRAL:
        column: list[Any] = [row[field.name] for row in rows]
        if field.type == _TIME:
            column = [datetime.fromisoformat(text) for text in column]
        elif field.name == "value":
            column = [None if value is None else float(value) for value in column]
        arrays.append(pa.array(column, type=field.type))
    return pa.Table.from_arrays(arrays, schema=NEUTRAL)


# --- read back -----------------------------------------------------------------------------------


class NotReadings(ValueError):
    """A file whose columns are not those of readings, or that is damaged."""


def read_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield a file's rows, cells in the order of SCHEMA, times in milliseconds. Raises NotReadings."""
    try:
        file = pq.ParquetFile(path)
        missing = set(SCHEMA.names) - set(file.schema_arrow.names)
        if missing:
            raise NotReadings(f"it has no column {', '.join(sorted(missing))}")
        for batch in file.iter_batches(ROW_GROUP_ROWS_MAX, columns=SCHEMA.names):
            yield from zip(*(_told(batch, name) for name in SCHEMA.names), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise NotReadings(str(error)) from None


def _told(batch: pa.RecordBatch, name: str) -> list[Any]:
    """Return a column's cells: times as numbers and names by their dictionary, a fifth of what it costs else."""
    column: Any = batch.column(name).cast(SCHEMA.field(name).type)
    if column.type == _TIME:
        return cast(list[Any], column.cast(pa.int64()).to_pylist())
    if column.type == _NAME:
        names = column.dictionary.to_pylist()
        return [None if at is None else names[at] for at in column.indices.to_pylist()]
    return cast(list[Any], column.to_pylist())


def value_of(kind: str, number: float | None, text: str | None) -> Value:
    """Return the value a row tells. Raises NotReadings."""
    type_ = _OF_KIND.get(kind)
    told = text if type_ is str else number
    if type_ is None or told is None:
        raise NotReadings(f"a value of the kind {kind!r} is not there")
    value: Value = type_(told)
    return value
