"""Two DLMS meters on one line, as the driver contract wants them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from tests.drivers.dlms_double import DlmsBus, DlmsDouble, named, number, scaler, text
from tests.drivers.line_double import Cable, Port, Pty, on_port, on_pty

from openami.gateway.driver import Driver, LineSettings, MeterSettings, RelayPosition
from openami.gateway.driver_contract import Value
from openami.gateway.drivers.dlms import DlmsDriver
from openami.profile import MeterSerial, Obis

TRANSPORTS = ("tcp", "hdlc", "hdlc-over-tcp")
UNITS = {MeterSerial("DS1000-1"): 1, MeterSerial("DS1000-2"): 2}
_POSITIONS = (
    RelayPosition.DISCONNECTED,
    RelayPosition.CONNECTED,
    RelayPosition.READY_FOR_RECONNECTION,
)
_SERIAL = named("0.0.96.1.0.255")


def address(unit: int, transport: str) -> bytes:
    """A logical device on TCP; on a line, logical device 1 of physical device 16 + unit."""
    return bytes((0, unit)) if transport == "tcp" else bytes((2, (16 + unit) << 1 | 1))


def meter_options(unit: int, transport: str) -> dict[str, object]:
    return {"server": unit} if transport == "tcp" else {"server": 1, "physical": 16 + unit}


def bench_meter(name: str) -> DlmsDouble:
    """A meter of the given serial number, whose values end in its last digit."""
    unit = int(name[-1])
    energy, voltage = named("1.0.1.8.0.255"), named("1.0.32.7.0.255")
    return DlmsDouble(
        {
            (1, _SERIAL, 2): lambda _: text(name),
            (3, energy, 2): lambda _: number(1_842_500 + unit),
            (3, energy, 3): lambda _: scaler(0, 30),
            (3, voltage, 2): lambda _: number(2300 + unit),
            (3, voltage, 3): lambda _: scaler(-1, 35),
        }
    )


class DlmsBench(Cable):
    driver: type[Driver] = DlmsDriver
    deadline_s = 5.0
    pause_s = 0.05

    def __init__(
        self, settings: LineSettings, bus: DlmsBus, end: Pty | Port, transport: str
    ) -> None:
        super().__init__(end)
        self.settings = settings
        self.bus = bus
        self._transport = transport

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        unit = UNITS[serial]
        return {
            Obis.parse("1.8.0"): Decimal(1_842_500 + unit) / 1000,
            Obis.parse("32.7.0"): Decimal(2300 + unit) / 10,
            Obis.parse("96.1.0"): f"KS-00{unit}",
        }

    def overlaps(self) -> int:
        return self.bus.overlaps

    def relay(self, serial: MeterSerial) -> RelayPosition:
        return _POSITIONS[self.meter(serial).control.state]

    def orders(self, serial: MeterSerial) -> int:
        return self.meter(serial).orders

    async def mute_orders(self, serial: MeterSerial) -> None:
        self.meter(serial).mute_orders = True

    def meter(self, serial: MeterSerial) -> DlmsDouble:
        return self.bus.meters[address(UNITS[serial], self._transport)]

    async def silence(self, serial: MeterSerial) -> None:
        self.meter(serial).silent = True

    async def restore(self, serial: MeterSerial) -> None:
        unit = UNITS[serial]
        self.bus.meters[address(unit, self._transport)] = bench_meter(f"KS-00{unit}")

    async def exchange(self, serial: MeterSerial) -> bool:
        self.bus.meters[address(UNITS[serial], self._transport)] = bench_meter("KS-999")
        return True


@asynccontextmanager
async def dlms_bench(
    transport: str, place: Path, kind: type[DlmsBench] = DlmsBench
) -> AsyncIterator[DlmsBench]:
    bus = DlmsBus(
        {address(unit, transport): bench_meter(f"KS-00{unit}") for unit in UNITS.values()},
        hdlc=transport != "tcp",
        turnaround_s=0.002,
    )
    options: dict[str, object] = {
        "transport": transport,
        "timeout_s": 0.1,
        "silence_s": 0.02,
        "silent_share": 0.5,
    }
    if transport != "tcp":
        options["baudrate"] = 115200
    meters = [
        MeterSettings(serial, {**meter_options(unit, transport), "identity": f"KS-00{unit}"})
        for serial, unit in UNITS.items()
    ]
    settings = LineSettings("bench", meters, options, place, cycle_s=1.0)
    if transport == "hdlc":
        options["device"] = str(place / "tty")
        async with on_pty(bus, str(place / "tty")) as pty:
            yield kind(settings, bus, pty, transport)
    else:
        async with on_port(bus) as port:
            options.update(host="127.0.0.1", port=port.number)
            yield kind(settings, bus, port, transport)
