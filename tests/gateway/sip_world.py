"""A village's parties and a gateway that takes their commands: real keys, real journal, a clock that obeys."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.gateway.clock_double import ClockDouble
from tests.gateway.switched_meter import PowerCut, SwitchedMeter

from openami.gateway.commanding import Announcement, Commanding, Surroundings
from openami.gateway.handshake import Self
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.timekeeping import ClockSource
from openami.profile import (
    CommandTopic,
    EventTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    SessionTopic,
    parse_topic,
)
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import encode_base64url, read_document
from openami.sip.compose import command_members, session_members, sign, ticket_members
from openami.sip.fields import print_moment
from openami.sip.keyring import KEYRING_PREFIX, Roots
from openami.sip.keys import KeySigner
from openami.sip.reports import Report, read_report
from openami.sip.session_document import Participant

FEEDER, GATEWAY = FeederId("feeder-1"), GatewayId("pole-1")
SERIALS = ("M-1", "M-2", "M-3")
ALL = frozenset(Action)


def key(seed: int) -> KeySigner:
    return KeySigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ROOT, HES, OPERATOR, MARKET, POLE, STRANGER = map(key, range(1, 7))
PINNED = Roots(1, {ROOT.kid: ROOT.public})
ROLES = {
    HES.kid: ("hes-1", Role.HES, HES, ALL),
    OPERATOR.kid: ("anna", Role.OPERATOR, OPERATOR, ALL),
    MARKET.kid: ("coop", Role.MARKET, MARKET, frozenset({Action.SETTLE})),
    POLE.kid: ("pole-1", Role.GATEWAY, POLE, frozenset[Action]()),
}


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def printed(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members).encode()


@dataclass
class Parties:
    """Everybody north of the gateway, with a clock of their own."""

    clock: ClockDouble
    version: int = 0
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def keyring(
        self,
        *,
        without: Sequence[str] = (),
        limits: Mapping[str, int] | None = None,
        scope: Mapping[str, Any] | None = None,
        days: int = 90,
        root: KeySigner = ROOT,
    ) -> tuple[SessionTopic, bytes]:
        self.version += 1
        now = self.clock.now()
        session_id = f"{KEYRING_PREFIX}{self.version:010d}"
        participants = []
        for kid, (name, role, signer, can) in ROLES.items():
            if kid not in without:
                entry: dict[str, Any] = {"id": name, "role": role.value, "kid": kid}
                entry["key"] = encode_base64url(signer.public.raw)
                entry["can"] = sorted(can)
                participants.append(entry)
        members = {
            "sessionId": session_id,
            "participants": participants,
            "feederScope": {
                "feederId": FEEDER,
                "gatewayId": GATEWAY,
                "meters": ["*"],
                "limits": {"disconnectsPerHour": 100, **(limits or {})},
                **(scope or {}),
            },
            "validFrom": print_moment(now),
            "validTo": print_moment(now + timedelta(days=days)),
        }
        signed = sign(members, root, ActType.KEYRING, iat=seconds(now))
        return self.session_topic(session_id), printed(signed)

    def session_topic(self, session_id: str) -> SessionTopic:
        return SessionTopic(FEEDER, GATEWAY, SessionId(session_id))

    def session(
        self,
        session_id: str = "s-1",
        *,
        limits: Mapping[str, int] | None = None,
        meters: Sequence[str] = ("*",),
        gateway: str = GATEWAY,
        hours: int = 24,
    ) -> dict[str, Any]:
        now = self.clock.now()
        participants = [
            Participant(name, role, kid, can) for kid, (name, role, _, can) in ROLES.items()
        ]
        return session_members(
            session_id,
            participants,
            feeder_id=FEEDER,
            gateway_id=gateway,
            meters=meters,
            valid_from=now - timedelta(minutes=5),
            valid_to=now + timedelta(hours=hours),
            limits=limits,
        )

    def act(
        self,
        members: Mapping[str, Any],
        type_: ActType,
        *signers: KeySigner,
        reason: str | None = None,
    ) -> tuple[SessionTopic, bytes]:
        """Return a session's document with acts of one type."""
        signed: Mapping[str, Any] = members
        for signer in signers or (HES,):
            iat = seconds(self.clock.now())
            signed = sign(signed, signer, type_, iat=iat, reason=reason)
        return self.session_topic(str(members["sessionId"])), printed(signed)

    def offer(self, session_id: str = "s-1", **options: Any) -> tuple[SessionTopic, bytes]:
        return self.act(self.session(session_id, **options), ActType.OFFER)

    def command(
        self,
        action: Action,
        nonce: str,
        *,
        seq: int,
        serial: str = "M-1",
        session_id: str = "s-1",
        life_s: int = 300,
        signers: Sequence[KeySigner] = (HES,),
        args: Mapping[str, Any] | None = None,
    ) -> tuple[CommandTopic, bytes]:
        now = self.clock.now()
        topic = CommandTopic(FEEDER, GATEWAY, MeterSerial(serial))
        members = command_members(
            topic,
            action,
            session_id=session_id,
            seq=seq,
            nonce=nonce,
            ts=now,
            not_after=now.replace(microsecond=0) + timedelta(seconds=life_s),
            args=args,
        )
        for signer in signers:
            members = sign(members, signer, ActType.COMMAND, iat=seconds(now))
        return topic, printed(members)

    def ticket(
        self,
        action: Action = Action.RECONNECT,
        *,
        serial: str = "M-1",
        days: int = 7,
        signer: KeySigner = OPERATOR,
        ticket: str | None = None,
    ) -> tuple[CommandTopic, bytes]:
        now = self.clock.now()
        topic = CommandTopic(FEEDER, GATEWAY, MeterSerial(serial))
        members = ticket_members(
            topic,
            action,
            ticket=ticket or f"t-{next(self.numbers)}",
            ts=now,
            not_after=now + timedelta(days=days),
        )
        return topic, printed(sign(members, signer, ActType.COMMAND, iat=seconds(now)))


