"""Values as long as a household's meter tells them, for reckoning with meters that have not been read yet (pure).

Only their length on the wire matters, so a number has as many digits as such a value has, and all the decimals its
register may have.
"""

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Final

from openami.gateway.driver import RegisterInfo
from openami.profile import Register, Value

# A house on single-phase mains with a counter of some years; every decimal is one that is printed.
_BY_UNIT: Final[Mapping[str, str]] = {
    "V": "231.46897",
    "A": "4.2716893",
    "Hz": "49.987613",
    "kW": "0.9271683",
    "kvar": "0.2184673",
    "kVA": "0.9561738",
    "kWh": "18425.71938",
    "kvarh": "2316.48917",
    "kVAh": "19213.84617",
    "%": "2.4871693",
    "1": "0.9637182",
    "count": "17",
    "s": "4316",
    "mA": "3.7168293",
    "°C": "31.468917",
}
_ANY_NUMBER: Final = "123.45678"
# A register without stated decimals is mostly one of three; a float's noise is rounded by its map.
_DECIMALS: Final = 3
_CLOCK: Final = "2026-06-30T12:34:56+05:30"
# Serial numbers and firmware names have eight to twelve characters; longer is on the safe side.
_TEXT: Final = "123456789012"


def plausible_value(info: RegisterInfo, entry: Register | None) -> Value:
    """Return a value such as a register has; ``entry`` is the register list's, where it has one."""
    if entry is not None and entry.values:
        return max(entry.values, key=len)
    if entry is not None and entry.type == "boolean":
        return True
    if entry is not None and entry.type == "string":
        return _CLOCK if info.unit == "ISO 8601" else _TEXT
    decimals = _DECIMALS if info.decimals is None else info.decimals
    number = Decimal(_BY_UNIT.get(info.unit, _ANY_NUMBER))
    number = number.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_DOWN)
    return int(number) if decimals <= 0 else float(number)
