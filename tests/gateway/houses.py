"""Houses on a Modbus line: SDM120s that tell their serial numbers, with lamps to be switched on behind them."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from openami.simulator.modbus_server import Area, Write, WriteRefused

_VOLTAGE, _CURRENT, _POWER, _FREQUENCY, _IMPORTED, _EXPORTED = 0x00, 0x06, 0x0C, 0x46, 0x48, 0x4A
_REGISTERS = 0x160
_SERIAL = 0xFC00


class House:
    """An SDM120 and what is drawn behind it. ``orders`` are writes: nobody is to make any."""

    def __init__(self, serial: int, watts: float = 40.0) -> None:
        self.serial = serial
        self.watts = watts
        self.kwh = 1842.5
        self.orders: list[tuple[Write, int, int]] = []

    def registers(self, area: Area) -> Mapping[int, int]:
        if area is Area.HOLDING:
            return {_SERIAL: self.serial >> 16, _SERIAL + 1: self.serial & 0xFFFF}
        words = dict.fromkeys(range(_REGISTERS), 0)
        values = {_VOLTAGE: 231.5, _CURRENT: 0.2, _POWER: self.watts, _FREQUENCY: 50.0}
        for address, value in (values | {_IMPORTED: self.kwh}).items():
            high, low = struct.unpack(">HH", struct.pack(">f", value))
            words[address], words[address + 1] = high, low
        return words

    def write(self, how: Write, address: int, word: int) -> None:
        self.orders.append((how, address, word))
        raise WriteRefused


def configuration(
    directory: Path,
    *,
    modbus_port: int,
    meters: Sequence[tuple[str, int, int | None]],
    status_port: int | None = None,
    broker: str = "mqtt://127.0.0.1:1",
    commands: str = "",
    fast_s: int = 1,
    named: tuple[str, str] = ("feeder-1", "pole-1"),
) -> Path:
    """Write a gateway's file: ``meters`` are serial, unit, and the serial number the meter is to tell."""
    listen = "" if status_port is None else f"127.0.0.1:{status_port}"
    lines = [
        f'feeder_id = "{named[0]}"',
        f'gateway_id = "{named[1]}"',
        f'data_dir = "{directory / "data"}"',
        'clock = "rtc"',
        "[mqtt]",
        f'url = "{broker}"',
        "[schedule]",
        f"fast_s = {fast_s}",
        f"billing_s = {max(fast_s, 5)}" if fast_s < 60 else "",
        "[status]",
        f'listen = "{listen}"',
        commands,
        "[[line]]",
        'driver = "modbus"',
        'name = "bus1"',
        'transport = "tcp"',
        'host = "127.0.0.1"',
        f"port = {modbus_port}",
        "timeout_s = 0.3",
        "retries = 0",
    ]
    for serial, unit, identity in meters:
        lines += ["[[line.meter]]", f'serial = "{serial}"', f"unit = {unit}", 'map = "sdm120"']
        if identity is not None:
            lines.append(f"identity = {identity}")
    file = directory / "gateway.toml"
    file.write_text("\n".join(lines) + "\n")
    return file