class Pole:
    """One gateway on one disk. It can be started again; what it has published stays to be looked at."""

    def __init__(self, directory: Path, clock: ClockDouble) -> None:
        self.directory = directory
        self.clock = clock
        self.meters = {serial: SwitchedMeter(serial) for serial in SERIALS}
        self.parties = Parties(clock)
        self.announced: list[Announcement] = []
        self.nonces: dict[str, str] = {}
        """The latest nonce the gateway has told, by session: what an honest head-end would echo."""
        self.spread = 0.0
        self.readings_wait = False
        self.slept_s: list[float] = []
        self._nonces_made = itertools.count(1)

    @property
    def database(self) -> Path:
        return self.directory / "gateway.db"

    @property
    def lock_out(self) -> Path:
        return self.directory / "lock-out"

    def wipe(self) -> None:
        """Put in a new card."""
        for file in self.directory.glob("gateway.db*"):
            file.unlink()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Running"]:
        opening = open_outbox(
            self.database,
            OutboxLimits(),
            self.clock,
            clock_source=ClockSource.NETWORK,
            boot_id="test",
        )
        async with opening as outbox:
            commanding = await Commanding.made(self._around(outbox))
            task = asyncio.create_task(commanding.run(), name="commanding")
            await asyncio.sleep(0)
            try:
                yield Running(self, outbox, commanding, task)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _around(self, outbox: Outbox) -> Surroundings:
        return Surroundings(
            me=Self(FEEDER, GATEWAY, POLE.kid),
            signer=POLE,
            pinned=PINNED,
            serials=frozenset(SERIALS),
            outbox=outbox,
            clock=self.clock,
            meter=self.meters.get,
            lock_out=self.lock_out,
            metrics=GatewayMetrics(),
            spread=lambda: self.spread,
            readings_wait=lambda: self.readings_wait,
            sleep=self._sleep,
            fresh_nonce=lambda: encode_base64url(next(self._nonces_made).to_bytes(16, "big")),
        )

    async def _sleep(self, wait_s: float) -> None:
        self.slept_s.append(wait_s)
        self.clock.advance(wait_s)
        await asyncio.sleep(0)


@dataclass
class Running:
    """The gateway while it runs."""

    pole: Pole
    outbox: Outbox
    commanding: Commanding
    task: "asyncio.Task[None]"
    decided: int = 0

    async def connect(self) -> None:
        await self.commanding.connected()
        self.hear()

    def hear(self) -> list[Announcement]:
        """Take what the gateway has published beside the outbox, and learn its nonces as a head-end does."""
        heard: list[Announcement] = []
        waiting = self.commanding.waiting_announcements()
        for text, payload in waiting:
            heard.append((text, payload))
            topic = parse_topic(text)
            if isinstance(topic, SessionTopic):
                for act in read_acts(read_document(payload)):
                    if act.type is ActType.ACCEPT and act.nonce is not None:
                        self.pole.nonces[topic.session_id] = act.nonce
        self.pole.announced += heard
        return heard

    async def session(
        self, message: tuple[SessionTopic, bytes], *, retain: bool = False
    ) -> list[Announcement]:
        await self.commanding.take_session(*message, retain=retain)
        return self.hear()

    async def command(self, message: tuple[CommandTopic, bytes], *, retain: bool = False) -> None:
        """Deliver a command and let it be carried out."""

        def decided() -> None:
            self.decided += 1

        await self.commanding.take_command(*message, retain=retain, decided=decided)
        await self.settled()
        self.hear()

    async def settled(self) -> None:
        """Wait until nothing is being carried out."""
        async with asyncio.timeout(10):
            while not self.task.done() and self.commanding.executing:
                await asyncio.sleep(0.001)

    async def died(self) -> bool:
        """Return whether the power went in the middle of an order."""
        if not self.task.done():
            return False
        results = await asyncio.gather(self.task, return_exceptions=True)
        assert isinstance(results[0], PowerCut | BaseExceptionGroup)
        return True

    async def ready(self) -> None:
        """Bring keyring and session into force."""
        await self.connect()
        await self.session(self.pole.parties.keyring())
        await self.session(self.pole.parties.offer())

    async def reports(self) -> list[Report]:
        """Return the reports in the outbox, oldest first, each verified as a head-end verifies it."""
        keyring = self.commanding.state.keyring
        assert keyring is not None
        found = []
        for entry in reversed(await self.outbox.pending(1000)):
            topic = parse_topic(entry.topic)
            if not isinstance(topic, EventTopic):
                continue
            document = read_document(entry.payload)
            if "report" in document.members:
                assert document.members["seq"] == entry.seq
                found.append(read_report(document, topic, keyring))
        return found
