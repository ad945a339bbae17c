"""What a meter that does not answer may cost its neighbour on the line (decision 0019)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import pytest

from openami.gateway.breaker import SILENT_SHARE
from openami.gateway.driver import MeterSilent, RawReading
from openami.profile import MeterSerial, Obis
from openami.simulator.virtual_time import VirtualTimeLoop

CYCLE_S: Final = 60.0
_CYCLES: Final = 200

Read = Callable[[MeterSerial, Sequence[Obis]], Awaitable[Sequence[RawReading]]]
Shares = tuple[float, float]
"""What part of all time a silent meter took, and its neighbour, which is read each cycle."""


async def shares_of_time(read: Read, dead: str, alive: str, codes: Sequence[Obis]) -> Shares:
    loop = asyncio.get_running_loop()
    taken = {dead: 0.0, alive: 0.0}
    for _ in range(_CYCLES):
        next_at = loop.time() + CYCLE_S
        for name in taken:
            began_at = loop.time()
            if name == dead:
                with pytest.raises(MeterSilent):
                    await read(MeterSerial(name), codes)
            else:
                assert len(await read(MeterSerial(name), codes)) == len(codes)
            taken[name] += loop.time() - began_at
        await asyncio.sleep(next_at - loop.time())
    return taken[dead] / (_CYCLES * CYCLE_S), taken[alive] / (_CYCLES * CYCLE_S)


def assert_it_costs_no_more(measured: Coroutine[Any, Any, Shares]) -> None:
    """Measure in virtual time; the dead one may take the breaker's share, the other what reading it takes."""
    loop = VirtualTimeLoop()
    try:
        dead, alive = loop.run_until_complete(measured)
    finally:
        loop.close()
    assert 0 < dead <= SILENT_SHARE
    assert alive < 0.05
