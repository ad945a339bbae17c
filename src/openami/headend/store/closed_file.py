"""A closed month of one meter as the bytes of a Parquet file, and back. Pure; needs pyarrow.

The file is read without this program, too. A value is ``digits / 10 ** decimals`` where that is it to the last bit:
as a whole number a cumulative register takes one byte a reading, as a double five. Otherwise it is in ``number`` or
``text``. Rows lie by register and time. The registers of a message share time and receipt, so these columns repeat
from one register to the next, and compress to what one of them needs: receipt with its bytes apart (Parquet's
BYTE_STREAM_SPLIT), times so or as deltas, whichever makes the smaller file. Deltas take nothing where a gateway
reads on the second. Where it reads at any millisecond those of one register do not repeat those of another, for
deltas are packed in blocks, and a register begins anywhere within one.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from math import copysign
from operator import attrgetter
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openami.headend.store.identity import (
    COMMS_LOST_RANK,
    FIRST_KIND_OF_NO_NUMBER,
    KIND_MASK,
    QUALITY_MASK,
    SUSPECT_RANK,
    Stored,
    ms_at,
    place,
    quality_of,
    stored_as_told,
)

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("ms", tz="UTC")
SCHEMA: Final = pa.schema(
    [
        ("feeder_id", _NAME),
        ("meter_serial", _NAME),
        ("obis", _NAME),
        ("ts", _TIME),
        ("digits", pa.int64()),
        ("decimals", pa.int8()),
        ("number", pa.float64()),
        ("text", _NAME),
        ("unit", _NAME),
        ("quality", _NAME),
        ("lag_ms", pa.int64()),  # received minus measured
        (
            "flags",
            pa.int32(),
        ),  # as in table `reading`: the JSON type, and the unit by its number in this store
    ]
)
_DELTAS: Final = "DELTA_BINARY_PACKED"
_BYTES_APART: Final = "BYTE_STREAM_SPLIT"
_ENCODED: Final = {"digits": _DELTAS, "lag_ms": _BYTES_APART}
_BY_NAME: Final = [name for name in SCHEMA.names if name not in ("ts", *_ENCODED)]
# Beyond level 6 a file takes twice as long to write, and is 2 % smaller.
_ZSTD_LEVEL: Final = 6
# Of a register of a meter; finer ones, and what a converter made of a float of four bytes, stay doubles.
DECIMALS_MAX: Final = 6


class ClosedReading(NamedTuple):
    """A reading of a meter as its row held it."""

    obis: str
    bucket: int
    ms: int
    value: Stored
    flags: int
    lag_ms: int
    unit: str


_obis: Final = attrgetter("obis")


def written(feeder_id: str, meter_serial: str, rows: Iterable[ClosedReading]) -> bytes:
    """Return a file of readings of one meter, whatever their order."""
    ordered = sorted(rows, key=_order)
    digits: list[int | None] = []
    decimals: list[int | None] = []
    for _, series in groupby(ordered, _obis):
        values = [row.value for row in series]
        scale = _decimals(values)
        for value in values:
            whole = None if scale is None else _digits(value, scale)
            digits.append(whole)
            decimals.append(None if whole is None else scale)
    beside = [row.value if n is None else None for row, n in zip(ordered, digits, strict=True)]
    columns: list[Any] = [
        [feeder_id] * len(ordered),
        [meter_serial] * len(ordered),
        [row.obis for row in ordered],
        [ms_at(row.bucket, row.ms) for row in ordered],
        digits,
        decimals,
        [None if isinstance(value, str) else value for value in beside],
        [value if isinstance(value, str) else None for value in beside],
        [row.unit for row in ordered],
        [str(quality_of(row.flags)) for row in ordered],
        [row.lag_ms for row in ordered],
        [row.flags for row in ordered],
    ]
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)
    ]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    return min((_file(table, times) for times in (_DELTAS, _BYTES_APART)), key=len)


def _file(table: pa.Table, times: str) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(
        table,
        out,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=_BY_NAME,  # type: ignore[arg-type]  # names of columns are as good as all or none
        column_encoding={"ts": times, **_ENCODED},
        write_statistics=["ts"],
        store_schema=False,
    )
    return out.getvalue().to_pybytes()


def _order(row: ClosedReading) -> tuple[str, int, int]:
    return row.obis, row.bucket, row.ms


def _decimals(values: Sequence[Stored]) -> int | None:
    """Return how many decimals the numbers of a series have; None if most are no decimal fractions."""
    numbers = [value for value in values if not isinstance(value, str)]
    for scale in range(DECIMALS_MAX + 1):
        if all(_digits(value, scale) is not None for value in numbers):
            return scale
    return None


def _digits(value: Stored, scale: int) -> int | None:
    """Return the whole number that over ``10 ** scale`` is this value, if there is one."""
    if isinstance(value, str) or abs(value) >= 2**53 / 10**scale:
        return None
    whole = round(value * 10**scale)
    exact = whole / 10**scale == value and (value or copysign(1, value) > 0)
    return whole if exact else None


def read(
    content: bytes,
    *,
    obis: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    at: Collection[int] | None = None,
) -> list[ClosedReading]:
    """Return the readings of a file by register and time; of one register, within a time, or at moments.

    Raises ValueError if it is none of our files.
    """
    try:
        # One thread: a page must not take both cores from whoever receives.
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=_WORDS)
        table = file.read(columns=_TOLD, use_threads=False)
        return _rows(_chosen(table, obis, since_ms, until_ms, at))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(str(error)) from None


def charted(
    content: bytes, obis: str, since_ms: int, until_ms: int, *, step_ms: int, late_ms: int
) -> list[tuple[Any, ...]]:
    """Return the numbers of a register by steps from a moment on, as the engines chart live ones.

    Step, count, least, mean, greatest, how many are suspect, lost and late, and when the last was measured. It is
    reckoned in columns, a tenth of what it costs row by row. Raises ValueError if it is none of our files.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=["obis"])
        table = file.read(columns=_CHARTED, use_threads=False)
        table = _chosen(table, obis, since_ms, until_ms, None)
        kind = pc.bit_wise_and(table["flags"], _i32(KIND_MASK))
        table = table.filter(pc.less(kind, _i32(FIRST_KIND_OF_NO_NUMBER)))
        return _by_step(table, since_ms, step_ms, late_ms)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(str(error)) from None


