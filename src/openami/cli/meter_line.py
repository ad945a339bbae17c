"""The options that say where a meter is, for commands that speak to one without a gateway."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openami.cli.report import Exit, fail

if TYPE_CHECKING:
    from openami.gateway.scan.ports import Port

_Command = TypeVar("_Command", bound=Callable[..., Any])

_MODBUS_PORT = 502

_OPTIONS = (
    click.option("--device", metavar="DEVICE", help="The serial port, e.g. /dev/ttyUSB0."),
    click.option("--connect", metavar="HOST[:PORT]", help="The TCP endpoint instead; port 502."),
    click.option(
        "--rtu", is_flag=True, help="Behind --connect is a device server that passes RTU frames."
    ),
    click.option("--baudrate", type=int, metavar="N", help="Of the serial line."),
    click.option("--parity", type=click.Choice(["N", "E", "O"]), help="Of the serial line."),
    click.option("--stopbits", type=click.IntRange(1, 2), help="Of the serial line."),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter is: a serial port, or an endpoint."""

    device: str | None
    host: str | None
    port: int
    rtu: bool
    serial: Mapping[str, object]
    """baudrate, parity and stopbits, as far as they were given."""

    @property
    def line_options(self) -> Mapping[str, object]:
        """The keys of a Modbus line's table."""
        if self.device is not None:
            return {"transport": "rtu", "device": self.device, **self.serial}
        transport = "rtu-over-tcp" if self.rtu else "tcp"
        return {"transport": transport, "host": self.host, "port": self.port}


def place_options(command: _Command) -> _Command:
    """Add the options; the command receives them as keyword arguments for `place_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def place_of(
    *,
    device: str | None,
    connect: str | None,
    rtu: bool,
    baudrate: int | None,
    parity: str | None,
    stopbits: int | None,
) -> Place:
    """Return where the meter is; end the command with the remedy when the options do not say."""
    if (device is None) == (connect is None):
        fail("where is the meter?", Exit.USAGE, "name one of --device and --connect")
    serial = {"baudrate": baudrate, "parity": parity, "stopbits": stopbits}
    host, port = (None, 0) if connect is None else endpoint(connect, _MODBUS_PORT)
    given = {key: value for key, value in serial.items() if value is not None}
    if host is not None and given:
        fail(f"{' and '.join(given)} go with --device", Exit.USAGE, "the device server has its own")
    return Place(device, host, port, rtu, given)


def port_at(place: Place) -> "Port":
    """Return the port of a place, closed."""
    from openami.gateway.scan.ports import NetworkPort, SerialPort

    if place.device is not None:
        return SerialPort(place.device)
    assert place.host is not None
    return NetworkPort(place.host, place.port)


def endpoint(text: str, port: int) -> tuple[str, int]:
    """Return host and port of HOST[:PORT]; end the command when it is neither."""
    host, colon, told = text.rpartition(":")
    if not colon:
        return text, port
    if not host or not told.isdecimal() or not 0 < int(told) < 65536:
        fail(f"{text!r} is no endpoint", Exit.USAGE, "write HOST or HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(told)


def pairs(texts: tuple[str, ...], option: str) -> dict[str, object]:
    """Return KEY=VALUE options as a table; a value is TOML, or else a text."""
    table: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            fail(f"{option} {text!r} is no setting", Exit.USAGE, f"write {option} KEY=VALUE")
        try:
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = value
    return table


def numbers(text: str, option: str, low: int, high: int) -> tuple[int, ...]:
    """Return the numbers of ``1-20,33`` in their order; end the command when it is none."""
    found: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            fail(f"{option} {text!r} is no list of numbers", Exit.USAGE, "write 1-20,33")
        if not low <= int(first) <= int(last or first) <= high:
            fail(f"{option}: {part} is not within {low} to {high}", Exit.USAGE)
        found |= dict.fromkeys(range(int(first), int(last or first) + 1))
    return tuple(found)


def existing(name: str) -> Path | None:
    """Return the file a text names, if there is one."""
    path = Path(name)
    return path if path.is_file() else None
