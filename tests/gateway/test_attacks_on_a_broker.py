"""The dangerous rows of the attack table, on a real broker, against the gateway program and real relays.

One village, one gateway process, row after row. Nothing but the honest orders reaches a relay. Whoever signed with
a key of the keyring is told why not, in a report that its gateway signed; to everybody else the gateway is silent,
and only its own page counts them.
"""

import asyncio
import hashlib
import hmac
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt import publish
from tests.conftest import StartMosquitto
from tests.gateway.pole import GatewayProgram
from tests.gateway.sip_world import (
    FEEDER,
    GATEWAY,
    HES,
    MARKET,
    OPERATOR,
    PINNED,
    ROOT,
    STRANGER,
    Parties,
    printed,
    seconds,
)
from tests.gateway.test_commands_program import WAIT_S, Dds238, HeadEnd, enrolled, listening
from tests.sip.village import act_with, unsigned

from openami.clock import SystemClock
from openami.profile import CommandTopic, EventTopic, MeterSerial, SessionTopic
from openami.simulator.modbus_server import ModbusLine, serving
from openami.sip.actions import Action
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import SIGNATURE, encode_base64url, read_document
from openami.sip.compose import sign
from openami.sip.errors import SipCode
from openami.sip.keyring import Keyring, admit_keyring
from openami.sip.keys import KeySigner
from openami.sip.reports import Report, read_report

# Disconnected by its head-end at first, so its orders can be replayed; the target; a clinic; out of the session.
MOVED, TARGET, CLINIC, ELSEWHERE = "M-1", "M-2", "M-3", "M-4"
SERIALS = (MOVED, TARGET, CLINIC, ELSEWHERE)
OFF: Final = 0
_POLL_S = 0.02
_SHORT_LIFE_S = 1

Message = tuple[object, bytes]


class Northern(Parties):
    """A keyring with a protected clinic; a session in which the operator may not disconnect."""

    def keyring(self, **options: Any) -> tuple[SessionTopic, bytes]:
        return super().keyring(scope={"protected": [CLINIC]}, **options)

    def session(self, session_id: str = "s-1", **options: Any) -> dict[str, Any]:
        members = super().session(session_id, meters=[MOVED, TARGET, CLINIC], **options)
        for participant in members["participants"]:
            if participant["kid"] == OPERATOR.kid:
                participant["can"] = [Action.RECONNECT.value]
        return members


@dataclass
class Stage:
    """What an attacker at the broker has: all that ever went over it, and keys that are not the head-end's."""

    hes: HeadEnd
    gateway: GatewayProgram
    meters: Mapping[str, Dds238]
    broker_url: str
    keyring: Keyring
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    caught: dict[str, Message] = field(default_factory=dict)
    """Honest messages that were recorded, or withheld."""
    answered: set[str] = field(default_factory=set)
    """The digests of the commands that may be answered."""

    @property
    def parties(self) -> Parties:
        return self.hes.parties

    def order(self, action: Action = Action.DISCONNECT, **changed: Any) -> tuple[object, bytes]:
        """Return a command that is good in all but what is changed."""
        how = {"serial": TARGET, "seq": next(self.numbers), "signers": (HES,), **changed}
        nonce = how.pop("nonce", self.hes.nonces[-1])
        return self.parties.command(action, nonce, **how)

    def signed(self, members: Mapping[str, Any], signer: KeySigner = HES) -> bytes:
        """Sign a command's members as they are."""
        iat = seconds(self.parties.clock.now())
        return printed(sign(unsigned(members), signer, ActType.COMMAND, iat=iat))

    def reports(self, digest: str) -> list[Report]:
        """Return the reports upon a command, each verified."""
        return [report for report in self.told() if report.command_digest == digest]

    def told(self) -> list[Report]:
        return [
            read_report(document, topic, self.keyring)
            for topic, document in self.hes.heard
            if isinstance(topic, EventTopic) and "report" in document.members
        ]

    def accepted(self, session_id: str) -> bool:
        return any(
            act.type is ActType.ACCEPT
            for topic, document in self.hes.heard
            if isinstance(topic, SessionTopic) and topic.session_id == session_id
            for act in read_acts(document)
        )

    async def refused_silently(self, code: SipCode) -> int:
        page = (await self.gateway.get("/metrics")).text
        name = f'openami_gateway_silent_refusals_total{{code="{code.value}"}}'
        counted = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", page, re.MULTILINE)
        return 0 if counted is None else int(float(counted[1]))

    def moved(self) -> Mapping[str, list[int]]:
        return {serial: list(meter.orders) for serial, meter in self.meters.items()}


