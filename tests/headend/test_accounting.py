"""From stored readings to the account an operator reads, on both engines; and what gateways tell of silence."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.headend.decisions import (
    FEEDER,
    GATEWAY,
    METER,
    NOON,
    POWER,
    accepted,
    register,
    rejected,
)
from tests.headend.test_commands import openami, rows

from openami.gateway.cap_events import cap_drafts
from openami.gateway.monthly_cap import Balance, CapStage, Standing
from openami.gateway.normalise import Source
from openami.gateway.thinning import Stage, Untold, thinned_event
from openami.headend.accounting import day_accounts
from openami.headend.alarm_watch import AlarmWatch
from openami.headend.broker_link import BrokerLink
from openami.headend.completeness import DayAccount, MissingReason
from openami.headend.gap_life import Gap, Span
from openami.headend.ingest import Accepted, Decision, Kind, Message
from openami.headend.store import StoredEvent
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.told_spans import STILL, silent_spans, thinned_spans, withheld_spans
from openami.profile import (
    Event,
    EventSource,
    EventState,
    FeederId,
    GatewayId,
    Severity,
    utc_text,
)

QUARTER = timedelta(minutes=15)
MIDNIGHT = datetime(2026, 6, 22, tzinfo=UTC)
TODAY = date(2026, 6, 22)
LATER = MIDNIGHT + timedelta(days=3)


def at(quarter: int) -> datetime:
    return MIDNIGHT + quarter * QUARTER


def day_of(meter: str, *quarters: int, gateway: str = GATEWAY) -> list[Decision]:
    return [accepted(ts=at(q), meter=meter, gateway=gateway) for q in quarters]


def event(kind: str, when: datetime, *, meter: str = METER) -> Accepted:
    told = Event(
        event_id=f"{kind}-{when:%H%M}",
        type=kind,
        state=EventState.RAISED,
        severity=Severity.MAJOR,
        occurred_at=utc_text(when),
        source=EventSource.GATEWAY,
    )
    return accepted(register(1, POWER), ts=when, event=told, kind=Kind.EVENT, meter=meter)


async def accounts(store: HeadEndStore, *days: date, **wanted: str) -> list[DayAccount]:
    found = day_accounts(store, FEEDER, days or [TODAY], now=LATER, **wanted)
    return [each async for each in found]


async def test_each_meter_of_each_gateway_has_its_account(store: HeadEndStore) -> None:
    await store.commit(
        [
            *day_of("M-1", *range(96)),
            *day_of("M-2", *range(90)),
            *day_of("M-3", *range(0, 96, 4), gateway="other"),
        ]
    )
    found = {each.meter_serial: each for each in await accounts(store)}
    assert {
        serial: (each.gateway_id, each.interval_s, each.expected, each.missing)
        for serial, each in found.items()
    } == {
        "M-1": (GATEWAY, 900, 96, 0),
        "M-2": (GATEWAY, 900, 96, 6),
        "M-3": ("other", 3600, 24, 0),
    }
    assert [gap.reason for gap in found["M-2"].gaps] == [MissingReason.UNKNOWN]
    [one] = await accounts(store, meter_serial="M-2")
    assert one == found["M-2"], "whether its gateway was silent is told by its neighbours, too"


async def test_a_silent_day_is_expected_by_the_days_before_it(store: HeadEndStore) -> None:
    await store.commit(day_of(METER, *range(96)))
    [silent] = await accounts(store, TODAY + timedelta(days=1))
    assert (silent.expected, silent.received, silent.missing) == (96, 0, 96)
    assert [gap.reason for gap in silent.gaps] == [MissingReason.GATEWAY_SILENT]


async def test_what_is_configured_is_expected_whatever_came(store: HeadEndStore) -> None:
    await store.put_intervals({FEEDER: 3600, "gone": 60})
    await store.put_intervals({FEEDER: 1800})
    assert await store.intervals() == {FEEDER: 1800}
    await store.commit(day_of(METER, *range(96)))
    [told] = await accounts(store)
    assert (told.interval_s, told.expected, told.received) == (1800, 48, 48)


async def test_a_meter_without_the_billing_register_is_told_by_the_register_it_has(
    store: HeadEndStore,
) -> None:
    await store.commit([accepted(register(2, POWER), ts=at(q)) for q in range(96)])
    [told] = await accounts(store)
    assert (told.interval_s, told.expected, told.missing) == (900, 96, 0)


async def test_a_meter_heard_of_once_is_unknown_and_not_complete(store: HeadEndStore) -> None:
    await store.commit(day_of(METER, 5))
    [told] = await accounts(store)
    assert (told.interval_s, told.expected, told.received, told.missing) == (None, None, 1, None)


async def test_silence_that_was_told_and_messages_that_were_rejected_explain(
    store: HeadEndStore,
) -> None:
    header = {"ts": utc_text(at(60)), "feederId": FEEDER}
    bad = rejected(
        json.dumps(header).encode(),
        topic=f"openami/v1/{FEEDER}/{GATEWAY}/meter/{METER}/telemetry",
    )
    there = [q for q in range(96) if not 40 <= q < 44 and q != 60]
    await store.commit(
        [
            *day_of(METER, *there),
            event("comms_lost", at(40) + timedelta(minutes=3)),
            event("comms_restored", at(43) + timedelta(minutes=1)),
            bad,
        ]
    )
    [told] = await accounts(store)
    assert [(gap.begin, gap.intervals, gap.reason) for gap in told.gaps] == [
        (at(40), 4, MissingReason.METER_SILENT),
        (at(60), 1, MissingReason.REJECTED),
    ]


# --- what gateways tell --------------------------------------------------------------------------


async def test_the_gateways_own_words_of_thinning_are_read(store: HeadEndStore) -> None:
    """The sentence is made by the gateway's code: changed there alone, this fails."""
    untold = [
        Untold(Stage.FAST, 70, at(10), at(12)),
        Untold(Stage.HOURLY, 3, at(20), at(21) + timedelta(milliseconds=250)),
    ]
    envelope = thinned_event(
        untold, feeder_id=FeederId(FEEDER), gateway_id=GatewayId(GATEWAY), seq=7, now=NOON
    )
    topic = f"openami/v1/{FEEDER}/{GATEWAY}/meter/{GATEWAY}/event"
    message = Message(topic, envelope.encode(), NOON)
    there = [q for q in range(96) if q != 11]
    await store.commit(
        [Accepted(Kind.EVENT, envelope, message), *day_of(METER, *there), *day_of("M-2", 11)]
    )
    events = await store.events(meter_serial=GATEWAY)
    assert thinned_spans(events) == [
        Span(at(10), at(12)),
        Span(at(20), at(21) + timedelta(milliseconds=250)),
    ]
    found = {each.meter_serial: each for each in await accounts(store)}
    assert GATEWAY not in found, "a gateway that speaks of itself is no meter"
    assert [gap.reason for gap in found[METER].gaps] == [MissingReason.THINNED]


