"""Profile generic: load profiles and event logs, read by a range of time (class 7). Pure.

A profile's rows are told in the order of its capture objects, which must be read first: a column's place is
the meter's choice. A row without a time of its own follows the one before it by the capture period.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from openami.gateway.driver import LoggedEvent
from openami.gateway.drivers.dlms import data
from openami.gateway.drivers.dlms.apdu import Attribute, LogicalName
from openami.gateway.drivers.dlms.cosem import VALUE, ClassId, read_number
from openami.gateway.drivers.dlms.data import Value
from openami.gateway.drivers.dlms.errors import WrongType
from openami.gateway.drivers.dlms.times import MeterTime, Zone, read_time, write_time

CLOCK: Final[LogicalName] = bytes((0, 0, 1, 0, 0, 255))
COLUMNS_MAX: Final = 64  # the widest load profile of a companion standard has 30
_BY_RANGE: Final = b"\x01"
_LOG_A, _LOG_C = 0, 96
_LOG_EVENT_CODE: Final = 11


@dataclass(frozen=True, slots=True)
class Row:
    """One captured row: when, and the values beside the time, by the attribute they were captured from."""

    time: MeterTime
    values: Mapping[Attribute, Value]


def read_columns(value: Value) -> tuple[Attribute, ...]:
    """Return what each column was captured from, in the order of the columns. Raises WrongType."""
    if not isinstance(value, tuple) or not 0 < len(value) <= COLUMNS_MAX:
        raise WrongType("capture objects are a list")
    return tuple(_column(entry) for entry in value)


def _column(entry: Value) -> Attribute:
    match entry:
        case (int() as class_id, bytes() as name, int() as index, int()) if (
            len(name) == 6 and 0 <= class_id <= 0xFFFF and 0 <= index <= 0x7F
        ):
            return Attribute(class_id, name, index)
    raise WrongType("a capture object is class, logical name, attribute and index")


def range_selection(first: datetime, last: datetime, zone: Zone, offset_minutes: int) -> bytes:
    """Return the access selection of the rows from ``first`` to ``last``, all columns, by the clock."""
    clock = data.structure(
        data.uint16(ClassId.CLOCK), data.octet_string(CLOCK), data.int8(VALUE), data.uint16(0)
    )
    ends = (data.octet_string(write_time(at, zone, offset_minutes)) for at in (first, last))
    return _BY_RANGE + data.structure(clock, *ends, data.array())


def read_rows(
    value: Value, columns: Sequence[Attribute], zone: Zone, period_s: int
) -> tuple[Row, ...]:
    """Return the rows of a buffer; one whose time cannot be known is left out. Raises WrongType."""
    if not isinstance(value, tuple):
        raise WrongType("a buffer is a list of rows")
    clock_at = _clock_column(columns)
    rows: list[Row] = []
    before: MeterTime | None = None
    for entry in value:
        if not isinstance(entry, tuple) or len(entry) != len(columns):
            raise WrongType("a row has another number of values than there are columns")
        before = _time_of(entry[clock_at], zone, before, period_s)
        if before is not None:
            values = {
                column: told
                for at, (column, told) in enumerate(zip(columns, entry, strict=True))
                if at != clock_at and told is not None
            }
            rows.append(Row(before, values))
    return tuple(rows)


def _clock_column(columns: Sequence[Attribute]) -> int:
    for at, column in enumerate(columns):
        if column.class_id == ClassId.CLOCK and column.index == VALUE:
            return at
    raise WrongType("a profile without a clock: its rows have no times")


def _time_of(value: Value, zone: Zone, before: MeterTime | None, period_s: int) -> MeterTime | None:
    told = read_time(value, zone)
    if told is None and before is not None and period_s > 0:
        return MeterTime(before.at + timedelta(seconds=period_s), before.believed)
    return told


def logged_events(rows: Sequence[Row], log: str, code_system: str) -> tuple[LoggedEvent, ...]:
    """Return the event codes that the rows of the log called ``log`` hold. Raises WrongType.

    A time whose zone neither the meter nor its options tell is taken for UTC, and not believed.
    """
    events = []
    for row in rows:
        for column, value in row.values.items():
            a, _, c, d, _, _ = column.name
            if (a, c, d) == (_LOG_A, _LOG_C, _LOG_EVENT_CODE) and column.index == VALUE:
                code = read_number(value)
                if not isinstance(code, int):
                    raise WrongType("an event code is a whole number")
                told = row.time
                at = told.at if told.at.tzinfo is not None else told.at.replace(tzinfo=UTC)
                believed = told.believed and told.at.tzinfo is not None
                events.append(LoggedEvent(at, believed, log, code, code_system))
    return tuple(events)
