"""What came of a gateway's meters on a day, and what was told of their silence, asked of both engines."""

from datetime import timedelta

import pytest
from tests.headend.decisions import FEEDER, GATEWAY, NOON, POWER, RELAY, accepted, register
from tests.headend.test_accounting import event

from openami.headend.completeness import Arrival
from openami.headend.store.arrivals import ARRIVALS_SPAN_MAX, METERS_AT_ONCE_MAX, ToldOfSilence
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import to_ms
from openami.profile import Quality

MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days"))
MIDNIGHT = NOON - 12 * HOUR


async def test_every_meters_billing_register_comes_at_once_and_ascends(store: HeadEndStore) -> None:
    late = NOON + 3 * HOUR
    await store.commit(
        [
            accepted(ts=NOON + HOUR, meter="M-1"),
            accepted(ts=NOON, meter="M-1", received_at=late),
            accepted(register(quality=Quality.SUSPECT), ts=NOON, meter="M-2"),
            accepted(ts=NOON, meter="M-3", gateway="other"),
            accepted(ts=NOON, meter="M-1", feeder="feeder-2"),
        ]
    )
    noon = to_ms(NOON)
    told = await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY)
    assert {serial: list(each) for serial, each in told.items()} == {
        "M-1": [
            Arrival(noon, 3 * 60, Quality.GOOD),
            Arrival(noon + 3_600_000, 1, Quality.GOOD),
        ],
        "M-2": [Arrival(noon, 1, Quality.SUSPECT)],
    }
    assert await store.arrivals(FEEDER, "nobody", MIDNIGHT, MIDNIGHT + DAY) == {}
    [one] = await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY, meters=["M-2", "M-3"])
    assert one == "M-2", "M-3 is behind another gateway"
    assert await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY, meters=[]) == {}


async def test_the_span_begins_with_its_first_moment_and_ends_before_its_last(
    store: HeadEndStore,
) -> None:
    """Midnight lies in the middle of a bucket of the key, and so do most moments."""
    edges = [MIDNIGHT - timedelta(milliseconds=1), MIDNIGHT, MIDNIGHT + DAY]
    last = MIDNIGHT + DAY - timedelta(milliseconds=1)
    await store.commit([accepted(ts=ts) for ts in (*edges, last)])
    [found] = (await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY)).values()
    assert [each.ms for each in found] == [to_ms(MIDNIGHT), to_ms(last)]
    with pytest.raises(ValueError, match="2 days at most"):
        await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + ARRIVALS_SPAN_MAX + MINUTE)


async def test_a_meter_without_the_billing_register_is_told_by_what_came_most(
    store: HeadEndStore,
) -> None:
    many = [f"N-{n:04d}" for n in range(METERS_AT_ONCE_MAX + 1)]
    await store.commit(
        [
            *(accepted(register(2, POWER), ts=NOON + n * MINUTE) for n in range(3)),
            accepted(register("connected", RELAY, unit="enum"), ts=NOON),
            *(accepted(register(2, POWER), ts=NOON, meter=serial) for serial in many),
        ]
    )
    found = await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY)
    assert {serial: len(each) for serial, each in found.items()} == {
        "M-1": 3,
        **dict.fromkeys(many, 1),
    }
    await store.commit([accepted(ts=NOON)])
    found = await store.arrivals(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY)
    assert len(found["M-1"]) == 1, "the billing register, if one of it came, and no other"


async def test_silence_is_told_by_meter_with_the_last_word_before_the_span(
    store: HeadEndStore,
) -> None:
    await store.commit(
        [
            accepted(meter="M-1"),
            accepted(meter="M-2"),
            accepted(meter="M-3", gateway="other"),
            event("comms_lost", MIDNIGHT - 9 * HOUR, meter="M-1"),
            event("comms_restored", MIDNIGHT - 8 * HOUR, meter="M-1"),
            event("comms_lost", MIDNIGHT - 7 * HOUR, meter="M-1"),
            event("tamper.cover_open", NOON, meter="M-1"),
            event("comms_restored", NOON, meter="M-1"),
            event("comms_lost", MIDNIGHT + DAY, meter="M-1"),
            event("comms_lost", NOON, meter="M-2"),
            event("comms_lost", NOON, meter="M-3"),
        ]
    )
    # The meter that was heard through another gateway later is that gateway's.
    await store.commit([accepted(meter="M-3", ts=NOON + HOUR, gateway="other")])
    assert await store.told_of_silence(FEEDER, GATEWAY, MIDNIGHT, MIDNIGHT + DAY) == {
        "M-1": [
            ToldOfSilence("comms_lost", MIDNIGHT - 7 * HOUR),
            ToldOfSilence("comms_restored", NOON),
        ],
        "M-2": [ToldOfSilence("comms_lost", NOON)],
    }
