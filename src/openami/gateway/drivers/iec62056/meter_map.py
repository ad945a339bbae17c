"""Meter maps: under which code a meter's read-out has which register of the list, as data.

A map is one TOML file. Meters write code and unit themselves, so a map says which data set is meant, how it is
to be judged, and no more. The keys are described in docs/drivers.md; an unknown key is an error.

Pure: text in, MeterMap out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from openami.gateway import map_files
from openami.gateway.driver import KeyPath, RegisterInfo
from openami.gateway.map_files import RegisterTable
from openami.gateway.strict import TableError
from openami.profile import Obis, ProfileError

CLOCK: Final = Obis.parse("0-0:1.0.0")
DATES: Final = (Obis.parse("1-0:0.9.2"), Obis.parse("0-0:0.9.2"))
TIMES_OF_DAY: Final = (Obis.parse("1-0:0.9.1"), Obis.parse("0-0:0.9.1"))
"""What makes the clock where a read-out has not 1.0.0; makers differ in A."""
_CURRENT_SET: Final = 255


class Certainty(StrEnum):
    """How sure a line is."""

    STANDARD = "standard"
    """The code's meaning in IEC 62056-6-1, its form in IEC 62056-21."""
    FIELD = "field"
    """Read-outs of meters in use, published by others, have it so."""
    UNVERIFIED = "unverified"
    """Engineering knowledge: compare with the meter's display before you rely on it."""


class Kind(StrEnum):
    """What a data set's value becomes."""

    NUMBER = "number"
    TEXT = "text"
    TIME = "time"


# --- the file ------------------------------------------------------------------------------------

_Codes = Annotated[tuple[str, ...], Meta(min_length=1, max_length=8)]  # more is another map


class _Register(RegisterTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_set: str | _Codes | None = None
    told_unit: str | None = None
    text: bool = False
    certainty: Certainty | None = None


class _Identify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_set: str | _Codes
    certainty: Certainty | None = None
    note: str = ""


class _MapFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    vendor: str
    model: str
    source: tuple[str, ...]
    certainty: Certainty
    register: tuple[_Register, ...]
    notes: tuple[str, ...] = ()
    identify: _Identify | None = None


# --- the map -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Register:
    """One register as it is published: from which data set, and how it is to be judged."""

    info: RegisterInfo
    kind: Kind
    codes: tuple[Obis, ...]
    """The data sets that may hold it: the first of them that the read-out has, does."""
    told_unit: str
    """The unit of a meter that writes none."""
    certainty: Certainty


@dataclass(frozen=True, slots=True)
class MeterMap:
    """A meter type."""

    id: str
    vendor: str
    model: str
    source: tuple[str, ...]
    certainty: Certainty
    registers: Mapping[Obis, Register]
    identify: tuple[Obis, ...]
    """The data sets that may hold the meter's own serial number, the first that is there; none: it tells none."""


def read_map(text: str) -> MeterMap:
    """Return the map a TOML text describes. Raises MapError."""
    return map_files.read(text, _MapFile, _build)


def _build(file: _MapFile) -> MeterMap:
    registers: dict[Obis, Register] = {}
    for at, entry in enumerate(file.register):
        if entry.obis in registers:
            raise TableError(f"{entry.obis} stands twice", path=("register", at))
        registers[entry.obis] = _register(file, entry, ("register", at))
    map_files.check_whole(registers, file.source)
    identify = file.identify
    return MeterMap(
        id=file.id,
        vendor=file.vendor,
        model=file.model,
        source=file.source,
        certainty=file.certainty,
        registers=registers,
        identify=()
        if identify is None
        else _codes(identify.data_set, path=("identify", "data_set")),
    )


def _register(file: _MapFile, entry: _Register, path: KeyPath) -> Register:
    kind = Kind.TIME if entry.obis == CLOCK else Kind.TEXT if entry.text else Kind.NUMBER
    if kind is not Kind.NUMBER and entry.told_unit is not None:
        raise TableError("only a number has a unit", path=(*path, "told_unit"))
    return Register(
        info=entry.info,
        kind=kind,
        codes=(entry.obis,)
        if entry.data_set is None
        else _codes(entry.data_set, path=(*path, "data_set")),
        told_unit=entry.told_unit or "",
        certainty=entry.certainty or file.certainty,
    )


def _codes(given: str | tuple[str, ...], path: KeyPath) -> tuple[Obis, ...]:
    codes = tuple(_code(text, path) for text in ((given,) if isinstance(given, str) else given))
    for code in codes:
        if code.groups[-1] != _CURRENT_SET:
            raise TableError(f"{code} is of a past period, not the current value", path=path)
    return codes


def _code(text: str, path: KeyPath) -> Obis:
    try:
        return Obis.parse(text)
    except ProfileError as error:
        raise TableError(error.detail, path=path) from None
