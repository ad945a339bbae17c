"""An mbmap file and an overlay → a register map's text, or every reason why not. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from openami.gateway.drivers.modbus.mbmap.head import (
    head_table,
    limits_table,
    remarks,
    sentinels_table,
    serial_table,
)
from openami.gateway.drivers.modbus.mbmap.map_text import Table, map_text
from openami.gateway.drivers.modbus.mbmap.overlay import Overlay, read_overlay
from openami.gateway.drivers.modbus.mbmap.registers import (
    NotCarried,
    identify_table,
    register_table,
    relay_table,
)
from openami.gateway.drivers.modbus.mbmap.source import MbmapError, MbmapFile, read_mbmap
from openami.gateway.drivers.modbus.register_map import read_map
from openami.gateway.map_files import MapError
from openami.gateway.strict import TableError
from openami.profile import one_line


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that cannot be carried over."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class CannotImport(ValueError):
    """The map cannot be made; ``faults`` are all the reasons."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Imported:
    """A register map, and what of its file it leaves out."""

    text: str
    registers: int
    remarks: tuple[str, ...]


def import_map(mbmap: str, overlay: str) -> Imported:
    """Return the register map that an mbmap-2 file and an overlay make. Raises CannotImport."""
    try:
        wanted = read_overlay(overlay)
    except MapError as error:
        raise CannotImport([Fault("overlay", str(error))]) from None
    try:
        file = read_mbmap(mbmap, wanted.ignore)
    except (MbmapError, TableError) as error:
        raise CannotImport([Fault("map", _with_remedy(error))]) from None
    text = _text(file, wanted)
    try:
        text.encode()
        read = read_map(text)
    except UnicodeEncodeError:
        # JSON's \ud800 alone stands for half a character.
        raise CannotImport([Fault("map", "a text in it holds half a character")]) from None
    except MapError as error:
        raise CannotImport([Fault("the register map they make", str(error))]) from None
    return Imported(text, len(read.registers), tuple(remarks(file.head, wanted.ignore)))


def _with_remedy(error: Exception) -> str:
    if isinstance(error, TableError) and error.message.startswith("unknown key"):
        return f'{error}; if it changes nothing, ignore = ["{one_line(str(error.path[-1]))}"] in the overlay'
    return str(error)


def _text(file: MbmapFile, overlay: Overlay) -> str:
    faults: list[Fault] = []

    def carried(where: str, make: Callable[[], Table]) -> Table:
        try:
            return make()
        except (NotCarried, TableError) as error:
            faults.append(Fault(where, str(error)))
            return {}

    head = carried("map", partial(head_table, file.head, overlay))
    tables = [
        ("[serial]", carried("map", partial(serial_table, file.head))),
        ("[limits]", limits_table(file.head, overlay)),
        ("[sentinels]", carried("sentinels", partial(sentinels_table, file.head))),
    ]
    if overlay.identify is not None:
        where = f"identify {one_line(overlay.identify.name)!r}"
        make = partial(identify_table, file, overlay.identify)
        tables.append(("[identify]", carried(where, make)))
    if overlay.relay is not None:
        where = f"relay {one_line(overlay.relay.name)!r}"
        tables.append(("[relay]", carried(where, partial(relay_table, file, overlay.relay))))
    for wanted in overlay.register:
        where = f"register {one_line(wanted.name)!r}"
        tables.append(("[[register]]", carried(where, partial(register_table, file, wanted))))
    tables += [("[[golden]]", msgspec.structs.asdict(golden)) for golden in overlay.golden]
    if faults:
        raise CannotImport(faults)
    return map_text(
        head, tables, ["Made of an mbmap file and an overlay by `openami driver import`."]
    )
