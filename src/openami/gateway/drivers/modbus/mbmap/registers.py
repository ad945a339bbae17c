"""A register of an mbmap file → a register of ours. Pure.

Nothing is guessed: a unit, a type or an access we do not know is refused, with what the overlay can say about it.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from openami.gateway.drivers.modbus.mbmap.map_text import Table
from openami.gateway.drivers.modbus.mbmap.overlay import Wanted, WantedIdentity, WantedRelay
from openami.gateway.drivers.modbus.mbmap.source import TYPES, Entry, MbmapFile
from openami.gateway.drivers.modbus.register_map import Certainty, NumberType
from openami.profile import Obis, one_line, shipped_catalogue

_READABLE: Final = ("r", "ro", "rw", "read", "read-only", "readwrite", "read-write")
_WRITABLE: Final = ("rw", "w", "wo", "write", "write-only", "readwrite", "read-write")
# By what a value in this unit is multiplied to be one in the register list's.
_FACTORS: Final[Mapping[tuple[str, str], Decimal]] = {
    ("W", "kW"): Decimal("0.001"),
    ("Wh", "kWh"): Decimal("0.001"),
    ("MWh", "kWh"): Decimal(1000),
    ("var", "kvar"): Decimal("0.001"),
    ("varh", "kvarh"): Decimal("0.001"),
    ("VA", "kVA"): Decimal("0.001"),
    ("VAh", "kVAh"): Decimal("0.001"),
    ("mA", "A"): Decimal("0.001"),
    ("mV", "V"): Decimal("0.001"),
    ("kV", "V"): Decimal(1000),
    ("%", "1"): Decimal("0.01"),
    ("", "1"): Decimal(1),
    ("", "count"): Decimal(1),
    ("", "enum"): Decimal(1),
}
# Of a scale, so that it can be multiplied exactly; what a register map takes is less, and said by it.
_SCALE_DIGITS_MAX: Final = 20
# The first of these that stands in an x_status decides.
_STATUSES: Final = (
    ("not verified", Certainty.UNVERIFIED),
    ("unverified", Certainty.UNVERIFIED),
    ("not tested", Certainty.UNVERIFIED),
    ("untested", Certainty.UNVERIFIED),
    ("automatic", Certainty.UNVERIFIED),
    ("draft", Certainty.UNVERIFIED),
    ("verified", Certainty.FIELD),
    ("tested", Certainty.FIELD),
    ("manual", Certainty.MANUAL),
)


class NotCarried(Exception):
    """Something cannot be carried over; the message says what, and what can be done."""


def certainty_of(status: str) -> Certainty:
    """Return how sure a file is of itself by its x_status; what says nothing we know is unverified."""
    told = status.casefold()
    return next((mark for words, mark in _STATUSES if words in told), Certainty.UNVERIFIED)


def register_table(file: MbmapFile, wanted: Wanted) -> Table:
    """Return a ``[[register]]``. Raises NotCarried, TableError."""
    entry = _found(file, wanted.name)
    kind = number_type(entry.type)
    _check_access(entry, _READABLE, "read")
    values = dict(wanted.values) or _meanings(file, entry)
    scale, unit = _scale_and_unit(entry, wanted, enumeration=bool(values))
    is_plain = kind is NumberType.ASCII or bool(values)
    if kind is NumberType.FLOAT32 and wanted.decimals is None:
        raise NotCarried("a float32 needs its decimals: name them in the overlay")
    certainty = wanted.certainty or (certainty_of(entry.x_status) if entry.x_status else None)
    return {
        "obis": str(wanted.obis),
        "area": _area(entry),
        "address": _address(file, entry),
        "type": kind.value,
        "words": _words(kind, wanted.words),
        "scale": None if is_plain or scale == 1 else scale,
        "unit": unit,
        "decimals": wanted.decimals,
        "group": wanted.poll.value,
        "split_sign": _code(wanted.split_sign),
        "net": _code(wanted.net),
        "four_quadrant": wanted.four_quadrant or None,
        "multiply": tuple(ratio.value for ratio in wanted.multiply),
        "sentinels": wanted.sentinels,
        "values": values,
        "min": wanted.min,
        "max": wanted.max,
        "monotonic": wanted.monotonic or None,
        "rollover": wanted.rollover,
        "certainty": None if certainty is None else certainty.value,
        "note": _note(wanted),
    }


def identify_table(file: MbmapFile, wanted: WantedIdentity) -> Table:
    """Return ``[identify]``. Raises NotCarried, TableError."""
    entry = _found(file, wanted.name)
    kind = number_type(entry.type)
    _check_access(entry, _READABLE, "read")
    if kind is NumberType.FLOAT32 or entry.scale != 1:
        raise NotCarried("a serial number is a whole number or a text, without a scale")
    return {
        "area": _area(entry),
        "address": _address(file, entry),
        "type": kind.value,
        "words": _words(kind, wanted.words),
        "note": one_line(entry.name),
    }


def relay_table(file: MbmapFile, wanted: WantedRelay) -> Table:
    """Return ``[relay]``. Raises NotCarried, TableError."""
    entry = _found(file, wanted.name)
    if number_type(entry.type) is not NumberType.U16 or _area(entry) != "holding":
        raise NotCarried("a relay is one holding register (u16); coils are not spoken")
    _check_access(entry, _READABLE, "read, so where the relay stands would not be known")
    _check_access(entry, _WRITABLE, "written")
    return {
        "address": _address(file, entry),
        "write_function": wanted.write_function,
        "connected": wanted.connected,
        "disconnected": wanted.disconnected,
        "ready_for_reconnection": wanted.ready_for_reconnection,
        "note": _note(wanted),
    }


def number_type(name: str) -> NumberType:
    """Return a type by the file's word for it. Raises NotCarried."""
    kind = TYPES.get(name.lower())
    if kind is None:
        raise NotCarried(
            f"type {one_line(name)!r} cannot be read: whole numbers of 16, 32 or 64 bits, float32 and text can"
        )
    return kind


