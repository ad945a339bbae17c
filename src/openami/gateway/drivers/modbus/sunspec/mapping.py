"""Which points are read, as which registers: mapping.toml beside this module. Pure, but for reading that file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files

import msgspec

from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.drivers.modbus.register_map import Certainty, Part
from openami.gateway.strict import convert
from openami.profile import Obis
from openami.toml_text import read_toml


class Unit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of SunSpec's units, and what becomes of it."""

    sunspec: str
    unit: str
    decimals: int
    """Of a float32; an integer has its scale factor's."""
    scale: Decimal = Decimal(1)


class _Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    obis: Obis
    point: str
    group: PollGroup = PollGroup.FAST
    split_sign: Obis | None = None
    net: Obis | None = None
    turns: bool = False
    min: Decimal | None = None
    monotonic: bool = False
    certainty: Certainty | None = None
    note: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: tuple[str, ...]
    certainty: Certainty
    unit: tuple[Unit, ...]
    register: tuple[_Register, ...]
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class Mapped:
    """One register, and the point it is read from."""

    point: str
    part: Part
    turns: bool
    """Whether its sign says which way power flows, and so is the other where export is positive."""
    obis: Obis
    group: PollGroup
    minimum: float | None
    monotonic: bool
    certainty: Certainty

    def info(self, unit: str) -> RegisterInfo:
        """Return what is known of the register before the meter is: decimals are its scale factor's."""
        return RegisterInfo(
            self.obis, unit, self.group, minimum=self.minimum, monotonic=self.monotonic
        )


@dataclass(frozen=True, slots=True)
class PointMapping:
    """The whole mapping."""

    source: tuple[str, ...]
    certainty: Certainty
    units: Mapping[str, Unit]
    registers: tuple[Mapped, ...]
    left_out: Mapping[str, str]
    """Why a point is not read, by its name or a pattern of names."""


@cache
def shipped_mapping() -> PointMapping:
    """Return the mapping that ships with the product."""
    text = files(__package__).joinpath("mapping.toml").read_text("utf-8")
    file = convert(read_toml(text, parse_float=Decimal), _File)
    return PointMapping(
        source=file.source,
        certainty=file.certainty,
        units={unit.sunspec: unit for unit in file.unit},
        registers=tuple(each for entry in file.register for each in _mapped(file, entry)),
        left_out=file.left_out,
    )


def _mapped(file: _File, entry: _Register) -> Iterator[Mapped]:
    parts = {entry.obis: Part.WHOLE}
    if entry.split_sign is not None:
        parts = {entry.obis: Part.POSITIVE, entry.split_sign: Part.NEGATIVE}
    if entry.net is not None:
        parts[entry.net] = Part.WHOLE
    for obis, part in parts.items():
        split = part in (Part.POSITIVE, Part.NEGATIVE)
        yield Mapped(
            point=entry.point,
            part=part,
            turns=entry.turns,
            obis=obis,
            group=entry.group,
            minimum=0.0 if split else None if entry.min is None else float(entry.min),
            monotonic=entry.monotonic,
            certainty=entry.certainty or file.certainty,
        )
