"""What an attacker with the broker's power makes of what it has heard."""

import json
import random

import pytest

from openami.mqtt.memory import MemoryBroker
from openami.mqtt.port import Delivery
from openami.simulator.eavesdropper import KINDS_MAX, Eavesdropper, Forgery, Injected, kind_of

ROOT = "openami/v1/f/g"
SIGNATURE = b'"signature":"eyJ..c2ln"'


def command(session_id: str) -> bytes:
    return b'{"command":{"seq":1},"sessionId":"%s",%s,"ts":"x"}' % (session_id.encode(), SIGNATURE)


async def attacked(forgery: Forgery, *passed: tuple[str, bytes]) -> tuple[Injected, Delivery]:
    """Let these messages pass, inject a forgery; return it and what the receiver got."""
    broker = MemoryBroker()
    eavesdropper = Eavesdropper(broker, random.Random(3))
    async with broker.port("gw").connect() as gateway, broker.port("hes").connect() as hes:
        await gateway.subscribe(["#"])
        for topic, payload in passed:
            await hes.publish(topic, payload)
        honest = await gateway.receive(100)
        assert [(d.topic, d.payload, d.retain) for d in honest] == [(*p, False) for p in passed]
        injected = eavesdropper.attack("command", forgery)
        assert injected is not None
        (delivery,) = await gateway.receive(100)
    assert (delivery.topic, delivery.payload) == (injected.topic, injected.payload)
    assert (injected.original.topic, injected.original.payload) in passed
    return injected, delivery


M1, M2 = f"{ROOT}/meter/m1/command", f"{ROOT}/meter/m2/command"


async def test_a_replay_is_the_same_again() -> None:
    injected, delivery = await attacked(Forgery.REPLAY, (M1, command("s1")))
    assert (delivery.topic, delivery.payload) == (M1, command("s1"))
    assert not delivery.retain
    assert injected.original.client_id == "hes"


async def test_a_retained_replay_says_so_on_delivery() -> None:
    _, delivery = await attacked(Forgery.RETAINED, (M1, command("s1")))
    assert (delivery.payload, delivery.retain) == (command("s1"), True)


async def test_a_flipped_byte_leaves_the_signature() -> None:
    injected, delivery = await attacked(Forgery.BYTE_FLIPPED, (M1, command("s1")))
    changed = [
        n
        for n, (a, b) in enumerate(zip(injected.original.payload, delivery.payload, strict=True))
        if a != b
    ]
    assert len(changed) == 1
    assert SIGNATURE in delivery.payload


async def test_a_swapped_topic_is_another_meters_of_the_same_gateway() -> None:
    elsewhere = "openami/v1/f/other/meter/m9/command"
    injected, delivery = await attacked(
        Forgery.TOPIC_SWAPPED, (M1, command("s1")), (M2, command("s1"))
    )
    assert {injected.original.topic, delivery.topic} == {M1, M2}
    assert delivery.payload == injected.original.payload
    injected, delivery = await attacked(
        Forgery.TOPIC_SWAPPED, (M1, command("s1")), (elsewhere, command("s1"))
    )
    assert {injected.original.topic, delivery.topic} == {M1, elsewhere}


async def test_a_swapped_session_is_another_one_that_was_heard_of() -> None:
    injected, delivery = await attacked(
        Forgery.SESSION_SWAPPED, (M1, command("s1")), (M2, command("s2"))
    )
    before, after = json.loads(injected.original.payload), json.loads(delivery.payload)
    assert {before["sessionId"], after["sessionId"]} == {"s1", "s2"}
    assert {**before, "sessionId": ""} == {**after, "sessionId": ""}


@pytest.mark.parametrize(
    ("forgery", "payload"),
    [
        (Forgery.TOPIC_SWAPPED, command("s1")),  # one topic only
        (Forgery.SESSION_SWAPPED, command("s1")),  # one session only
        (Forgery.SESSION_SWAPPED, b"no document"),
        (Forgery.BYTE_FLIPPED, b""),
    ],
)
async def test_nothing_to_make_it_from(forgery: Forgery, payload: bytes) -> None:
    broker = MemoryBroker()
    eavesdropper = Eavesdropper(broker, random.Random(3))
    assert eavesdropper.attack("command", Forgery.REPLAY) is None
    async with broker.port("hes").connect() as hes:
        await hes.publish(M1, payload)
    assert eavesdropper.attack("command", Forgery.REPLAY) is not None
    assert eavesdropper.attack("command", forgery) is None


async def test_recordings_are_bounded_and_a_fair_sample() -> None:
    broker = MemoryBroker()
    eavesdropper = Eavesdropper(broker, random.Random(3), recordings_max=100)
    async with broker.port("gw").connect() as gateway:
        await gateway.publish(M1, b"rare")
        for number in range(2000):
            await gateway.publish(f"{ROOT}/meter/m1/telemetry", b"%d" % number)
        for number in range(2 * KINDS_MAX):
            await gateway.publish(f"{ROOT}/meter/m1/kind-{number}", b"")
    kept = [int(each.payload) for each in eavesdropper.recordings("telemetry")]
    assert len(set(kept)) == 100
    assert 800 < sum(kept) / len(kept) < 1200
    assert [each.payload for each in eavesdropper.recordings("command")] == [b"rare"]
    assert len(eavesdropper.recordings("other")) == 2 * KINDS_MAX - (KINDS_MAX - 2)


async def test_its_own_injections_are_not_recorded() -> None:
    broker = MemoryBroker()
    eavesdropper = Eavesdropper(broker, random.Random(3))
    async with broker.port("hes").connect() as hes:
        await hes.publish(M1, command("s1"))
    for _ in range(10):
        assert eavesdropper.attack("command", Forgery.REPLAY) is not None
    assert len(eavesdropper.recordings("command")) == 1


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        (M1, "command"),
        (f"{ROOT}/meter/m1/telemetry", "telemetry"),
        (f"{ROOT}/session/s1", "session"),
        ("a/b", "other"),
        (f"{M1}/more", "other"),
    ],
)
def test_the_kind_of_a_topic(topic: str, kind: str) -> None:
    assert kind_of(topic) == kind