def _found(file: MbmapFile, name: str) -> Entry:
    places = file.places(name)
    if not places:
        raise NotCarried(
            "the map has no register of this name; names are written as they stand there"
        )
    if len(places) > 1:
        groups = ", ".join(sorted(str(file.head.registers[at].get("group", "")) for at in places))
        raise NotCarried(
            f"{len(places)} registers have this name: write group/name (groups: {groups})"
        )
    return file.entry(places[0])


def _check_access(entry: Entry, known: Sequence[str], done: str) -> None:
    if entry.access.lower() not in known:
        raise NotCarried(f"its access is {one_line(entry.access)!r}: it cannot be {done}")


def _area(entry: Entry) -> str:
    if entry.area not in ("input", "holding"):
        told = "not told" if entry.area is None else repr(one_line(entry.area))
        raise NotCarried(f"its area is {told}: input and holding registers can be read")
    return entry.area


def _address(file: MbmapFile, entry: Entry) -> int:
    address = entry.address - file.head.address_base
    if not 0 <= address <= 0xFFFF:
        raise NotCarried(
            f"address {entry.address} less the base {file.head.address_base} is no address from 0 to 65535"
        )
    return address


def _words(kind: NumberType, words: int | None) -> int | None:
    if kind is NumberType.ASCII and words is None:
        raise NotCarried(
            "how many registers the text takes is not told: name its words in the overlay"
        )
    if kind is not NumberType.ASCII and words is not None:
        raise NotCarried("words goes with a text")
    return words


def _meanings(file: MbmapFile, entry: Entry) -> dict[str, str]:
    """Return what a register's codes mean, by its enum of the file."""
    if entry.enum is None:
        return {}
    enum = file.head.enums.get(entry.enum)
    if not isinstance(enum, Mapping):
        raise NotCarried(
            f"the map has no enum {one_line(entry.enum)!r}: name its values in the overlay"
        )
    meanings: dict[str, str] = {}
    for code, meaning in enum.items():
        try:
            meanings[str(int(code, 0))] = str(meaning)
        except ValueError:
            raise NotCarried(
                f"enum {one_line(entry.enum)!r} has the code {one_line(code)!r}, which is no whole number: name "
                "its values in the overlay"
            ) from None
    return meanings


def _scale_and_unit(entry: Entry, wanted: Wanted, *, enumeration: bool) -> tuple[Decimal, str]:
    """Return by what the register is multiplied to be in the list's unit, and that unit."""
    told = entry.unit if wanted.unit is None else wanted.unit
    listed = shipped_catalogue().get(wanted.obis)
    if listed is None:
        raise NotCarried(f"{wanted.obis} is not in the register list: openami spec registers")
    scale = entry.scale
    if not scale.is_finite() or scale == 0:
        raise NotCarried("its scale is not a number other than 0")
    if (
        abs(scale.adjusted()) > _SCALE_DIGITS_MAX
        or len(scale.as_tuple().digits) > _SCALE_DIGITS_MAX
    ):
        raise NotCarried(f"its scale has more than {_SCALE_DIGITS_MAX} digits")
    if told == listed.unit or enumeration:
        return scale.normalize(), listed.unit
    factor = _FACTORS.get((told, listed.unit))
    if factor is None:
        raise NotCarried(
            f"its unit is {one_line(told)!r} and {wanted.obis} is in {listed.unit!r}: if the code is right, name "
            "the unit of the scaled value in the overlay"
        )
    return (scale * factor).normalize(), listed.unit


def _note(wanted: Wanted | WantedRelay) -> str:
    return ": ".join(one_line(part) for part in (wanted.name, wanted.note) if part)


def _code(obis: Obis | None) -> str | None:
    return None if obis is None else str(obis)
