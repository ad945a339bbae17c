"""What the store promises of pages, asked of both engines."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.headend.decisions import DROPPED, FEEDER, GATEWAY, METER, NOON, accepted, rejected
from tests.headend.test_bulk import BULK, houses
from tests.headend.test_command_store import a_command, a_session

from openami.headend.audit import Entry
from openami.headend.bulk import withdrawn
from openami.headend.ingest import Accepted, Finding, Kind
from openami.headend.store import RejectStatus
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.pages import Key, Placed, Wanted
from openami.profile import Event, EventSource, EventState, Severity, utc_text

MINUTE = timedelta(minutes=1)


def event(number: int, severity: Severity = Severity.MAJOR) -> Event:
    return Event(
        event_id=f"e-{number}",
        type="tamper.cover_open",
        state=EventState.RAISED,
        severity=severity,
        occurred_at=utc_text(NOON),
        source=EventSource.METER,
    )


def told(number: int, severity: Severity = Severity.MAJOR, **members: Any) -> Accepted:
    return accepted(kind=Kind.EVENT, event=event(number, severity), **members)


async def walked(page: Any, wanted: Wanted, at_most: int = 2) -> list[Any]:
    """Follow a list to its end, page by page."""
    rows: list[Any] = []
    after: Key | None = None
    while True:
        found: Sequence[Placed[Any]] = await page(wanted, after=after, at_most=at_most)
        assert len(found) <= at_most
        rows.extend(each.row for each in found)
        if len(found) < at_most:
            return rows
        after = found[-1].key


async def test_events_come_once_each_newest_first_even_at_one_moment(store: HeadEndStore) -> None:
    await store.commit(
        [told(n, ts=NOON + (n // 3) * MINUTE) for n in range(7)] + [told(99, feeder="other")]
    )
    rows = await walked(store.events_page, Wanted(feeders=frozenset({FEEDER})))
    assert [row.event_id for row in rows] == [f"e-{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    assert len(await walked(store.events_page, Wanted())) == 8
    assert await walked(store.events_page, Wanted(feeders=frozenset())) == []


async def test_events_are_wanted_by_time_meter_and_kind(store: HeadEndStore) -> None:
    await store.commit(
        [
            told(1),
            told(2, Severity.MINOR, ts=NOON + MINUTE, meter="M-2"),
            told(3, ts=NOON + 2 * MINUTE),
        ]
    )

    async def ids(**wanted: Any) -> list[str]:
        return [row.event_id for row in await walked(store.events_page, Wanted(**wanted))]

    assert await ids(since=NOON + MINUTE, until=NOON + 2 * MINUTE) == ["e-2"]
    assert await ids(meter_serial=METER) == ["e-3", "e-1"]
    assert await ids(severity="minor") == ["e-2"]
    assert await ids(type="tamper.cover_open", gateway_id=GATEWAY) == ["e-3", "e-2", "e-1"]


async def test_findings_and_their_codes(store: HeadEndStore) -> None:
    found = tuple(Finding(code, METER, "1.8.0", "odd") for code in ("A", "B", "C"))
    other = Finding("A", "M-2", "1.8.0", "odd")
    await store.commit([accepted(findings=found), accepted(meter="M-2", findings=(other,))])
    rows = await walked(store.findings_page, Wanted())
    assert [(row.meter_serial, row.code) for row in rows] == [
        ("M-2", "A"), (METER, "C"), (METER, "B"), (METER, "A"),
    ]  # fmt: skip
    assert len(await walked(store.findings_page, Wanted(code="A", meter_serial=METER))) == 1


async def test_a_rejected_message_belongs_to_the_feeder_of_its_topic(store: HeadEndStore) -> None:
    topics = ("openami/v1/f/g/meter/m/telemetry", "openami/v1/f-1/g/meter/m/event", "nonsense")
    await store.commit([rejected(topic.encode(), topic=topic) for topic in topics])
    of_f = await walked(store.rejects_page, Wanted(feeders=frozenset({"f"})))
    assert [row.topic for row in of_f] == [topics[0]]
    assert [row.topic for row in await walked(store.rejects_page, Wanted())] == [*topics[::-1]]
    await store.drop(of_f[0].id, DROPPED, NOON)
    opened = await walked(store.rejects_page, Wanted(status=str(RejectStatus.OPEN)))
    assert [row.topic for row in opened] == [*topics[:0:-1]]


async def test_commands_and_sessions(store: HeadEndStore) -> None:
    for n in range(5):
        new = a_command(f"cmd-{n}", meter_serial=f"m-{n}")
        await store.request_command(new, new.requested_at)
        session = a_session(f"sip-{n}", gateway_id=f"g-{n % 2}")
        await store.add_session(session, Entry(who="anita", what="x"), session.requested_at)
    commands = await walked(store.commands_page, Wanted(only_open=True, feeders=frozenset({"f"})))
    assert [row.id for row in commands] == [f"cmd-{n}" for n in (4, 3, 2, 1, 0)]
    assert await walked(store.commands_page, Wanted(state="UNKNOWN")) == []
    sessions = await walked(store.sessions_page, Wanted(gateway_id="g-1"))
    assert [row.id for row in sessions] == ["sip-3", "sip-1"]


async def test_bulk_disconnections(store: HeadEndStore) -> None:
    for n in range(5):
        bulk = replace(BULK, id=f"bulk-{n}", requested_at=NOON + n // 2 * MINUTE)
        meters = [replace(meter, bulk_id=bulk.id) for meter in houses(1)]
        await store.add_bulk(bulk, meters, Entry(who="erik", what="proposed"))
    await store.change_bulk("bulk-3", lambda bulk: withdrawn(bulk, who="omar", now=NOON), NOON)

    async def ids(**wanted: Any) -> list[str]:
        return [row.id for row in await walked(store.bulks_page, Wanted(**wanted))]

    assert await ids(feeders=frozenset({FEEDER})) == [f"bulk-{n}" for n in (4, 3, 2, 1, 0)]
    assert await ids(only_open=True) == [f"bulk-{n}" for n in (4, 2, 1, 0)]
    assert await ids(state="withdrawn", since=NOON + MINUTE) == ["bulk-3"]
