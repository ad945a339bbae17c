"""Two meters on a simulated box, as `openami.gateway.driver_contract` wants them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from openami.gateway.driver import Driver, LineSettings, MeterSettings
from openami.gateway.driver_contract import Bench, Value
from openami.profile import MeterSerial, Obis
from openami_pulse_counter.driver import PulseCounterDriver
from openami_pulse_counter.simulated import Box, Channel

_CHANNELS = {MeterSerial("METER-1"): 1, MeterSerial("METER-2"): 2}


class PulseCounterBench:
    """What the contract asks of a bench; each method says there what it has to do."""

    driver: type[Driver] = PulseCounterDriver
    deadline_s = 2.0
    pause_s = 0.05

    def __init__(self, settings: LineSettings, box: Box) -> None:
        self.settings = settings
        self._box = box

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        channel = self._channel(serial)
        return {
            Obis.parse("1.8.0"): Decimal(channel.pulses) / 1000,
            Obis.parse("96.1.0"): channel.label,
        }

    def overlaps(self) -> int:
        return self._box.overlaps

    async def silence(self, serial: MeterSerial) -> None:
        self._channel(serial).silent = True

    async def restore(self, serial: MeterSerial) -> None:
        self._box.channels[_CHANNELS[serial]] = _channel(_CHANNELS[serial])

    async def exchange(self, serial: MeterSerial) -> bool:
        self._channel(serial).label = "SN-999"
        return True

    async def cut(self) -> None:
        await self._box.cut()

    async def mend(self) -> None:
        await self._box.listen()

    def _channel(self, serial: MeterSerial) -> Channel:
        return self._box.channels[_CHANNELS[serial]]


def _channel(number: int) -> Channel:
    return Channel(f"SN-{number}", 184_250 + number)


@asynccontextmanager
async def open_bench(_: Path) -> AsyncIterator[Bench]:
    """Give a bench; the entry point in pyproject.toml names this function."""
    box = Box({number: _channel(number) for number in _CHANNELS.values()})
    await box.listen()
    meters = [
        MeterSettings(
            serial, {"channel": number, "pulses_per_kwh": 1000, "identity": f"SN-{number}"}
        )
        for serial, number in _CHANNELS.items()
    ]
    options = {"host": "127.0.0.1", "port": box.port, "timeout_s": 0.1}
    try:
        yield PulseCounterBench(LineSettings("bench", meters, options, cycle_s=1.0), box)
    finally:
        await box.cut()