async def test_the_gateways_own_words_of_what_waits_are_read(store: HeadEndStore) -> None:
    """Raised, said again as the same event, cleared: one span, one alarm, and gaps that are not asked for."""
    full, hourly = Standing(), Standing(stage=CapStage.HOURLY, withheld_at=at(10))
    balance = Balance(20_000_000, 15_000_000, 12.0, {})

    async def look(before: Standing, after: Standing, moment: datetime) -> None:
        drafts = cap_drafts(
            before,
            after,
            balance,
            source=Source(FeederId(FEEDER), GatewayId(GATEWAY)),
            moment=moment,
            boottime_s=0.0,
            sign_of_life=True,
        )
        topic = f"openami/v1/{FEEDER}/{GATEWAY}/meter/{GATEWAY}/event"
        await store.commit(
            [
                Accepted(
                    Kind.EVENT,
                    each.envelope,
                    Message(topic, each.envelope.encode(), moment),
                )
                for each in drafts
            ]
        )
        link = BrokerLink(heard=True, since=moment)
        await AlarmWatch(store, ClockDouble(moment), lambda: link).look()

    there = [q for q in range(96) if q not in (11, 12)]
    await store.commit([*day_of(METER, *there), *day_of("M-2", 11, 12)])
    await look(full, hourly, at(10))
    await look(hourly, hourly, at(18))
    [gateway] = await store.gateways()
    assert gateway.withholds
    assert [(a.kind, a.times) for a in await store.active_alarms()] == [("telemetry_withheld", 1)]
    assert withheld_spans(await store.events(meter_serial=GATEWAY)) == [Span(at(10), STILL)]
    found = {each.meter_serial: each for each in await accounts(store)}
    assert [gap.reason for gap in found[METER].gaps] == [MissingReason.WITHHELD]

    await look(hourly, full, at(20))
    [gateway] = await store.gateways()
    assert not gateway.withholds
    assert withheld_spans(await store.events(meter_serial=GATEWAY)) == [Span(at(10), at(20))]
    assert len(await store.events(meter_serial=GATEWAY)) == 4


