"""The meter in memory keeps the contract of relays, so what it shows of the gateway holds for real ones."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

import pytest
from tests.gateway.switched_meter import At, SwitchedMeter

from openami.gateway.driver import (
    Driver,
    Line,
    LineSettings,
    Meter,
    MeterSettings,
    RelayPosition,
)
from openami.gateway.driver_contract import RELAY_CHECKS, RelayCheck, Value
from openami.profile import MeterSerial, Obis


@dataclass
class _Line:
    meters: Mapping[MeterSerial, Meter]


class _Bench:
    deadline_s = 1.0
    pause_s = 0.001
    settings = LineSettings(
        "bus", [MeterSettings(MeterSerial("one")), MeterSettings(MeterSerial("two"))]
    )

    def __init__(self) -> None:
        self.meters = {MeterSerial(serial): SwitchedMeter(serial) for serial in ("one", "two")}

    @property
    def driver(self) -> type[Driver]:
        bench = self

        class InMemory:
            name: ClassVar[str] = "in memory"

            @classmethod
            def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
                assert settings is bench.settings
                return bench._open()

        return InMemory

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Line]:
        yield _Line(dict(self.meters))

    def values(self, serial: MeterSerial) -> Mapping[Obis, Value]:
        return {}

    def overlaps(self) -> int:
        return 0

    def relay(self, serial: MeterSerial) -> RelayPosition:
        return self.meters[serial].position

    def orders(self, serial: MeterSerial) -> int:
        return len(self.meters[serial].moves)

    async def mute_orders(self, serial: MeterSerial) -> None:
        self.meters[serial].lost_answer = At.AFTER

    async def silence(self, serial: MeterSerial) -> None:
        self.meters[serial].silent = True

    async def restore(self, serial: MeterSerial) -> None:
        self.meters[serial].silent = False

    async def exchange(self, serial: MeterSerial) -> bool:
        return False

    async def cut(self) -> None: ...

    async def mend(self) -> None: ...


@pytest.mark.parametrize("check", RELAY_CHECKS, ids=lambda check: check.__name__)
async def test_the_meter_in_memory_keeps_the_contract_of_relays(check: RelayCheck) -> None:
    await check(_Bench())
