"""Alarms: raised once, counted when told again, over by themselves, and acknowledged by nobody but a person."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.clock_double import ClockDouble
from tests.headend.messages import EVENT, EVENT_TOPIC, EXAMPLE, RECEIVED, message, payload

from openami.headend.alarm_causes import EVENTS_LOOKED_BACK_DAYS, by_events, silences
from openami.headend.alarm_watch import SILENCE, AlarmWatch
from openami.headend.alarms import Alarm, Condition, Origin, StateKind, by_states
from openami.headend.broker_link import BrokerLink
from openami.headend.ingest import Decision, ingest
from openami.headend.store import GatewayRow, MeterRow, StoredEvent
from openami.headend.store.alarms import NOTE_CHARS_MAX, UNSEEN_KEPT_DAYS
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.traffic import TRAFFIC_KEPT_DAYS
from openami.profile import Quality, Severity, shipped_catalogue

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FEEDER, GATEWAY = EXAMPLE["feederId"], EXAMPLE["gatewayId"]


def an_event(
    type_: str = "tamper.cover_open",
    state: str = "raised",
    *,
    at: datetime = NOW,
    meter: str = "m-1",
    severity: str = "major",
) -> StoredEvent:
    return StoredEvent("f", meter, "g", f"{type_}-{at}", type_, state, severity, at, at, at, b"{}")


def silent(meter: str, since: datetime = NOW) -> Condition:
    return Condition(
        feeder_id="f",
        gateway_id="g",
        meter_serial=meter,
        kind=StateKind.METER_SILENT,
        severity=Severity.MAJOR,
        since=since,
    )


def test_an_event_raises_one_alarm_and_its_end_clears_it() -> None:
    raised = [an_event(), an_event(at=NOW + MINUTE)]
    [alarm] = by_events([], raised, NOW)
    assert (alarm.kind, alarm.times, alarm.stands) == ("tamper.cover_open", 2, True)
    [over] = by_events([alarm], [an_event(state="cleared", at=NOW + 2 * MINUTE)], NOW)
    assert (over.id, over.cleared_at) == (alarm.id, NOW + 2 * MINUTE)
    assert over.is_active, "nobody has seen it"


def test_a_beginning_that_comes_after_its_end_is_over() -> None:
    """A gateway that was away tells the newest first."""
    backlog = [an_event(state="cleared", at=NOW + MINUTE), an_event()]
    [alarm] = by_events([], backlog, NOW)
    assert (alarm.raised_at, alarm.cleared_at) == (NOW, NOW + MINUTE)


def test_an_older_end_that_comes_late_clears_nothing() -> None:
    [alarm] = by_events([], [an_event()], NOW)
    assert by_events([alarm], [an_event(state="cleared", at=NOW - MINUTE)], NOW) == []


def test_what_has_no_duration_is_over_at_once_and_still_has_to_be_seen() -> None:
    [alarm] = by_events([], [an_event("certificate_expiring", "instant", meter="g")], NOW)
    assert (alarm.meter_serial, alarm.cleared_at, alarm.is_active) == ("", NOW, True)
    again = an_event("certificate_expiring", "instant", meter="g", at=NOW + MINUTE)
    [twice] = by_events([alarm], [again], NOW)
    assert (twice.id, twice.times, twice.cleared_at) == (alarm.id, 2, NOW + MINUTE)
    seen = replace(twice, acknowledged_at=NOW + MINUTE)
    [anew] = by_events([seen], [replace(again, occurred_at=NOW + 2 * MINUTE)], NOW)
    assert anew.id != alarm.id, "what was seen is not seen again by itself"


def test_what_is_not_serious_or_long_past_raises_nothing() -> None:
    old = NOW - timedelta(days=EVENTS_LOOKED_BACK_DAYS, seconds=1)
    events = [an_event(severity="minor"), an_event("comms_lost"), an_event(at=old)]
    assert by_events([], events, NOW) == []
    assert [a.kind for a in by_events([], [an_event("clock_invalid", severity="minor")], NOW)] == [
        "clock_invalid"
    ]


def test_a_state_is_one_alarm_for_as_long_as_it_lasts() -> None:
    [alarm] = by_states([], [silent("m-1", NOW - MINUTE)], NOW)
    assert (alarm.raised_at, alarm.origin) == (NOW - MINUTE, Origin.STATE)
    assert by_states([alarm], [silent("m-1", NOW - MINUTE)], NOW + MINUTE) == []
    [over] = by_states([alarm], [], NOW + 2 * MINUTE)
    assert over == replace(alarm, cleared_at=NOW + 2 * MINUTE)
    [anew] = by_states([over], [silent("m-1")], NOW + 3 * MINUTE)
    assert anew.id != alarm.id


def test_while_the_broker_is_not_heard_no_silence_begins_or_ends() -> None:
    [alarm] = by_states([], [silent("m-1")], NOW)
    judged = frozenset(StateKind) - SILENCE
    assert by_states([alarm], [], NOW, judged=judged) == []
    assert by_states([], [silent("m-2")], NOW, judged=judged) == []


def test_a_silent_gateway_is_one_alarm_and_its_meters_none() -> None:
    long_ago = NOW - timedelta(hours=2)
    gateways = [
        GatewayRow("f", "away", long_ago, long_ago, 7),
        GatewayRow("f", "there", long_ago, NOW, 9),
    ]
    meters = [
        MeterRow("f", f"m-{n}", gateway, long_ago, seen, seen, quality, None)
        for n, (gateway, seen, quality) in enumerate(
            [
                ("away", long_ago, Quality.GOOD),
                ("there", NOW, Quality.COMMS_LOST),
                ("there", NOW, Quality.GOOD),
            ]
        )
    ]
    found = [
        (each.kind, each.gateway_id, each.meter_serial) for each in silences(meters, gateways, NOW)
    ]
    assert found == [
        (StateKind.GATEWAY_SILENT, "away", ""),
        (StateKind.METER_SILENT, "there", "m-1"),
    ]


@given(st.lists(st.sets(st.sampled_from(["m-1", "m-2", "m-3"])), max_size=8))
def test_what_stands_is_always_exactly_what_holds(history: list[set[str]]) -> None:
    kept: dict[str, Alarm] = {}
    for at, holding in enumerate(history):
        now = NOW + at * MINUTE
        active = [alarm for alarm in kept.values() if alarm.is_active]
        conditions = [silent(meter, now) for meter in sorted(holding)]
        kept |= {alarm.id: alarm for alarm in by_states(active, conditions, now)}
        standing = [alarm.meter_serial for alarm in kept.values() if alarm.stands]
        assert sorted(standing) == sorted(holding)


# --- kept, on both engines -----------------------------------------------------------------------


def told(event: dict[str, str]) -> Decision:
    """Return what the head-end decides on a message with this event."""
    return ingest(
        message(payload(event=event), topic=EVENT_TOPIC),
        catalogue=shipped_catalogue(),
        now=RECEIVED,
    )


async def test_alarms_are_looked_for_kept_seen_and_let_go(store: HeadEndStore) -> None:
    """From events in the store to an acknowledged alarm, over restarts of the watch."""
    await store.commit([told(EVENT)])
    clock = ClockDouble(RECEIVED)
    link = BrokerLink(heard=True, since=clock.now() - timedelta(hours=1))
    for _ in range(2):
        await AlarmWatch(store, clock, lambda: link).look()
    [alarm] = await store.active_alarms()
    assert (alarm.kind, alarm.times, alarm.feeder_id) == ("tamper.cover_open", 1, FEEDER)

    clock.advance(40 * 60)
    await AlarmWatch(store, clock, lambda: BrokerLink(False, clock.now())).look()
    assert len(await store.active_alarms()) == 1, "we do not hear the broker: nobody is silent"
    await AlarmWatch(store, clock, lambda: link).look()
    await AlarmWatch(store, clock, lambda: link).look()
    kinds = {each.kind for each in await store.active_alarms(FEEDER)}
    assert kinds == {"tamper.cover_open", "gateway_silent"}

    ids = [alarm.id, alarm.id, "no such alarm"]
    note = "n" * NOTE_CHARS_MAX
    assert await store.acknowledge_alarms(ids, who="asha", note=note, now=clock.now()) == 1
    assert await store.acknowledge_alarms(ids, who="ben", note="", now=clock.now()) == 0
    kept = await store.alarm(alarm.id)
    assert kept is not None
    assert (kept.acknowledged_by, kept.note) == ("asha", note)
    [link_] = await store.audit_links()
    assert link_.entry.what.startswith(
        f"alarm acknowledged: tamper.cover_open on {FEEDER}/{GATEWAY}"
    )

    await store.put_alarms([replace(alarm, cleared_at=clock.now())])
    [past] = await store.past_alarms()
    assert (past.id, past.acknowledged_by) == (alarm.id, "asha"), "a look does not undo a person"
    assert await store.past_alarms(before=past.raised_at) == []
    assert await store.prune_alarms(clock.now()) == 0
    silence = next(a for a in await store.active_alarms() if a.origin is Origin.STATE)
    await store.put_alarms([replace(silence, cleared_at=clock.now())])
    later = clock.now() + timedelta(days=UNSEEN_KEPT_DAYS, seconds=1)
    assert await store.prune_alarms(later) == 1
    assert [a.id for a in await store.past_alarms()] == [alarm.id]


async def test_what_a_gateway_sends_is_added_up_by_day(store: HeadEndStore) -> None:
    """Each time it comes: a message told twice has crossed the radio twice."""
    once = told(EVENT)
    await store.commit([once, once])
    await store.commit([once])
    [day] = await store.traffic(RECEIVED.date(), FEEDER)
    size = len(EVENT_TOPIC) + len(payload(event=EVENT))
    assert (day.messages, day.bytes, day.day) == (3, 3 * size, str(RECEIVED.date()))
    assert await store.traffic(RECEIVED.date(), "elsewhere") == []
    await store.prune(RECEIVED + timedelta(days=TRAFFIC_KEPT_DAYS + 1))
    assert await store.traffic(RECEIVED.date()) == []
