"""Units as meters write them, and the power of ten to the unit of the register list. Pure.

Makers agree on the units and not on their letters: ``kWh``, ``KWH``, ``kvarh``, ``kVArh``. Only M and m are
told apart.
"""

import re
from decimal import Decimal
from typing import Final

from openami.gateway.drivers.iec62056.errors import WrongValue

_EXPONENTS: Final = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9}
_MILLI: Final = {"m": -3}
_unit = re.compile(r"([kKMGm]?)(wh|varh|vah|w|var|va|v|a|hz)", re.IGNORECASE | re.ASCII).fullmatch
_SMALL: Final = ("v", "a")  # a meter that counts in mWh is one that writes MWh carelessly
_OF_A_MERE_NUMBER: Final = ("", "1", "count")


def in_unit(number: Decimal, told: str, wanted: str) -> Decimal:
    """Return a number told in one unit in another, exactly. Raises WrongValue where they differ in kind."""
    if told == wanted or (not told and wanted in _OF_A_MERE_NUMBER):
        return number
    from_base, from_exponent = _parts(told)
    to_base, to_exponent = _parts(wanted)
    if from_base is None or from_base != to_base:
        raise WrongValue(
            f"the meter tells it in {told!r}, and {wanted!r} is wanted"
            if told
            else "the meter tells no unit: add `told_unit` to the map"
        )
    return number.scaleb(from_exponent - to_exponent)


def _parts(unit: str) -> tuple[str | None, int]:
    found = _unit(unit)
    if found is None:
        return None, 0
    prefix, base = found[1], found[2].lower()
    exponent = (_EXPONENTS | _MILLI if base in _SMALL else _EXPONENTS).get(prefix)
    return (None, 0) if exponent is None else (base, exponent)
