"""Whatever the order, however often: the same messages leave the same tables, on both engines."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.headend.decisions import ENERGY, NOON, POWER, RELAY, accepted, register, rejected

from openami.headend.ingest import Accepted, Decision, Finding, Kind
from openami.headend.store import Store
from openami.headend.store.open import open_store
from openami.profile import Event, EventSource, EventState, Obis, Quality, Severity, Value

# Both sides of a bucket's edge, at two o'clock, and far away.
EDGE = NOON + timedelta(hours=2)
MOMENTS = [
    NOON,
    EDGE,
    EDGE - timedelta(milliseconds=1),
    NOON + timedelta(hours=4),
    NOON - timedelta(days=400),
]
CODES = (ENERGY, POWER, RELAY)
METERS = ("M-1", "M-2")
VALUES: tuple[Value, ...] = (1842.5, 7, "connected", True, 0.0)
_numbers = itertools.count()
Tables = dict[str | tuple[str, str], Any]


@st.composite
def messages(draw: st.DrawFn, *, conflicting: bool) -> Accepted:
    """A message of a village in which a reading has one value, or may have several."""
    meter = draw(st.sampled_from(METERS))
    at = draw(st.integers(0, len(MOMENTS) - 1))
    codes = draw(st.lists(st.sampled_from(CODES), min_size=1, max_size=4))

    def value(code: Obis) -> Value:
        told = draw(st.integers(0, 3)) if conflicting else 0
        return VALUES[(METERS.index(meter) + at + CODES.index(code) + told) % len(VALUES)]

    return accepted(
        *(register(value(c), c, quality=draw(st.sampled_from(list(Quality)))) for c in codes),
        ts=MOMENTS[at],
        meter=meter,
        gateway=f"gateway-{at % 2}",  # the meter moves, and late messages of its old gateway come
        seq=draw(st.none() | st.integers(0, 9)),
        received_at=NOON + timedelta(seconds=draw(st.integers(0, 3))),
        kind=draw(st.sampled_from(list(Kind))),
        event=draw(st.none() | st.just(_event(f"e-{meter}-{at}"))),
        findings=draw(st.sampled_from([(), (Finding("OUT_OF_RANGE", meter, "1.8.0", "high"),)])),
    )


def _event(event_id: str) -> Event:
    return Event(
        event_id=event_id,
        type="power.lost",
        state=EventState.RAISED,
        severity=Severity.MINOR,
        occurred_at="2026-06-22T11:59:00Z",
        source=EventSource.GATEWAY,
    )


def of_feeder(message: Accepted, feeder: str) -> Accepted:
    """Return the message as another feeder's; each example has tables of its own that way."""
    envelope = msgspec.structs.replace(message.envelope, feeder_id=feeder)
    return msgspec.structs.replace(message, envelope=envelope)


async def tables(store: Store, feeder: str) -> Tables:
    """Return all a store says of a feeder, but for times of receipt and counters."""
    found: Tables = {}
    for meter in await store.meters(feeder_id=feeder):
        serial = meter.meter_serial
        found[serial] = (meter.gateway_id, meter.last_ts, meter.worst_quality, meter.latest_good_ts)
        found[serial, "readings"] = [
            (r.ts, r.obis, type(r.value), r.value, r.unit, r.quality)
            async for r in store.readings(feeder, serial)
        ]
        found[serial, "latest"] = [
            (r.ts, r.obis, type(r.value), r.value, r.quality)
            for r in await store.latest(feeder, serial)
        ]
        found[serial, "conflicts"] = sorted(
            (c.other.ts, str(c.other.obis), repr(c.kept.value), repr(c.other.value))
            for c in await store.conflicts(feeder, serial)
        )
    found["gateways"] = [(g.gateway_id, g.last_seq) for g in await store.gateways(feeder)]
    found["events"] = sorted(
        (e.meter_serial, "~" if e.event_id.startswith("~") else e.event_id, e.ts, e.type)
        for e in await store.events(feeder_id=feeder)
    )
    found["findings"] = sorted(
        (f.day, f.meter_serial, f.obis, f.code) for f in await store.findings(feeder_id=feeder)
    )
    return found


