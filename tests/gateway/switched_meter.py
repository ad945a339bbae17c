"""A meter with a relay in memory: it counts its orders, and fails at the moment a test says."""

from collections.abc import Sequence
from enum import Enum, auto

from openami.gateway.driver import (
    Meter,
    MeterSilent,
    RawReading,
    RegisterInfo,
    RelayControl,
    RelayPosition,
    TokenEntry,
)
from openami.profile import MeterSerial, Obis


class PowerCut(BaseException):
    """The machine goes off in the middle of an order."""


class At(Enum):
    """When something happens: before the contactor has moved, or when it has."""

    BEFORE = auto()
    AFTER = auto()


class SwitchedMeter:
    """Connected at first. ``moves`` are the orders that reached the contactor."""

    registers: Sequence[RegisterInfo] = ()

    def __init__(self, serial: str) -> None:
        self.serial = MeterSerial(serial)
        self.position = RelayPosition.CONNECTED
        self.moves: list[RelayPosition] = []
        self.silent = False
        self.stuck = False
        self.lost_answer: At | None = None
        self.power_cut: At | None = None
        self.tokens: list[str] = []

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        return ()

    async def relay_position(self) -> RelayPosition:
        if self.silent:
            raise MeterSilent(f"{self.serial} does not answer")
        return self.position

    async def set_relay(self, position: RelayPosition) -> None:
        if self.silent:
            raise MeterSilent(f"{self.serial} does not answer")
        if self.power_cut is At.BEFORE:
            raise PowerCut
        if self.lost_answer is not At.BEFORE:
            self.moves.append(position)
            if not self.stuck:
                self.position = position
        if self.power_cut is At.AFTER:
            raise PowerCut
        if self.lost_answer is not None:
            raise MeterSilent(f"{self.serial} did not answer the order")

    async def enter_token(self, token: str) -> bool:
        if self.silent:
            raise MeterSilent(f"{self.serial} does not answer")
        if self.lost_answer is not At.BEFORE:
            self.tokens.append(token)
        if self.lost_answer is not None:
            raise MeterSilent(f"{self.serial} did not answer the token")
        return token.isdecimal()


def _obeys_the_ports(meter: SwitchedMeter) -> tuple[Meter, RelayControl, TokenEntry]:
    return meter, meter, meter