def changed(message: Message, at: str, value: object) -> Message:
    """Return a message with one member changed on the way: its signature is as it was."""
    members = json.loads(message[1])
    *way, last = at.split("/")
    inner: Any = members
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    assert inner[last] != value
    inner[last] = value
    return message[0], printed(members)


def under_header(stage: Stage, signer: KeySigner = HES, **header: Any) -> Message:
    """Return an order under a header of the attacker's, claiming to be the head-end's."""
    topic, payload = stage.order()
    members = unsigned(json.loads(payload))
    iat = seconds(stage.parties.clock.now())
    whole = {"alg": "Ed25519", "iat": iat, "kid": HES.kid, "typ": "sip-command", **header}
    return topic, printed({**members, SIGNATURE: act_with(whole, members, signer)})


# --- the ways in -------------------------------------------------------------------------------------


def readdressed(stage: Stage) -> Message:
    _, payload = stage.order(serial=MOVED)
    return CommandTopic(FEEDER, GATEWAY, MeterSerial(TARGET)), payload.replace(b"M-1", b"M-2")


def on_the_neighbours_topic(stage: Stage) -> Message:
    _, payload = stage.order(serial=MOVED)
    return CommandTopic(FEEDER, GATEWAY, MeterSerial(TARGET)), payload


def for_another_gateway(stage: Stage) -> Message:
    topic, payload = stage.order()
    return topic, stage.signed({**json.loads(payload), "gatewayId": "pole-2"})


def unsigned_order(stage: Stage) -> Message:
    topic, payload = stage.order()
    return topic, printed(unsigned(json.loads(payload)))


def twice_the_action(stage: Stage) -> Message:
    topic, payload = stage.order(Action.RECONNECT)
    old = b'"action": '
    assert payload.count(old) == 1
    return topic, payload.replace(old, b'"action": "relay.disconnect", ' + old)


def by_hmac(stage: Stage) -> Message:
    topic, payload = stage.order()
    members = unsigned(json.loads(payload))
    iat = seconds(stage.parties.clock.now())
    header = {"alg": "HS256", "iat": iat, "kid": HES.kid, "typ": "sip-command"}
    head = encode_base64url(json.dumps(header).encode())
    body = encode_base64url(read_document(payload).canonical)
    mac = hmac.digest(HES.public.raw, f"{head}.{body}".encode(), hashlib.sha256)
    return topic, printed({**members, SIGNATURE: f"{head}..{encode_base64url(mac)}"})


def keyring_of_the_head_ends(stage: Stage) -> Message:
    """A stolen head-end key would make itself a keyring without limits."""
    stage.parties.version += 50
    forged = stage.parties.keyring(root=HES)
    stage.parties.version -= 51
    return forged


def session_of_the_markets(stage: Stage) -> Message:
    return stage.parties.act(stage.parties.session("s-market"), ActType.OFFER, MARKET)


def session_of_another_gateway(stage: Stage) -> Message:
    return stage.parties.offer("s-pole-2", gateway="pole-2")


def same_number_other_content(stage: Stage) -> Message:
    seq = json.loads(stage.caught["asked"][1])["command"]["seq"]
    return stage.order(seq=seq)


def contradicting(stage: Stage) -> Message:
    topic, payload = changed(stage.order(Action.RECONNECT), "command/action", "relay.disconnect")
    return topic, stage.signed(json.loads(payload))


def ticket_to_disconnect(stage: Stage) -> Message:
    return stage.parties.ticket(Action.DISCONNECT, serial=TARGET, signer=OPERATOR)


@dataclass(frozen=True)
class Row:
    """One attack: what is sent, and what comes of it."""

    what: str
    code: SipCode
    make: Callable[[Stage], Message]
    status: str = "refused"