def _by_step(table: Any, since_ms: int, step_ms: int, late_ms: int) -> list[tuple[Any, ...]]:
    ts = table["ts"].cast(pa.int64())
    rank = pc.bit_wise_and(table["flags"], _i32(QUALITY_MASK))
    scale = pc.power(pa.scalar(10.0, pa.float64()), table["decimals"].cast(pa.float64()))
    value = pc.divide(table["digits"].cast(pa.float64()), scale)
    columns: dict[str, Any] = {
        "step": pc.divide(pc.subtract(ts, _i64(since_ms)), _i64(step_ms)),
        "value": pc.coalesce(value, table["number"]),
        "suspect": pc.equal(rank, _i32(SUSPECT_RANK)).cast(pa.int64()),
        "lost": pc.equal(rank, _i32(COMMS_LOST_RANK)).cast(pa.int64()),
        "late": pc.greater(table["lag_ms"], _i64(late_ms)).cast(pa.int64()),
        "ts": ts,
    }
    wanted: Any = [("value", how) for how in ("count", "min", "mean", "max")]
    wanted += [(name, "sum") for name in ("suspect", "lost", "late")] + [("ts", "max")]
    steps: Any = pa.table(columns).group_by("step", use_threads=False).aggregate(wanted)
    names = ["step", *(f"{name}_{how}" for name, how in wanted)]
    return list(zip(*(steps[name].to_pylist() for name in names), strict=True))


# With its type: to infer it, pyarrow looks for packages that are not there, each time, a fifth of a chart.
def _i32(number: int) -> Any:
    return pa.scalar(number, pa.int32())


def _i64(number: int) -> Any:
    return pa.scalar(number, pa.int64())


_CHARTED: Final = ["obis", "ts", "digits", "decimals", "number", "lag_ms", "flags"]
_WORDS: Final = ["obis", "text", "unit"]
_TOLD: Final = [*_WORDS, "ts", "digits", "decimals", "number", "lag_ms", "flags"]
_POWERS: Final = [10**n for n in range(DECIMALS_MAX + 1)]


def _chosen(
    table: pa.Table,
    obis: str | None,
    since_ms: int | None,
    until_ms: int | None,
    at: Collection[int] | None,
) -> pa.Table:
    terms: list[Any] = []
    if obis is not None:
        terms.append(pc.equal(table["obis"], pa.scalar(obis, pa.string())))
    ts = table["ts"].cast(pa.int64())
    if since_ms is not None:
        terms.append(pc.greater_equal(ts, _i64(since_ms)))
    if until_ms is not None:
        terms.append(pc.less(ts, _i64(until_ms)))
    if at is not None:
        terms.append(pc.is_in(ts, value_set=pa.array(sorted(at), pa.int64())))
    for term in terms[1:]:
        terms[0] = pc.and_(terms[0], term)
    return table.filter(terms[0]) if terms else table


def _rows(table: pa.Table) -> list[ClosedReading]:
    if not table.num_rows:
        return []
    places = list(map(place, _whole(table, "ts")))
    flags = _whole(table, "flags")
    return list(
        map(
            ClosedReading,
            _words(table, "obis"),
            [bucket for bucket, _ in places],
            [ms for _, ms in places],
            _values(table, flags),
            flags,
            _whole(table, "lag_ms"),
            _words(table, "unit"),
        )
    )


def _values(table: pa.Table, flags: Sequence[int]) -> list[Stored]:
    """Return values as a column of any type holds them."""
    values: list[Any] = [
        digits / _POWERS[decimals] if decimals > 0 else digits
        for digits, decimals in zip(
            _whole(table, "digits"), _whole(table, "decimals", _ELSEWHERE), strict=True
        )
    ]
    numbers, texts = table["number"], _words(table, "text")
    for n, decimals in enumerate(_whole(table, "decimals", _ELSEWHERE)):
        if decimals == 0:
            values[n] = stored_as_told(values[n], flags[n])
        elif decimals == _ELSEWHERE:
            value = texts[n] if texts[n] is not None else numbers[n].as_py()
            if value is None:
                raise ValueError("a row without a value")
            values[n] = stored_as_told(value, flags[n])
    return values


_ELSEWHERE: Final = -1
"""Of how many decimals a value is that is not told by its digits."""


def _whole(table: pa.Table, name: str, instead: int = 0) -> list[int]:
    """Return a column of whole numbers from its own memory, a tenth of what it costs one by one."""
    column: Any = table[name]
    column = pc.fill_null(column.cast(pa.int64()), instead).combine_chunks()
    cells = memoryview(column.buffers()[1]).cast("q")
    return cells[column.offset : column.offset + len(column)].tolist()


def _words(table: pa.Table, name: str) -> list[Any]:
    """Return a column of few different words, each made once."""
    column: Any = table[name].combine_chunks()
    words = [*column.dictionary.to_pylist(), None]
    codes = pc.fill_null(column.indices.cast(pa.int64()), -1)
    cells = memoryview(codes.buffers()[1]).cast("q")
    return [words[code] for code in cells[codes.offset : codes.offset + len(codes)].tolist()]