def told_at(kind: str, when: datetime) -> StoredEvent:
    return StoredEvent(
        FEEDER, METER, GATEWAY, f"{kind}{when}", kind, "raised", "major", when, when, when, b"{}"
    )


def test_a_silence_nobody_has_told_the_end_of_goes_on() -> None:
    lost, back = told_at("comms_lost", at(1)), told_at("comms_restored", at(2))
    again = told_at("comms_lost", at(5))
    assert silent_spans([again, back, lost]) == [Span(at(1), at(2)), Span(at(5), STILL)]
    assert silent_spans([back]) == []
    assert silent_spans([lost, told_at("comms_lost", at(2)), told_at("tamper", at(3))]) == [
        Span(at(1), STILL)
    ]


def test_an_event_that_cannot_be_read_says_nothing() -> None:
    assert thinned_spans([told_at("telemetry_thinned", at(1))]) == []


# --- on the command line -------------------------------------------------------------------------


@pytest.fixture
async def url(store_url: str) -> str:
    """A store with a meter that misses an hour, and a gap of its gateway."""
    async with open_store(store_url) as store:
        await store.commit(day_of(METER, *(q for q in range(96) if not 40 <= q < 44)))
        gap = Gap(
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            epoch=1,
            first=11,
            last=20,
            missing=10,
            measured_from=at(70),
            measured_to=at(71),
            noticed_at=at(72),
            changed_at=at(72),
        )
        await store.put_gaps([gap])
    return store_url


def test_an_account_is_printed_for_people_and_for_programs(url: str) -> None:
    day, gap = rows(url, "feeder", "completeness", FEEDER, "--day", "2026-06-22")
    assert (day["row"], day["meterSerial"], day["day"]) == ("day", METER, "2026-06-22")
    assert (day["expected"], day["received"], day["missing"]) == (96, 92, 4)
    assert day["gaps"] == [
        {
            "from": utc_text(at(40)),
            "to": utc_text(at(43)),
            "intervals": 4,
            "reason": "gateway_silent",
        }
    ]
    assert (gap["row"], gap["firstSeq"], gap["lastSeq"], gap["missing"]) == ("gap", 11, 20, 10)
    assert (gap["state"], gap["reason"]) == ("open", "in_transit")
    table = openami(url, "feeder", "completeness", FEEDER, "--day", "2026-06-22").stdout
    assert "gateway_silent 4" in table
    assert "in_transit" in table


def test_many_days_one_meter_and_those_that_are_not_there(url: str) -> None:
    found = rows(url, "feeder", "completeness", FEEDER, "--since", "3d", "--meter", METER)
    assert len([row for row in found if row["row"] == "day"]) == 4
    for words, said in (
        ((FEEDER, "--meter", "M-7"), "no meter 'M-7'"),
        (("f-2",), "no feeder 'f-2'"),
    ):
        assert said in openami(url, "feeder", "completeness", *words, code=1).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--day", "2026-06-22", "--since", "7d"),
        ("--since", "2020-01-01"),
        ("--since", "93d"),
        ("--day", "yesterday"),
    ],
)
def test_what_cannot_be_asked_is_said(url: str, words: tuple[str, ...]) -> None:
    openami(url, "feeder", "completeness", FEEDER, *words, code=2)
