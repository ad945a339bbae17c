"""What is asked of a meter, as dialogues: its registers, its name, its relay, its profiles, its clock. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, assert_never

from openami.gateway.driver import RawReading, RelayPosition
from openami.gateway.drivers.dlms import data
from openami.gateway.drivers.dlms.apdu import Attribute
from openami.gateway.drivers.dlms.association import Association
from openami.gateway.drivers.dlms.cosem import (
    CAPTURE_OBJECTS,
    CAPTURE_PERIOD,
    CONTROL_STATE,
    REMOTE_DISCONNECT,
    REMOTE_RECONNECT,
    VALUE,
    ClassId,
    Scale,
    multiplied,
    read_control_state,
    read_number,
    read_output_state,
    read_scale,
    read_text,
    relay_position,
    scaled,
)
from openami.gateway.drivers.dlms.data import Value
from openami.gateway.drivers.dlms.errors import ServiceRefused, WrongType
from openami.gateway.drivers.dlms.meter_map import Kind, Register
from openami.gateway.drivers.dlms.profile_generic import (
    CLOCK,
    Row,
    range_selection,
    read_columns,
    read_rows,
)
from openami.gateway.drivers.dlms.steps import Steps
from openami.gateway.drivers.dlms.times import (
    Zone,
    read_time,
    told_offset_minutes,
    write_time,
)
from openami.profile import Obis

# Asking again does not help: the meter has no such object, or not for this client.
_NOT_THERE: Final = frozenset(
    ("read-write-denied", "object-undefined", "object-class-inconsistent", "object-unavailable")
)
_ORDERS: Final[Mapping[RelayPosition, int]] = {
    RelayPosition.DISCONNECTED: REMOTE_DISCONNECT,
    RelayPosition.CONNECTED: REMOTE_RECONNECT,
}


@dataclass(slots=True)
class Known:
    """What an association has found out, and need not ask again. Bounded by the meter's map."""

    scales: dict[Attribute, Scale] = field(default_factory=dict)
    absent: set[Obis] = field(default_factory=set)
    """Registers the meter does not have."""
    left_out: dict[Obis, str] = field(default_factory=dict)
    """Registers that gave no value, and why."""
    offset_minutes: int | None = None
    """Local time minus UTC as the meter's clock last told it: some compare times without their deviation."""


def read_registers(
    association: Association, registers: Sequence[Register], zone: Zone, known: Known
) -> Steps[tuple[RawReading, ...]]:
    """Return what the meter tells of these; what it does not have is left out, and noted in ``known``.

    Raises DlmsError; ServiceRefused or WrongType only where nothing was read at all.
    """
    readings: list[RawReading] = []
    refusals: list[ServiceRefused | WrongType] = []
    positions: dict[Attribute, RelayPosition] = {}  # two codes of the list may mean one relay
    for register in registers:
        obis = register.info.obis
        if obis in known.absent:
            continue
        try:
            value: Decimal | str | None
            if register.kind is Kind.RELAY:
                if register.attribute not in positions:
                    position = yield from read_position(association, register.attribute.name)
                    positions[register.attribute] = position
                value = positions[register.attribute].value
            else:
                value = yield from _read_register(association, register, zone, known)
        except ServiceRefused as refusal:
            refusals.append(refusal)
            known.left_out[obis] = str(refusal)
            if refusal.word in _NOT_THERE:
                known.absent.add(obis)
        except WrongType as wrong:
            refusals.append(WrongType(f"{register.attribute}: {wrong}"))
            known.left_out[obis] = str(refusals[-1])
        else:
            if value is not None:
                readings.append(RawReading(obis, value, register.info.unit))
    if refusals and not readings:
        raise refusals[0]
    return tuple(readings)


def _read_register(
    association: Association, register: Register, zone: Zone, known: Known
) -> Steps[Decimal | str | None]:
    value = yield from association.get(register.attribute)
    match register.kind:
        case Kind.SCALED | Kind.NUMBER:
            return (yield from _number(association, register, value, known))
        case Kind.TEXT:
            return read_text(value)
        case Kind.TIME:
            known.offset_minutes = told_offset_minutes(value, zone)
            told = read_time(value, zone)
            return None if told is None else told.at.isoformat()
        case Kind.RELAY:
            raise AssertionError("a relay has two attributes, and is read by its own dialogue")
        case _:
            assert_never(register.kind)


