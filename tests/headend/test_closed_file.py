"""A closed month as a file: how little a reading takes of it, and who else can read it."""

import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openami.headend.store.closed_file import ClosedReading, read, written
from openami.headend.store.identity import ms_at, place

QUARTER_MS = 15 * 60 * 1000
BEGIN_MS = 1_767_225_600_000  # 2026-01-01
DAYS = 31
# What is asked of a closed day (docs/decisions/0075-closed-months.md).
BYTES_A_READING_MAX = 3.0


def month(beyond_ms: Callable[[random.Random], int]) -> list[ClosedReading]:
    """Return a month of energy, power and voltage each quarter hour, as a meter shows them.

    ``beyond_ms``: how long after the quarter it is read.
    """
    dice, energy, rows = random.Random(1), 1234.56, []
    for quarter in range(DAYS * 96):
        kw = dice.expovariate(1 / 0.15)
        energy += kw / 4
        volts = 228 + dice.gauss(0, 3)
        at = place(BEGIN_MS + quarter * QUARTER_MS + beyond_ms(dice))
        lag_ms = dice.randrange(100, 5_000)
        rows += [
            ClosedReading("1.8.0", *at, round(energy, 2), 0, lag_ms, "kWh"),
            ClosedReading("1.7.0", *at, round(kw, 3), 0, lag_ms, "kW"),
            ClosedReading("32.7.0", *at, round(volts, 1), 0, lag_ms, "V"),
        ]
    return rows


def any_millisecond(dice: random.Random) -> int:
    return dice.randrange(30_000)


def on_the_second(dice: random.Random) -> int:
    return 0


@pytest.mark.parametrize(
    ("beyond_ms", "times"),
    [(any_millisecond, "BYTE_STREAM_SPLIT"), (on_the_second, "DELTA_BINARY_PACKED")],
)
def test_a_reading_takes_three_bytes_however_the_gateway_keeps_time(
    beyond_ms: Callable[[random.Random], int], times: str
) -> None:
    rows = month(beyond_ms)
    content = written("feeder-a", "M-1", rows)
    assert len(content) / len(rows) <= BYTES_A_READING_MAX
    told = pq.read_metadata(io.BytesIO(content)).row_group(0)
    [ts] = [
        told.column(n) for n in range(told.num_columns) if told.column(n).path_in_schema == "ts"
    ]
    assert times in ts.encodings, "whichever is smaller"
    assert read(content) == sorted(rows)


def test_another_program_reads_times_and_receipts_of_any_millisecond(tmp_path: Path) -> None:
    rows = month(any_millisecond)
    file = tmp_path / "month.parquet"
    file.write_bytes(written("feeder-a", "M-1", rows))
    asked = (
        f"import duckdb; print(*duckdb.sql(\"SELECT count(*), sum(lag_ms), sum(epoch_ms(ts)) FROM '{file}'\")"
        ".fetchall()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60
    )
    expected = (
        len(rows),
        sum(row.lag_ms for row in rows),
        sum(ms_at(row.bucket, row.ms) for row in rows),
    )
    assert tuple(int(each) for each in done.stdout.split()) == expected
