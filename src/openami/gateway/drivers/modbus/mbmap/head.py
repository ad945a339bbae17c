"""What an mbmap file says of all its registers → the head of a register map. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from openami.gateway.drivers.modbus.mbmap.map_text import Table
from openami.gateway.drivers.modbus.mbmap.overlay import Overlay
from openami.gateway.drivers.modbus.mbmap.registers import NotCarried, certainty_of, number_type
from openami.gateway.drivers.modbus.mbmap.source import Head, texts
from openami.gateway.drivers.modbus.register_map import NumberType
from openami.profile import one_line

_PARITIES: Final = {"n": "N", "none": "N", "e": "E", "even": "E", "o": "O", "odd": "O"}
_PROTOCOLS: Final = ("modbus", "modbus-rtu", "modbus-tcp", "rtu", "tcp")
_WORD_BITS: Final = 16


def head_table(head: Head, overlay: Overlay) -> Table:
    """Return the keys before the first table. Raises NotCarried, TableError."""
    if head.protocol.lower().replace(" ", "-").replace("_", "-") not in _PROTOCOLS:
        raise NotCarried(f"protocol {one_line(head.protocol)!r} is not Modbus")
    source = (*texts(head.source), *texts(head.sources))
    if not source:
        raise NotCarried("it names no source: without one nobody can look a register up")
    return {
        "id": overlay.id,
        "vendor": head.vendor,
        "model": head.model,
        "models": head.models,
        "source": source,
        "certainty": (overlay.certainty or certainty_of(head.x_status)).value,
        "notes": tuple(_notes(head)),
        "word_order": word_order(head),
    }


def word_order(head: Head) -> str:
    """Return which word of a long value comes first. Raises NotCarried."""
    if head.byte_order.lower() != "big":
        raise NotCarried(
            f"byte order {one_line(head.byte_order)!r} cannot be read: in a Modbus register the high byte is "
            "first"
        )
    if head.word_order.lower() not in ("big", "little"):
        raise NotCarried(f"word order {one_line(head.word_order)!r} is neither big nor little")
    return head.word_order.lower()


def serial_table(head: Head) -> Table:
    """Return ``[serial]``: how the port leaves the factory. Raises NotCarried."""
    if head.databits not in (None, 8):
        raise NotCarried(f"{head.databits} data bits: RTU has 8")
    parity = None if head.parity is None else _PARITIES.get(head.parity.lower())
    if head.parity is not None and parity is None:
        raise NotCarried(f"parity {one_line(head.parity)!r} is none of none, even and odd")
    return {"baudrate": head.baudrate, "parity": parity, "stopbits": head.stopbits}


def limits_table(head: Head, overlay: Overlay) -> Table:
    """Return ``[limits]``."""
    return {"max_read_registers": head.max_read_registers, "max_gap": overlay.max_gap or None}


def sentinels_table(head: Head) -> Table:
    """Return ``[sentinels]``: raw values that mean "none", by type. Raises NotCarried."""
    table: dict[str, tuple[int, ...]] = {}
    for name, told in head.sentinels.items():
        try:
            kind = number_type(name)
        except NotCarried:
            raise NotCarried(
                f"sentinels are carried by type, and {one_line(name)!r} is none: give them to their registers "
                'in the overlay (`sentinels`), and ignore = ["sentinels"]'
            ) from None
        values = told if isinstance(told, list) else [told]
        raw = [_raw(kind, value) for value in values]
        table[kind.value] = tuple(dict.fromkeys(value for value in raw if value is not None))
    return table


def _raw(kind: NumberType, value: object) -> int | None:
    """Return a sentinel's bits; None for a float32's NaN, which is no number anyway. Raises NotCarried."""
    if isinstance(value, str):
        if value.lower() == "nan" and kind is NumberType.FLOAT32:
            return None
        try:
            value = int(value, 0)
        except ValueError:
            value = None
    width = kind.words * _WORD_BITS
    if not isinstance(value, int) or isinstance(value, bool) or kind is NumberType.ASCII:
        raise NotCarried(f"a sentinel of {kind.value} is no whole number: give the bits, as 0x7FFF")
    if not -(1 << width - 1) <= value < 1 << width:
        raise NotCarried(f"the sentinel {value} does not fit {kind.value}")
    return value % (1 << width)


def _notes(head: Head) -> Iterator[str]:
    yield from texts(head.notes)
    for name, value in (
        *(("firmware", head.firmware), ("revision", head.revision)),
        *(("revised", head.revised), ("status", head.x_status)),
    ):
        if value != "":
            yield f"{name}: {one_line(str(value))}"


def remarks(head: Head, ignored: Sequence[str]) -> Iterator[str]:
    """Yield what a file says that is not a map's to say."""
    settings: Mapping[str, object] = {"unit_id": head.unit_id, "port": head.port}
    for key, value in settings.items():
        if value is not None:
            yield f"{key} {value} is left out: it is set in the gateway's configuration"
    for key in ignored:
        yield f"{one_line(key)!r} is ignored, as the overlay says"
