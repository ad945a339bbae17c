"""The witness convicts: each check beside what it must let pass."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import telemetry

from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.profile import MeterSerial, Quality
from openami.simulator.driver import IMPORT, SimulatedMeter
from openami.simulator.world.ledger import CLOCK_ERROR_MS_MAX, check_truth
from openami.simulator.world.witness import CardWitness, HeadendWitness, PromiseBroken, WrongReading


async def a_card(path: Path, messages: int) -> Path:
    """Return a gateway's file with so many messages in it, none of them sent."""
    file = path / "gateway.db"
    clock = ClockDouble()
    async with open_outbox(file, OutboxLimits(), clock) as outbox:
        for _ in range(messages):
            clock.advance(60)
            await outbox.append([telemetry(clock.now())])
    return file


def change(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(sql)


async def test_what_is_on_the_card_and_stays_there_is_right(tmp_path: Path) -> None:
    file = await a_card(tmp_path, 3)
    card = CardWitness("card")
    card.look(file)
    card.look(file)
    assert (card.messages, sorted(card.unacknowledged)) == (3, [1, 2, 3])


async def test_a_message_that_leaves_the_card_unacknowledged_is_a_breach(tmp_path: Path) -> None:
    file = await a_card(tmp_path, 3)
    card = CardWitness("card")
    card.look(file)
    card.acknowledged(1, card.unsettled[1])
    change(file, "DELETE FROM outbox_entry WHERE seq = 1")
    card.look(file)
    change(file, "DELETE FROM outbox_entry WHERE seq = 2")
    with pytest.raises(PromiseBroken, match=r"promise 2 .* gone from the card"):
        card.look(file)


async def test_a_mark_without_a_puback_is_a_breach(tmp_path: Path) -> None:
    file = await a_card(tmp_path, 2)
    card = CardWitness("card")
    card.look(file)
    card.acknowledged(1, card.unsettled[1])
    change(file, "UPDATE outbox_entry SET state = 'sent' WHERE seq = 1")
    card.look(file)
    change(file, "UPDATE outbox_entry SET state = 'sent' WHERE seq = 2")
    with pytest.raises(PromiseBroken, match=r"promise 2 .* no PUBACK"):
        card.look(file)


async def test_numbers_that_go_back_are_a_breach(tmp_path: Path) -> None:
    file = await a_card(tmp_path, 2)
    card = CardWitness("card")
    card.look(file)
    change(file, "UPDATE outbox_progress SET last_seq = 1")
    with pytest.raises(PromiseBroken, match=r"promise 2 .* went back"):
        card.look(file)


async def test_an_empty_card_is_a_breach_unless_it_is_a_new_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    card = CardWitness("card")
    card.look(empty)
    assert card.messages == 0
    card.look(await a_card(tmp_path, 2))
    with pytest.raises(PromiseBroken, match=r"promise 2 .* is empty"):
        card.look(empty)


async def test_an_outbox_above_its_bound_is_a_breach(tmp_path: Path) -> None:
    card = CardWitness("card")
    card.look(await a_card(tmp_path, 2))
    card.check_bound(card.bytes_used)
    with pytest.raises(PromiseBroken, match="promise 6"):
        card.check_bound(card.bytes_used - 1)


async def test_what_a_broker_lost_is_struck_off_only_when_it_is_older_than_what_a_card_keeps(
    tmp_path: Path,
) -> None:
    file = await a_card(tmp_path, 2)  # of one minute and of two after START
    card = CardWitness("card")
    card.look(file)
    for seq in (1, 2):
        card.acknowledged(seq, card.unsettled[seq])
    change(file, "DELETE FROM outbox_entry")
    kept_since = START + timedelta(minutes=1.5)
    assert card.strike_what_is_not_kept(file, kept_since=kept_since) == 0
    assert card.strike_what_is_not_kept(file, kept_since=START + timedelta(minutes=3)) == 2
    assert not card.unsettled


def test_more_acknowledged_than_committed_is_a_breach(tmp_path: Path) -> None:
    file = tmp_path / "headend.db"
    change(file, "CREATE TABLE tally (messages INTEGER)")
    change(file, "INSERT INTO tally VALUES (2)")
    witness = HeadendWitness(file, acknowledged=2)
    witness.check()
    witness.acknowledged = 3
    with pytest.raises(PromiseBroken, match="promise 3"):
        witness.check()


def test_a_counter_no_meter_told_or_not_then_is_a_wrong_reading() -> None:
    now_ms = int(START.timestamp() * 1000)
    meter = SimulatedMeter(MeterSerial("M-1"), lambda: now_ms, load_mw=0, counter_mwh=1_842_500_000)
    meters = {str(telemetry(START).envelope.meter_serial): meter}
    meter.told[meter.register(IMPORT)] = (now_ms, now_ms)
    latest = START + timedelta(milliseconds=CLOCK_ERROR_MS_MAX)
    check_truth(telemetry(latest).envelope, meters)
    with pytest.raises(WrongReading, match="it is dated"):
        check_truth(telemetry(latest + timedelta(milliseconds=1)).envelope, meters)
    meter.told.clear()
    with pytest.raises(WrongReading, match="never told"):
        check_truth(telemetry(START).envelope, meters)
    # What says itself that it is not to be believed is no lie.
    check_truth(telemetry(START, quality=Quality.SUSPECT).envelope, meters)