SILENCE: Final = [
    Row("the meter changed on the way", SipCode.BAD_SIGNATURE, readdressed),
    Row(
        "the register changed on the way",
        SipCode.BAD_SIGNATURE,
        lambda s: changed(s.order(Action.RECONNECT), "registers/0/value", "disconnected"),
    ),
    Row(
        "the action changed on the way",
        SipCode.BAD_SIGNATURE,
        lambda s: changed(s.order(Action.RECONNECT), "command/action", "relay.disconnect"),
    ),
    Row(
        "replayed under a higher seq",
        SipCode.BAD_SIGNATURE,
        lambda s: changed(s.caught["done"], "command/seq", next(s.numbers)),
    ),
    Row(
        "replayed under a later notAfter",
        SipCode.BAD_SIGNATURE,
        lambda s: changed(s.caught["withheld"], "command/notAfter", "2099-01-01T00:00:00Z"),
    ),
    Row(
        "replayed under the nonce in force",
        SipCode.BAD_SIGNATURE,
        lambda s: changed(s.order(nonce="A" * 22), "command/nonce", s.hes.nonces[-1]),
    ),
    Row(
        "a key that is in no keyring",
        SipCode.UNKNOWN_KEY,
        lambda s: s.order(signers=(STRANGER,)),
    ),
    Row("the root's own key", SipCode.UNKNOWN_KEY, lambda s: s.order(signers=(ROOT,))),
    Row(
        "the head-end's kid over the attacker's signature",
        SipCode.BAD_SIGNATURE,
        lambda s: under_header(s, STRANGER),
    ),
    Row("alg none", SipCode.BAD_ALG, lambda s: under_header(s, alg="none")),
    Row("HS256 with the public key as its secret", SipCode.BAD_ALG, by_hmac),
    Row("a report's act", SipCode.WRONG_TYPE, lambda s: under_header(s, typ="sip-report")),
    Row("no signature", SipCode.NO_SIGNATURE, unsigned_order),
    Row("`action` twice, the signed one last", SipCode.DUPLICATE_MEMBER, twice_the_action),
    Row("meter A's command on B's topic", SipCode.TOPIC_MISMATCH, on_the_neighbours_topic),
    Row("another gateway's command on our topic", SipCode.TOPIC_MISMATCH, for_another_gateway),
    Row("a keyring signed by the head-end", SipCode.UNKNOWN_KEY, keyring_of_the_head_ends),
    Row("a session offered by the market", SipCode.NOT_ALLOWED, session_of_the_markets),
    Row("another gateway's session", SipCode.TOPIC_MISMATCH, session_of_another_gateway),
]
"""Whoever may be anybody gets no answer."""

TOLD: Final = [
    Row("the same number, another content", SipCode.SEQ_REUSED, same_number_other_content),
    Row("a lower number", SipCode.SEQ_REPLAY, lambda s: s.caught["overtaken"]),
    Row("another nonce", SipCode.STALE_NONCE, lambda s: s.order(nonce="A" * 22)),
    Row("a life of two hours", SipCode.BAD_FIELD, lambda s: s.order(life_s=7200)),
    Row(
        "under another gateway's session",
        SipCode.NO_SESSION,
        lambda s: s.order(session_id="s-pole-2"),
    ),
    Row(
        "under a session that was closed",
        SipCode.SESSION_CLOSED,
        lambda s: s.order(session_id="s-closed"),
    ),
    Row("by the market", SipCode.NOT_ALLOWED, lambda s: s.order(signers=(MARKET,))),
    Row(
        "by an operator without the right",
        SipCode.NOT_ALLOWED,
        lambda s: s.order(signers=(OPERATOR,)),
    ),
    Row(
        "by the head-end, and an operator without the right",
        SipCode.NOT_ALLOWED,
        lambda s: s.order(signers=(HES, OPERATOR)),
    ),
    Row("a clinic, by the head-end alone", SipCode.QUORUM, lambda s: s.order(serial=CLINIC)),
    Row("out of the session's scope", SipCode.OUT_OF_SCOPE, lambda s: s.order(serial=ELSEWHERE)),
    Row("a meter that is not here", SipCode.OUT_OF_SCOPE, lambda s: s.order(serial="M-9")),
    Row("registers that say another thing", SipCode.ACTION_MISMATCH, contradicting),
    Row(
        "back and forth within the minute",
        SipCode.DWELL,
        lambda s: s.order(Action.RECONNECT, serial=MOVED),
    ),
    Row("a ticket to disconnect", SipCode.NOT_ALLOWED, ticket_to_disconnect),
    Row(
        "a token for a meter that takes none",
        SipCode.METER_ERROR,
        lambda s: s.order(Action.CREDIT_TOKEN, args={"token": "12345678901234567890"}),
        status="failed",
    ),
]
"""Whoever has a key of the keyring is told why not."""


