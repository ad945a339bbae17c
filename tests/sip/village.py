"""A village of keys and one gateway in memory, for attacking: everything behind the public entry points is real.

``Pole`` is the smallest honest gateway around the pure parts: what is durable in one object, what a boot forgets in
another, a relay that counts its movements. It is a second shell, beside the gateway's own; no disk, no network.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.gateway.handshake import (
    Handshake,
    PublishAct,
    Refused,
    Self,
    Step,
    StoreEnd,
    StoreKeyring,
    StoreSession,
    due_for_renewal,
    expire,
    receive,
    renew,
)
from openami.gateway.signed_time import SignedTime
from openami.gateway.timekeeping import Facts
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial, SessionId, SessionTopic
from openami.sip.actions import ACTIONS, Action, Direction, Role
from openami.sip.acts import ActType
from openami.sip.authorise import (
    Claim,
    Done,
    GatewayFacts,
    Permit,
    Refusal,
    Repeat,
    authorise,
    read_claim,
)
from openami.sip.canonical import SIGNATURE, Document, encode_base64url
from openami.sip.command import Command
from openami.sip.compose import command_members, document_of, session_members, sign, ticket_members
from openami.sip.fields import print_moment
from openami.sip.freshness import TimeFacts
from openami.sip.interlocks import Budget, RelayFacts
from openami.sip.keyring import Roots
from openami.sip.keys import KeySigner
from openami.sip.session_document import Participant

FEEDER, GATEWAY = FeederId("feeder-north-paravur-01"), GatewayId("pole-ems-0042")
METER, OTHER, CLINIC = MeterSerial("DS1000-88421"), MeterSerial("DS1000-88422"), "CLINIC-1"
SERIALS = frozenset({METER, OTHER, CLINIC, *(f"HOUSE-{number}" for number in range(20))})
START = datetime(2026, 6, 22, 14, 30, 5, tzinfo=UTC)

# RFC 8032 §7.1, TEST 1 and TEST 2.
RFC8032_TEST_1 = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
RFC8032_TEST_2 = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"

# What an honest twin may come to.
MOVED, REPEATED, TAKEN, SILENT, PERMITTED = "moved", "repeated", "taken", "silent", "permitted"


def key(secret: str | int) -> KeySigner:
    raw = bytes.fromhex(secret) if isinstance(secret, str) else bytes([secret]) * 32
    return KeySigner(Ed25519PrivateKey.from_private_bytes(raw))


HES, POLE = key(RFC8032_TEST_1), key(RFC8032_TEST_2)
ROOT_A, ROOT_B, ROOT_C, HES_2, ANNA, COOP, STRANGER, OTHER_POLE = map(key, range(1, 9))
PINS = Roots(2, {signer.kid: signer.public for signer in (ROOT_A, ROOT_B, ROOT_C)})

RELAY = frozenset({Action.DISCONNECT, Action.RECONNECT, Action.ARM})
Identity = tuple[str, Role, KeySigner, frozenset[Action]]
IDENTITIES: Mapping[str, Identity] = {
    "hes-1": ("hes-1", Role.HES, HES, frozenset(Action)),
    "hes-2": ("hes-2", Role.HES, HES_2, frozenset(Action)),
    "anna": ("anna", Role.OPERATOR, ANNA, RELAY),
    "coop": ("coop", Role.MARKET, COOP, frozenset({Action.SETTLE})),
    "pole": (GATEWAY, Role.GATEWAY, POLE, frozenset()),
}
LIMITS = {"disconnectsPerHour": 2, "commandTtl": 600, "nonceLife": 3600, "minDwell": 60}
TRADE = {
    "tradeId": "trade-1", "energyWh": 1200, "amountMinor": 840, "currency": "INR",
    "seller": "house-7", "buyer": "house-9",
}  # fmt: skip


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def printed(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode()


def topic_of(serial: str = METER, *, gateway: str = GATEWAY) -> CommandTopic:
    return CommandTopic(FEEDER, GatewayId(gateway), MeterSerial(serial))


def session_topic(session_id: str) -> SessionTopic:
    return SessionTopic(FEEDER, GATEWAY, SessionId(session_id))


def act_with(
    header: Mapping[str, Any] | bytes, members: Mapping[str, Any], signer: KeySigner
) -> str:
    """An act whose header is whatever we like, signed as it should be."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = encode_base64url(raw)
    payload = encode_base64url(document_of(members).canonical)
    return f"{head}..{encode_base64url(signer.sign(f'{head}.{payload}'.encode()))}"


