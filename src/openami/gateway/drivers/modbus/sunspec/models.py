"""SunSpec's model definitions: which point stands where in a model. Pure, but for reading the shipped files.

The files are the SunSpec Alliance's (Apache-2.0, THIRD_PARTY_NOTICES). They give each point's size and type;
where it stands follows from the order. What a type's "not implemented" looks like is in the SunSpec Information
Model Specification, and here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from openami.gateway.drivers.modbus.register_map import NumberType

COMMON: Final = 1
METERS: Final = (201, 202, 203, 204, 211, 212, 213, 214)
# Every model begins with its id and its length, which counts from behind them.
HEADER_WORDS: Final = 2


@dataclass(frozen=True, slots=True)
class PointType:
    """How a point's value is spelled, and what stands there where the meter does not have it."""

    number: NumberType
    absent: frozenset[int] = frozenset()


# An accumulator that never counted is 0, and so is one the meter does not have. The highest bit of a bit field
# says that none of it is implemented; makers set all bits, or that one alone.
POINT_TYPES: Final[Mapping[str, PointType]] = {
    "int16": PointType(NumberType.I16, frozenset({0x8000})),
    "uint16": PointType(NumberType.U16, frozenset({0xFFFF})),
    "acc32": PointType(NumberType.U32, frozenset({0})),
    "bitfield32": PointType(NumberType.U32, frozenset({0xFFFFFFFF, 0x80000000})),
    "float32": PointType(NumberType.FLOAT32),  # NaN is no number, whatever its bits
    "sunssf": PointType(NumberType.I16, frozenset({0x8000})),
    "string": PointType(NumberType.ASCII),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a model; ``offset`` counts registers from the model's id."""

    name: str
    type: str
    offset: int
    words: int
    scale_factor: str | None
    """The point that tells by which power of ten this one is multiplied."""
    unit: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model's layout."""

    id: int
    points: Mapping[str, Point]

    @property
    def length(self) -> int:
        """What its header tells as its length: the registers behind the header."""
        return max(point.offset + point.words for point in self.points.values()) - HEADER_WORDS


@cache
def shipped_model(model: int) -> Model:
    """Return a model that ships with the product. Raises FileNotFoundError for any other."""
    text = files(__package__).joinpath("models", f"model_{model}.json").read_text("utf-8")
    points: dict[str, Point] = {}
    offset = 0
    for point in json.loads(text)["group"]["points"]:
        points[point["name"]] = Point(
            name=point["name"],
            type=point["type"],
            offset=offset,
            words=point["size"],
            scale_factor=point.get("sf"),
            unit=point.get("units", ""),
        )
        offset += point["size"]
    return Model(model, points)
