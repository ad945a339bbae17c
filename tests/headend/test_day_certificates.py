"""A day stated at the pole and certified at the desk: real outbox, real store, both engines."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import event, telemetry
from tests.headend.village_keys import FEEDER, GATEWAY, ROOTS, keyring, signer

from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft
from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.gateway.statements import GRACE, DayStatements
from openami.headend.audit import Entry
from openami.headend.day_certificates import compose
from openami.headend.downlink import Downlink
from openami.headend.ingest import Message
from openami.headend.intake import Intake
from openami.headend.statistics import Statistics
from openami.headend.store.commands import HeadEndStore, StoredKeyring
from openami.mqtt.port import Delivery
from openami.profile import FeederId, GatewayId, Quality, shipped_catalogue
from openami.sip.certificate import (
    CertificateError,
    CertificateFault,
    Difference,
    Verified,
    verify_certificate,
)

DAY = date(2026, 7, 1)
BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
METERS, CYCLES = 45, 6  # more than one part

Messages = list[tuple[str, bytes]]


def ours(draft: Draft) -> Draft:
    envelope = replace(draft.envelope, feeder_id=FeederId(FEEDER), gateway_id=GatewayId(GATEWAY))
    return Draft(envelope, draft.kind, draft.group)


@pytest.fixture
async def told(tmp_path: Path) -> Messages:
    """What a gateway publishes of one day, statement and all, newest first."""
    clock = ClockDouble(BEGIN)
    async with open_outbox(tmp_path / "gateway.db", OutboxLimits(), clock) as outbox:
        states = DayStatements(
            outbox, signer(GATEWAY), feeder_id=FEEDER, gateway_id=GATEWAY, clock=clock
        )
        await states.look()
        for _ in range(CYCLES):
            drafts = [telemetry(clock.now(), m, PollGroup.BILLING) for m in range(METERS)]
            lost = telemetry(BEGIN, 1, quality=Quality.COMMS_LOST)
            await outbox.append([ours(d) for d in (*drafts, event(clock.now(), 3), lost)])
            clock.advance(900)
        clock.set(BEGIN + timedelta(days=1) + GRACE, synchronised=True)
        await outbox.append([])
        await states.look()
        return [(e.topic, e.payload) for e in await outbox.pending(10_000)]


@pytest.fixture
async def known(store: HeadEndStore) -> HeadEndStore:
    stored = StoredKeyring(FEEDER, GATEWAY, 1, keyring(now=BEGIN), BEGIN, "anita")
    await store.add_keyring(stored, Entry(who="anita", what="keyring added"))
    return store


async def receive(
    store: HeadEndStore, told: Messages, *, but: Callable[[int, bytes], bool] | None = None
) -> None:
    """Store what came, but for what got lost on the way."""
    intake = Intake(store, catalogue=shipped_catalogue(), statistics=Statistics())
    now = BEGIN + timedelta(days=1, hours=1)
    messages = [Message(t, p, now) for n, (t, p) in enumerate(told) if but is None or not but(n, p)]
    await intake.commit(await intake.judge(messages))


async def certified(store: HeadEndStore, day: date = DAY, by: str = "hes-1") -> Verified:
    document = await compose(
        store,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        day=day,
        signer=signer(by),
        roots=ROOTS,
        now=BEGIN + timedelta(days=2),
    )
    return verify_certificate(document, ROOTS)


async def test_a_day_of_which_everything_came_is_complete(
    known: HeadEndStore, told: Messages
) -> None:
    await receive(known, told)
    await receive(known, told[::-1])  # twice, and in another order
    verified = await certified(known)
    assert verified.complete
    assert (verified.meters, verified.readings) == (METERS, 2 * METERS * CYCLES)
    assert (verified.stated_by.id, verified.certified_by.id) == (GATEWAY, "hes-1")
    assert verified.day == DAY


async def test_one_message_lost_is_named_by_its_meter_until_it_comes(
    known: HeadEndStore, told: Messages
) -> None:
    lost = next(n for n, (topic, _) in enumerate(told) if "/DS1000-00007/telemetry" in topic)
    await receive(known, told, but=lambda n, _: n == lost)
    verified = await certified(known)
    whole = 2 * CYCLES
    assert verified.differences == (Difference("DS1000-00007", whole, whole - 2, 0),)
    await receive(known, [told[lost]])
    assert (await certified(known)).complete


async def test_a_last_value_repeated_is_not_taken_for_the_measurement_that_got_lost(
    known: HeadEndStore, told: Messages
) -> None:
    """``comms_lost`` repeats the value of BEGIN; the measurement itself did not come."""

    def measurement(_: int, payload: bytes) -> bool:
        named = b'"meterSerial":"DS1000-00001"' in payload
        return named and b'00:00:00Z"' in payload and b'"good"' in payload

    assert sum(measurement(0, payload) for _, payload in told) == 1
    await receive(known, told, but=measurement)
    verified = await certified(known)
    assert [d.meter for d in verified.differences] == ["DS1000-00001"]


async def test_as_many_readings_with_another_value_are_a_difference(
    known: HeadEndStore, told: Messages
) -> None:
    place = next(n for n, (topic, _) in enumerate(told) if "/DS1000-00007/telemetry" in topic)
    topic, payload = told[place]
    forged = payload.replace(b"1842.5", b"1841.5")
    assert forged != payload
    await receive(known, [(topic, forged)])
    await receive(known, told)
    (difference,) = (await certified(known)).differences
    assert difference.stated == difference.stored == 2 * CYCLES


async def test_without_a_statement_or_a_part_of_it_nothing_is_certified(
    known: HeadEndStore, told: Messages
) -> None:
    await receive(known, told, but=lambda _, p: b'"part":2' in p)
    for day in (DAY, DAY + timedelta(days=1)):
        with pytest.raises(CertificateError) as raised:
            await certified(known, day)
        assert raised.value.fault is CertificateFault.NO_STATEMENT
    await receive(known, told)
    assert (await certified(known)).complete


async def test_a_head_end_without_that_gateways_keyring_certifies_nothing(
    store: HeadEndStore, told: Messages
) -> None:
    await receive(store, told)
    with pytest.raises(CertificateError) as raised:
        await certified(store)
    assert raised.value.fault is CertificateFault.GATEWAY


async def test_a_statement_is_no_commands_report_and_not_counted_as_a_forged_one(
    known: HeadEndStore, told: Messages
) -> None:
    downlink = Downlink(known, signer("hes-1"), ROOTS, clock=ClockDouble(), new_id=str)
    statements = [(t, p) for t, p in told if b'"day_statement"' in p]
    await downlink.take([delivery(topic, payload) for topic, payload in statements])
    assert downlink.refused_documents == 0
    await downlink.take([delivery(t, p.replace(b'"day"', b'"command"')) for t, p in statements])
    assert downlink.refused_documents == len(statements) == 2


def delivery(topic: str, payload: bytes) -> Delivery:
    return Delivery(topic, payload, retain=False, packet_id=1, epoch=1)


@pytest.mark.parametrize("by", ["anita", GATEWAY, "stranger"])
async def test_who_is_no_head_end_certifies_nothing(
    known: HeadEndStore, told: Messages, by: str
) -> None:
    await receive(known, told)
    with pytest.raises(CertificateError) as raised:
        await certified(known, by=by)
    assert raised.value.fault is CertificateFault.HEAD_END
