"""What a store keeps of numbers and gaps, asked of both engines."""

import json
from dataclasses import replace
from datetime import timedelta

from tests.headend.decisions import FEEDER, GATEWAY, NOON, accepted, register, rejected, replayed

from openami.headend.gap_life import Gap, GapReason, GapState
from openami.headend.ingest import Decision, Message, ingest
from openami.headend.seq_gaps import Numbering
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.gaps import ENDED_GAPS_KEPT_DAYS
from openami.profile import Quality, shipped_catalogue

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
GAP = Gap(
    feeder_id=FEEDER,
    gateway_id=GATEWAY,
    epoch=1,
    first=3,
    last=9,
    missing=7,
    measured_from=NOON,
    measured_to=NOON + MINUTE,
    noticed_at=NOON,
    changed_at=NOON,
)


def numbered(*seqs: int, gateway: str = GATEWAY) -> list[Decision]:
    return [accepted(seq=seq, ts=NOON + seq * MINUTE, gateway=gateway) for seq in seqs]


async def numbering(store: HeadEndStore) -> Numbering:
    [(feeder, gateway, known)] = await store.numberings()
    assert (feeder, gateway) == (FEEDER, GATEWAY)
    return known


def extent(known: Numbering) -> list[tuple[int, int]]:
    return [(run.first, run.last) for run in known.current.runs]


# --- numbers -------------------------------------------------------------------------------------


async def test_numbers_are_kept_with_their_batch(store: HeadEndStore) -> None:
    await store.commit(numbered(1, 2, 7))
    await store.commit(numbered(3, 9, 9, 2))
    assert extent(await numbering(store)) == [(1, 3), (7, 7), (9, 9)]
    [hole, _] = (await numbering(store)).holes()
    assert (hole.first, hole.last) == (4, 6)


async def test_a_batch_twice_changes_nothing(store: HeadEndStore) -> None:
    await store.commit(numbered(1, 5))
    known = await numbering(store)
    await store.commit(numbered(1, 5))
    assert await numbering(store) == known


async def test_a_batch_that_is_not_committed_leaves_no_number(store: HeadEndStore) -> None:
    await store.commit(numbered(1))
    endless = accepted(register(2**1100), seq=2)
    try:
        await store.commit([*numbered(5), endless])
    except (StoreError, OverflowError):
        assert extent(await numbering(store)) == [(1, 1)]
    else:
        raise AssertionError("a number no column holds was stored")


async def test_gateways_number_by_themselves(store: HeadEndStore) -> None:
    await store.commit([*numbered(1, 2), *numbered(7, gateway="other"), accepted(gateway="none")])
    known = {gateway: extent(each) for _, gateway, each in await store.numberings(FEEDER)}
    assert known == {GATEWAY: [(1, 2)], "other": [(7, 7)]}
    assert await store.numberings("elsewhere") == []


async def test_a_value_that_only_repeats_tells_no_time(store: HeadEndStore) -> None:
    lost = register(quality=Quality.COMMS_LOST)
    await store.commit([*numbered(1), accepted(lost, seq=2, ts=NOON - DAY), *numbered(4, 5)])
    [hole] = (await numbering(store)).holes()
    assert hole.from_ms == (await numbering(store)).current.runs[0].first_ms


async def test_a_rejected_message_is_counted_as_come(store: HeadEndStore) -> None:
    payload = b'{"feederId":"%b","gatewayId":"%b","seq":2,"ts":"1980-01-01T00:00:00Z"}' % (
        FEEDER.encode(),
        GATEWAY.encode(),
    )
    topic = f"openami/v1/{FEEDER}/{GATEWAY}/meter/m/telemetry"
    await store.commit([rejected(payload, topic=topic)])
    assert await store.numberings() == [], "nothing was ever accepted of this gateway"
    await store.commit([*numbered(1, 3), rejected(payload, topic=topic)])
    assert extent(await numbering(store)) == [(1, 3)]


async def test_a_replay_is_no_new_number(store: HeadEndStore) -> None:
    await store.commit([*numbered(1), rejected()])
    [kept] = await store.rejects()
    await store.replay(kept.id, accepted(seq=7), replayed, NOON)
    assert extent(await numbering(store)) == [(1, 1)]


# --- gaps ----------------------------------------------------------------------------------------


async def test_a_gap_comes_back_as_it_was_put(store: HeadEndStore) -> None:
    asked = replace(
        GAP,
        state=GapState.ASKED,
        reason=GapReason.ASKED,
        asks=2,
        answers=1,
        command_id="cmd-1",
        answered_at=NOON,
        ask_at=NOON + DAY,
    )
    timeless = replace(GAP, epoch=0, measured_from=None, measured_to=None)
    await store.put_gaps([asked, timeless])
    assert await store.gaps() == [timeless, asked]
    closed = replace(asked, state=GapState.CLOSED, missing=0, ended_at=NOON)
    await store.put_gaps([closed])
    assert await store.gaps(feeder_id=FEEDER, gateway_id=GATEWAY) == [timeless, closed]
    assert await store.gaps(closed=False) == [timeless]
    assert await store.gaps(feeder_id="other") == []
    assert await store.gaps(gateway_id="other") == []


async def test_a_gap_that_closed_unasked_leaves_no_trace(store: HeadEndStore) -> None:
    other = replace(GAP, first=20)
    await store.put_gaps([GAP, other])
    await store.put_gaps([replace(GAP, state=GapState.CLOSED, ended_at=NOON)])
    assert await store.gaps() == [other]


async def test_ended_gaps_are_kept_for_a_time_and_living_ones_as_long_as_they_live(
    store: HeadEndStore,
) -> None:
    lost = replace(GAP, state=GapState.LOST, ended_at=NOON)
    await store.put_gaps([lost, replace(GAP, first=20)])
    kept = timedelta(days=ENDED_GAPS_KEPT_DAYS)
    assert await store.prune_gaps(NOON + kept) == 0
    assert await store.prune_gaps(NOON + kept + timedelta(milliseconds=1)) == 1
    assert await store.gaps() == [replace(GAP, first=20)]


async def test_ingest_and_store_agree_on_what_a_rejected_message_is(store: HeadEndStore) -> None:
    """Not a made-up rejection: a whole message, refused for its time alone."""
    await store.commit(numbered(1, 3))
    payload = json.dumps(
        {
            "schemaVersion": "0.1",
            "ts": "2010-01-01T00:00:00Z",
            "feederId": FEEDER,
            "gatewayId": GATEWAY,
            "meterSerial": "M-1",
            "seq": 2,
            "registers": [{"obis": "1.8.0", "value": 1, "unit": "kWh", "quality": "good"}],
        }
    ).encode()
    message = Message(f"openami/v1/{FEEDER}/{GATEWAY}/meter/M-1/telemetry", payload, NOON)
    await store.commit([ingest(message, catalogue=shipped_catalogue())])
    assert (await store.totals()).rejected_messages == 1
    assert extent(await numbering(store)) == [(1, 3)]
