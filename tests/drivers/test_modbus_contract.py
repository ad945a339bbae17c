"""The driver contract: kept by the Modbus driver over each of its transports, and able to convict."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from tests.drivers.modbus_bench import modbus_bench

from openami.gateway import driver_contract as contract
from openami.gateway.driver import (
    Driver,
    DriverError,
    IdentityMismatch,
    Line,
    LineSettings,
    Meter,
    MeterSilent,
    RawReading,
    RegisterInfo,
    RelayControl,
    RelayPosition,
)
from openami.gateway.driver_contract import CHECKS, RELAY_CHECKS, Check, RelayCheck
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial, Obis


@pytest.mark.parametrize("transport", ["tcp", "rtu", "rtu-over-tcp"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_modbus_driver_keeps_the_contract(
    check: Check, transport: str, tmp_path: Path
) -> None:
    async with modbus_bench(transport, tmp_path) as bench:
        await check(bench)


@pytest.mark.parametrize("transport", ["tcp", "rtu", "rtu-over-tcp"])
@pytest.mark.parametrize("check", RELAY_CHECKS, ids=lambda check: check.__name__)
async def test_the_modbus_driver_keeps_the_contract_of_relays(
    check: RelayCheck, transport: str, tmp_path: Path
) -> None:
    async with modbus_bench(transport, tmp_path) as bench:
        await check(bench)


# --- drivers that break it -----------------------------------------------------------------------


class _Around:
    """A meter that passes on what the good driver says; the culprits below change one thing."""

    def __init__(self, meter: Meter) -> None:
        self.serial = meter.serial
        self.meter = meter
        self.last: Sequence[RawReading] = ()

    @property
    def registers(self) -> Sequence[RegisterInfo]:
        return self.meter.registers

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        self.last = await self.meter.read(wanted)
        return self.last


class _Inventing(_Around):
    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        try:
            return await super().read(wanted)
        except DriverError:
            return self.last


class _Floating(_Around):
    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        readings = await super().read(wanted)
        return [replace(r, value=float(r.value)) for r in readings]  # type: ignore[arg-type]


class _Generous(_Around):
    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        return await super().read([info.obis for info in self.registers])


class _Forgetful(_Around):
    @property
    def registers(self) -> Sequence[RegisterInfo]:
        return self.meter.registers[1:] if self.last else self.meter.registers


class _Insistent(_Around):
    """Orders again what was not answered."""

    async def relay_position(self) -> RelayPosition:
        assert isinstance(self.meter, RelayControl)
        return await self.meter.relay_position()

    async def set_relay(self, position: RelayPosition) -> None:
        assert isinstance(self.meter, RelayControl)
        try:
            await self.meter.set_relay(position)
        except MeterSilent:
            await self.meter.set_relay(position)


class _Optimistic(_Insistent):
    """Says that everything was obeyed."""

    async def set_relay(self, position: RelayPosition) -> None:
        assert isinstance(self.meter, RelayControl)
        with suppress(DriverError):
            await self.meter.set_relay(position)


class _Credulous(_Around):
    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        try:
            return await super().read(wanted)
        except IdentityMismatch:
            return [RawReading(obis, 1, "kWh") for obis in wanted]


@dataclass(frozen=True)
class _Meters:
    meters: Mapping[MeterSerial, Meter]


def _culprit(kind: type[_Around]) -> type[Driver]:
    class Culprit:
        name: ClassVar[str] = kind.__name__

        @classmethod
        def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
            return cls._opened(settings)

        @classmethod
        @asynccontextmanager
        async def _opened(cls, settings: LineSettings) -> AsyncIterator[Line]:
            async with ModbusDriver.open(settings) as line:
                yield _Meters({serial: kind(meter) for serial, meter in line.meters.items()})

    return Culprit


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (_Inventing, contract.says_that_a_meter_is_silent),
        (_Inventing, contract.says_that_the_line_is_down),
        (_Floating, contract.reads_what_the_meters_hold),
        (_Generous, contract.returns_only_what_was_wanted),
        (_Forgetful, contract.keeps_its_registers_fixed),
        (_Credulous, contract.refuses_another_meter),
    ],
)
async def test_a_driver_that_breaks_the_contract_is_convicted(
    kind: type[_Around], check: Check, tmp_path: Path
) -> None:
    async with modbus_bench("tcp", tmp_path) as bench:
        bench.driver = _culprit(kind)
        with pytest.raises(AssertionError):
            await check(bench)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (_Around, contract.moves_the_relay_it_was_told_to),
        (_Insistent, contract.orders_once_though_nobody_answers),
        (_Optimistic, contract.orders_once_though_nobody_answers),
        (_Optimistic, contract.orders_nothing_of_a_silent_meter),
        (_Optimistic, contract.moves_no_other_meters_relay),
    ],
)
async def test_a_driver_that_breaks_the_contract_of_relays_is_convicted(
    kind: type[_Around], check: RelayCheck, tmp_path: Path
) -> None:
    async with modbus_bench("tcp", tmp_path) as bench:
        bench.driver = _culprit(kind)
        with pytest.raises(AssertionError):
            await check(bench)


async def test_the_wrapper_alone_breaks_nothing(tmp_path: Path) -> None:
    async with modbus_bench("tcp", tmp_path) as bench:
        bench.driver = _culprit(_Around)
        await contract.reads_what_the_meters_hold(bench)