# --- what comes of it --------------------------------------------------------------------------------


async def answer(stage: Stage, message: Message, *, again: int = 1) -> Report:
    """Send an authentic command; return what its gateway says of it, the so manyeth time."""
    digest = read_document(message[1]).digest
    stage.answered.add(digest)
    await stage.hes.send(message)
    await stage.hes.until(lambda _: len(stage.reports(digest)) >= again)
    return stage.reports(digest)[-1]


async def silence(stage: Stage, code: SipCode, send: Callable[[], Awaitable[None]]) -> None:
    """Send; return when the gateway has counted it under its code."""
    before = await stage.refused_silently(code)
    await send()
    async with asyncio.timeout(WAIT_S):
        while await stage.refused_silently(code) == before:
            await asyncio.sleep(_POLL_S)


async def play_silence(stage: Stage, row: Row) -> None:
    message = row.make(stage)
    try:
        await silence(stage, row.code, lambda: stage.hes.send(message))
    except TimeoutError:
        pytest.fail(f"{row.what}: not refused as {row.code}; {stage.gateway.log()[-2000:]}")


async def play_told(stage: Stage, row: Row) -> None:
    report = await answer(stage, row.make(stage))
    assert (report.status, report.code) == (row.status, row.code), row.what


async def prepared(stage: Stage) -> None:
    """Do the honest things that the attacks are made of."""
    stage.caught["withheld"] = stage.order(life_s=_SHORT_LIFE_S)
    stage.caught["done"] = stage.order(serial=MOVED)
    stage.caught["overtaken"] = stage.order()
    span = {"from": "2026-06-20T00:00:00Z", "to": "2026-06-21T00:00:00Z"}
    stage.caught["asked"] = stage.order(Action.RESEND, args=span)
    for name in ("done", "asked"):
        report = await answer(stage, stage.caught[name])
        assert (report.status, report.code) == ("done", "OK"), name
    closed = stage.parties.session("s-closed")
    await stage.hes.send(stage.parties.act(closed, ActType.OFFER))
    await stage.hes.until(lambda _: stage.accepted("s-closed"))
    await stage.hes.send(stage.parties.act(closed, ActType.CLOSE, reason="CLOSED"))


async def with_a_revoked_key(stage: Stage) -> None:
    """A new keyring without the head-end: its key is nobody's, in a session that lives."""
    await admit(stage, without=(HES.kid,))
    order = stage.order()
    await silence(stage, SipCode.UNKNOWN_KEY, lambda: stage.hes.send(order))
    await admit(stage)


async def admit(stage: Stage, *, without: Sequence[str] = ()) -> None:
    """Bring the next keyring into force."""
    message = stage.parties.keyring(without=without)
    await stage.hes.send(message)
    session_id = json.loads(message[1])["sessionId"]
    await stage.hes.until(lambda _: stage.accepted(session_id))


async def retained(stage: Stage, message: Message) -> None:
    port = int(stage.broker_url.rpartition(":")[2])
    await asyncio.to_thread(
        publish.single, str(message[0]), message[1], qos=1, retain=True, port=port
    )


@pytest.fixture
def meters() -> Mapping[str, Dds238]:
    return {serial: Dds238() for serial in SERIALS}


@pytest.fixture
async def gateway_for(
    tmp_path: Path, meters: Mapping[str, Dds238]
) -> AsyncIterator[Callable[[str], GatewayProgram]]:
    started: list[GatewayProgram] = []
    async with serving(ModbusLine(dict(enumerate(meters.values(), 1)))) as port:

        def gateway(url: str) -> GatewayProgram:
            program = GatewayProgram(tmp_path, mqtt={"url": url}, modbus_port=port)
            enrolled(program, tmp_path)
            with program.file.open("a") as file:
                for unit, serial in list(enumerate(SERIALS, 1))[1:]:
                    file.write(f'[[line.meter]]\nserial = "{serial}"\n')
                    file.write(f'unit = {unit}\nmap = "dds238"\n')
            started.append(program)
            return program

        yield gateway
        for program in started:
            program.kill()


