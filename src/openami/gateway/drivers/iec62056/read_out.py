"""A read-out → readings: which data set is which register, in which unit. Pure.

A code names the same data set in its reduced and in its full form (IEC 62056-6-1): ``1.8.0``, ``1-0:1.8.0``,
``1-0:1.8.0*255``. With ``*01`` or ``&01`` it is a past period's, and never taken for the current value.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, assert_never

from openami.gateway.driver import RawReading
from openami.gateway.drivers.iec62056.data_sets import DataSet, read_data_sets
from openami.gateway.drivers.iec62056.errors import WrongValue
from openami.gateway.drivers.iec62056.forms import form_of
from openami.gateway.drivers.iec62056.meter_map import (
    CLOCK,
    DATES,
    TIMES_OF_DAY,
    Kind,
    MeterMap,
    Register,
)
from openami.gateway.drivers.iec62056.times import Zone, read_time, read_time_of_two
from openami.gateway.drivers.iec62056.units import in_unit
from openami.profile import Obis, ProfileError

# Fifteen digits before the point and nine behind it: more than any meter counts, and exact in Decimal's 28.
_number = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{0,9})?").fullmatch
_none = re.compile(r"[-. ]*").fullmatch
_ANY: Final = (None, None)


@dataclass(frozen=True, slots=True)
class ReadOut:
    """What a meter has told at once."""

    identity: str | None
    """Its own serial number, where its map says where it stands and it does."""
    readings: Mapping[Obis, RawReading]
    left_out: Mapping[Obis, str]
    """Registers of the map that have no value, and why."""
    forms: Mapping[Obis, str]
    """What the data sets look like that were made use of, by their own codes."""


def understood(data: bytes, meter_map: MeterMap, zone: Zone) -> ReadOut:
    """Return what a block's data tell of a map's registers. Raises UnfitAnswer."""
    told = _Told(read_data_sets(data))
    readings: dict[Obis, RawReading] = {}
    left_out: dict[Obis, str] = {}
    for obis, register in meter_map.registers.items():
        try:
            value = _value(told, register, zone)
        except WrongValue as wrong:
            left_out[obis] = f"{obis}: {wrong}"
        else:
            if value is not None:
                readings[obis] = RawReading(obis, value, register.info.unit)
    return ReadOut(_identity(told, meter_map), readings, left_out, told.forms())


class _Told:
    """The data sets by what their code means: a past period's has a code of its own."""

    def __init__(self, data_sets: Sequence[DataSet]) -> None:
        self._by_code: dict[Obis, DataSet] = {}
        self._twice: set[Obis] = set()
        self._used: dict[Obis, DataSet] = {}
        for data_set in data_sets:
            try:
                code = Obis.parse(data_set.code)
            except ProfileError:
                continue  # a code of the maker's own
            if self._by_code.setdefault(code, data_set).values != data_set.values:
                self._twice.add(code)

    def find(self, codes: Sequence[Obis]) -> DataSet | None:
        """Return the first of these that was told. Raises WrongValue where it was told twice, differently."""
        for code in codes:
            for spelled in dict.fromkeys((code, *_other_spellings(code, self._by_code))):
                if spelled in self._twice:
                    raise WrongValue(f"{spelled} stands twice in the read-out, with two values")
                if spelled in self._by_code:
                    self._used[spelled] = self._by_code[spelled]
                    return self._by_code[spelled]
        return None

    def forms(self) -> Mapping[Obis, str]:
        """Return what the values look like that have been asked for."""
        return {code: form_of(used.values[0]) for code, used in self._used.items()}


def _other_spellings(code: Obis, told: Mapping[Obis, DataSet]) -> Sequence[Obis]:
    """Return what may be the same data set told with A and B where the map has none, or the other way round."""
    return [
        other
        for other in told
        if other.groups[2:] == code.groups[2:] and _ANY in (other.groups[:2], code.groups[:2])
    ]


def _identity(told: _Told, meter_map: MeterMap) -> str | None:
    try:
        found = told.find(meter_map.identify)
    except WrongValue:
        return None
    return None if found is None else found.values[0].text.strip()


def _value(told: _Told, register: Register, zone: Zone) -> Decimal | str | None:
    """Return the register's value; None where the meter has left its place empty. Raises WrongValue."""
    found = told.find(register.codes)
    if found is None and register.kind is not Kind.TIME:
        raise WrongValue("the meter does not tell it")
    match register.kind:
        case Kind.NUMBER:
            assert found is not None
            return _read_number(found, register)
        case Kind.TEXT:
            assert found is not None
            return found.values[0].text.strip() or None
        case Kind.TIME:
            return _read_clock(told, found, zone)
        case _:
            assert_never(register.kind)


def _read_number(found: DataSet, register: Register) -> Decimal | None:
    text, unit = found.values[0].text.strip(), found.values[0].unit.strip()
    if _none(text):
        return None
    if _number(text) is None:
        raise WrongValue(f"{text!r} is no number")
    return in_unit(Decimal(text), unit or register.told_unit, register.info.unit)


def _read_clock(told: _Told, found: DataSet | None, zone: Zone) -> str:
    if found is not None:
        return read_time(found.values[0].text, zone).isoformat()
    date, time_of_day = told.find(DATES), told.find(TIMES_OF_DAY)
    if date is None or time_of_day is None:
        raise WrongValue(
            f"the meter tells neither {CLOCK} nor both {DATES[0]} and {TIMES_OF_DAY[0]}"
        )
    return read_time_of_two(date.values[0].text, time_of_day.values[0].text, zone).isoformat()
