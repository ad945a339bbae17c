"""Two Modbus meters on one line, as the driver contract wants them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from tests.drivers.line_double import Cable, DoubleMeter, LineDouble, Port, Pty, on_port, on_pty

from openami.gateway.driver import Driver, LineSettings, MeterSettings, RelayPosition
from openami.gateway.driver_contract import Value
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial, Obis

_SERIALS = {MeterSerial("DS1000-1"): 1, MeterSerial("DS1000-2"): 2}
_RELAY = 0x1A
_MAP = """
id = "bench"
vendor = "test"
model = "bench"
source = ["test"]
certainty = "manual"
[limits]
max_read_registers = 8
[identify]
address = 0x50
type = "ascii"
words = 3
[relay]
address = 0x1A
write_function = 16
connected = 1
disconnected = 0
[[register]]
obis = "1.8.0"
address = 0
type = "u32"
unit = "kWh"
scale = "0.01"
group = "billing"
[[register]]
obis = "32.7.0"
address = 2
type = "u16"
unit = "V"
scale = "0.1"
[[register]]
obis = "1.7.0"
address = 0x20
type = "i16"
unit = "kW"
scale = "0.001"
split_sign = "2.7.0"
[[golden]]
name = "none"
request = ""
response = ""
expect = {}
"""


def _word(name: str) -> "dict[int, int]":
    unit = int(name[-1])
    words = {0: 2, 1: unit, 2: 2300 + unit, 0x20: 0x10000 - unit, _RELAY: 1}
    for at in range(3):
        words[0x50 + at] = int.from_bytes(name.encode()[2 * at : 2 * at + 2], "big")
    return words


def _meter(name: str) -> DoubleMeter:
    words = _word(name)
    return DoubleMeter(lambda address, _: words[address])


class ModbusBench(Cable):
    driver: type[Driver] = ModbusDriver
    deadline_s = 5.0
    pause_s = 0.05

    def __init__(self, settings: LineSettings, double: LineDouble, end: Pty | Port) -> None:
        super().__init__(end)
        self.settings = settings
        self._double = double

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        settings = next(meter for meter in self.settings.meters if meter.serial == serial)
        unit = settings.options["unit"]
        assert isinstance(unit, int)
        return {
            Obis.parse("1.8.0"): Decimal(0x20000 + unit) / 100,
            Obis.parse("32.7.0"): Decimal(2300 + unit) / 10,
            Obis.parse("1.7.0"): Decimal("0.000"),
            Obis.parse("2.7.0"): Decimal(unit) / 1000,
        }

    def overlaps(self) -> int:
        return self._double.overlaps

    def relay(self, serial: MeterSerial) -> RelayPosition:
        closed = self._meter(serial).written.get(_RELAY, 1)
        return RelayPosition.CONNECTED if closed else RelayPosition.DISCONNECTED

    def orders(self, serial: MeterSerial) -> int:
        return self._meter(serial).orders

    async def mute_orders(self, serial: MeterSerial) -> None:
        self._meter(serial).mute_orders = True

    def _meter(self, serial: MeterSerial) -> DoubleMeter:
        return self._double.meters[_SERIALS[serial]]

    async def silence(self, serial: MeterSerial) -> None:
        self._double.meters[_SERIALS[serial]].silent = True

    async def restore(self, serial: MeterSerial) -> None:
        unit = _SERIALS[serial]
        self._double.meters[unit] = _meter(f"KS-00{unit}")

    async def exchange(self, serial: MeterSerial) -> bool:
        self._double.meters[_SERIALS[serial]] = _meter("KS-999")
        return True


@asynccontextmanager
async def modbus_bench(transport: str, place: Path) -> AsyncIterator[ModbusBench]:
    (place / "bench.toml").write_text(_MAP)
    double = LineDouble({unit: _meter(f"KS-00{unit}") for unit in _SERIALS.values()})
    meters = [
        MeterSettings(serial, {"unit": unit, "map": "bench.toml", "identity": f"KS-00{unit}"})
        for serial, unit in _SERIALS.items()
    ]
    async with on_a_line(transport, place, double, meters) as (settings, end):
        yield ModbusBench(settings, double, end)


@asynccontextmanager
async def on_a_line(
    transport: str, place: Path, double: LineDouble, meters: Sequence[MeterSettings]
) -> AsyncIterator[tuple[LineSettings, Pty | Port]]:
    """Put meters on a line that answers fast, so that what it gives up on is told soon."""
    double.mbap = transport == "tcp"
    double.turnaround_s = 0.002
    options: dict[str, object] = {
        "transport": transport,
        "timeout_s": 0.05,
        "silence_s": 0.02,
        "late_reply_s": 0.2,
        "silent_share": 0.5,
    }
    settings = LineSettings("bench", meters, options, place, cycle_s=1.0)
    if transport == "rtu":
        options["device"] = str(place / "tty")
        async with on_pty(double, str(place / "tty")) as pty:
            yield settings, pty
    else:
        async with on_port(double) as port:
            options.update(host="127.0.0.1", port=port.number)
            yield settings, port