@dataclass
class Clocks:
    """The true time, and what the gateway's wall clock makes of it."""

    now: datetime = START
    boottime_s: float = 1000.0
    off: timedelta = timedelta(0)
    synchronised: bool = True

    def facts(self) -> Facts:
        return Facts(self.now + self.off, self.boottime_s, self.synchronised)


@dataclass
class Card:
    """What is on the gateway's card."""

    roots: Roots = PINS
    keyring: tuple[Document, Roots] | None = None
    sessions: dict[str, Document] = field(default_factory=dict)
    done: dict[tuple[object, ...], str] = field(default_factory=dict)
    high_water: dict[tuple[str, str], int] = field(default_factory=dict)
    trades: set[str] = field(default_factory=set)
    tickets: set[str] = field(default_factory=set)
    budget: Budget = field(default_factory=lambda: Budget(500.0, 0.0))
    moved_at: dict[str, float] = field(default_factory=dict)
    lo: datetime = datetime(2026, 6, 1, tzinfo=UTC)
    powered_s: float = 0.0


class Pole:
    """A gateway: its card, its memory, its relays."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.card = Card()
        self.memory = Handshake(self.card.roots)
        self.time = SignedTime.recalled(self.card.lo, 0.0, boottime_s=clocks.boottime_s)
        self.locked_out = False
        self.dies_moving = False
        self.movements: list[tuple[str, str]] = []
        """(meter, digest of the command) of every movement, ever."""
        self.published = 0
        self.nonces: dict[str, str] = {}
        """What the head-end has heard: the latest nonce of each session."""
        self.last: Refusal | Repeat | Permit | None = None
        self._nonces_made = itertools.count(1)

    # --- what reaches it -------------------------------------------------------------------------

    def take_session(self, topic: SessionTopic, payload: bytes, *, retain: bool = False) -> str:
        """Return what became of it: taken, silent, or the code of the refusal."""
        step = receive(
            self.memory,
            topic,
            payload,
            retain=retain,
            me=Self(FEEDER, GATEWAY, POLE.kid),
            time=self.facts(),
            fresh_nonce=self._fresh_nonce(),
        )
        self._apply(step)
        for effect in step.effects:
            if isinstance(effect, Refused):
                return effect.code.value
        stored = any(isinstance(e, StoreKeyring | StoreSession | StoreEnd) for e in step.effects)
        return TAKEN if stored else SILENT

    def take_command(self, topic: CommandTopic, payload: bytes, *, retain: bool = False) -> str:
        """Return what became of it: moved, permitted, repeated, or the code of the refusal."""
        claim = read_claim(
            topic,
            payload,
            retain=retain,
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            keyring=self.memory.keyring,
        )
        if isinstance(claim, Refusal):
            assert claim.command is None, "a stranger is not answered"
            return claim.code.value
        verdict = self.last = authorise(claim, self._facts_of(claim))
        match verdict:
            case Refusal():
                assert verdict.command is not None, "whoever is authentic is answered"
                self.published += 1
                if verdict.renew_nonce and claim.command.session_id is not None:
                    self._renew([claim.command.session_id])
                return verdict.code.value
            case Repeat():
                self.published += 1
                return REPEATED
            case Permit():
                return self._carry_out(verdict)

    # --- what happens to it ----------------------------------------------------------------------

    def boot(self) -> None:
        """Power comes back: what was in memory is gone, and every session gets a new nonce."""
        self.clocks.boottime_s = 10.0
        card = self.card
        state = Handshake(card.roots)
        me = Self(FEEDER, GATEWAY, POLE.kid)
        self.time = SignedTime.recalled(card.lo, card.powered_s, boottime_s=self.clocks.boottime_s)
        if card.keyring is not None:
            document, pinned = card.keyring
            state = replace(state, roots=pinned)
            keyring_topic = session_topic(document.members["sessionId"])
            state = receive(
                state, keyring_topic, printed(document.members),
                retain=False, me=me, time=self.facts(), fresh_nonce=self._fresh_nonce(),
            ).state  # fmt: skip
        ended = {key: value for key, value in self.memory.ended.items() if card.keyring}
        sessions = {key: held for key, held in self.memory.sessions.items() if key in card.sessions}
        forgetful = {key: replace(held, nonces=None) for key, held in sessions.items()}
        self.memory = replace(state, sessions=forgetful, ended=ended)

    def connect(self) -> None:
        """Every session gets a new nonce."""
        self._renew(list(self.memory.sessions))

    def reboot(self) -> None:
        self.boot()
        self.connect()

    def wipe(self) -> None:
        """A new card, with the pins of the enrolment."""
        self.card = Card()
        self.memory = Handshake(self.card.roots)
        self.reboot()

    def tick(self) -> None:
        """What the timers do."""
        self._apply(expire(self.memory, self.facts()))
        self._renew(list(due_for_renewal(self.memory, self.clocks.boottime_s)))

    def pass_time(self, passed_s: float) -> None:
        self.clocks.now += timedelta(seconds=passed_s)
        self.clocks.boottime_s += passed_s

    # --- inside ----------------------------------------------------------------------------------

    def facts(self) -> TimeFacts:
        return self.time.facts(self.clocks.facts())

    def _fresh_nonce(self) -> str:
        return encode_base64url(next(self._nonces_made).to_bytes(16, "big"))

    def _renew(self, session_ids: Sequence[str]) -> None:
        nonces = {session_id: self._fresh_nonce() for session_id in session_ids}
        self._apply(renew(self.memory, nonces, self.facts()))

    def _apply(self, step: Step) -> None:
        self.memory = step.state
        for effect in step.effects:
            match effect:
                case StoreKeyring():
                    self.card.keyring = (effect.document, effect.admitted_by)
                    self.time = self.time.at(self.clocks.boottime_s).after_keyring(effect.keyring)
                    self.card.lo = self.time.lo
                case StoreSession():
                    document = effect.session.document
                    self.card.sessions[document.session_id] = document.document
                case StoreEnd():
                    self.card.sessions.pop(effect.session_id, None)
                case PublishAct():
                    self.published += 1
                    if effect.type is ActType.ACCEPT and effect.nonce is not None:
                        self.nonces[effect.session_id] = effect.nonce
                case Refused():
                    pass

    def _facts_of(self, claim: Claim) -> GatewayFacts:
        command, card = claim.command, self.card
        digest = card.done.get(identity_of(command))
        return GatewayFacts(
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            meters=SERIALS,
            keyring=self.memory.keyring,
            session=self.memory.sessions.get(command.session_id or ""),
            done=None if digest is None else Done(digest),
            high_water=card.high_water.get((command.session_id or "", command.meter_serial), 0),
            trades_done=card.trades,
            tickets_used=card.tickets,
            relay=RelayFacts(
                locked_out=self.locked_out,
                budget=card.budget,
                powered_s=self.powered_s,
                last_moved_powered_s=card.moved_at.get(command.meter_serial),
            ),
            time=self.facts(),
            ended=self.memory.ended.get(command.session_id or ""),
        )

    @property
    def powered_s(self) -> float:
        return self.time.at(self.clocks.boottime_s).powered_s

    def _carry_out(self, permit: Permit) -> str:
        """Intent first; then the relay; a death between the two leaves the intent."""
        command, card = permit.command, self.card
        card.done[identity_of(command)] = command.document.digest
        if command.seq is not None:
            card.high_water[command.session_id or "", command.meter_serial] = command.seq
        if command.ticket is not None:
            card.tickets.add(command.ticket)
        if command.action is Action.SETTLE:
            card.trades.add(command.args["tradeId"])
        rule = ACTIONS[command.action]
        if rule.direction is Direction.UNSAFE:
            limits = self.memory.sessions[command.session_id or ""].limits
            filled = card.budget.at(self.powered_s, per_hour=limits.disconnects_per_hour)
            card.budget = filled.spent()
        self._learn_time(permit)
        card.powered_s = self.powered_s
        if self.dies_moving:
            self.dies_moving = False
            self.reboot()
            return "died"
        self.published += 1
        if not rule.moves_relay:
            return PERMITTED
        card.moved_at[command.meter_serial] = self.powered_s
        self.movements.append((command.meter_serial, command.document.digest))
        return MOVED

    def _learn_time(self, permit: Permit) -> None:
        session = self.memory.sessions.get(permit.command.session_id or "")
        if session is None or session.nonces is None:
            return
        nonce = session.nonces.matching(
            permit.command.nonce or "",
            boottime_s=self.clocks.boottime_s,
            life_s=session.limits.nonce_life_s,
        )
        assert nonce is not None
        self.time = self.time.at(self.clocks.boottime_s).after_command(
            permit.signed_at,
            nonce_made_at_s=nonce.made_at_boottime_s,
            keyring=permit.keyring,
        )
        self.card.lo = self.time.lo


def identity_of(command: Command) -> tuple[object, ...]:
    return command.session_id, command.meter_serial, command.seq, command.ticket


class Village:
    """The parties north of one gateway, at one moment; keyring and session in force unless asked not to."""

    def __init__(self, *, ready: bool = True) -> None:
        self.clocks = Clocks()
        self.pole = Pole(self.clocks)
        self._seq = itertools.count(1)
        if ready:
            assert self.admit(self.keyring()) == TAKEN
            assert self.offer(self.session()) == TAKEN

    @property
    def now(self) -> datetime:
        return self.clocks.now

    # --- documents -------------------------------------------------------------------------------

    def keyring(
        self,
        version: int = 1,
        *,
        identities: Mapping[str, Identity] = IDENTITIES,
        limits: Mapping[str, int] | None = None,
        days: float = 90,
        **scope: Any,
    ) -> dict[str, Any]:
        return {
            "sessionId": f"keyring-{version:010d}",
            "participants": [
                {
                    "id": name,
                    "role": role.value,
                    "kid": signer.kid,
                    "key": encode_base64url(signer.public.raw),
                    "can": sorted(action.value for action in can),
                }
                for name, role, signer, can in identities.values()
            ],
            "feederScope": {
                "feederId": FEEDER,
                "gatewayId": GATEWAY,
                "meters": ["*"],
                "limits": {**LIMITS, **(limits or {})},
                "protected": [CLINIC],
                **scope,
            },
            "validFrom": print_moment(START - timedelta(days=1)),
            "validTo": print_moment(START + timedelta(days=days)),
        }

    def session(
        self,
        session_id: str = "sip-1",
        *,
        who: Sequence[str] = ("hes-1", "anna", "coop", "pole"),
        can: Mapping[str, frozenset[Action]] | None = None,
        meters: Sequence[str] = ("*",),
        limits: Mapping[str, int] | None = None,
        hours: float = 24,
    ) -> dict[str, Any]:
        named = [IDENTITIES[each] for each in who]
        return session_members(
            session_id,
            [
                Participant(name, role, signer.kid, (can or {}).get(name, rights))
                for name, role, signer, rights in named
            ],
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            meters=meters,
            valid_from=self.now - timedelta(minutes=5),
            valid_to=self.now + timedelta(hours=hours),
            limits=limits,
        )

    def command(
        self,
        action: Action = Action.DISCONNECT,
        *,
        serial: str = METER,
        session_id: str = "sip-1",
        seq: int | None = None,
        nonce: str | None = None,
        life_s: float = 300,
        args: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """An unsigned command that echoes the nonce in force."""
        return command_members(
            topic_of(serial),
            action,
            session_id=session_id,
            seq=next(self._seq) if seq is None else seq,
            nonce=self.pole.nonces.get(session_id, "AAAAAAAAAAAAAAAAAAAAAA")
            if nonce is None
            else nonce,
            ts=self.now,
            not_after=self.now + timedelta(seconds=life_s),
            args=args,
        )

    def ticket(
        self, action: Action = Action.RECONNECT, *, ticket: str = "t-1", days: float = 7
    ) -> dict[str, Any]:
        return ticket_members(
            topic_of(),
            action,
            ticket=ticket,
            ts=self.now,
            not_after=self.now + timedelta(days=days),
        )

    # --- acts ------------------------------------------------------------------------------------

    def signed(
        self,
        members: Mapping[str, Any],
        type_: ActType,
        *signers: KeySigner,
        iat: datetime | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        whole = dict(members)
        for signer in signers:
            whole = sign(whole, signer, type_, iat=seconds(iat or self.now), reason=reason)
        return whole

    def admit(self, members: Mapping[str, Any], *roots: KeySigner) -> str:
        """Bring a keyring to the gateway, signed by two roots unless others are named."""
        whole = self.signed(members, ActType.KEYRING, *(roots or (ROOT_A, ROOT_B)))
        return self.pole.take_session(session_topic(whole["sessionId"]), printed(whole))

    def offer(self, members: Mapping[str, Any], *signers: KeySigner) -> str:
        whole = self.signed(members, ActType.OFFER, *(signers or (HES,)))
        return self.pole.take_session(session_topic(whole["sessionId"]), printed(whole))

    def close(self, members: Mapping[str, Any], signer: KeySigner = HES) -> str:
        whole = self.signed(members, ActType.CLOSE, signer, reason="CLOSED")
        return self.pole.take_session(session_topic(whole["sessionId"]), printed(whole))

    def send(self, members: Mapping[str, Any], *signers: KeySigner, **how: Any) -> str:
        """Sign a command, by the head-end unless others are named, and deliver it."""
        return self.deliver(self.order(members, *signers, **how))

    def order(self, members: Mapping[str, Any], *signers: KeySigner, **how: Any) -> bytes:
        return printed(self.signed(members, ActType.COMMAND, *(signers or (HES,)), **how))

    def deliver(self, payload: bytes, serial: str = METER, *, retain: bool = False) -> str:
        return self.pole.take_command(topic_of(serial), payload, retain=retain)


def unsigned(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name != SIGNATURE}


Change = Callable[[dict[str, Any]], dict[str, Any]]
