"""A disk that is really full, under each part in turn: said, nothing lost, and over by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.accounting import Identity, taken_in
from tests.e2e.commanded import Surroundings, commanded_village, until
from tests.e2e.faults import (
    UNPACED,
    assert_every_reading_once,
    bring_back,
    lost_by_the_broker,
    said,
)
from tests.gateway.small_disk import fill, mounted

from openami.clock import SystemClock
from openami.profile import Value

pytestmark = [pytest.mark.broker, pytest.mark.slow]

METERS = 8
MIB = 1024 * 1024
FULL_S = 4.0


@asynccontextmanager
async def full(disk: Path) -> AsyncIterator[None]:
    """Let somebody take every byte of a disk, and whatever is given back to it; all of it is free afterwards."""

    async def greedily() -> None:
        while True:
            await asyncio.to_thread(fill, disk)
            await asyncio.sleep(0.1)

    filler = await asyncio.to_thread(fill, disk)
    filling = asyncio.create_task(greedily(), name="somebody who fills the disk")
    try:
        yield
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        filler.unlink()


async def test_under_the_gateway_what_it_took_is_sent_and_it_goes_on(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    with mounted(tmp_path / "card", size=4 * MIB) as card:
        around = Surroundings(data_dir=card, uplink=UNPACED)
        async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
            recorded: dict[Identity, Value] = {}
            async with full(card):
                await said(system, "gateway", "disk is full")
                # What was sent is the first to go for room, so it is looked at on the way.
                recorded |= taken_in(system.outbox)
                await asyncio.sleep(1.0)
            log = tmp_path / "gateway.log"
            assert "free some space" in log.read_text()
            await said(system, "gateway", "readings are stored again")
            await asyncio.sleep(1.5)
            recorded_later = taken_in(system.outbox)
            assert recorded_later.keys() > recorded.keys()
            sent = await assert_every_reading_once(system, recorded=recorded | recorded_later)
            assert sent.keys() >= recorded.keys()


async def test_under_the_store_nothing_is_acknowledged_until_it_is_committed(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", size=6 * MIB) as disk:
        around = Surroundings(store_url=f"sqlite:///{disk / 'headend.db'}", uplink=UNPACED)
        async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
            async with full(disk):
                await said(system, "headend", "nothing is acknowledged")
                await asyncio.sleep(FULL_S / 2)
            assert "disk is full" in (tmp_path / "headend.log").read_text()
            await said(system, "headend", "the store answers again")
            await assert_every_reading_once(system)


async def test_under_the_broker_what_it_could_not_keep_is_brought_back(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    """Its queue is in memory only while its disk is full: killed then, it loses what it has acknowledged."""
    with mounted(tmp_path / "data", size=MIB) as disk:
        around = Surroundings(uplink=UNPACED)
        begun = SystemClock().now()
        async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
            async with full(disk):
                await system.headend.kill()
                before = len(taken_in(system.outbox, "sent"))
                await until(lambda: len(taken_in(system.outbox, "sent")) > before + 100)
                await until(lambda: "No space left on device" in system.broker.log())
                await asyncio.to_thread(system.broker.kill)
            await asyncio.to_thread(system.broker.start)
            await system.headend.start()
            log = tmp_path / "headend.log"
            await until(lambda: log.read_text().count("ready:") == 2)
            lost = await lost_by_the_broker(system)
            assert lost, "the broker has lost nothing, so nothing is shown"
            await bring_back(system, lost, begun)
            await assert_every_reading_once(system)
