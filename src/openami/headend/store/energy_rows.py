"""A folded day as a row, and back. Pure."""

import json
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final, cast

from openami.headend.consumption import DAY_MS, QUARTERS, Break, BreakKind, DayFold, Sample, to_wh
from openami.headend.store.identity import COMMS_LOST_RANK, ms_at, rank_of, value_of
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row

DAY_COLUMNS: Final = (
    "e.day, e.readings, e.suspect, e.first_ms, e.first_wh, e.last_ms, e.last_wh, "
    "e.counted, e.marks, e.breaks"
)
# Two bytes hold 65 kWh a day, more than a household draws; wider ones are for a feeder's head.
_WIDTHS: Final = (("H", 0xFFFF), ("I", 0xFFFF_FFFF), ("q", 2**63 - 1))
_CODE_OF: Final = {array(code).itemsize: code for code, _ in _WIDTHS}
# The beginning of each quarter hour, and the day's end.
_VALUES: Final = QUARTERS + 1
_LITTLE: Final = sys.byteorder == "little"


def day_cells(series: int, fold: DayFold) -> tuple[Cell, ...]:
    """Return a folded day's cells, in the order of the table."""
    origin = fold.day * DAY_MS
    first = (None, None) if fold.first is None else (fold.first.ms - origin, fold.first.wh)
    last = (None, None) if fold.last is None else (fold.last.ms - origin, fold.last.wh)
    return (
        *(series, fold.day, fold.readings, fold.suspect),
        *(*first, *last),
        _packed(fold.counted) if fold.counted else None,
        fold.marks or None,
        json.dumps(fold.breaks) if fold.breaks else None,
    )


def read_day(cells: Sequence[Any]) -> DayFold:
    """Return what DAY_COLUMNS say."""
    day, readings, suspect, first_ms, first_wh, last_ms, last_wh, counted, marks, breaks = cells
    origin = day * DAY_MS
    return DayFold(
        day,
        readings,
        suspect,
        None if first_ms is None else Sample(origin + first_ms, first_wh),
        None if last_ms is None else Sample(origin + last_ms, last_wh),
        _NONE if counted is None else _unpacked(counted),
        b"" if marks is None else bytes(marks),
        () if breaks is None else tuple(map(_break, json.loads(breaks))),
    )


_NONE: Final = array("q")


def _break(told: Sequence[Any]) -> Break:
    ms, kind, *energies = told
    return Break(ms, BreakKind(kind), *energies)


def _packed(counted: "array[int]") -> bytes:
    greatest = counted[-1]
    code = next(code for code, most in _WIDTHS if greatest <= most)
    packed = array(code, counted)
    if not _LITTLE:
        packed.byteswap()
    return packed.tobytes()


def _unpacked(packed: bytes) -> "array[int]":
    found = array(_CODE_OF[len(packed) // _VALUES], packed)
    if not _LITTLE:
        found.byteswap()
    return found


def sample_of(row: Row) -> Sample | None:
    """Return a reading (bucket, ms, number, text, flags, unit) as a sample; None if it measures no energy.

    A reading its gateway only repeats, because the meter is silent, measures nothing.
    """
    bucket, ms, number, text, flags, unit = cast(Any, row)
    rank = rank_of(flags)
    if rank == COMMS_LOST_RANK:
        return None
    wh = to_wh(value_of(number, text, flags), unit)
    return None if wh is None else Sample(ms_at(bucket, ms), wh, rank > 0)
