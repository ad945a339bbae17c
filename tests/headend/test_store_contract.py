"""What a store promises, asked of both engines."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from tests.headend.decisions import (
    DROPPED,
    ENERGY,
    FEEDER,
    GATEWAY,
    METER,
    NOON,
    POWER,
    RELAY,
    accepted,
    fault,
    readings,
    register,
    rejected,
    replayed,
    told,
)

from openami.headend.ingest import Decision, Finding, Kind
from openami.headend.store import (
    CONFLICT_FINDING,
    CONFLICTS_KEPT_PER_READING_MAX,
    FINDINGS_KEPT_DAYS,
    REJECT_PAYLOAD_BYTES_MAX,
    REJECTED_KEPT_DAYS,
    Access,
    RejectStatus,
    Store,
    StoreError,
    Tally,
)
from openami.headend.store.open import open_store
from openami.headend.store.queries import PAGE_ROWS_MAX
from openami.profile import Event, EventSource, EventState, Obis, Quality, Severity, Value

GOOD, SUSPECT, COMMS_LOST = Quality.GOOD, Quality.SUSPECT, Quality.COMMS_LOST
SECOND, MINUTE, HOUR, DAY = (timedelta(**{u: 1}) for u in ("seconds", "minutes", "hours", "days"))


# --- values --------------------------------------------------------------------------------------

VALUES: list[Value] = [
    1842.5,
    0.1 + 0.2,
    1.0,
    5e-324,
    1.7976931348623157e308,
    -0.0,
    0,
    1,
    -7,
    2**53 - 1,
    -(2**53) + 1,
    True,
    False,
    "007",
    "1",
    "1.0",
    "true",
    "NaN",
    "",
    "connected",
    "മീറ്റർ ⚡",
    "a" * 5_000,
]


async def test_a_value_keeps_its_json_type(store: Store) -> None:
    await store.commit(
        [accepted(register(value), ts=NOON + n * MINUTE) for n, value in enumerate(VALUES)]
    )
    found = [reading.value for reading in await readings(store)]
    assert [(type(value), value) for value in found] == [(type(value), value) for value in VALUES]
    signs = [math.copysign(1, value) for value in found if isinstance(value, float)]
    assert signs == [math.copysign(1, value) for value in VALUES if isinstance(value, float)]


async def test_a_reading_comes_back_as_it_was_told(store: Store) -> None:
    ts = NOON + timedelta(milliseconds=123)
    late = ts + 60 * DAY + timedelta(milliseconds=7)
    await store.commit([accepted(register(12.4, unit="m³"), ts=ts, received_at=late)])
    [reading] = await readings(store)
    assert (reading.feeder_id, reading.meter_serial) == (FEEDER, METER)
    assert (reading.obis, reading.value, reading.unit) == (ENERGY, 12.4, "m³")
    assert (reading.ts, reading.received_at) == (ts, late)


async def test_a_clock_ahead_of_ours_is_received_before_it_is_measured(store: Store) -> None:
    await store.commit([accepted(received_at=NOON - 4 * MINUTE)])
    [reading] = await readings(store)
    assert (reading.ts, reading.received_at) == (NOON, NOON - 4 * MINUTE)


async def test_measured_time_is_kept_to_the_millisecond(store: Store) -> None:
    for microseconds in (0, 999, 1_000, 1_999):
        moment = NOON + timedelta(microseconds=microseconds)
        await store.commit([accepted(ts=moment, received_at=NOON)])
    found = await readings(store)
    assert [r.ts for r in found] == [NOON, NOON + timedelta(milliseconds=1)]


async def test_any_moment_of_the_calendar_is_kept(store: Store) -> None:
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1),
        datetime(2020, 1, 1, tzinfo=UTC),
        NOON - timedelta(milliseconds=1),
        NOON,
        NOON + 2 * HOUR - timedelta(milliseconds=1),
        NOON + 2 * HOUR,
        datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ]
    for n, ts in enumerate(moments):
        await store.commit([accepted(ts=ts, received_at=NOON)])
        assert [r.ts for r in await readings(store)] == moments[: n + 1]
        assert [r.ts for r in await store.latest(FEEDER, METER)] == [ts]
        assert [r.ts for r in await readings(store, since=ts)] == [ts]
        assert [r.ts for r in await readings(store, until=ts)] == moments[:n]


# --- identity ------------------------------------------------------------------------------------


async def test_a_repetition_is_a_duplicate_and_stored_once(store: Store) -> None:
    batch = [accepted(register(), register(7, POWER, unit="W"))]
    assert await store.commit(batch) == Tally(messages=1, stored=2)
    assert await store.commit(batch) == Tally(messages=1, duplicates=2)
    assert await store.totals() == Tally(messages=2, stored=2, duplicates=2)
    assert len(await readings(store)) == 2


async def test_a_repetition_within_a_batch_is_a_duplicate(store: Store) -> None:
    assert await store.commit([accepted(), accepted()]) == Tally(messages=2, stored=1, duplicates=1)


async def test_a_register_twice_in_one_message(store: Store) -> None:
    tally = await store.commit([accepted(register(1), register(1), register(2))])
    assert tally == Tally(messages=1, stored=1, duplicates=1, conflicts=1)
    assert told(await readings(store)) == [("1.8.0", 1, "kWh", GOOD)]


async def test_the_received_time_of_the_first_delivery_stays(store: Store) -> None:
    await store.commit([accepted(received_at=NOON + SECOND)])
    await store.commit([accepted(received_at=NOON + DAY)])
    [reading] = await readings(store)
    assert reading.received_at == NOON + SECOND


async def test_equal_numbers_are_one_value(store: Store) -> None:
    pairs: list[tuple[Value, Value]] = [(1, 1.0), (1.0, 1), (0.0, -0.0), (2**53 - 1, 2.0**53 - 1)]
    for n, (first, second) in enumerate(pairs):
        ts = NOON + n * MINUTE
        await store.commit([accepted(register(first), ts=ts)])
        assert (await store.commit([accepted(register(second), ts=ts)])).duplicates == 1
        [reading] = await readings(store, since=ts)
        assert (type(reading.value), reading.value) == (type(first), first)


async def test_another_value_is_a_conflict_and_kept_beside_the_first(store: Store) -> None:
    pairs: list[tuple[Value, Value]] = [
        *((1, 2), (1, True), (False, 0), (1, "1"), ("1", 1.0), ("on", "off")),
        (1.0, 1.0000000000000002),
    ]
    for n, (first, second) in enumerate(pairs):
        meter, later = f"M-{n}", NOON + HOUR
        await store.commit([accepted(register(first), meter=meter)])
        tally = await store.commit([accepted(register(second), meter=meter, received_at=later)])
        assert tally == Tally(messages=1, conflicts=1)
        [reading] = await readings(store, meter=meter)
        assert (type(reading.value), reading.value) == (type(first), first)
        [conflict] = await store.conflicts(FEEDER, meter)
        assert conflict.kept == reading
        assert (type(conflict.other.value), conflict.other.value) == (type(second), second)
        assert (conflict.other.ts, conflict.other.received_at) == (NOON, later)
        [finding] = await store.findings(meter_serial=meter)
        assert (finding.code, finding.obis, finding.count) == (CONFLICT_FINDING, "1.8.0", 1)
        assert finding.day == "2026-06-22"


async def test_the_same_number_in_another_unit_is_another_value(store: Store) -> None:
    await store.commit([accepted(register(5, unit="kWh"))])
    assert (await store.commit([accepted(register(5, unit="Wh"))])).conflicts == 1
    [conflict] = await store.conflicts(FEEDER, METER)
    assert (conflict.kept.unit, conflict.other.unit) == ("kWh", "Wh")


async def test_a_conflict_told_again_is_a_duplicate(store: Store) -> None:
    await store.commit([accepted(register(1))])
    await store.commit([accepted(register(2))])
    again = await store.commit([accepted(register(2.0)), accepted(register(2))])
    assert again == Tally(messages=2, duplicates=2)
    assert len(await store.conflicts(FEEDER, METER)) == 1
    [finding] = await store.findings()
    assert finding.count == 1


async def test_conflicts_are_kept_up_to_their_bound_and_counted_beyond(store: Store) -> None:
    await store.commit([accepted(register(0))])
    others = range(1, CONFLICTS_KEPT_PER_READING_MAX + 1)
    half = len(others) // 2
    for portion in (others[:half], others[half:]):
        tally = await store.commit([accepted(register(n)) for n in portion])
        assert tally.conflicts == len(portion)
    kept = {c.other.value for c in await store.conflicts(FEEDER, METER)}
    assert kept == set(others)
    beyond = await store.commit([accepted(register(99)), accepted(register(98))])
    assert beyond == Tally(messages=2, conflicts=2)
    assert {c.other.value for c in await store.conflicts(FEEDER, METER)} == kept


async def test_meters_of_two_feeders_may_have_one_serial(store: Store) -> None:
    tally = await store.commit([accepted(feeder="north"), accepted(register(2), feeder="south")])
    assert (tally.stored, tally.conflicts) == (2, 0)
    assert [m.feeder_id for m in await store.meters(meter_serial=METER)] == ["north", "south"]


# --- quality -------------------------------------------------------------------------------------


SETTLED = [
    # told, told, stored, latest
    (GOOD, COMMS_LOST, GOOD, COMMS_LOST),
    (SUSPECT, COMMS_LOST, SUSPECT, COMMS_LOST),
    (GOOD, SUSPECT, SUSPECT, SUSPECT),
    (COMMS_LOST, COMMS_LOST, COMMS_LOST, COMMS_LOST),
]


@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_two_qualities_of_one_value_are_settled_whichever_came_first(
    in_one_batch: bool, store: Store
) -> None:
    cases = [(pair[order], pair[1 - order], *pair[2:]) for pair in SETTLED for order in (0, 1)]
    for n, (first, second, stored, latest) in enumerate(cases):
        meter = f"M-{n}"
        deliveries = [accepted(register(quality=q), meter=meter) for q in (first, second)]
        for batch in [deliveries] if in_one_batch else [[d] for d in deliveries]:
            await store.commit(batch)
        assert [r.quality for r in await readings(store, meter=meter)] == [stored]
        assert [r.quality for r in await store.latest(FEEDER, meter)] == [latest]
        [row] = await store.meters(meter_serial=meter)
        assert row.worst_quality == latest
        assert await store.conflicts(FEEDER, meter) == []
    assert (await store.totals()).duplicates == len(cases)


async def test_a_silent_meter_is_silent_until_it_measures_again(store: Store) -> None:
    await store.commit([accepted(register(1))])
    await store.commit([accepted(register(1, quality=COMMS_LOST), received_at=NOON + HOUR)])
    [meter] = await store.meters()
    assert (meter.worst_quality, meter.last_ts) == (COMMS_LOST, NOON)
    assert (meter.last_seen, meter.latest_good_ts) == (NOON + HOUR, NOON)

    await store.commit([accepted(register(2), ts=NOON + 2 * HOUR)])
    [meter] = await store.meters()
    assert (meter.worst_quality, meter.latest_good_ts) == (GOOD, NOON + 2 * HOUR)
    assert [r.quality for r in await readings(store)] == [GOOD, GOOD]


async def test_the_worst_of_a_meters_registers_is_the_meters(store: Store) -> None:
    await store.commit([accepted(register(), register(1, POWER, quality=SUSPECT))])
    [meter] = await store.meters()
    assert (meter.worst_quality, meter.latest_good_ts) == (SUSPECT, NOON)
    await store.commit([accepted(register(2, POWER), ts=NOON + MINUTE)])
    assert [m.worst_quality for m in await store.meters()] == [GOOD]


# --- latest, meters, gateways, feeders -----------------------------------------------------------


async def test_latest_is_the_latest_measured_whatever_came_last(store: Store) -> None:
    await store.commit([accepted(register(2), register("on", RELAY, unit="enum"), ts=NOON)])
    await store.commit([accepted(register(1), ts=NOON - DAY, received_at=NOON + DAY)])
    assert told(await store.latest(FEEDER, METER)) == [
        ("1.8.0", 2, "kWh", GOOD),
        ("96.11.1", "on", "enum", GOOD),
    ]
    [meter] = await store.meters()
    assert (meter.last_ts, meter.last_seen) == (NOON, NOON + DAY)


async def test_latest_is_right_within_one_batch_and_across_stores(
    store: Store, store_url: str
) -> None:
    hours = [5, 3, 9, 1]
    batch = [accepted(register(h), ts=NOON + h * HOUR) for h in hours]
    await store.commit(batch)
    assert [r.value for r in await store.latest(FEEDER, METER)] == [9]
    async with open_store(store_url, Access.EDIT) as other:  # remembers nothing of its own
        await other.commit([accepted(register(4), ts=NOON + 4 * HOUR)])
        assert [r.value for r in await store.latest(FEEDER, METER)] == [9]
        await other.commit([accepted(register(20), ts=NOON + 20 * HOUR)])
    await store.commit([accepted(register(10), ts=NOON + 10 * HOUR)])  # remembers 9 as the latest
    assert [r.value for r in await store.latest(FEEDER, METER)] == [20]


async def test_the_worst_quality_is_the_latest_also_across_stores(
    store: Store, store_url: str
) -> None:
    await store.commit([accepted(register(quality=GOOD))])
    async with open_store(store_url, Access.EDIT) as other:
        await other.commit([accepted(register(quality=COMMS_LOST))])
    await store.commit([accepted(register(quality=SUSPECT))])  # remembers that it was good
    assert [r.quality for r in await store.latest(FEEDER, METER)] == [COMMS_LOST]
    assert [r.quality for r in await readings(store)] == [SUSPECT]


async def test_a_meter_that_moves_is_with_the_gateway_that_measured_it_last(store: Store) -> None:
    await store.commit([accepted(gateway="old", ts=NOON)])
    await store.commit([accepted(gateway="new", ts=NOON + DAY)])
    assert [m.gateway_id for m in await store.meters()] == ["new"]
    await store.commit([accepted(gateway="old", ts=NOON + HOUR, received_at=NOON + 2 * DAY)])
    [meter] = await store.meters()
    assert meter.gateway_id == "new"
    assert (meter.first_seen, meter.last_seen) == (NOON + 2 * SECOND, NOON + 2 * DAY)
    [feeder] = await store.feeders()
    assert (feeder.gateways, feeder.meters) == (2, 1)


async def test_a_gateways_highest_number_is_kept(store: Store) -> None:
    await store.commit([accepted(seq=None)])
    assert [g.last_seq for g in await store.gateways()] == [None]
    for seq in (7, 9, None, 8):
        await store.commit([accepted(seq=seq, ts=NOON + (seq or 0) * HOUR)])
    [gateway] = await store.gateways(FEEDER)
    assert gateway.last_seq == 9
    assert (gateway.first_seen, gateway.last_seen) == (
        NOON + 2 * SECOND,
        NOON + 9 * HOUR + 2 * SECOND,
    )
    assert await store.gateways("elsewhere") == []


async def test_lists_are_in_order_and_narrowed(store: Store) -> None:
    await store.commit(
        [
            accepted(feeder=feeder, gateway=f"g-{meter}", meter=meter)
            for feeder in ("b", "a")
            for meter in ("m-2", "M-10", "m-1")
        ]
    )
    assert [f.feeder_id for f in await store.feeders()] == ["a", "b"]
    assert [m.meter_serial for m in await store.meters(feeder_id="a")] == ["M-10", "m-1", "m-2"]
    assert len(await store.meters(feeder_id="a", meter_serial="m-1")) == 1
    assert len(await store.gateways()) == 6
    assert await store.latest("a", "unknown") == []
    assert await readings(store, meter="unknown") == []


# --- reading back --------------------------------------------------------------------------------


async def test_readings_are_by_measured_time_then_register(store: Store) -> None:
    moments = [NOON + n * 7 * HOUR for n in (3, 0, 2, 1)]
    await store.commit([accepted(register(1, POWER), register(1), ts=ts) for ts in moments])
    found = await readings(store)
    assert [(r.ts, str(r.obis)) for r in found] == [
        (ts, obis) for ts in sorted(moments) for obis in ("1.8.0", "16.7.0")
    ]


async def test_readings_from_since_to_before_until(store: Store) -> None:
    moments = [NOON + n * HOUR for n in range(10)]
    await store.commit([accepted(register(n), ts=ts) for n, ts in enumerate(moments)])

    async def values(since: datetime | None = None, until: datetime | None = None) -> list[Value]:
        return [r.value for r in await readings(store, since=since, until=until)]

    assert await values(since=moments[4]) == [4, 5, 6, 7, 8, 9]
    assert await values(since=moments[4] + timedelta(milliseconds=1)) == [5, 6, 7, 8, 9]
    assert await values(until=moments[4]) == [0, 1, 2, 3]
    assert await values(until=moments[4] + timedelta(milliseconds=1)) == [0, 1, 2, 3, 4]
    assert await values(since=moments[2], until=moments[5]) == [2, 3, 4]
    assert await values(since=moments[5], until=moments[5]) == []
    assert await values(since=moments[9], until=moments[2]) == []


async def test_one_register_of_many(store: Store) -> None:
    await store.commit([accepted(register(1), register(2, POWER), register("on", RELAY))])
    assert told(await readings(store, obis=POWER)) == [("16.7.0", 2, "kWh", GOOD)]
    assert await readings(store, obis=Obis.parse("2.8.0")) == []


async def test_many_pages_give_every_reading_once(store: Store) -> None:
    """More rows at one place than a page holds, gaps of years, and pages that end in a bucket."""
    dense = [NOON + n * SECOND for n in range(PAGE_ROWS_MAX // 2 + 300)]
    sparse = [NOON + n * 31 * DAY for n in range(1, 90)]
    batch = [accepted(register(1), register(2, POWER), ts=ts) for ts in (*sparse, *dense)]
    tally = await store.commit(batch)
    found = await readings(store)
    assert len(found) == tally.stored == 2 * len(batch)
    assert [r.ts for r in found[::2]] == dense + sparse
    part = await readings(store, since=dense[100], until=sparse[3], obis=POWER)
    assert [r.ts for r in part] == dense[100:] + sparse[:3]


async def test_a_slow_reader_does_not_stop_the_writer(store: Store) -> None:
    await store.commit([accepted(ts=NOON + n * SECOND) for n in range(PAGE_ROWS_MAX + 10)])
    reader = store.readings(FEEDER, METER)
    first = await anext(aiter(reader))
    assert first.ts == NOON
    async with asyncio.timeout(5):
        await store.commit([accepted(ts=NOON - DAY), accepted(ts=NOON + DAY)])
    rest = [r.ts async for r in reader]
    assert len(rest) == PAGE_ROWS_MAX + 10  # the late one is behind the reader, the new one ahead
    assert rest[-1] == NOON + DAY


# --- events and findings -------------------------------------------------------------------------


def tamper(event_id: str = "e-1", occurred_at: str = "2026-06-22T11:59:00.25Z") -> Event:
    return Event(
        event_id=event_id,
        type="tamper.cover_open",
        state=EventState.RAISED,
        severity=Severity.MAJOR,
        occurred_at=occurred_at,
        source=EventSource.METER,
    )


async def test_an_event_is_stored_once_and_its_registers_as_readings(store: Store) -> None:
    event = accepted(kind=Kind.EVENT, event=tamper(), payload=b'{"event":1}')
    assert await store.commit([event]) == Tally(messages=1, stored=1, events=1)
    assert await store.commit([event, event]) == Tally(messages=2, duplicates=2)
    [stored] = await store.events(feeder_id=FEEDER, meter_serial=METER)
    assert (stored.event_id, stored.type, stored.state, stored.severity) == (
        "e-1",
        "tamper.cover_open",
        "raised",
        "major",
    )
    assert stored.occurred_at == NOON - timedelta(seconds=59, milliseconds=750)
    assert (stored.ts, stored.gateway_id, stored.payload) == (NOON, GATEWAY, b'{"event":1}')
    assert len(await readings(store)) == 1


async def test_a_signed_report_is_an_event_of_its_kind(store: Store) -> None:
    report = accepted(kind=Kind.EVENT, payload=b'{"report":{"status":"done"}}')
    await store.commit([report])
    [stored] = await store.events()
    assert (stored.type, stored.state, stored.severity) == ("command_report", "instant", "info")


async def test_an_event_without_details_is_named_by_what_it_says(store: Store) -> None:
    first = accepted(register("open", RELAY), kind=Kind.EVENT)
    other = accepted(register("open", RELAY), kind=Kind.EVENT, ts=NOON + SECOND)
    assert (await store.commit([first, first, other])).events == 2
    assert (await store.commit([first])).events == 0
    events = await store.events()
    assert [(e.ts, e.occurred_at, e.type) for e in events] == [
        (NOON + SECOND, NOON + SECOND, "unspecified"),
        (NOON, NOON, "unspecified"),
    ]
    assert all(e.event_id.startswith("~") for e in events)


async def test_events_are_newest_first_bounded_and_narrowed(store: Store) -> None:
    batch = [
        accepted(kind=Kind.EVENT, event=tamper(f"e-{n}"), ts=NOON + n * HOUR, meter=f"M-{n % 2}")
        for n in range(6)
    ]
    await store.commit(batch)
    assert [e.event_id for e in await store.events(at_most=2)] == ["e-5", "e-4"]
    assert [e.event_id for e in await store.events(meter_serial="M-0")] == ["e-4", "e-2", "e-0"]
    assert await store.events(feeder_id="elsewhere") == []
    assert [e.event_id for e in await store.events(event_id="e-3")] == ["e-3"]
    assert await store.events(event_id="e-3", meter_serial="M-0") == []


async def test_findings_fold_by_day_meter_register_and_code(store: Store) -> None:
    def found(detail: str, code: str = "OUT_OF_RANGE") -> tuple[Finding, ...]:
        return (Finding(code, METER, "1.8.0", detail),)

    await store.commit(
        [accepted(findings=found("a")), accepted(findings=found("b"), ts=NOON + HOUR)]
    )
    await store.commit(
        [
            accepted(findings=found("c"), ts=NOON + 2 * HOUR),
            accepted(findings=found("x", "UNKNOWN_VALUE")),
            accepted(findings=found("d"), ts=NOON + DAY),
        ]
    )
    folded = {(f.day, f.code): (f.count, f.detail, f.last_seen) for f in await store.findings()}
    assert folded == {
        ("2026-06-22", "OUT_OF_RANGE"): (3, "c", NOON + 2 * HOUR + 2 * SECOND),
        ("2026-06-22", "UNKNOWN_VALUE"): (1, "x", NOON + 2 * SECOND),
        ("2026-06-23", "OUT_OF_RANGE"): (1, "d", NOON + DAY + 2 * SECOND),
    }
    [newest] = await store.findings(at_most=1)
    assert newest.day == "2026-06-23"


# --- rejected messages ---------------------------------------------------------------------------


async def test_a_rejected_message_is_kept_with_all_it_has(store: Store) -> None:
    payload = bytes(range(256))
    error = fault("byte 128 is not UTF-8", "/registers/0")
    tally = await store.commit([rejected(payload, topic="openami/v1/ഫീഡർ", error=error)])
    assert tally == Tally(messages=1, rejected_messages=1)
    [kept] = await store.rejects()
    assert (kept.payload, kept.topic, kept.received_at) == (payload, "openami/v1/ഫീഡർ", NOON)
    assert (kept.code, kept.requirement, kept.path, kept.detail) == (
        "BAD_JSON",
        "OA-ENV-003",
        "/registers/0",
        "byte 128 is not UTF-8",
    )
    assert (kept.partial, kept.status, kept.count) == (False, RejectStatus.OPEN, 1)
    assert await store.reject(kept.id) == kept
    assert await store.reject(kept.id + 1) is None


async def test_identical_messages_are_one_with_their_count(store: Store) -> None:
    await store.commit([rejected(), rejected(b"other"), rejected(received_at=NOON + HOUR)])
    await store.commit([rejected(received_at=NOON + 2 * HOUR), rejected(topic="other")])
    kept = {(r.topic[-9:], r.payload): (r.count, r.received_at) for r in await store.rejects()}
    assert kept == {
        ("telemetry", b"nonsense"): (3, NOON),
        ("telemetry", b"other"): (1, NOON),
        ("other", b"nonsense"): (1, NOON),
    }
    assert (await store.totals()).rejected_messages == 5


async def test_a_message_in_part_rejected_is_stored_in_part_and_kept(store: Store) -> None:
    partial = accepted(rejected_items=(fault("one"), fault("two")), payload=b"raw")
    assert await store.commit([partial]) == Tally(messages=1, stored=1, rejected_items=2)
    [kept] = await store.rejects(status=RejectStatus.OPEN)
    assert (kept.partial, kept.detail, kept.payload) == (True, "one", b"raw")


async def test_a_giant_is_kept_by_its_beginning(store: Store) -> None:
    await store.commit(
        [rejected(b"x" * REJECT_PAYLOAD_BYTES_MAX), rejected(b"y" * (REJECT_PAYLOAD_BYTES_MAX + 1))]
    )
    giant, whole = await store.rejects()
    assert (len(whole.payload), whole.detail) == (REJECT_PAYLOAD_BYTES_MAX, "not JSON")
    assert len(giant.payload) == REJECT_PAYLOAD_BYTES_MAX
    assert giant.detail == "not JSON (kept: the first 131072 of 131073 bytes)"


async def test_rejects_are_newest_first_bounded_and_by_status(store: Store) -> None:
    await store.commit([rejected(b"%d" % n) for n in range(5)])
    assert [r.payload for r in await store.rejects(at_most=2)] == [b"4", b"3"]
    newest = (await store.rejects())[0]
    assert await store.drop(newest.id, DROPPED, NOON)
    assert [r.payload for r in await store.rejects(status=RejectStatus.DROPPED)] == [b"4"]
    assert len(await store.rejects(status=RejectStatus.OPEN)) == 4
    assert not await store.drop(10**6, DROPPED, NOON)


async def test_a_replayed_message_keeps_its_time_of_receipt(store: Store) -> None:
    await store.commit([rejected(b"quarantined")])
    [kept] = await store.rejects()
    verdict = accepted(register(3), ts=NOON - HOUR, received_at=NOON + 9 * DAY)
    assert await store.replay(kept.id, verdict, replayed, NOON) == Tally(messages=1, stored=1)
    [reading] = await readings(store)
    assert (reading.ts, reading.received_at) == (NOON - HOUR, NOON)
    [kept] = await store.rejects()
    assert (kept.status, kept.count) == (RejectStatus.REPLAYED, 1)
    assert await store.totals() == Tally(messages=1, stored=1, rejected_messages=1)
    assert (await store.replay(kept.id, verdict, replayed, NOON)).duplicates == 1


async def test_a_message_still_rejected_stays_open_with_its_new_verdict(store: Store) -> None:
    await store.commit([rejected(b"bad")])
    [kept] = await store.rejects()
    again = rejected(b"bad", error=fault("now otherwise", "/ts"))
    assert await store.replay(kept.id, again, replayed, NOON) == Tally(
        messages=1, rejected_messages=1
    )
    [kept] = await store.rejects()
    assert (kept.status, kept.detail, kept.path) == (RejectStatus.OPEN, "now otherwise", "/ts")
    partly = accepted(rejected_items=(fault("half"),))
    assert await store.replay(kept.id, partly, replayed, NOON) == Tally(
        messages=1, stored=1, rejected_items=1
    )
    [kept] = await store.rejects()
    assert (kept.status, kept.partial, kept.count) == (RejectStatus.OPEN, True, 1)


async def test_what_is_not_there_cannot_be_replayed(store: Store) -> None:
    with pytest.raises(StoreError, match="no kept message 41") as failed:
        await store.replay(41, accepted(), replayed, NOON)
    assert failed.value.permanent
    assert await readings(store) == []


async def test_prune_deletes_the_dropped_and_the_old(store: Store) -> None:
    await store.commit([rejected(b"old"), rejected(b"dropped"), rejected(b"repeated")])
    later = NOON + timedelta(days=REJECTED_KEPT_DAYS)
    await store.commit(
        [rejected(b"repeated", received_at=later), rejected(b"new", received_at=later)]
    )
    [dropped] = [r for r in await store.rejects() if r.payload == b"dropped"]
    await store.drop(dropped.id, DROPPED, NOON)
    assert await store.prune(later) == 1
    assert {r.payload for r in await store.rejects()} == {b"old", b"repeated", b"new"}
    assert await store.prune(later + timedelta(milliseconds=1)) == 1
    assert {r.payload for r in await store.rejects()} == {b"repeated", b"new"}
    assert (await store.totals()).rejects_pruned == 2


async def test_prune_deletes_findings_of_last_year(store: Store) -> None:
    await store.commit([accepted(findings=(Finding("X", METER, "1.8.0", ""),))])
    await store.prune(NOON + timedelta(days=FINDINGS_KEPT_DAYS))
    assert len(await store.findings()) == 1
    await store.prune(NOON + timedelta(days=FINDINGS_KEPT_DAYS + 1))
    assert await store.findings() == []


async def test_a_flood_of_rejected_messages_pushes_the_oldest_out_within_the_commit(
    store_url: str,
) -> None:
    bound, size = 1_000_000, 10_000
    number = 0
    async with open_store(store_url, rejected_bytes_max=bound) as store:
        for _ in range(12):
            batch = [rejected(bytes(size - 8) + (number + n).to_bytes(8)) for n in range(30)]
            number += len(batch)
            await store.commit(batch)
            await store.commit(batch)  # the same again takes no more room
        totals = await store.totals()
        kept = await store.rejects(at_most=10_000)
    assert len(kept) + totals.rejects_pruned == number
    room_for = bound // (size + 400)
    assert room_for - 1 <= len(kept) <= room_for + 3
    numbers = sorted(int.from_bytes(r.payload[-8:]) for r in kept)
    assert numbers == list(range(totals.rejects_pruned, number))  # the oldest are gone


async def test_a_batch_that_is_more_than_all_room_leaves_what_fits(store_url: str) -> None:
    async with open_store(store_url, rejected_bytes_max=10_000) as store:
        batch = [rejected(bytes([n]) * 3_000) for n in range(10)]
        assert (await store.commit(batch)).rejects_pruned == 7
        assert [r.payload[0] for r in await store.rejects()] == [9, 8, 7]
        assert await store.prune(NOON) == 0
    async with open_store(store_url, rejected_bytes_max=4_000) as store:
        assert await store.prune(NOON) == 2
        assert [r.payload[0] for r in await store.rejects()] == [9]


# --- foreign texts -------------------------------------------------------------------------------


async def test_texts_no_database_takes_do_not_stop_the_stream(store: Store) -> None:
    """The profile refuses U+0000 in values; a rejected message may say anything anywhere."""
    nasty = "a\0b\ud800c"
    event = msgspec_event(nasty)
    tally = await store.commit(
        [
            rejected(b"\0\xff", topic=nasty, error=fault(nasty, nasty)),
            accepted(
                register("x\0y", unit="k\0Wh"),
                kind=Kind.EVENT,
                event=event,
                findings=(Finding(nasty, METER, nasty, nasty * 5_000),),
                payload=b"\0",
            ),
        ]
    )
    assert (tally.stored, tally.events, tally.rejected_messages) == (1, 1, 1)
    [kept] = await store.rejects()
    assert (kept.topic, kept.payload) == (nasty, b"\0\xff")
    assert (kept.path, kept.detail) == ("a␀b?c", "a␀b?c")
    assert told(await readings(store)) == [("1.8.0", "x␀y", "k␀Wh", GOOD)]
    [stored] = await store.events()
    assert (stored.event_id, stored.payload) == ("a␀b?c", b"\0")
    [finding] = await store.findings()
    assert (finding.code, len(finding.detail)) == ("a␀b?c", 1_000)


def msgspec_event(text: str) -> Event:
    return Event(
        event_id=text,
        type=text,
        state=EventState.RAISED,
        severity=Severity.INFO,
        occurred_at="yesterday",
        source=EventSource.METER,
    )


async def test_a_unit_longer_than_an_index_takes(store: Store) -> None:
    unit = "".join(chr(0x100 + n % 7_000) for n in range(20_000))
    await store.commit([accepted(register(1, unit=unit))])
    await store.commit([accepted(register(1, unit=unit))])
    assert [r.unit for r in await readings(store)] == [unit]


# --- transactions --------------------------------------------------------------------------------


async def test_an_empty_batch_is_a_commit_of_nothing(store: Store) -> None:
    assert await store.commit([]) == Tally()
    assert await store.totals() == Tally()


async def test_everything_is_there_when_the_store_is_opened_again(store_url: str) -> None:
    batch: list[Decision] = [accepted(seq=4), rejected(), accepted(register(2))]
    async with open_store(store_url) as first:
        tally = await first.commit(batch)
    async with open_store(store_url) as second:
        assert await second.totals() == tally
        assert (await second.commit(batch)).duplicates == 2
        assert [g.last_seq for g in await second.gateways()] == [4]


async def test_a_reader_beside_the_head_end(store: Store, store_url: str) -> None:
    async with open_store(store_url, Access.READ) as reader:
        await store.commit([accepted()])
        assert len(await readings(reader)) == 1
        with pytest.raises(StoreError):
            await reader.commit([accepted(ts=NOON + HOUR)])
        with pytest.raises(StoreError):
            await reader.drop(1, DROPPED, NOON)
    assert len(await readings(store)) == 1


async def test_a_command_writes_beside_the_head_end(store: Store, store_url: str) -> None:
    await store.commit([rejected(b"%d" % n) for n in range(20)])
    kept = await store.rejects()

    async def stream() -> None:
        for n in range(100):
            await store.commit([accepted(register(n), ts=NOON + n * HOUR)])

    async def replay() -> None:
        async with open_store(store_url, Access.EDIT) as editor:
            for n, one in enumerate(kept):
                verdict = accepted(register(n), meter="M-2", ts=NOON + n * HOUR)
                await editor.replay(one.id, verdict, replayed, NOON)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(stream())
        group.create_task(replay())
    assert len(await readings(store)) == 100
    assert len(await readings(store, meter="M-2")) == 20
    assert await store.rejects(status=RejectStatus.OPEN) == []
    assert (await store.totals()).stored == 120


async def test_commits_asked_for_at_once_are_made_in_turn(store: Store) -> None:
    tallies = await asyncio.gather(
        *(store.commit([accepted(register(n))]) for n in range(5)),
        *(store.totals() for _ in range(5)),
    )
    assert (await store.totals()) == Tally(messages=5, stored=1, conflicts=4)
    assert len(tallies) == 10


async def test_the_event_loop_runs_while_a_commit_does(store: Store) -> None:
    batch = [
        accepted(register(n), register(n, POWER), ts=NOON + n * MINUTE, meter=f"M-{n % 50}")
        for n in range(1_000)
    ]
    beats = 0
    done = asyncio.create_task(store.commit(batch))
    while not done.done():
        await asyncio.sleep(0)
        beats += 1
    assert (await done).stored == 2_000
    assert beats > 3


async def test_many_units_and_registers_push_the_memory_over_and_nothing_is_lost(
    store: Store, store_url: str
) -> None:
    codes = [
        Obis.parse(f"1-{b}:{c}.{d}.{e}")
        for b in range(2)
        for c in range(1, 31)
        for d in (4, 6)
        for e in range(9)
    ]
    batch = [
        accepted(*(register(n, code, unit=f"u{n}") for n, code in enumerate(codes)), meter=f"M-{m}")
        for m in range(3)
    ]
    assert (await store.commit(batch)).stored == 3 * len(codes)
    assert (await store.commit(batch)).duplicates == 3 * len(codes)
    found = await readings(store, meter="M-2")
    assert {(str(r.obis), r.unit) for r in found} == {
        (str(code), f"u{n}") for n, code in enumerate(codes)
    }
