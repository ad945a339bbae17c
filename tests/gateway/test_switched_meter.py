"""The meter in memory keeps the contracts of relays and tokens: what it shows holds for real ones."""

from collections.abc import AsyncIterator, Mapping, Sequence
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
    MeterSilent,
    RelayPosition,
)
from openami.gateway.driver_contract import RELAY_CHECKS, RelayCheck, Value
from openami.gateway.token_contract import (
    TOKEN_CHECKS,
    TokenCheck,
    enters_once_though_nobody_answers,
)
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

    good_token = "12345678901234567890"
    bad_token = "not digits"

    def tokens(self, serial: MeterSerial) -> Sequence[str]:
        return self.meters[serial].tokens

    async def mute_tokens(self, serial: MeterSerial) -> None:
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


@pytest.mark.parametrize("check", TOKEN_CHECKS, ids=lambda check: check.__name__)
async def test_the_meter_in_memory_keeps_the_contract_of_tokens(check: TokenCheck) -> None:
    await check(_Bench())


class _Stubborn(SwitchedMeter):
    """Asks again when nobody answers."""

    async def enter_token(self, token: str) -> bool:
        try:
            return await super().enter_token(token)
        except MeterSilent:
            return await super().enter_token(token)


async def test_a_driver_that_repeats_a_token_breaks_the_contract() -> None:
    bench = _Bench()
    bench.meters = {serial: _Stubborn(serial) for serial in bench.meters}
    with pytest.raises(AssertionError, match="a token was repeated"):
        await enters_once_though_nobody_answers(bench)
