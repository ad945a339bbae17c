"""The whole kit in this process, with gateways that are wrong in one thing, and hands that are asked."""

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from tests.conformance import packets
from tests.conformance.small_gateway import INTERVAL_S, NAME, SERIAL, SmallGateway
from tests.tools import require_tool

from openami.clock import SystemClock
from openami.conformance.acts import ActState
from openami.conformance.bench import Standing
from openami.conformance.credentials import USERNAME
from openami.conformance.hook import Hook
from openami.conformance.house import House, HouseError, HouseSettings, instructions, open_house
from openami.conformance.judgement import Kind
from openami.conformance.mqtt_packets import TOPIC_ALIASES_MAX
from openami.conformance.observation import Act, Published
from openami.conformance.played_gateway import METERS, Answer, PlayedGateway
from openami.conformance.playing import play
from openami.mqtt.client import MqttPort
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings
from openami.pki.certificates import new_transport_key
from openami.pki.enrolment import make_request
from openami.profile import (
    CommandTopic,
)
from openami.sip.keys import KeySigner

WAIT_S = 40.0

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@contextlib.asynccontextmanager
async def house(
    directory: Path,
    *skipped: Act,
    hook: Hook | None = None,
    broker: Literal["mosquitto", "iotcore"] = "mosquitto",
    kind: Kind = "gateway",
    enrolment: bytes | None = None,
) -> AsyncIterator[House]:
    if broker == "mosquitto":
        require_tool("mosquitto")
    settings = HouseSettings(
        kind=kind,
        host="localhost",
        port=0,
        plain_port=None,
        directory=directory / "kit",
        name=NAME,
        skipped=frozenset(act.value for act in skipped),
        hook=hook,
        brokers=(broker,),
        enrolment=enrolment,
    )
    async with open_house(settings, SystemClock()) as opened:
        yield opened


@contextlib.asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        yield
        for task in tasks:
            task.cancel()


def by_password(opened: House, client_id: str = "small") -> BrokerSettings:
    return BrokerSettings(
        url=f"mqtts://localhost:{opened.port}",
        client_id=client_id,
        ca_file=str(opened.credentials.ca_file),
        username=USERNAME,
        password_file=str(opened.credentials.directory / "password"),
        session_expiry_days=0,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.05)


def verdict(opened: House, requirement: str) -> str:
    [finding] = [f for f in opened.judgement().findings if f.requirement == requirement]
    return finding.verdict


ALL_BUT_COMMANDS = tuple(
    act
    for act in (
        Act.ACKNOWLEDGEMENT_WITHHELD,
        Act.NETWORK_LOST,
        Act.METER_UNPLUGGED,
        Act.GATEWAY_RESTARTED,
    )
)


async def test_a_gateway_that_obeys_whoever_orders_fails_on_the_profiles_own_word(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, *ALL_BUT_COMMANDS) as opened:
        gateway = SmallGateway(by_password(opened), obeys=True)
        async with running(opened.run(), gateway.run()):
            await until(lambda: verdict(opened, "OA-SES-002") == "failed")
        judgement = opened.judgement()
    assert not judgement.conforms
    [finding] = [f for f in judgement.findings if f.requirement == "OA-SES-002"]
    assert "is disconnected after command-without-session" in finding.evidence[0].detail
    assert finding.remedy == "Open a session before the command."


async def test_a_relay_nobody_tells_of_is_seen_by_the_hook(tmp_path: Path) -> None:
    relay, written, script = (tmp_path / name for name in ("relay", "written", "hook.py"))
    relay.write_text("connected")
    script.write_text(
        "import pathlib, sys\n"
        "print('relay' if sys.argv[1] == 'verbs' else "
        f"pathlib.Path({str(relay)!r}).read_text())\n"
    )
    hook = Hook((sys.executable, str(script)))
    async with house(tmp_path, *ALL_BUT_COMMANDS, hook=hook) as opened:
        gateway = SmallGateway(by_password(opened), obeys=True, tells_relay=False)

        async def wired() -> None:
            while True:
                written.write_text("connected" if gateway.connected else "disconnected")
                written.replace(relay)
                await asyncio.sleep(0.05)

        async with running(opened.run(), gateway.run(), wired()):
            await until(lambda: verdict(opened, "OA-SES-002") == "failed")


