"""What a DLMS meter has in its log, and what its readings say, from the meter to the operator's page."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.drivers.dlms_bench import address, bench_meter
from tests.drivers.dlms_double import DlmsBus, DlmsDouble, named, number
from tests.drivers.line_double import on_port
from tests.gateway.pole import GatewayProgram
from tests.headend.web.pages import House, house, told

from openami.clock import SystemClock
from openami.gateway.drivers.dlms import data
from openami.gateway.drivers.dlms.times import Zone, write_time
from openami.headend.alarm_watch import AlarmWatch
from openami.headend.broker_link import BrokerLink
from openami.headend.store import StoredEvent
from openami.headend.uplink import Uplink
from openami.mqtt.backoff import Backoff
from openami.mqtt.client import MqttPort
from openami.mqtt.settings import BrokerSettings
from openami.profile import decode_envelope, shipped_catalogue

FEEDER, METER = "feeder-1", "DS2000-1"
_WAIT_S = 60.0  # a test machine may do many things at once
_LOG = named("0.0.99.98.1.255")


@pytest.mark.broker
@pytest.mark.slow
async def test_a_cover_and_a_high_voltage_are_alarms_with_words_and_end_by_themselves(
    tmp_path: Path, mosquitto: StartMosquitto
) -> None:
    """Through a kill of the gateway: what was told is not told again, and its end is."""
    broker, now = mosquitto(), SystemClock().now()
    meter = bench_meter("KS-001")
    keeps_log(meter, [(44, now - timedelta(days=6.5)), (45, now - timedelta(days=6.1))])
    meter.objects[3, named("1.0.32.7.0.255"), 2] = lambda _: number(2541)
    bus = DlmsBus({address(1, "tcp"): meter}, hdlc=False)
    async with on_port(bus) as port, house(tmp_path) as home:
        gateway = configured(tmp_path, broker.url, port.number)
        uplink = asyncio.create_task(head_end(home, broker.url))
        try:
            gateway.start()
            await until(partial(has_told, home, "meter_cover_open", "cleared"))
            await until(partial(has_told, home, "over_voltage", "raised"))
            await look(home)
            asha = await home.signed_in()
            page = told(await asha.get(f"/alarms?feeder={FEEDER}"))
            assert "Voltage too high" in page
            assert "Meter cover opened" in page
            assert "Standing: 1" in page
            gateway.kill()
            gateway.start()
            meter.objects[3, named("1.0.32.7.0.255"), 2] = lambda _: number(2301)
            await until(partial(has_told, home, "over_voltage", "cleared"))
        finally:
            gateway.kill()
            uplink.cancel()
            with suppress(asyncio.CancelledError):
                await uplink
            await bus.rest()
        await look(home)
        assert "Nothing stands" in told(await asha.get(f"/alarms?feeder={FEEDER}"))
        page = told(await asha.get(f"/events?feeder={FEEDER}"))
        assert "log 0-0:99.98.1" in page
        events = await told_events(home)
    assert [event.state for event in events if event.type == "over_voltage"] == [
        "raised",
        "cleared",
    ]
    covers = [event for event in events if event.type == "meter_cover_open"]
    assert [event.state for event in covers] == ["raised", "cleared"]
    envelope = decode_envelope(covers[0].payload)
    assert envelope.event is not None
    assert (envelope.event.code_system, envelope.event.code) == ("idis", 44)
    assert abs(covers[0].occurred_at - (now - timedelta(days=6.5))) < timedelta(seconds=1)
    assert [(str(r.obis), r.value) for r in envelope.registers] == [("96.11.0", 44)]


def keeps_log(meter: DlmsDouble, entries: Sequence[tuple[int, datetime]]) -> None:
    """Give a meter a fraud detection log."""
    rows = (
        data.structure(data.octet_string(write_time(at, Zone(), 0)), data.uint8(code))
        for code, at in entries
    )
    columns = (
        data.structure(data.uint16(class_id), data.octet_string(name), data.int8(2), data.uint16(0))
        for class_id, name in ((8, named("0.0.1.0.0.255")), (1, named("0.0.96.11.1.255")))
    )
    told = (data.array(*rows), data.array(*columns), data.uint32(0))
    for index, octets in enumerate(told, 2):
        meter.objects[7, _LOG, index] = partial(_always, octets)


def _always(octets: bytes, _: int) -> bytes:
    return octets


def configured(directory: Path, url: str, port: int) -> GatewayProgram:
    gateway = GatewayProgram(directory, mqtt={"url": url}, modbus_port=port)
    gateway.configure(meters=1)
    written = gateway.file.read_text().partition("[[line]]")[0]
    gateway.file.write_text(
        f'{written}[events]\npolls = 2\n[[line]]\ndriver = "dlms"\nname = "bus1"\n'
        f'transport = "tcp"\nhost = "127.0.0.1"\nport = {port}\n[[line.meter]]\n'
        f'serial = "{METER}"\nclient = 16\ncode_system = "idis"\n'
    )
    return gateway


async def head_end(home: House, url: str) -> None:
    """Carry what the broker has into the store, for ever."""
    uplink = Uplink(
        MqttPort(BrokerSettings(url=url, client_id="head-end")),
        home.store,
        catalogue=shipped_catalogue(),
        clock=SystemClock(),
        broker_backoff=Backoff(random.Random(1).random),
        store_backoff=Backoff(random.Random(1).random),
    )
    await uplink.run()


async def look(home: House) -> None:
    """Let the head-end look for alarms as it does twice a minute."""
    link = BrokerLink(True, home.now() - timedelta(days=1))
    await AlarmWatch(home.store, home.place.clock, lambda: link).look()


async def told_events(home: House) -> list[StoredEvent]:
    """Return the meter's events in the order in which they happened."""
    found = await home.store.events(feeder_id=FEEDER, meter_serial=METER)
    return sorted(found, key=lambda event: event.occurred_at)


async def has_told(home: House, kind: str, state: str) -> bool:
    return any((event.type, event.state) == (kind, state) for event in await told_events(home))


async def until(happens: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_WAIT_S):
        while not await happens():
            await asyncio.sleep(0.05)