async def after(store: Store, batches: Sequence[Sequence[Accepted]]) -> Tables:
    """Commit batches to a feeder nobody has used, and return its tables."""
    feeder = f"feeder-{next(_numbers)}"
    for batch in batches:
        await store.commit([of_feeder(message, feeder) for message in batch])
    return await tables(store, feeder)


def opinions(found: Tables) -> Counter[tuple[Any, ...]]:
    """Return every value told of each reading, whichever of them is in force."""
    told: Counter[tuple[Any, ...]] = Counter()
    for serial in METERS:
        for ts, obis, _, value, *_ in found.get((serial, "readings"), []):
            told[serial, ts, str(obis), repr(value)] += 1
        for ts, obis, _, other in found.get((serial, "conflicts"), []):
            told[serial, ts, obis, other] += 1
    return told


def cut(messages: Sequence[Accepted], places: Sequence[int]) -> list[Sequence[Accepted]]:
    """Cut messages into batches."""
    edges = [0, *sorted(place % (len(messages) + 1) for place in places), len(messages)]
    return [messages[a:b] for a, b in itertools.pairwise(edges)]


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def one_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of one store for all examples."""
    if request.param == "postgres":
        postgres = request.getfixturevalue("postgres")
        url: str = postgres.new_database()
        return url
    path: Path = tmp_path_factory.mktemp("order") / "store.db"
    return f"sqlite:///{path}"


examples = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@examples
@given(data=st.data())
def test_order_repetition_and_batching_do_not_matter(one_store: str, data: st.DataObject) -> None:
    first = data.draw(st.lists(messages(conflicting=False), min_size=1, max_size=10))
    repeated = data.draw(st.lists(st.sampled_from(first), max_size=8))
    again = data.draw(st.permutations([*first, *repeated]))
    places = data.draw(st.lists(st.integers(0, 30), max_size=4))

    async def example() -> None:
        async with open_store(one_store) as store:
            assert await after(store, [first]) == await after(store, cut(again, places))

    asyncio.run(example())


@examples
@given(data=st.data())
def test_with_conflicts_nothing_told_is_lost_and_replays_change_nothing(
    one_store: str, data: st.DataObject
) -> None:
    first = data.draw(st.lists(messages(conflicting=True), min_size=1, max_size=10))
    again = data.draw(st.permutations(first))
    places = data.draw(st.lists(st.integers(0, 30), max_size=4))

    async def example() -> None:
        async with open_store(one_store) as store:
            straight = await after(store, [first])
            assert await after(store, [*cut(first, places), again, *cut(again, places)]) == straight
            reordered = await after(store, cut(again, places))
            assert opinions(reordered) == opinions(straight)

    asyncio.run(example())


@examples
@given(
    payloads=st.lists(st.sampled_from([b"", b"{", b"\0", b"x" * 300]), min_size=1, max_size=8),
    places=st.lists(st.integers(0, 8), max_size=3),
)
def test_rejected_messages_fold_alike_however_they_come(
    one_store: str, payloads: list[bytes], places: list[int]
) -> None:
    topic = f"openami/v1/{next(_numbers)}"
    batch: list[Decision] = [rejected(payload, topic=topic) for payload in payloads]
    edges = [0, *sorted(place % (len(batch) + 1) for place in places), len(batch)]

    async def example() -> None:
        async with open_store(one_store) as store:
            before = (await store.totals()).rejected_messages
            for a, b in itertools.pairwise(edges):
                await store.commit(batch[a:b])
            kept = [r for r in await store.rejects(at_most=100) if r.topic == topic]
            assert {r.payload: r.count for r in kept} == Counter(payloads)
            assert (await store.totals()).rejected_messages - before == len(payloads)

    asyncio.run(example())