async def test_a_person_looks_where_the_relay_is_when_nothing_else_tells(tmp_path: Path) -> None:
    """Once before and once after three forged commands, of which the gateway obeys each."""
    async with house(tmp_path, *ALL_BUT_COMMANDS) as opened:
        gateway = SmallGateway(by_password(opened), obeys=True, tells_relay=False)
        act = standing(opened, Act.COMMAND_WITHOUT_SESSION)
        looks = set()
        async with running(opened.run(), gateway.run()):
            await until(lambda: act.asks_where)
            assert opened.checklist().prompt == (
                "Look at the relay of meter M-1: does its house have power?"
            )
            async with asyncio.timeout(WAIT_S):
                while act.state is not ActState.DONE:
                    if act.asks_where:
                        opened.performance.saw_power(power=gateway.connected)
                    await asyncio.sleep(0.05)
                    looks.add(opened.scene.meters[SERIAL].relay_told_at)
    assert len(looks - {None}) == 2
    assert verdict(opened, "OA-SES-002") == "failed"


async def test_a_gateway_that_takes_sessions_and_looks_at_no_signature_is_warned_of_it(
    tmp_path: Path,
) -> None:
    """In a session it obeys whoever orders, and after its end too: decisions of ours."""
    signer = KeySigner(Ed25519PrivateKey.generate())
    now = SystemClock().now()
    enrolment = make_request(
        NAME, signer, signer.public, new_transport_key(), iat=int(now.timestamp())
    )
    played = PlayedGateway(NAME, signer)
    async with house(tmp_path, *ALL_BUT_COMMANDS, enrolment=enrolment) as opened:
        act = standing(opened, Act.SESSION_OFFERED)
        settings = by_password(opened)
        playing = play(played, settings, SystemClock().now, interval_s=INTERVAL_S)
        async with running(opened.run(), playing):
            await until(lambda: act.state is ActState.DONE)
        judgement = opened.judgement()
    assert act.detail == "honest and forged commands were given"
    assert (opened.credentials.directory / "enrolment-answer.json").exists()
    said = {f.requirement: f.verdict for f in judgement.findings}
    assert said["OA-SES-002"] == "passed", "without a session it did not move"
    for broken in ("OA-CMD-001", "OA-CMD-002", "OA-CMD-004"):
        assert said[broken] == "warning", broken
    for kept in ("OA-SES-003", "OA-SES-004", "OA-CMD-003", "OA-CMD-005"):
        assert said[kept] == "passed", kept


class Renewing(PlayedGateway):
    """Its nonce has grown old when the first command comes: it refuses it, and tells the one in force."""

    heard: list[str]

    def answers(
        self, topic: str, payload: bytes, *, nonce: bytes, now: datetime
    ) -> Iterable[Answer]:
        was, first = dict(self.connected), not self.reports
        said = list(super().answers(topic, payload, nonce=nonce, now=now))
        if topic.endswith("/command"):
            self.heard.append(json.loads(payload)["command"]["nonce"])
        if first and self.reports:
            self.connected = was
            members = json.loads(said[0].payload)
            members["report"] |= {"status": "refused", "code": "STALE_NONCE", "nonce": FRESH}
            return [Answer(said[0].topic, json.dumps(members).encode())]
        return said


FRESH = "A" * 22


async def test_a_command_is_given_again_under_the_nonce_its_report_brings(tmp_path: Path) -> None:
    signer = KeySigner(Ed25519PrivateKey.generate())
    iat = int(SystemClock().now().timestamp())
    enrolment = make_request(NAME, signer, signer.public, new_transport_key(), iat=iat)
    played = Renewing(NAME, signer)
    played.heard = []
    others = (*ALL_BUT_COMMANDS, Act.COMMAND_WITHOUT_SESSION)
    async with house(tmp_path, *others, enrolment=enrolment) as opened:
        playing = play(played, by_password(opened), SystemClock().now, interval_s=INTERVAL_S)
        async with running(opened.run(), playing):
            await until(lambda: len(played.heard) > 1)
    assert played.heard[0] != FRESH
    assert played.heard[1] == FRESH


