"""Two mode C meters on one line, as the driver contract wants them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from tests.drivers.iec62056_double import ReadOutBus, ReadOutDouble
from tests.drivers.line_double import Cable, Port, Pty, on_port, on_pty

from openami.gateway.driver import Driver, LineSettings, MeterSettings
from openami.gateway.driver_contract import Value
from openami.gateway.drivers.iec62056 import Iec62056Driver
from openami.profile import MeterSerial, Obis

TRANSPORTS = ("serial", "tcp")
UNITS = {MeterSerial("DS1000-1"): 1, MeterSerial("DS1000-2"): 2}


def bench_meter(number: str) -> ReadOutDouble:
    """A meter of the given serial number, whose values end in its last digit."""
    last = number[-1]

    def lines(_: int) -> Sequence[str]:
        return (
            f"C.1.0({number})",
            f"1-0:1.8.0*255(00184250{last}*Wh)",
            "1-0:1.8.0*01(001500.000*kWh)",
            f"12.7.0(230.{last}*V)",
        )

    return ReadOutDouble(lines)


class ReadOutBench(Cable):
    driver: type[Driver] = Iec62056Driver
    deadline_s = 5.0
    pause_s = 0.05

    def __init__(self, settings: LineSettings, bus: ReadOutBus, end: Pty | Port) -> None:
        super().__init__(end)
        self.settings = settings
        self.bus = bus

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        unit = UNITS[serial]
        return {
            Obis.parse("1.8.0"): Decimal(1_842_500 + unit) / 1000,
            Obis.parse("32.7.0"): Decimal(2300 + unit) / 10,
            Obis.parse("96.1.0"): f"KS-00{unit}",
        }

    def overlaps(self) -> int:
        return self.bus.overlaps

    def meter(self, serial: MeterSerial) -> ReadOutDouble:
        return self.bus.meters[f"{UNITS[serial]:03}"]

    async def silence(self, serial: MeterSerial) -> None:
        self.meter(serial).silent = True

    async def restore(self, serial: MeterSerial) -> None:
        self.bus.put(f"{UNITS[serial]:03}", bench_meter(f"KS-00{UNITS[serial]}"))

    async def exchange(self, serial: MeterSerial) -> bool:
        self.bus.put(f"{UNITS[serial]:03}", bench_meter("KS-999"))
        return True

    @property
    def end(self) -> Pty | Port:
        return self._end


@asynccontextmanager
async def read_out_bench(transport: str, place: Path) -> AsyncIterator[ReadOutBench]:
    bus = ReadOutBus(
        {f"{unit:03}": bench_meter(f"KS-00{unit}") for unit in UNITS.values()},
        baudrate=19200,
        reaction_s=0.002,
    )
    options: dict[str, object] = {
        "transport": transport,
        "timeout_s": 1.5,  # the double answers in this process, whose garbage may take a second to collect
        "silence_s": 0.03,
        "reaction_s": 0.001,
        "silent_share": 0.5,
        "baudrate": 19200,
    }
    meters = [
        MeterSettings(
            serial,
            {"map": "generic-single-phase", "address": unit, "identity": f"KS-00{unit}"},
        )
        for serial, unit in UNITS.items()
    ]
    settings = LineSettings("bench", meters, options, place, cycle_s=1.0)
    if transport == "serial":
        options["device"] = str(place / "tty")
        async with on_pty(bus, str(place / "tty")) as pty:
            yield ReadOutBench(settings, bus, pty)
    else:
        async with on_port(bus) as port:
            options.update(host="127.0.0.1", port=port.number)
            yield ReadOutBench(settings, bus, port)