def _number(
    association: Association, register: Register, value: Value, known: Known
) -> Steps[Decimal | None]:
    """Return a value in the register's unit; its scaler is asked for the first time it is needed."""
    if register.kind is Kind.NUMBER:
        return multiplied(value, register.scale)
    scale = known.scales.get(register.scaler)
    if scale is None:
        scale = read_scale((yield from association.get(register.scaler)))
        known.scales[register.scaler] = scale
    return scaled(value, scale, register.info.unit)


def read_identity(association: Association, attribute: Attribute) -> Steps[str]:
    """Return the serial number the meter tells. Raises DlmsError."""
    return read_text((yield from association.get(attribute)))


# --- relay ---------------------------------------------------------------------------------------


def read_position(association: Association, relay: bytes) -> Steps[RelayPosition]:
    """Return where the contactor stands, by its output and its control state. Raises DlmsError."""
    state = yield from association.get(_control(relay, CONTROL_STATE))
    try:
        told = yield from association.get(_control(relay, VALUE))
    except ServiceRefused:
        return relay_position(None, read_control_state(state))
    return relay_position(read_output_state(told), read_control_state(state))


def order_position(association: Association, relay: bytes, position: RelayPosition) -> Steps[None]:
    """Call remote_disconnect or remote_reconnect, once. Raises DlmsError.

    In several control modes a reconnection only arms the meter: the customer has to press its button.
    """
    yield from association.act(_control(relay, _ORDERS[position]), data.int8(0))


def _control(relay: bytes, index: int) -> Attribute:
    return Attribute(ClassId.DISCONNECT_CONTROL, relay, index)


# --- profiles ------------------------------------------------------------------------------------


def rows_between(
    association: Association,
    profile: bytes,
    first: datetime,
    last: datetime,
    zone: Zone,
    *,
    offset_minutes: int = 0,
) -> Steps[tuple[Row, ...]]:
    """Return a profile's rows from ``first`` to ``last``: a load profile's, or an event log's.

    ``offset_minutes`` is the local time the meter's clock keeps. A meter that gives more than was asked for
    is cut to it. Raises DlmsError.
    """
    columns = read_columns((yield from association.get(_profile(profile, CAPTURE_OBJECTS))))
    period = read_number((yield from association.get(_profile(profile, CAPTURE_PERIOD))))
    selection = range_selection(first, last, zone, offset_minutes)
    buffer = yield from association.get(_profile(profile, VALUE), selection)
    rows = read_rows(buffer, columns, zone, period if isinstance(period, int) else 0)
    return tuple(row for row in rows if row.time.at.tzinfo is None or first <= row.time.at <= last)


def read_intervals(
    association: Association,
    profile: bytes,
    registers: Sequence[Register],
    span: tuple[datetime, datetime],
    zone: Zone,
    known: Known,
) -> Steps[tuple[RawReading, ...]]:
    """Return what a load profile has kept of these registers, each with the time the meter captured it.

    Rows whose time is not known in UTC, or not believed by the meter itself, are left out. Raises DlmsError.
    """
    offset_minutes = zone.utc_offset_minutes or known.offset_minutes or 0
    rows = yield from rows_between(association, profile, *span, zone, offset_minutes=offset_minutes)
    by_column = {
        register.attribute: register
        for register in registers
        if register.kind in (Kind.SCALED, Kind.NUMBER)
    }
    readings: list[RawReading] = []
    for row in rows:
        if row.time.at.tzinfo is None or not row.time.believed:
            continue
        for column, value in row.values.items():
            register = by_column.get(column)
            if register is None:
                continue
            number = yield from _number(association, register, value, known)
            if number is not None:
                info = register.info
                readings.append(RawReading(info.obis, number, info.unit, row.time.at))
    return tuple(readings)


def _profile(profile: bytes, index: int) -> Attribute:
    return Attribute(ClassId.PROFILE_GENERIC, profile, index)


# --- clock ---------------------------------------------------------------------------------------


_THE_CLOCK: Final = Attribute(ClassId.CLOCK, CLOCK, VALUE)


def read_offset(association: Association, zone: Zone) -> Steps[int]:
    """Return local time minus UTC, in minutes, as the meter's clock keeps it now. Raises DlmsError."""
    told = told_offset_minutes((yield from association.get(_THE_CLOCK)), zone)
    return zone.utc_offset_minutes or told or 0


def write_clock(
    association: Association, now: datetime, zone: Zone, offset_minutes: int
) -> Steps[None]:
    """Set the meter's clock to ``now``, written in the local time it keeps. Raises DlmsError."""
    written = data.octet_string(write_time(now, zone, offset_minutes))
    yield from association.set(_THE_CLOCK, written)