async def test_what_the_hook_took_away_it_brings_back_though_nobody_waits_for_it(
    tmp_path: Path,
) -> None:
    """The act is left out in the middle: the meter does not stay unplugged."""
    done, script = tmp_path / "done", tmp_path / "hook.py"
    script.write_text(
        "import pathlib, sys\n"
        "print('unplug plug' if sys.argv[1] == 'verbs' else '')\n"
        f"done = pathlib.Path({str(done)!r})\n"
        "done.write_text((done.read_text() if done.exists() else '') + sys.argv[1] + ' ')\n"
    )
    hook = Hook((sys.executable, str(script)))
    others = (act for act in Act if act is not Act.METER_UNPLUGGED)
    async with house(tmp_path, *others, hook=hook) as opened:
        gateway = SmallGateway(by_password(opened))
        act = standing(opened, Act.METER_UNPLUGGED)
        async with running(opened.run(), gateway.run()):
            await until(lambda: done.exists() and "unplug" in done.read_text().split())
            opened.performance.skip()
            await until(lambda: act.state is ActState.SKIPPED)
            await until(lambda: done.read_text() == "verbs unplug plug ")


async def test_the_kit_needs_nothing_but_pip(tmp_path: Path) -> None:
    """Without mosquitto the broker is the one in a wheel; it speaks 3.1.1 alone."""
    async with house(tmp_path, *ALL_BUT_COMMANDS, broker="iotcore") as opened:
        gateway = SmallGateway(replace(by_password(opened), protocol="3.1.1"), listens=False)
        async with running(opened.run(), gateway.run()):
            await until(lambda: opened.judgement().conforms)
        with pytest.raises(TransportError):
            async with MqttPort(by_password(opened)).connect():
                pass
        assert "small speaks MQTT 5" in next(iter(opened.news))


async def test_a_head_end_that_commands_without_a_session_fails(tmp_path: Path) -> None:
    """It sends what a gateway could obey, without a session, and with QoS 0."""
    async with house(tmp_path, kind="headend") as opened:
        topic = CommandTopic(NAME.feeder_id, NAME.gateway_id, METERS[0])
        order = {"registers": [{"obis": "96.11.1", "value": "disconnected"}]}
        tls = ssl.create_default_context(cafile=str(opened.credentials.ca_file))
        async with running(opened.run()):
            await until(lambda: bool(opened.scene.meters))
            _, writer = await asyncio.open_connection("localhost", opened.port, ssl=tls)
            password = opened.credentials.password
            who = packets.text(USERNAME) + packets.text(password)
            writer.write(packets.connect("naive", flags=0xC2, after=who))
            writer.write(packets.publish(str(topic), json.dumps(order).encode(), qos=0))
            await until(lambda: verdict(opened, "OA-SES-002") == "failed")
            writer.close()
    for requirement in ("OA-QOS-003", "OA-SES-002"):
        assert verdict(opened, requirement) == "failed"
    assert verdict(opened, "OA-CMD-007") == "warning"
    assert opened.played is not None
    assert all(opened.played.connected.values()), "the gateway that is played obeys no such thing"


async def test_a_gateway_without_sessions_that_does_not_move_passes(tmp_path: Path) -> None:
    """A good stateless device: it knows none of our sessions, and is not held against them."""
    async with house(tmp_path, *ALL_BUT_COMMANDS) as opened:
        gateway = SmallGateway(by_password(opened))
        async with running(opened.run(), gateway.run()):
            await until(
                lambda: standing(opened, Act.COMMAND_WITHOUT_SESSION).state is ActState.DONE
            )
        judgement = opened.judgement()
    assert judgement.conforms
    assert verdict(opened, "OA-SES-002") == "passed"
    assert Act.SESSION_OFFERED not in opened.performance.standings, "it was not enrolled"
    told = [f.requirement for f in judgement.findings if f.verdict in ("failed", "warning")]
    assert told == []


async def test_a_gateway_without_commands_is_sent_none(tmp_path: Path) -> None:
    async with house(tmp_path, *ALL_BUT_COMMANDS) as opened:
        gateway = SmallGateway(by_password(opened), listens=False)
        async with running(opened.run(), gateway.run()):
            await until(lambda: gateway.readings > 15)
    assert opened.judgement().conforms
    [waiting] = opened.checklist().acts
    assert waiting.state is ActState.WAITING
    assert "needs a subscription to commands" in waiting.detail


def standing(opened: House, act: Act) -> Standing:
    return opened.performance.standings[act]


