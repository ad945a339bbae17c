"""COSEM objects: what the values of the classes we read mean (IEC 62056-6-2). Pure.

Registers tell their value as a whole number, its power of ten and its unit apart, and in Wh and W; here they
become exact decimals in the units of the register list. A unit we do not know is not guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import IntEnum
from typing import Final

from openami.gateway.driver import RelayPosition
from openami.gateway.drivers.dlms.apdu import LogicalName
from openami.gateway.drivers.dlms.data import Value
from openami.gateway.drivers.dlms.errors import WrongType

EXPONENT_MAX: Final = 12  # a terawatt-hour in one count; beyond it a scaler is noise
TEXT_CHARS_MAX: Final = 256  # of a serial number or a name; the normaliser takes no more


class ClassId(IntEnum):
    """The classes whose attributes are understood."""

    DATA = 1
    REGISTER = 3
    EXTENDED_REGISTER = 4
    DEMAND_REGISTER = 5
    PROFILE_GENERIC = 7
    CLOCK = 8
    DISCONNECT_CONTROL = 70
    CREDIT = 112

    @property
    def scaler_attribute(self) -> int | None:
        """The attribute that tells power of ten and unit; None where the class has none."""
        return {3: 3, 4: 3, 5: 4}.get(self.value)


VALUE: Final = 2
"""The attribute that holds the value, in all of them."""
CAPTURE_OBJECTS: Final = 3
CAPTURE_PERIOD: Final = 4
CONTROL_STATE: Final = 3
REMOTE_DISCONNECT: Final = 1
REMOTE_RECONNECT: Final = 2

# Unit code → unit of the register list, and the power of ten between them (IEC 62056-6-2, table 4).
_UNITS: Final[Mapping[int, tuple[str, int]]] = {
    7: ("s", 0),
    9: ("°C", 0),
    27: ("kW", -3),
    28: ("kVA", -3),
    29: ("kvar", -3),
    30: ("kWh", -3),
    31: ("kVAh", -3),
    32: ("kvarh", -3),
    33: ("A", 0),
    35: ("V", 0),
    44: ("Hz", 0),
    56: ("%", 0),
    255: ("1", 0),
}
# Wide enough that no number of 64 bits needs rounding, whatever the scale.
_EXACT: Final = Context(prec=60)
_WITHOUT_UNIT: Final = ("1", "count")


@dataclass(frozen=True, slots=True)
class Scale:
    """The power of ten that a register's number is multiplied by, and the unit it then has."""

    exponent: int
    unit: str


def read_scale(value: Value) -> Scale:
    """Return the scale a scaler_unit tells, for units of the register list. Raises WrongType."""
    match value:
        case (int() as scaler, int() as code) if abs(scaler) <= EXPONENT_MAX:
            if code not in _UNITS:
                raise WrongType(f"unit code {code} is none that is known here")
            unit, exponent = _UNITS[code]
            return Scale(scaler + exponent, unit)
    raise WrongType(f"{_brief(value)} is no scaler and unit")


def scaled(value: Value, scale: Scale, unit: str) -> Decimal | None:
    """Return the exact number in ``unit``; None where the meter has none. Raises WrongType."""
    if scale.unit != unit and not (scale.unit in _WITHOUT_UNIT and unit in _WITHOUT_UNIT):
        raise WrongType(f"the meter tells {scale.unit or 'no unit'}, its map says {unit}")
    number = read_number(value)
    return None if number is None else _plain(_EXACT.scaleb(Decimal(number), scale.exponent))


def multiplied(value: Value, factor: Decimal) -> Decimal | None:
    """Return the exact product of a number and a map's scale; None for null-data. Raises WrongType."""
    number = read_number(value)
    return None if number is None else _plain(_EXACT.multiply(Decimal(number), factor))


def read_number(value: Value) -> int | Decimal | None:
    """Return a number; None for null-data. Raises WrongType."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise WrongType(f"{_brief(value)} is no number")
    return value


def _plain(number: Decimal) -> Decimal:
    """Return the number with its digits written out: 12E+3 is 12000."""
    return Decimal(f"{number:f}")


def read_text(value: Value) -> str:
    """Return a text, as meters tell their serial numbers: as a string, as octets, or as a number.

    Octets that are no printable text are told in hexadecimal. Raises WrongType.
    """
    match value:
        case bool() | None:
            pass
        case int():
            return str(value)
        case str():
            return _cleaned(value)
        case bytes():
            text = value.rstrip(b"\x00 \xff")
            if all(0x20 <= byte < 0x7F for byte in text):
                return _cleaned(text.decode("ascii"))
            return _cleaned(value.hex())
    raise WrongType(f"{_brief(value)} is no text")


def _cleaned(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()[:TEXT_CHARS_MAX]


def relay_position(output: bool | None, control: int) -> RelayPosition:
    """Return where a contactor stands, by output_state and control_state.

    The output is what the customer has; the control state is what the meter is about to do with it. A meter
    whose output is open is disconnected whatever it means to do, unless only its button is waited for. None
    stands for a meter that does not tell its output. Raises WrongType.
    """
    if control not in (0, 1, 2):
        raise WrongType(f"control state {control} is none of 0, 1, 2")
    if output or (output is None and control == 1):
        return RelayPosition.CONNECTED
    if control == 2:
        return RelayPosition.READY_FOR_RECONNECTION
    return RelayPosition.DISCONNECTED


def read_output_state(value: Value) -> bool:
    """Raises WrongType."""
    if isinstance(value, bool):
        return value
    raise WrongType(f"{_brief(value)} is no output state")


def read_control_state(value: Value) -> int:
    """Raises WrongType."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise WrongType(f"{_brief(value)} is no control state")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def logical_name(groups: tuple[int | None, ...]) -> LogicalName:
    """Return an OBIS code's six groups as a logical name. Raises ValueError where one is unknown."""
    if None in groups:
        raise ValueError("an object is named by all its groups, A-B:C.D.E*F")
    return bytes(group for group in groups if group is not None)
