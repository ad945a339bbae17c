"""A gateway that obeys the signed core's own checks, and keeps what a real one keeps; nothing else of a gateway.

``Pole`` is what survives a power cut (journal, high-water marks, relays); a ``GatewayDouble`` is one life of it on
a broker, with its nonces in memory.
"""

import json
import threading
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from tests.headend.village_keys import CLINIC, FEEDER, GATEWAY, METER, ROOTS, signer

from openami.clock import Clock
from openami.mqtt.port import Connection, Delivery
from openami.profile import CommandTopic, EventTopic, SessionTopic, parse_topic
from openami.sip.actions import ACTIONS, RELAY_STATE_OBIS
from openami.sip.acts import ActType, verified_acts
from openami.sip.authorise import (
    Done,
    GatewayFacts,
    HeldSession,
    Permit,
    Refusal,
    Repeat,
    authorise,
    read_claim,
)
from openami.sip.canonical import encode_base64url, read_document
from openami.sip.command import Command
from openami.sip.compose import sign
from openami.sip.errors import SipError
from openami.sip.freshness import Nonce, Nonces, TimeFacts
from openami.sip.interlocks import Budget, RelayFacts
from openami.sip.keyring import Keyring, admit_keyring
from openami.sip.reports import ReportStatus, report_members
from openami.sip.session import SessionState
from openami.sip.session_document import SessionDocument, admit_offer, read_session

Identity = tuple[str, str, int]


@dataclass
class Pole:
    """What a power cut leaves."""

    relays: dict[str, str] = field(
        default_factory=lambda: {METER: "connected", CLINIC: "connected"}
    )
    moved: list[tuple[str, str]] = field(default_factory=list)
    """Every movement: which meter, by which command's digest."""
    seen: dict[str, Command] = field(default_factory=dict)
    """Every authentic command that ever came, by its digest."""
    done: dict[Identity, tuple[str, bytes]] = field(default_factory=dict)
    sessions: dict[str, SessionDocument] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    keyring: Keyring | None = None
    keyring_bytes: bytes = b""
    boots: int = 0