def admitted(message: Message) -> Keyring:
    document = read_document(message[1])
    return admit_keyring(document, roots=PINNED, in_force=0, feeder_id=FEEDER, gateway_id=GATEWAY)


@pytest.mark.broker
async def test_no_attack_moves_a_relay_and_an_honest_command_does(
    mosquitto: StartMosquitto,
    meters: Mapping[str, Dds238],
    gateway_for: Callable[[str], GatewayProgram],
) -> None:
    broker = mosquitto()
    gateway = gateway_for(broker.url)
    async with listening(broker.url) as hes:
        hes.parties = Northern(SystemClock())  # type: ignore[arg-type]  # it only asks what time it is
        keyring = admitted(hes.parties.keyring())
        hes.parties.version = 0
        stage = Stage(hes, gateway, meters, broker.url, keyring)
        await lying_in_wait(stage)
        await hes.ready()
        await prepared(stage)
        nothing_more = {MOVED: [OFF], TARGET: [], CLINIC: [], ELSEWHERE: []}
        assert stage.moved() == nothing_more

        for row in SILENCE:
            await play_silence(stage, row)
            assert stage.moved() == nothing_more, row.what
        for row in TOLD:
            await play_told(stage, row)
            assert stage.moved() == nothing_more, row.what
        await withheld_beyond_its_life(stage)
        await with_a_revoked_key(stage)
        await replayed(stage)
        await after_a_restart(stage)
        assert stage.moved() == nothing_more

        report = await answer(stage, stage.order())
        assert (report.status, report.code) == ("done", "OK")
        assert stage.moved() == {**nothing_more, TARGET: [OFF]}
        assert {told.command_digest for told in stage.told()} == stage.answered, "no oracle"
    assert gateway.end() == 0
    assert "Traceback" not in gateway.log()


async def lying_in_wait(stage: Stage) -> None:
    """A command, a keyring and a session that the broker keeps for whoever subscribes."""
    stage.parties.version = 90
    for message in (
        stage.parties.keyring(),
        stage.parties.offer("s-retained"),
        stage.parties.command(Action.DISCONNECT, "A" * 22, seq=1, serial=TARGET),
    ):
        await retained(stage, message)
    stage.parties.version = 0
    stage.gateway.start()
    await stage.gateway.ready()
    await until_three_retained(stage)
    assert not stage.accepted("keyring-0000000091")
    assert not stage.accepted("s-retained")


async def until_three_retained(stage: Stage) -> None:
    async with asyncio.timeout(WAIT_S):
        while await stage.refused_silently(SipCode.RETAINED) < 3:
            await asyncio.sleep(_POLL_S)


async def withheld_beyond_its_life(stage: Stage) -> None:
    """Too late by the gateway's clock; where nobody vouches for that, by the age of the nonce."""
    await asyncio.sleep(_SHORT_LIFE_S)
    report = await answer(stage, stage.caught["withheld"])
    assert report.code in (SipCode.EXPIRED, SipCode.STALE_NONCE)
    assert report.status == "refused"


async def replayed(stage: Stage) -> None:
    """The broker delivers the very bytes again: the report of then, and nothing else."""
    first = stage.reports(read_document(stage.caught["done"][1]).digest)[0]
    assert await answer(stage, stage.caught["done"], again=2) == first


async def after_a_restart(stage: Stage) -> None:
    """All that was good before, is not after it; a number that nobody has used least of all."""
    withheld = stage.order()
    known = len(stage.hes.nonces)
    stage.gateway.kill()
    stage.gateway.start()
    await stage.hes.until(lambda hes: len(hes.nonces) > known)
    report = await answer(stage, withheld)
    assert (report.status, report.code) == ("refused", SipCode.STALE_NONCE)
    again = len(stage.reports(read_document(stage.caught["done"][1]).digest)) + 1
    assert (await answer(stage, stage.caught["done"], again=again)).status == "done"
    await stage.gateway.ready()
    await until_three_retained(stage)
