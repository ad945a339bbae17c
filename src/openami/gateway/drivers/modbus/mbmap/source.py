"""An mbmap-2 file, read strictly.

Only what is used is judged: a register nobody wants may have any type. What stands in the file's head is another
matter, because a key we do not know could change the meaning of all registers: it is a fault, unless the overlay
says that it can be ignored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from openami.gateway.drivers.modbus.register_map import NumberType
from openami.gateway.strict import TableError, convert
from openami.profile import one_line

FILE_CHARS_MAX: Final = 1024 * 1024  # two thousand registers, ten times the longest meter's
VERSION: Final = 2


class MbmapError(ValueError):
    """The file is no mbmap-2 file."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all registers of a file."""

    mbmap: Literal[2]
    vendor: str
    model: str
    registers: tuple[dict[str, Any], ...]
    models: tuple[str, ...] = ()
    firmware: Any = ""
    revision: Any = ""
    revised: str = ""
    source: Any = ()
    sources: Any = ()
    notes: Any = ()
    protocol: str = "modbus"
    unit_id: int | None = None
    baudrate: int | None = None
    parity: str | None = None
    databits: int | None = None
    stopbits: int | None = None
    port: int | None = None
    byte_order: str = "big"
    word_order: str = "big"
    address_base: int = 0
    max_read_registers: int | None = None
    enums: dict[str, Any] = {}
    sentinels: dict[str, Any] = {}
    x_status: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One register that is wanted."""

    name: str
    address: int
    type: str
    area: str | None = None
    group: str = ""
    scale: Decimal = Decimal(1)
    unit: str = ""
    access: str = "r"
    enum: str | None = None
    x_status: str = ""


# The format's own words for its types are not published with it; these are the ones in use for them elsewhere.
TYPES: Final[Mapping[str, NumberType]] = {
    name: kind
    for kind, names in {
        NumberType.U16: ("u16", "uint16"),
        NumberType.I16: ("i16", "int16", "s16"),
        NumberType.U32: ("u32", "uint32"),
        NumberType.I32: ("i32", "int32", "s32"),
        NumberType.U64: ("u64", "uint64"),
        NumberType.I64: ("i64", "int64", "s64"),
        NumberType.FLOAT32: ("float32", "f32", "float"),
        NumberType.ASCII: ("ascii", "string"),
    }.items()
    for name in names
}


@dataclass(frozen=True, slots=True)
class MbmapFile:
    """A file: its head, and its registers as they stand there."""

    head: Head

    def places(self, name: str) -> Sequence[int]:
        """Return where registers of this name stand: of ``name``, or of ``group/name``."""
        return [
            at
            for at, table in enumerate(self.head.registers)
            if name in (table.get("name"), f"{table.get('group', '')}/{table.get('name')}")
        ]

    def entry(self, at: int) -> Entry:
        """Return a register. Raises TableError."""
        table = {
            key: value
            for key, value in self.head.registers[at].items()
            if not key.startswith("x_") or key == "x_status"
        }
        return convert(table, Entry, ("registers", at))


def read_mbmap(text: str, ignore: Sequence[str] = ()) -> MbmapFile:
    """Return what a file holds; ``ignore`` names keys of its head to be passed over.

    Keys that begin with ``x_`` are the format's door for remarks, and passed over too. Raises MbmapError,
    TableError.
    """
    if len(text) > FILE_CHARS_MAX:
        raise MbmapError(f"it has {len(text)} characters, at most {FILE_CHARS_MAX} are read")
    try:
        document = json.loads(
            text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_once
        )
    except RecursionError:
        raise MbmapError("it nests too deep") from None
    except (ValueError, ArithmeticError) as error:
        raise MbmapError(f"it is not JSON: {one_line(str(error))}") from None
    if not isinstance(document, dict) or document.get("mbmap") != VERSION:
        raise MbmapError(
            f'it is not an mbmap file of version {VERSION}: "mbmap": {VERSION} is missing'
        )
    known = {
        key: value
        for key, value in document.items()
        if key not in ignore and (key == "x_status" or not key.startswith("x_"))
    }
    return MbmapFile(convert(known, Head))


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return table


def texts(value: object) -> tuple[str, ...]:
    """Return a source or note, written as a text, a table or a list of either, as texts of one line."""
    if isinstance(value, str):
        return (one_line(value),) if value else ()
    if isinstance(value, Mapping):
        return (one_line(", ".join(str(part) for part in value.values())),)
    if isinstance(value, list | tuple):
        return tuple(text for part in value for text in texts(part))
    raise TableError("a text is expected, or a list of texts", path=("source",))