async def test_hands_unplug_a_meter_and_plug_it_in_again(tmp_path: Path) -> None:
    """Asked for; believed when it shows; judged; asked back; and over when readings are good again."""
    others = (
        Act.ACKNOWLEDGEMENT_WITHHELD,
        Act.NETWORK_LOST,
        Act.COMMAND_WITHOUT_SESSION,
        Act.SESSION_OFFERED,
        Act.GATEWAY_RESTARTED,
    )
    async with house(tmp_path, *others) as opened:
        gateway = SmallGateway(by_password(opened))
        act = opened.performance.standings[Act.METER_UNPLUGGED]
        async with running(opened.run(), gateway.run()):
            await until(lambda: act.state is ActState.ASKED)
            assert opened.checklist().prompt == (
                "Unplug the data line of meter M-1, and leave it unplugged."
            )
            assert opened.judgement().findings
            gateway.silent = True
            await until(lambda: act.state is ActState.UNDERWAY)
            await until(lambda: act.prompt == "Plug meter M-1 in again.")
            gateway.silent = False
            await until(lambda: act.state is ActState.DONE)
    assert verdict(opened, "OA-SIL-001") == "passed"


async def test_a_gateway_that_goes_on_as_if_nothing_was_unplugged_is_found_out(
    tmp_path: Path,
) -> None:
    """Nothing shows, so the person says that it is done."""
    others = (
        Act.ACKNOWLEDGEMENT_WITHHELD,
        Act.NETWORK_LOST,
        Act.COMMAND_WITHOUT_SESSION,
        Act.SESSION_OFFERED,
        Act.GATEWAY_RESTARTED,
    )
    async with house(tmp_path, *others) as opened:
        gateway = SmallGateway(by_password(opened))
        act = opened.performance.standings[Act.METER_UNPLUGGED]
        async with running(opened.run(), gateway.run()):
            await until(lambda: act.state is ActState.ASKED)
            opened.performance.confirm()
            await until(lambda: act.prompt == "Plug meter M-1 in again.")
            assert verdict(opened, "OA-SIL-001") == "warning"
            opened.performance.skip()
            await until(lambda: act.state is ActState.SKIPPED)


async def test_without_tls_the_verdict_and_the_reason_are_there(tmp_path: Path) -> None:
    async with house(tmp_path) as opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", opened.port)
        writer.write(packets.connect("old-pole"))
        assert await reader.read() == bytes((0x20, 2, 0, 5))
        writer.close()
        await until(lambda: bool(opened.news))
        shown = opened.checklist()
    assert verdict(opened, "OA-TLS-001") == "failed"
    assert "old-pole came without TLS" in shown.news[0]
    assert shown.waits_for == "waiting for the gateway to connect"


async def test_the_directory_serves_the_next_run_too(tmp_path: Path) -> None:
    async with house(tmp_path) as opened:
        first = {f.name: f.read_bytes() for f in opened.credentials.directory.iterdir()}
        said = instructions(opened)
    async with house(tmp_path) as opened:
        second = {f.name: f.read_bytes() for f in opened.credentials.directory.iterdir()}
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"door.pem"}
    assert any("client.crt" in line for line in said)
    assert any(f"mqtts://localhost:{opened.port}" != line for line in said)


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with house(tmp_path) as opened:
        settings = HouseSettings(
            host="localhost", port=opened.port, directory=tmp_path / "other", name=NAME
        )
        with pytest.raises(HouseError, match=f"cannot listen on port {opened.port}") as refused:
            async with open_house(settings, SystemClock()):
                pass
    assert "--port" in refused.value.remedy


async def test_a_gateway_of_many_meters_may_say_each_topic_once(tmp_path: Path) -> None:
    require_tool("mosquitto")
    told: list[Published] = []
    settings = HouseSettings(
        kind="gateway",
        host="localhost",
        port=0,
        plain_port=None,
        directory=tmp_path / "kit",
        name=NAME,
        brokers=("mosquitto",),
    )

    def witness(observation: object) -> None:
        if isinstance(observation, Published):
            told.append(observation)

    topics = [f"openami/v1/{NAME}/meter/M-{n:03d}/telemetry" for n in range(TOPIC_ALIASES_MAX)]
    async with (
        open_house(settings, SystemClock(), witness=witness) as opened,
        MqttPort(by_password(opened)).connect() as gateway,
    ):
        for topic in (*topics, *topics):
            await gateway.publish(topic, b"{}")
    first, again = told[: len(topics)], told[len(topics) :]
    assert [each.topic for each in again] == topics, "the door knows what each alias stands for"
    assert {a.wire_bytes - b.wire_bytes for a, b in zip(first, again, strict=True)} == {
        len(topics[0])
    }
