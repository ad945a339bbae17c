"""The bridge's way up: a connection has proved itself when the broker has acknowledged something on it."""

import asyncio
from pathlib import Path

from tests.bridge.test_spool import drafts
from tests.gateway.clock_double import ClockDouble

from openami.bridge import north
from openami.bridge.metrics import BridgeMetrics
from openami.bridge.spool import open_spool
from openami.mqtt.memory import MemoryBroker

MEGABYTE = 1024 * 1024


async def test_a_connection_is_proved_by_what_is_acknowledged(tmp_path: Path) -> None:
    proved = asyncio.Event()
    async with (
        open_spool(tmp_path / "bridge.db", bytes_max=MEGABYTE) as spool,
        MemoryBroker().port("bridge").connect() as connection,
    ):
        sending = asyncio.create_task(
            north.send(connection, spool, ClockDouble(), BridgeMetrics(), proved=proved.set)
        )
        await asyncio.sleep(0.05)
        assert not proved.is_set(), "it is open, and that is all"
        await spool.append(drafts(1))
        async with asyncio.timeout(5):
            await proved.wait()
        sending.cancel()
        await asyncio.wait({sending})
