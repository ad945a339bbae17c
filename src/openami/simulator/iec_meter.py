"""A village meter as it reads itself out by IEC 62056-21: a meter map, filled from the village. Pure.

Beside what its map names it writes what real read-outs have and no gateway may take for a current value: the
registers of past months, and codes of the maker's own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from openami.gateway.drivers.iec62056.meter_map import Kind, MeterMap, Register
from openami.profile import Obis
from openami.simulator.display import Quantity, quantities
from openami.simulator.village import Measured

IDENTIFICATION = "SIm5OpenAMI-1"  # the small letter: a meter that reacts within 20 ms
# Width and decimals as meters write them; energy is cut off as a counter's wheels would, the rest rounded.
_FORMS = {
    "kWh": (10, 3),
    "kvarh": (10, 3),
    "kW": (7, 3),
    "kvar": (7, 3),
    "V": (5, 1),
    "A": (6, 2),
    "Hz": (5, 2),
    "1": (5, 3),
    "count": (6, 0),
}
_COUNTERS = ("kWh", "kvarh")
_PAST_MONTHS = 2
_OWN_CODES = {"F.F": "00000000", "0.2.0": "SIM-1", "1.8.2": "0000000.000*kWh", "C.7.0": "000003"}


class IecMeter:
    """Asked for its data, it measures, and writes what its map has room for and the village knows."""

    identification = IDENTIFICATION

    def __init__(
        self,
        meter_map: MeterMap,
        measure: Callable[[], Measured],
        *,
        maker_number: int,
        utc_offset_minutes: int = 0,
        clock_slow_s: int = 0,
    ) -> None:
        """``clock_slow_s``: how far its clock is behind. Its clock keeps the standard time of its place."""
        self._map = meter_map
        self._measure = measure
        self._maker_number = maker_number
        self._zone = timezone(timedelta(minutes=utc_offset_minutes))
        self._slow = timedelta(seconds=clock_slow_s)

    def data_lines(self) -> Sequence[str]:
        """Return the lines of its read-out as it stands now."""
        measured = self._measure()
        clock = datetime.fromtimestamp(measured.at_ms // 1000, UTC) - self._slow
        local = clock.astimezone(self._zone)
        return [
            f"C.1.0({self._maker_number})",
            f"0.9.1({local:%H%M%S})",
            f"0.9.2({local:%y%m%d})",
            *(f"{code}({text})" for code, text in _OWN_CODES.items()),
            *self._registers(quantities(measured)),
            "C.99.9(of the maker's own)",
        ]

    def _registers(self, shown: Mapping[Obis, Quantity]) -> Iterator[str]:
        for register in self._map.registers.values():
            value = shown.get(_quantity_of(register))
            if register.kind is not Kind.NUMBER or not isinstance(value, Decimal):
                continue
            code, unit = _reduced(register.codes[0]), register.info.unit
            yield f"{code}({_written(value, unit)})"
            if unit in _COUNTERS:
                for month in range(1, _PAST_MONTHS + 1):
                    past = value * (100 - month) / 100
                    yield f"{code}*{month:02}({_written(past, unit)})"


_TARIFF_1 = Obis.parse("1.8.1")
_TOTAL = Obis.parse("1.8.0")


def _quantity_of(register: Register) -> Obis:
    """Return what a register shows: a meter with one tariff counts all in its first."""
    return _TOTAL if register.info.obis == _TARIFF_1 else register.info.obis


def _reduced(code: Obis) -> str:
    return ".".join(str(group) for group in code.groups[2:5])


def _written(value: Decimal, unit: str) -> str:
    width, decimals = _FORMS[unit]
    rounding = ROUND_DOWN if unit in _COUNTERS else ROUND_HALF_EVEN
    number = value.quantize(Decimal(1).scaleb(-decimals), rounding)
    name = "" if unit in ("1", "count") else f"*{unit}"
    # One wheel more than it has, and a counter begins again at zero.
    return (
        f"{number % 10 ** (width - decimals - 1) if unit in _COUNTERS else number:0{width}f}{name}"
    )
