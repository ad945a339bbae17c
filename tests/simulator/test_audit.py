"""The account is read at both ends of the wire, and names what is missing between them."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import START, ClockDouble

from openami.gateway.outbox import Draft, Outbox, OutboxLimits, open_outbox
from openami.headend.ingest import Message, ingest
from openami.headend.store import Store, Tally
from openami.headend.store.open import open_store
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    TelemetryTopic,
    shipped_catalogue,
)
from openami.simulator.audit import Identity, Traffic, account, everything_arrived, traffic

FEEDER = FeederId("feeder")
GATEWAY = GatewayId("gateway")
CODES = ("1.8.0", "32.7.0")
UNITS = {"1.8.0": "kWh", "32.7.0": "V"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def outbox(file: Path) -> AsyncIterator[Outbox]:
    async with open_outbox(file, OutboxLimits(), ClockDouble()) as opened:
        yield opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'headend.db'}") as opened:
        yield opened


def envelope(meter: int, ts: datetime, codes: Sequence[str] = CODES) -> Envelope:
    readings = [RegisterReading(Obis.parse(c), 230.0, UNITS[c], Quality.GOOD) for c in codes]
    return Envelope(
        ts=ts,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meter_serial=MeterSerial(f"VM-{meter}"),
        registers=tuple(readings),
    )


async def send(outbox: Outbox, *envelopes: Envelope) -> Sequence[int]:
    """Let the broker acknowledge these; return their numbers."""
    seqs = (await outbox.append([Draft(each) for each in envelopes])).seqs
    await outbox.mark_sent(seqs, START)
    return seqs


async def deliver(store: Store, *envelopes: Envelope) -> None:
    """Let the head-end take these."""
    batch = [
        ingest(
            Message(
                topic=str(TelemetryTopic(FEEDER, GATEWAY, each.meter_serial)),
                payload=each.encode(),
                received_at=START,
            ),
            catalogue=shipped_catalogue(),
        )
        for each in envelopes
    ]
    await store.commit(batch)


ONE, TWO, THREE = (envelope(n, START - timedelta(seconds=n)) for n in (1, 2, 3))


async def test_what_was_sent_and_stored_is_no_loss(
    outbox: Outbox, store: Store, file: Path
) -> None:
    await send(outbox, ONE, TWO)
    await deliver(store, ONE, TWO)
    found = await account(file, store, feeder_id=FEEDER, since=START - timedelta(1), before=Tally())
    assert (found.published, found.stored, found.duplicates, found.lost) == (4, 4, 0, ())


async def test_what_was_sent_and_not_stored_is_lost_by_name(
    outbox: Outbox, store: Store, file: Path
) -> None:
    await send(outbox, ONE, TWO)
    await deliver(store, ONE, envelope(2, TWO.ts, ["1.8.0"]))
    found = await account(file, store, feeder_id=FEEDER, since=START - timedelta(1), before=Tally())
    assert (found.published, found.stored) == (4, 3)
    assert found.lost == (Identity(TWO.meter_serial, TWO.ts, Obis.parse("32.7.0")),)


async def test_what_the_broker_has_not_acknowledged_is_not_published(
    outbox: Outbox, store: Store, file: Path
) -> None:
    await outbox.append([Draft(ONE)])
    found = await account(file, store, feeder_id=FEEDER, since=START - timedelta(1), before=Tally())
    assert (found.published, found.lost) == (0, ())


async def test_what_came_twice_is_a_duplicate_and_published_once(
    outbox: Outbox, store: Store, file: Path
) -> None:
    """As when a silent meter's last values go out again under their own time."""
    await send(outbox, ONE, ONE)
    await deliver(store, ONE)
    await deliver(store, ONE)
    found = await account(file, store, feeder_id=FEEDER, since=START - timedelta(1), before=Tally())
    assert (found.published, found.stored, found.duplicates) == (2, 2, 2)


async def test_an_earlier_demo_s_readings_are_not_ours(
    outbox: Outbox, store: Store, file: Path
) -> None:
    await deliver(store, THREE, THREE)
    before = await store.totals()
    assert before.duplicates == 2
    await send(outbox, ONE)
    await deliver(store, ONE)
    found = await account(file, store, feeder_id=FEEDER, since=START - timedelta(1), before=before)
    assert (found.published, found.stored, found.duplicates) == (2, 2, 0)


async def test_what_the_head_end_would_not_take_is_counted(
    outbox: Outbox, store: Store, file: Path
) -> None:
    await send(outbox, ONE)
    decision = ingest(Message("openami/v1/x", b"{", START), catalogue=shipped_catalogue())
    await store.commit([decision])
    found = await account(file, store, feeder_id=FEEDER, since=START - timedelta(1), before=Tally())
    assert (found.rejected, len(found.lost)) == (1, 2)


async def test_waiting_ends_when_as_much_came_as_was_sent(
    outbox: Outbox, store: Store, file: Path
) -> None:
    await send(outbox, ONE, TWO)
    await deliver(store, ONE)
    assert not await everything_arrived(file, store, before=Tally())
    await deliver(store, TWO)
    assert await everything_arrived(file, store, before=Tally())


async def test_traffic_is_what_was_sent_and_what_was_not(outbox: Outbox, file: Path) -> None:
    await send(outbox, ONE, TWO)
    await outbox.append([Draft(THREE)])
    assert traffic(file) == Traffic(sent=2, backlog=1)


def test_before_there_is_an_outbox_there_is_no_traffic(tmp_path: Path) -> None:
    assert traffic(tmp_path / "nothing.db") == Traffic()
    assert not (tmp_path / "nothing.db").exists()
