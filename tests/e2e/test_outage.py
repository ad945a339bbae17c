"""A DLMS meter's line is cut for an hour: at the head-end the hour is there, late, and nothing is missing.

Meter, broker, gateway parts and head-end are real and speak over sockets; the time they live in is the test's, and
ends now, so that the operator's command looks back at it.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.drivers.dlms_double import DlmsBus
from tests.drivers.dlms_profile import energy_wh, profile_meter
from tests.drivers.line_double import Port, on_port
from tests.gateway.clock_double import ClockDouble
from tests.headend.program import openami_json

from openami.clock import SystemClock
from openami.gateway.collector import LineCollector, Surroundings
from openami.gateway.config import LineConfig, ScheduleSettings
from openami.gateway.driver import LineSettings, MeterSettings
from openami.gateway.drivers.dlms import DlmsDriver
from openami.gateway.memory import MeterMemories
from openami.gateway.meter_record import MeterRecord
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.normalise import Source
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.reconnect import Reconnector
from openami.gateway.snapshot import UplinkView
from openami.gateway.timekeeping import ClockSource
from openami.gateway.uplink import UplinkSettings
from openami.headend.completeness import LATE_AFTER_MINUTES
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.headend.uplink import Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.client import MqttPort
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId, MeterSerial, Obis, Quality, shipped_catalogue

FEEDER, GATEWAY, METER = FeederId("feeder-1"), GatewayId("pole-1"), MeterSerial("DS2000-1")
IMPORT = Obis.parse("1.8.0")
BILLING_S = 300
OUTAGE = timedelta(minutes=60)
PATIENCE_S = 20.0


@dataclass
class Village:
    """One pole and its head-end; time passes when the collector waits, and everything told by then has arrived."""

    clock: ClockDouble
    port: Port
    outbox: Outbox
    uplink: Uplink
    store_url: str
    collector: LineCollector = field(init=False)
    _until: datetime = field(init=False)
    _there: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Make a collector, as the gateway does when it starts."""
        memories = MeterMemories(self.outbox.database, "this boot")
        records = await memories.recall([MeterRecord(serial=METER, line="bus")])
        options = {"transport": "tcp", "host": "127.0.0.1", "port": self.port.number}
        meter = MeterSettings(METER, {"identity": METER})
        self.collector = LineCollector(
            LineConfig("dlms", LineSettings("bus", [meter], options)),
            DlmsDriver,
            {record.serial: record for record in records},
            Surroundings(
                source=Source(FEEDER, GATEWAY),
                catalogue=shipped_catalogue(),
                settings=ScheduleSettings(fast_s=60, billing_s=BILLING_S),
                store=self.outbox,
                memories=memories,
                clock=self.clock,
                clock_trusted=lambda: self.outbox.clock_verdict.trusted,
                metrics=GatewayMetrics(),
                sleep=self._sleep,
            ),
        )

    async def run(self, until: datetime) -> None:
        self._until = until
        self._there.clear()
        async with asyncio.TaskGroup() as group:
            living = group.create_task(self.collector.run())
            arrived = group.create_task(self._there.wait())
            await asyncio.wait({living, arrived}, return_when=asyncio.FIRST_COMPLETED)
            living.cancel()
            arrived.cancel()
        await self._arrived()

    async def _sleep(self, seconds: float) -> None:
        left = (self._until - self.clock.now()).total_seconds()
        if left <= 0:
            self._there.set()
            await asyncio.Event().wait()
        await self._arrived()
        self.clock.advance(min(seconds, left))

    async def _arrived(self) -> None:
        """Return when the head-end has committed all that the outbox has taken."""
        async with asyncio.timeout(PATIENCE_S):
            while self.uplink.statistics.tally.messages < self.outbox.last_seq:
                await asyncio.sleep(0.002)

    def told(self) -> tuple[int, int, int]:
        """Return expected, missing and late as the operator's command tells them, over both days it may be."""
        days = [
            row
            for row in openami_json(
                *("feeder", "completeness", FEEDER, "--since", "1d", "--store", self.store_url)
            )
            if row["row"] == "day" and row["expected"]
        ]
        assert days
        return (
            sum(day["expected"] for day in days),
            sum(day["missing"] for day in days),
            sum(day["late"] for day in days),
        )


@asynccontextmanager
async def village(broker_url: str, place: Path, begin: datetime) -> AsyncIterator[Village]:
    clock = ClockDouble(begin)
    meter = profile_meter(clock.now, serial=METER, period_s=BILLING_S, rows=60)
    store_url = f"sqlite:///{place / 'headend.db'}"
    quick = {"first_s": 0.01, "ceiling_s": 0.05}
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(on_port(DlmsBus({b"\0\1": meter}, hdlc=False)))
        outbox = await stack.enter_async_context(
            open_outbox(
                place / "gateway.db", OutboxLimits(), clock, clock_source=ClockSource.NETWORK
            )
        )
        store = await stack.enter_async_context(open_store(store_url))
        uplink = Uplink(
            MqttPort(BrokerSettings(url=broker_url, client_id="head-end")),
            store,
            catalogue=shipped_catalogue(),
            clock=clock,
            broker_backoff=Backoff(random.Random(1).random, **quick),
            store_backoff=Backoff(random.Random(1).random, **quick),
        )
        reconnector = Reconnector(
            MqttPort(BrokerSettings(url=broker_url, client_id="pole-1")),
            outbox,
            UplinkSettings(mark_interval_s=0.05),
            clock=clock,
            backoff=Backoff(random.Random(1).random, **quick),
            view=UplinkView(broker_url),
            metrics=GatewayMetrics(),
        )
        running = [asyncio.create_task(uplink.run())]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await uplink.subscribed.wait()
            running.append(asyncio.create_task(reconnector.run()))
            made = Village(clock, port, outbox, uplink, store_url)
            await made.start()
            yield made
        finally:
            for task in running:
                task.cancel()
            for task in running:
                with suppress(asyncio.CancelledError):
                    await task


@pytest.mark.broker
async def test_an_hour_without_the_meters_line_is_read_from_the_meter_and_missed_by_nobody(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    now = SystemClock().now()
    begin = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0) - timedelta(
        minutes=120
    )
    cut, mended = begin + timedelta(minutes=31), begin + timedelta(minutes=31) + OUTAGE
    async with village(mosquitto().url, tmp_path, begin) as pole:
        await pole.run(cut)
        await pole.port.close()
        await pole.run(mended)
        expected_without, missing_without, _ = await asyncio.to_thread(pole.told)
        assert missing_without >= OUTAGE / timedelta(seconds=BILLING_S)
        assert expected_without > missing_without
        await pole.port.listen()
        await pole.run(mended + timedelta(minutes=8))
        await pole.start()  # and a gateway that is started again asks for none of it twice
        await pole.run(now)
        expected, missing, late = await asyncio.to_thread(pole.told)
        async with open_store(pole.store_url, Access.READ) as store:
            stored = [
                reading async for reading in store.readings(FEEDER, METER) if reading.obis == IMPORT
            ]
            totals = await store.totals()
    assert missing == 0
    assert expected >= 24
    late_after = mended - timedelta(minutes=LATE_AFTER_MINUTES)
    reread = [cut + timedelta(minutes=4 + 5 * n) for n in range(12)]
    assert late == sum(ts < late_after for ts in reread)
    assert late > 0
    by_time = {reading.ts: reading for reading in stored}
    assert len(by_time) == len(stored), "an interval was read twice"
    for ts in reread:
        assert by_time[ts].value == energy_wh(ts) / 1000
        assert by_time[ts].quality is Quality.GOOD
    assert totals.conflicts == 0
