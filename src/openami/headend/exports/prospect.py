"""Readings in the columns Prospect (A2EI) and UNDP's Africa Minigrids Program publish.

``installations_ts`` and ``meters_ts``; the latter is marked deprecated there and still published. A register that
is not good is left empty and its quality told in ``custom.quality``: never a silent zero. Not offered, because the
head-end does not know it: ``meter_events_ts``, ``payments_ts``, ``installations`` and every ``ac_input_…``.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from openami.headend.assets.billing import cycle_start
from openami.headend.consumption import to_wh
from openami.headend.exports.neutral import Cell, Places, TableRow
from openami.headend.store import MeterRow, Reading
from openami.profile import Quality, utc_text

UNKNOWN_MAKER: Final = "unknown"
"""What stands in ``manufacturer``, which is required, where nobody has said."""


class ProspectTable(StrEnum):
    """The tables that are offered, by their published names."""

    INSTALLATIONS = "installations_ts"
    METERS = "meters_ts"


COLUMNS: Final[Mapping[ProspectTable, Sequence[str]]] = {
    ProspectTable.INSTALLATIONS: (
        *("metered_at", "serial_number", "manufacturer", "interval_seconds"),
        *("output_energy_interval_wh", "output_energy_cumulative_wh", "output_power_w"),
        *("output_voltage_v", "output_current_a", "output_frequency_hz", "custom.quality"),
    ),
    ProspectTable.METERS: (
        *("manufacturer", "serial_number", "metered_at", "phase", "voltage_v", "power_factor"),
        *("power_w", "energy_lifetime_wh", "energy_interval_wh", "frequency_hz", "current_a"),
        *("interval_seconds", "billing_cycle_start_at", "custom.quality"),
    ),
}
_ENERGY: Final = "1.8.0"
_POWER: Final = ("16.7.0", "1.7.0")
_POWER_FACTOR: Final = ("13.7.0", "33.7.0")
_FREQUENCY: Final = "14.7.0"
_VOLTAGE, _CURRENT = "32.7.0", "31.7.0"
# Who tells of these has three phases, for which the tables have one column.
_OTHER_PHASES: Final = frozenset({"52.7.0", "72.7.0", "51.7.0", "71.7.0"})
_USED: Final = frozenset(
    {_ENERGY, *_POWER, *_POWER_FACTOR, _FREQUENCY, _VOLTAGE, _CURRENT} | _OTHER_PHASES
)
_SCALE: Final = {"kw": 1000.0, "mw": 1e6, "w": 1.0, "v": 1.0, "a": 1.0, "ma": 0.001, "hz": 1.0}


@dataclass(frozen=True, slots=True)
class _Moment:
    """What one meter told at one moment."""

    meter: MeterRow
    ts: datetime
    registers: Mapping[str, Reading]


async def prospect_rows(
    readings: AsyncIterable[tuple[MeterRow, Reading]],
    table: ProspectTable,
    places: Places,
    *,
    manufacturer: str = UNKNOWN_MAKER,
) -> AsyncIterator[TableRow]:
    """Yield one row for each meter and moment; ``readings`` come by meter, then by time."""
    before: _Moment | None = None
    async for moment in _moments(readings):
        same = before is not None and before.meter == moment.meter
        row = await _row(moment, before if same else None, places, manufacturer)
        yield {column: row.get(column) for column in COLUMNS[table]}
        if _ENERGY in moment.registers and _good(moment.registers[_ENERGY]):
            before = moment
        elif not same:
            before = None


async def _moments(
    readings: AsyncIterable[tuple[MeterRow, Reading]],
) -> AsyncIterator[_Moment]:
    told: dict[str, Reading] = {}
    last: tuple[MeterRow, datetime] | None = None
    async for meter, reading in readings:
        if str(reading.obis) not in _USED:
            continue
        if last is not None and last != (meter, reading.ts):
            yield _Moment(*last, told)
            told = {}
        last = (meter, reading.ts)
        told[str(reading.obis)] = reading
    if last is not None:
        yield _Moment(*last, told)


async def _row(
    moment: _Moment, before: _Moment | None, places: Places, manufacturer: str
) -> dict[str, Cell]:
    registers = moment.registers
    feeder_id, serial = moment.meter.feeder_id, moment.meter.meter_serial
    assets = await places.feeder(feeder_id)
    placements = await places.placements(feeder_id, serial)
    at = next((each for each in placements if each.counts_at(moment.ts)), None)
    one_phase = not registers.keys() & _OTHER_PHASES
    energy_wh = _wh(registers.get(_ENERGY))
    voltage = _scaled(registers.get(_VOLTAGE)) if one_phase else None
    current = _scaled(registers.get(_CURRENT)) if one_phase else None
    power = _first(registers, _POWER)
    interval_wh, interval_s = _interval(moment, before, energy_wh)
    bad = sorted({str(each.quality) for each in registers.values() if not _good(each)})
    at_text, frequency = utc_text(moment.ts), _scaled(registers.get(_FREQUENCY))
    return {
        "metered_at": at_text,
        "serial_number": serial,
        "manufacturer": manufacturer,
        "interval_seconds": interval_s,
        "energy_interval_wh": interval_wh,
        "output_energy_interval_wh": interval_wh,
        "energy_lifetime_wh": energy_wh,
        "output_energy_cumulative_wh": energy_wh,
        "power_w": power,
        "output_power_w": power,
        "voltage_v": voltage,
        "output_voltage_v": voltage,
        "current_a": current,
        "output_current_a": current,
        "frequency_hz": frequency,
        "output_frequency_hz": frequency,
        "power_factor": _first(registers, _POWER_FACTOR),
        "phase": None if at is None else at.phase or None,
        "billing_cycle_start_at": utc_text(cycle_start(assets.feeder, moment.ts)),
        "custom.quality": " ".join(bad) or None,
    }


def _interval(
    moment: _Moment, before: _Moment | None, energy_wh: int | None
) -> tuple[int | None, int | None]:
    """Return what was used since the reading before, and in how many seconds; nothing for a register that fell."""
    if before is None or energy_wh is None:
        return None, None
    earlier = _wh(before.registers.get(_ENERGY))
    if earlier is None or energy_wh < earlier:
        return None, None
    return energy_wh - earlier, round((moment.ts - before.ts).total_seconds())


def _good(reading: Reading) -> bool:
    return reading.quality is Quality.GOOD


def _wh(reading: Reading | None) -> int | None:
    if reading is None or not _good(reading):
        return None
    return to_wh(reading.value, reading.unit)


def _scaled(reading: Reading | None) -> float | None:
    if reading is None or not _good(reading) or isinstance(reading.value, str | bool):
        return None
    scale = _SCALE.get(reading.unit.lower(), 1.0 if reading.unit in ("", "1") else None)
    return None if scale is None else reading.value * scale


def _first(registers: Mapping[str, Reading], names: Sequence[str]) -> float | None:
    found = (_scaled(registers.get(name)) for name in names)
    return next((value for value in found if value is not None), None)
