"""From findings to what a person does next: addresses that are free, and the lines of a configuration. Pure."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from openami.gateway.scan.findings import Clash, Found, PortSetting, Protocol, ScanResult
from openami.gateway.scan.modbus import UNIT_MAX
from openami.profile import is_id

_DRIVERS: Final = {
    Protocol.MODBUS_RTU: "modbus",
    Protocol.MODBUS_TCP: "modbus",
    Protocol.DLMS_HDLC: "dlms",
    Protocol.DLMS_TCP: "dlms",
    Protocol.IEC_62056_21: "iec62056-21",
}
_SERIAL_TRANSPORTS: Final = {
    Protocol.MODBUS_RTU: "rtu",
    Protocol.DLMS_HDLC: "hdlc",
    Protocol.IEC_62056_21: "serial",
}
_NETWORK_TRANSPORTS: Final = {
    Protocol.MODBUS_TCP: "tcp",
    Protocol.MODBUS_RTU: "rtu-over-tcp",
    Protocol.DLMS_TCP: "tcp",
    Protocol.DLMS_HDLC: "hdlc-over-tcp",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A serial port, as a configuration names it."""

    path: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP endpoint, as a configuration names it."""

    host: str
    port: int

    @property
    def name(self) -> str:
        return self.host


@dataclass(frozen=True, slots=True)
class Move:
    """One address to be changed, at the meter, while no other with the old address is on the line."""

    clash: Clash
    unit: int
    """The free address one of the meters is to get."""

    def __str__(self) -> str:
        return (
            f"{self.clash.address} is more than one meter's: leave one of them alone on the line, set it to "
            f"{self.unit} at the meter, and scan again"
        )


def moves(result: ScanResult, *, taken: Iterable[int] = ()) -> tuple[Move, ...]:
    """Propose a free address for each Modbus clash.

    ``taken`` are addresses of meters that did not answer and are known all the same.
    """
    clashes = [clash for clash in result.clashes if clash.address.is_modbus]
    known = {found.address["unit"] for found in result.meters if found.address.is_modbus}
    free = _free({*known, *taken, *(clash.address["unit"] for clash in clashes)})
    return tuple(Move(clash, unit) for clash, unit in zip(clashes, free, strict=False))


def _free(taken: set[int]) -> Iterator[int]:
    # Upwards from 2: every meter comes out of its box with address 1, and the next one will too.
    return (unit for unit in range(2, UNIT_MAX + 1) if unit not in taken)


UNKNOWABLE: Final = (
    "Two meters at one address that answer with the same bytes in the same moment look like one: count the meters "
    "on the wall.",
    "A meter without power, or behind a broken wire, is not there.",
)
"""What no scan can know, to be said beside what it found."""


def configuration(result: ScanResult, place: Device | Endpoint) -> str:
    """Return the ``[[line]]`` tables for what was found, one for each way and setting; "" for nothing."""
    lines: dict[tuple[Protocol, PortSetting | None], list[Found]] = {}
    for found in result.meters:
        lines.setdefault((found.address.protocol, found.setting), []).append(found)
    tables = [
        _line(protocol, setting, meters, place, number)
        for number, ((protocol, setting), meters) in enumerate(lines.items(), 1)
    ]
    return "\n".join(tables)


def _line(
    protocol: Protocol,
    setting: PortSetting | None,
    meters: Sequence[Found],
    place: Device | Endpoint,
    number: int,
) -> str:
    name = place.name if number == 1 else f"{place.name}-{number}"
    text = ["[[line]]", f'driver = "{_DRIVERS[protocol]}"', f"name = {_quoted(name)}"]
    if number > 1:
        text.insert(
            0,
            "# A port has one setting: give these meters the setting of the first line, or their own port.",
        )
    if isinstance(place, Device):
        text.append(f'transport = "{_SERIAL_TRANSPORTS[protocol]}"')
        text.append(f"device = {_quoted(place.path)}")
    else:
        text.append(f'transport = "{_NETWORK_TRANSPORTS[protocol]}"')
        text += [f"host = {_quoted(place.host)}", f"port = {place.port}"]
    if setting is not None:
        text.append(f"baudrate = {setting.baudrate}")
    if setting is not None and protocol is not Protocol.IEC_62056_21:  # whose parity is a standard
        text += [f'parity = "{setting.parity}"', f"stopbits = {setting.stopbits}"]
    for at, found in enumerate(sorted(meters, key=lambda meter: meter.address), 1):
        text += ["", *_meter(found, f"{name}-{at}")]
    return "\n".join(text) + "\n"


def _meter(found: Found, substitute: str) -> Iterator[str]:
    yield "[[line.meter]]"
    if found.serial is None or not is_id(found.serial):
        yield f"serial = {_quoted(substitute)}  # put the number on its nameplate here"
    else:
        yield f"serial = {_quoted(found.serial)}"
    for key, value in found.address.options:
        yield f"{key} = {value}"
    if found.address.is_modbus:
        yield _map(found.maps)
    elif found.address.protocol is Protocol.IEC_62056_21:
        yield 'map = "generic-single-phase"'
    if found.serial is not None:
        yield f"identity = {_quoted(found.serial)}"


def _map(fitting: Sequence[str]) -> str:
    if not fitting:
        return 'map = "my-meter.toml"  # no shipped map fits: openami driver new my-meter'
    first, *others = fitting
    return f'map = "{first}"' + f"  # {', '.join(others)} would fit as well" * bool(others)


def _quoted(text: str) -> str:
    """Return a text as TOML spells it; what a meter put into it that nobody can print is left out."""
    printable = "".join(character for character in text if character.isprintable())
    return json.dumps(printable, ensure_ascii=False)
