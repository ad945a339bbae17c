"""A village's meter as a SunSpec meter keeps it: a marker, the common model, a meter model, the end.

Scale factors range with the load, as those of real meters do: the same power is told in watts or in tenths of one.
"""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Final

from openami.gateway.drivers.modbus.sunspec.models import (
    COMMON,
    Model,
    Point,
    shipped_model,
)
from openami.simulator.modbus_server import Area, Write, WriteRefused
from openami.simulator.plan import UJ_PER_KWH
from openami.simulator.village import Measured

SIMULATED: Final[Mapping[str, int]] = {
    "sunspec-201": 201,
    "sunspec-203": 203,
    "sunspec-211": 211,
    "sunspec-213": 213,
}
"""The simulator's SunSpec meters, by the name a plan gives them: one or three phases, integers or floats."""
BASE: Final = 40_000

_MARKER = b"SunS"
_END = b"\xff\xff\0\0"
_UJ_PER_WH = UJ_PER_KWH // 1000
_INT16_MAX = 0x7FFF  # what a point of this type holds
# The finest digits a meter of this class measures: milliamperes, a tenth of a percent.
_SCALE_FACTOR_MIN = -3
_ABSENT: Final[Mapping[str, bytes]] = {
    "int16": b"\x80\0",
    "uint16": b"\xff\xff",
    "sunssf": b"\x80\0",
    "acc32": b"\0\0\0\0",
    "bitfield32": b"\xff\xff\xff\xff",
    "float32": b"\x7f\xc0\0\0",
}

Values = Mapping[str, float | int | str]


class SunSpecMeter:
    """A register bank that says itself where its registers are."""

    def __init__(
        self, model: int, measure: Callable[[], Measured], *, maker_number: int, base: int = BASE
    ) -> None:
        self._model = shipped_model(model)
        self._measure = measure
        self._base = base
        self._identity: Values = {
            "Mn": "OpenAMI",
            "Md": f"simulated SunSpec {model}",
            "Vr": "1",
            "SN": str(maker_number),
        }

    def registers(self, area: Area) -> Mapping[int, int]:
        """Return the chain of models as it stands now; SunSpec keeps it in holding registers."""
        if area is not Area.HOLDING:
            return {}
        image = b"".join(
            (
                _MARKER,
                _encoded(shipped_model(COMMON), self._identity),
                _encoded(self._model, _points(self._measure())),
                _END,
            )
        )
        words = struct.unpack(f">{len(image) // 2}H", image)
        return dict(enumerate(words, start=self._base))

    def write(self, how: Write, address: int, word: int) -> None:
        """Refuse: it has no relay."""
        raise WriteRefused


def _points(measured: Measured) -> Values:
    """Return what the meter knows, by point and in SunSpec's units: watts, watt-hours, percent."""
    phases = measured.phases
    active = sum(phase.active_w for phase in phases)
    reactive = sum(phase.reactive_var for phase in phases)
    values: dict[str, float | int | str] = {
        "A": sum(phase.current_a for phase in phases),
        "PhV": sum(phase.voltage_v for phase in phases) / len(phases),
        "Hz": measured.frequency_hz,
        "TotWhImp": measured.import_uj // _UJ_PER_WH,
        "TotWhExp": 0,
        "TotVArhImpQ1": measured.reactive_uj // _UJ_PER_WH,
        "Evt": 0,
        **_powers("", active, reactive),
    }
    for letter, phase, imported in zip("ABC", phases, measured.phase_import_uj, strict=False):
        values |= {
            f"Aph{letter}": phase.current_a,
            f"PhVph{letter}": phase.voltage_v,
            f"TotWhImpPh{letter}": imported // _UJ_PER_WH,
            **_powers(f"ph{letter}", phase.active_w, phase.reactive_var),
        }
    return values


def _powers(suffix: str, active: float, reactive: float) -> Values:
    apparent = math.hypot(active, reactive)
    return {
        f"W{suffix}": active,
        f"VA{suffix}": apparent,
        f"VAR{suffix}": reactive,
        f"PF{suffix}": active / apparent if apparent else 1.0,
    }


def _encoded(model: Model, values: Values) -> bytes:
    """Return a model's registers, header and all; what there is no value for is told as not implemented."""
    known = {"ID": model.id, "L": model.length, **values}
    scale_factors = _scale_factors(model, values)
    return b"".join(
        _spelled(point, known.get(point.name), scale_factors) for point in model.points.values()
    )


def _scale_factors(model: Model, values: Values) -> Mapping[str, int]:
    """Return by which power of ten each group of points is told: the finest that its largest value fits."""
    scale_factors: dict[str, int] = {}
    for point in model.points.values():
        value = values.get(point.name)
        if point.scale_factor is None or value is None:
            continue
        fits = 0  # counters count whole units
        if point.type == "int16":
            number = max(
                abs(_told(point, value)), 1
            )  # 1 is told to the finest digit, and so is less
            fits = math.ceil(math.log10(number / _INT16_MAX))
        known = scale_factors.get(point.scale_factor, _SCALE_FACTOR_MIN)
        scale_factors[point.scale_factor] = max(fits, known)
    return scale_factors


def _told(point: Point, value: float | int | str) -> float:
    assert not isinstance(value, str)
    return value * 100 if point.unit == "Pct" else value


def _spelled(
    point: Point, value: float | int | str | None, scale_factors: Mapping[str, int]
) -> bytes:
    if point.type == "string":
        return str(value or "").encode("ascii").ljust(2 * point.words, b"\0")
    if point.type == "pad":
        return bytes(2 * point.words)
    if point.type == "sunssf":
        exponent = scale_factors.get(point.name)
        return _ABSENT["sunssf"] if exponent is None else struct.pack(">h", exponent)
    if value is None:
        return _ABSENT[point.type]
    number = _told(point, value)
    if point.type == "float32":
        return struct.pack(">f", number)
    exponent = 0 if point.scale_factor is None else scale_factors[point.scale_factor]
    return struct.pack(
        {"int16": ">h", "uint16": ">H"}.get(point.type, ">I"), round(number / 10.0**exponent)
    )
