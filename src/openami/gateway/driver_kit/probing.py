"""Reads one meter once, through its driver: what it holds, and the bytes behind it where the driver shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from openami.gateway.driver import (
    Driver,
    Inspected,
    Inspection,
    LineSettings,
    Meter,
    RawReading,
    RegisterInfo,
)
from openami.gateway.driver_kit.verdict import Verdict, verdict
from openami.profile import MeterSerial


@dataclass(frozen=True, slots=True)
class Probed:
    """One register of a meter, as it was read."""

    info: RegisterInfo
    reading: RawReading | None
    where: str = ""
    raw: bytes = b""
    """Empty where the driver shows none."""
    read: bool = True
    """False: the meter gave no answer for it, or refused it."""

    @property
    def verdict(self) -> Verdict:
        if not self.read:
            return Verdict(False, "not read: the meter refuses it")
        return verdict(self.info, None if self.reading is None else self.reading.value)


async def probe(
    driver: type[Driver], settings: LineSettings, serial: MeterSerial
) -> Sequence[Probed]:
    """Read every register of a meter once. Raises OptionsError, DriverError."""
    async with driver.open(settings) as line:
        meter = line.meters[serial]
        infos = list(meter.registers)
        if isinstance(meter, Inspection):
            inspected = await meter.inspect([info.obis for info in infos])
            return _with_bytes(infos, inspected)
        return await _read(meter, infos)


def _with_bytes(infos: Sequence[RegisterInfo], inspected: Sequence[Inspected]) -> list[Probed]:
    by_code = {one.obis: one for one in inspected}
    return [
        Probed(info, one.reading, one.where, one.raw)
        if (one := by_code.get(info.obis))
        else Probed(info, None, read=False)
        for info in infos
    ]


async def _read(meter: Meter, infos: Sequence[RegisterInfo]) -> list[Probed]:
    readings = {reading.obis: reading for reading in await meter.read([i.obis for i in infos])}
    return [Probed(info, readings.get(info.obis)) for info in infos]