class GatewayDouble:
    """One life of a gateway."""

    def __init__(self, pole: Pole, clock: Clock) -> None:
        self.pole = pole
        self.refuses: str | None = None
        """Refuse the next commands with this code, whatever they say."""
        self.silent = False
        """Take commands and act, and keep the reports to itself."""
        self.dead_relay = False
        self.reports: list[tuple[str, bytes]] = []
        self.listens = threading.Event()
        """Set when it has subscribed: a broker keeps nothing for who has never come."""
        self._clock = clock
        self._signer = signer(GATEWAY)
        self._nonces: dict[str, Nonces] = {}
        pole.boots += 1

    async def run(self, connection: Connection) -> None:
        """Live on a connection, until it ends."""
        await connection.subscribe(
            [SessionTopic.filter(FEEDER, GATEWAY), CommandTopic.filter(FEEDER, GATEWAY)]
        )
        self.listens.set()
        for session_id in list(self.pole.sessions):
            await self.renew(connection, session_id)
        while True:
            for delivery in await connection.receive(1):
                for topic, payload in self.take(delivery):
                    await connection.publish(topic, payload)
                connection.acknowledge([delivery])

    def take(self, delivery: Delivery) -> list[tuple[str, bytes]]:
        """Return what a delivery makes us publish."""
        topic = parse_topic(delivery.topic)
        try:
            match topic:
                case SessionTopic():
                    return self._take_session(topic, delivery.payload)
                case CommandTopic():
                    return self._take_command(topic, delivery.payload)
        except SipError:
            pass
        return []

    async def renew(self, connection: Connection, session_id: str) -> None:
        """Make a fresh nonce and tell it."""
        if session_id in self.pole.sessions and session_id not in self.pole.closed:
            topic = f"openami/v1/{FEEDER}/{GATEWAY}/session/{session_id}"
            await connection.publish(topic, self._accepted(session_id))

    # --- sessions --------------------------------------------------------------------------------

    def _take_session(self, topic: SessionTopic, payload: bytes) -> list[tuple[str, bytes]]:
        document = read_document(payload)
        if topic.session_id.startswith("keyring-"):
            return self._take_keyring(topic, payload)
        assert self.pole.keyring is not None
        acts = verified_acts(document, self.pole.keyring.keys)
        session = read_session(document)
        if any(act.type is ActType.CLOSE for act in acts):
            self.pole.closed.add(session.session_id)
            self._nonces.pop(session.session_id, None)
            return []
        if session.session_id in self.pole.sessions or session.session_id in self.pole.closed:
            return []
        admit_offer(
            session,
            acts,
            self.pole.keyring,
            gateway_kid=self._signer.kid,
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
        )
        self.pole.sessions[session.session_id] = session
        return [(str(topic), self._accepted(session.session_id))]

    def _take_keyring(self, topic: SessionTopic, payload: bytes) -> list[tuple[str, bytes]]:
        self.pole.keyring = admit_keyring(
            read_document(payload),
            roots=ROOTS if self.pole.keyring is None else self.pole.keyring.roots,
            in_force=0 if self.pole.keyring is None else self.pole.keyring.version,
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
        )
        members = read_document(payload).members
        whole = sign(members, self._signer, ActType.ACCEPT, iat=self._iat(), nonce=bytes(16))
        return [(str(topic), json.dumps(whole).encode())]

    def _accepted(self, session_id: str) -> bytes:
        before = self._nonces.get(session_id)
        count = 0 if before is None else int(before.current.made_at_boottime_s) % 1000
        raw = sha256(
            f"{session_id} {self.pole.boots} {self._clock.boottime()} {count} {before}".encode()
        ).digest()[:16]
        nonce = Nonce(encode_base64url(raw), self._clock.boottime())
        self._nonces[session_id] = Nonces(nonce) if before is None else before.renewed(nonce)
        members = self.pole.sessions[session_id].document.members
        whole = sign(members, self._signer, ActType.ACCEPT, iat=self._iat(), nonce=raw)
        return json.dumps(whole).encode()

    def forget_nonces(self, session_id: str) -> bytes:
        """Renew without the grace for the nonce before, as after a boot; return the accept."""
        self._nonces.pop(session_id, None)
        self.pole.boots += 1
        return self._accepted(session_id)

    # --- commands --------------------------------------------------------------------------------

    def _take_command(self, topic: CommandTopic, payload: bytes) -> list[tuple[str, bytes]]:
        claim = read_claim(
            topic,
            payload,
            retain=False,
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            keyring=self.pole.keyring,
        )
        if isinstance(claim, Refusal):
            return []
        command = claim.command
        assert command.session_id is not None
        assert command.seq is not None
        self.pole.seen[command.document.digest] = command
        identity = (command.session_id, command.meter_serial, command.seq)
        match authorise(claim, self._facts(command, identity)):
            case Repeat():
                return self._told(command, self.pole.done[identity][1])
            case Refusal(code, renew_nonce=renew):
                more = []
                if renew:
                    session_topic = f"openami/v1/{FEEDER}/{GATEWAY}/session/{command.session_id}"
                    more = [(session_topic, self._accepted(command.session_id))]
                return more + self._told(
                    command, self._report(command, ReportStatus.REFUSED, str(code))
                )
            case Permit():
                if self.refuses:
                    report = self._report(command, ReportStatus.REFUSED, self.refuses)
                else:
                    report = self._acted(command)
                self.pole.done[identity] = (command.document.digest, report)
                return self._told(command, report)

    def _acted(self, command: Command) -> bytes:
        wanted = ACTIONS[command.action].relay_state
        self.pole.moved.append((command.meter_serial, command.document.digest))
        if wanted is not None and not self.dead_relay:
            self.pole.relays[command.meter_serial] = wanted
        if self.dead_relay:
            return self._report(command, ReportStatus.FAILED, "METER_ERROR")
        return self._report(command, ReportStatus.DONE, "OK")

    def _told(self, command: Command, report: bytes) -> list[tuple[str, bytes]]:
        topic = f"openami/v1/{FEEDER}/{GATEWAY}/meter/{command.meter_serial}/event"
        self.reports.append((topic, report))
        return [] if self.silent else [(topic, report)]

    def _report(self, command: Command, status: ReportStatus, code: str) -> bytes:
        topic = parse_topic(f"openami/v1/{FEEDER}/{GATEWAY}/meter/{command.meter_serial}/event")
        assert isinstance(topic, EventTopic)
        nonces = self._nonces.get(command.session_id or "")
        members = report_members(
            topic,
            session_id=command.session_id,
            seq=command.seq,
            ticket=None,
            command_digest=command.document.digest,
            status=status,
            code=code,
            nonce=None if nonces is None else nonces.current.text,
            registers=[
                {
                    "obis": RELAY_STATE_OBIS,
                    "value": self.pole.relays[command.meter_serial],
                    "unit": "enum",
                    "quality": "good",
                }
            ],
            ts=self._clock.now(),
        )
        whole = sign(members, self._signer, ActType.REPORT, iat=self._iat())
        return json.dumps(whole).encode()

    def _facts(self, command: Command, identity: Identity) -> GatewayFacts:
        pole, keyring = self.pole, self.pole.keyring
        assert keyring is not None
        assert command.session_id is not None
        document = pole.sessions.get(command.session_id)
        is_closed = command.session_id in pole.closed
        held = document and HeldSession(
            document,
            SessionState.REVOKED if is_closed else SessionState.ACTIVE,
            keyring.limits,
            self._nonces.get(command.session_id),
        )
        done = pole.done.get(identity)
        marks = [seq for s, m, seq in pole.done if (s, m) == identity[:2]]
        return GatewayFacts(
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            meters=set(pole.relays),
            keyring=keyring,
            session=held or None,
            done=None if done is None else Done(done[0]),
            high_water=max(marks, default=0),
            trades_done=frozenset(),
            tickets_used=frozenset(),
            relay=RelayFacts(False, Budget(100.0, 0.0), 0.0, None),
            time=TimeFacts(
                boottime_s=self._clock.boottime(),
                wall=self._clock.now(),
                synchronised=True,
                lo=datetime.fromtimestamp(keyring.signed_at, tz=self._clock.now().tzinfo),
            ),
        )

    def _iat(self) -> int:
        return int(self._clock.now().timestamp())
