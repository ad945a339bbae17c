"""The meters of one line, and what is wrong with each."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from openami.simulator.faults import Fault, Readdressed, Silent, Slow

M = TypeVar("M")


class Bus(Generic[M]):
    """Meters by their addresses."""

    def __init__(self, meters: Mapping[int, M]) -> None:
        self._meters = dict(meters)
        self._faults: dict[int, Fault] = {}
        # One bus, one talker: a slow meter holds up whoever asks next, on whatever connection.
        self._turn = asyncio.Lock()

    def set_fault(self, address: int, fault: Fault | None) -> None:
        """Let the meter of this (rightful) address fail from now on, or be well again (None)."""
        assert address in self._meters
        self._faults.pop(address, None)
        if fault is not None:
            self._faults[address] = fault

    async def answered(
        self, is_called: Callable[[int], bool], answer: Callable[[M], bytes | None]
    ) -> bytes | None:
        """Return the answer of whoever hears that an address is called; None when nobody does."""
        async with self._turn:
            heard = self._hearing(is_called)
            if heard is None:
                return None
            fault = self._faults.get(heard)
            if isinstance(fault, Silent):
                return None
            if isinstance(fault, Slow):
                await asyncio.sleep(fault.delay_s)
            return answer(self._meters[heard])

    def _hearing(self, is_called: Callable[[int], bool]) -> int | None:
        for rightful, fault in self._faults.items():
            if isinstance(fault, Readdressed) and is_called(fault.unit):
                return rightful
        for address in self._meters:
            if is_called(address):
                return None if isinstance(self._faults.get(address), Readdressed) else address
        return None
