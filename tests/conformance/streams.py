"""What the judge sees of a gateway and of a head-end, made by hand: good ones, and the parts of them.

A `Stream` is a list of observations with a clock and the names of one village. Each method adds what one thing
looks like to the kit and lets some time pass; what a method takes as keywords is put into the message in place of
what a good sender would say.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.conformance.judge import Judge
from openami.conformance.judgement import Judgement, Kind
from openami.conformance.observation import (
    Acknowledged,
    Act,
    ActBegan,
    ActEnded,
    Connected,
    Disconnected,
    Observation,
    Published,
    RelaySeen,
    Sent,
    Subscribed,
)
from openami.profile import (
    CommandTopic,
    EventTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    SessionTopic,
    utc_text,
)
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType
from openami.sip.canonical import encode_base64url, read_document
from openami.sip.compose import command_members, session_members, sign
from openami.sip.keys import KeySigner
from openami.sip.reports import ReportStatus, report_members
from openami.sip.session_document import Participant

BEGAN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
FEEDER, GATEWAY = FeederId("feeder-north"), GatewayId("pole-1")
METER, OTHER = MeterSerial("DS1000-1"), MeterSerial("DS1000-2")
SESSION = SessionId("sip-1")
ROOT = f"openami/v1/{FEEDER}/{GATEWAY}"
INTERVAL = timedelta(seconds=60)
A_MOMENT = timedelta(milliseconds=50)


def key(number: int) -> KeySigner:
    """Return one of the village's keys."""
    return KeySigner(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


HES, POLE = key(1), key(2)

GOOD_REGISTERS: Sequence[Mapping[str, Any]] = (
    {"obis": "1.8.0", "value": 1842.5, "unit": "kWh", "quality": "good"},
    {"obis": "32.7.0", "value": 231.2, "unit": "V", "quality": "good"},
    {"obis": "96.8.0", "value": 12.4, "unit": "kWh", "quality": "good"},
    {"obis": "96.11.1", "value": "connected", "unit": "enum", "quality": "good"},
)


def as_bytes(document: object) -> bytes:
    """Return a document as JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def registers_with(obis: str, **members: Any) -> list[dict[str, Any]]:
    """Return the good registers, one of them changed."""
    return [
        {**register, **(members if register["obis"] == obis else {})} for register in GOOD_REGISTERS
    ]


@dataclass
class Stream:
    """What was seen so far; ``now`` is the kit's clock."""

    now: datetime = BEGAN
    observations: list[Observation] = field(default_factory=list)
    seq: int = 0
    packet_id: int = 0
    connection: int | None = None
    connections: int = 0

    def add(self, observation: Observation) -> None:
        """Add what was seen, and let a moment pass."""
        self.observations.append(observation)
        self.now += A_MOMENT

    # --- the connection ---

    def connect(self, **changes: Any) -> None:
        """A client comes in over TLS, with a session that outlives the connection."""
        self.connections += 1
        self.connection = self.connections
        how: dict[str, Any] = {
            "client_id": "gw-1",
            "protocol": "5",
            "clean": False,
            "keep_alive_s": 60,
            "will_topic": None,
            "tls": "TLSv1.3",
            "certified_as": f"{FEEDER}/{GATEWAY}",
        }
        self.add(Connected(self.now, self.connection, **(how | changes)))

    def disconnect(self, *, by_kit: bool = False) -> None:
        """The connection ends."""
        assert self.connection is not None
        self.add(Disconnected(self.now, self.connection, orderly=not by_kit, by_kit=by_kit))
        self.connection = None

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """A client asks for topics."""
        assert self.connection is not None
        self.add(Subscribed(self.now, self.connection, tuple((each, qos) for each in filters)))

    # --- messages ---

    def publish(
        self, topic: str, payload: bytes, *, acknowledged: bool = True, **changes: Any
    ) -> Published:
        """A message is published and acknowledged."""
        self.packet_id += 1
        how: dict[str, Any] = {"qos": 1, "retain": False, "packet_id": self.packet_id}
        published = Published(
            self.now, topic, payload, connection=self.connection, **(how | changes)
        )
        self.add(published)
        if self.connection is not None and published.packet_id is not None:
            done = Acknowledged(
                self.now, self.connection, published.packet_id, withheld=not acknowledged
            )
            self.add(done)
        return published

    def envelope(self, serial: str = METER, **changes: Any) -> dict[str, Any]:
        """Return a good envelope of now, with members changed; None takes a member out."""
        self.seq += 1
        members = {
            "schemaVersion": "0.1",
            "ts": utc_text(self.now),
            "feederId": FEEDER,
            "gatewayId": GATEWAY,
            "meterSerial": serial,
            "sessionId": SESSION,
            "seq": self.seq,
            "registers": list(GOOD_REGISTERS),
            **changes,
        }
        return {name: value for name, value in members.items() if value is not None}

    def telemetry(self, serial: str = METER, **changes: Any) -> Published:
        """A reading of a meter."""
        topic = f"{ROOT}/meter/{serial}/telemetry"
        return self.publish(topic, as_bytes(self.envelope(serial, **changes)))

    def poll(self, *serials: str, times: int = 1, **changes: Any) -> None:
        """Several rounds of readings, an interval apart."""
        for _ in range(times):
            for serial in serials or (METER, OTHER):
                self.telemetry(serial, **changes)
            self.now += INTERVAL

    def event(self, serial: str = METER, **changes: Any) -> Published:
        """Something that happened to a meter."""
        body = {
            "eventId": f"{serial}-comms-{utc_text(self.now)}",
            "type": "comms_lost",
            "state": "raised",
            "severity": "major",
            "occurredAt": utc_text(self.now),
            "source": "gateway",
        }
        members = self.envelope(serial, **({"event": body} | changes))
        return self.publish(f"{ROOT}/meter/{serial}/event", as_bytes(members))

    # --- the kit and the world ---

    def begin(self, act: Act, serial: str | None = None) -> None:
        """An act begins."""
        self.add(ActBegan(self.now, act, serial))

    def end(self, act: Act, *, done: bool = True) -> None:
        """An act ends."""
        self.add(ActEnded(self.now, act, done))

    def relay(self, serial: str = METER, *, connected: bool) -> None:
        """Somebody looks at a relay."""
        self.now += timedelta(seconds=2)
        self.add(RelaySeen(self.now, serial, connected))

    def send(self, topic: str, payload: bytes, purpose: Act) -> None:
        """The kit sends something."""
        self.add(Sent(self.now, topic, payload, purpose))

    # --- sessions and commands ---

    def session(self) -> dict[str, Any]:
        """Return an offered session."""
        members = session_members(
            SESSION,
            [
                Participant("hes-1", Role.HES, HES.kid, frozenset({Action.DISCONNECT})),
                Participant(GATEWAY, Role.GATEWAY, POLE.kid, frozenset()),
            ],
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            meters=["*"],
            valid_from=BEGAN,
            valid_to=BEGAN + timedelta(days=1),
        )
        return sign(members, HES, ActType.OFFER, iat=int(BEGAN.timestamp()))

    def accept(self, nonce: int = 1, **changes: Any) -> bytes:
        """Return the session as its gateway accepts it."""
        members = {name: value for name, value in self.session().items() if name != "signature"}
        iat = int(self.now.timestamp())
        made = sign(members, POLE, ActType.ACCEPT, iat=iat, nonce=bytes([nonce]) * 16)
        return as_bytes({name: value for name, value in (made | changes).items() if value})

    def reject(self) -> bytes:
        """Return the session as its gateway rejects it."""
        members = {name: value for name, value in self.session().items() if name != "signature"}
        iat = int(self.now.timestamp())
        return as_bytes(sign(members, POLE, ActType.REJECT, iat=iat, reason="NO_KEYRING"))

    def command(
        self,
        action: Action = Action.DISCONNECT,
        *,
        seq: int = 1,
        serial: str = METER,
        nonce: int = 1,
        **changes: Any,
    ) -> dict[str, Any]:
        """Return a signed command; what is changed is changed before it is signed."""
        members = command_members(
            CommandTopic(FEEDER, GATEWAY, MeterSerial(serial)),
            action,
            session_id=SESSION,
            seq=seq,
            nonce=encode_base64url(bytes([nonce]) * 16),
            ts=self.now,
            not_after=self.now + timedelta(minutes=1),
        )
        made = {name: value for name, value in (members | changes).items() if value is not None}
        return sign(made, HES, ActType.COMMAND, iat=int(self.now.timestamp()))

    def report(
        self,
        command: Mapping[str, Any],
        status: ReportStatus = ReportStatus.DONE,
        *,
        position: str = "disconnected",
        serial: str = METER,
        nonce: int = 1,
    ) -> Published:
        """A gateway tells what became of a command."""
        members = report_members(
            EventTopic(FEEDER, GATEWAY, MeterSerial(serial)),
            session_id=SESSION,
            seq=1,
            ticket=None,
            command_digest=read_document(as_bytes(command)).digest,
            status=status,
            code="OK" if status is ReportStatus.DONE else "METER_ERROR",
            nonce=encode_base64url(bytes([nonce]) * 16),
            registers=[
                {"obis": "96.11.1", "value": position, "unit": "enum", "quality": "good"},
            ],
            ts=self.now,
        )
        signed = sign(members, POLE, ActType.REPORT, iat=int(self.now.timestamp()))
        return self.publish(f"{ROOT}/meter/{serial}/event", as_bytes(signed))


SESSION_TOPIC = str(SessionTopic(FEEDER, GATEWAY, SESSION))


def command_topic(serial: str = METER) -> str:
    """Return where a meter's commands go."""
    return f"{ROOT}/meter/{serial}/command"


def judged(stream: Stream, kind: Kind = "gateway") -> Judgement:
    """Return what the judge says of a stream, ten minutes after its end."""
    judge = Judge(kind, began_at=BEGAN)
    for observation in stream.observations:
        judge.see(observation)
    return judge.judgement(stream.now + timedelta(minutes=10))


def verdicts(judgement: Judgement) -> dict[str, str]:
    """Return the verdict on each requirement."""
    return {finding.requirement: finding.verdict for finding in judgement.findings}


def broken(judgement: Judgement) -> set[str]:
    """Return what was broken, be it a failure or a warning."""
    return {finding.requirement for finding in judgement.findings if finding.broken}


# --- good ones -----------------------------------------------------------------------------------


def ordinary() -> Stream:
    """Return a gateway of two meters that polls for five minutes."""
    stream = Stream()
    stream.connect()
    stream.subscribe(f"{ROOT}/meter/+/command", f"{ROOT}/session/+")
    stream.poll(times=5)
    return stream


def good_gateway() -> Stream:
    """Return a gateway under every act of the kit that does everything right."""
    stream = ordinary()
    told_again(stream)
    acknowledgement_withheld(stream)
    network_lost(stream)
    meter_unplugged(stream)
    session_opened(stream)
    commanded(stream)
    forged(stream)
    restarted(stream)
    stream.poll(times=2)
    return stream


def told_again(stream: Stream) -> None:
    """An event and a suspect reading are under way when the link is cut: both come twice."""
    suspect = registers_with("32.7.0", quality="suspect")
    reading = stream.telemetry(registers=suspect)
    event = stream.event()
    stream.publish(reading.topic, reading.payload, dup=True, packet_id=reading.packet_id)
    stream.publish(event.topic, event.payload)


def acknowledgement_withheld(stream: Stream) -> Published:
    """The kit keeps an acknowledgement back and cuts the connection; the reading comes again."""
    stream.begin(Act.ACKNOWLEDGEMENT_WITHHELD)
    topic, payload = f"{ROOT}/meter/{METER}/telemetry", as_bytes(stream.envelope())
    published = stream.publish(topic, payload, acknowledged=False)
    stream.disconnect(by_kit=True)
    stream.now += timedelta(seconds=5)
    stream.connect()
    stream.publish(topic, payload)
    stream.end(Act.ACKNOWLEDGEMENT_WITHHELD)
    stream.now += INTERVAL
    return published


def network_lost(stream: Stream, *, minutes: int = 5, delivered: int = 5) -> None:
    """The network is down; what was measured comes afterwards, the newest first."""
    stream.begin(Act.NETWORK_LOST)
    stream.disconnect(by_kit=True)
    kept = []
    for _ in range(minutes):
        stream.now += INTERVAL
        kept += [(serial, stream.envelope(serial)) for serial in (METER, OTHER)]
    stream.now += timedelta(seconds=1)
    stream.end(Act.NETWORK_LOST)
    stream.now += timedelta(seconds=3)
    stream.connect()
    for serial, envelope in reversed(kept[-2 * delivered :] if delivered else []):
        stream.publish(f"{ROOT}/meter/{serial}/telemetry", as_bytes(envelope))
    stream.now += INTERVAL
    stream.poll(times=2)
    stream.now += timedelta(minutes=2)


def meter_unplugged(stream: Stream) -> None:
    """One meter is unplugged: its last values are told as comms_lost, the other goes on."""
    stream.poll(times=4)
    last = utc_text(stream.now)
    stream.poll()
    stream.begin(Act.METER_UNPLUGGED, METER)
    lost = [{**register, "quality": "comms_lost"} for register in GOOD_REGISTERS]
    for _ in range(4):
        stream.telemetry(OTHER)
        stream.telemetry(METER, ts=last, registers=lost)
        stream.now += INTERVAL
    stream.end(Act.METER_UNPLUGGED)
    stream.poll(times=2)


def session_opened(stream: Stream, nonce: int = 1) -> None:
    """The kit offers a session, the gateway accepts it."""
    stream.send(SESSION_TOPIC, as_bytes(stream.session()), Act.SESSION_OFFERED)
    stream.publish(SESSION_TOPIC, stream.accept(nonce))


def commanded(stream: Stream) -> dict[str, Any]:
    """A good command moves the relay, and a second one moves it back."""
    stream.relay(connected=True)
    command = stream.command()
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_GIVEN)
    stream.now += timedelta(seconds=1)
    stream.report(command)
    stream.relay(connected=False)
    back = stream.command(Action.RECONNECT, seq=2)
    stream.send(command_topic(), as_bytes(back), Act.COMMAND_GIVEN)
    stream.now += timedelta(seconds=1)
    stream.report(back, position="connected")
    stream.relay(connected=True)
    return command


FORGERIES: Mapping[Act, str] = {
    Act.COMMAND_WITHOUT_SESSION: "OA-SES-002",
    Act.COMMAND_BADLY_SIGNED: "OA-CMD-001",
    Act.COMMAND_OF_ENDED_SESSION: "OA-CMD-002",
    Act.COMMAND_REPLAYED: "OA-CMD-003",
    Act.COMMAND_FOR_ANOTHER_METER: "OA-CMD-004",
}


def forge(stream: Stream, act: Act, *, obeyed: bool = False) -> None:
    """The kit sends a command that must not be obeyed, and looks at the relay."""
    stream.begin(act, METER)
    stream.relay(connected=True)
    forged = stream.command(serial=OTHER if act is Act.COMMAND_FOR_ANOTHER_METER else METER)
    stream.send(command_topic(), as_bytes(forged), act)
    stream.relay(connected=not obeyed)
    stream.end(act)


def forged(stream: Stream) -> None:
    """Every forged command, none of them obeyed."""
    for act in FORGERIES:
        forge(stream, act)


def restarted(stream: Stream, nonce: int = 2) -> None:
    """The gateway starts anew: its count goes on, and its session has a new nonce."""
    stream.begin(Act.GATEWAY_RESTARTED)
    stream.disconnect()
    stream.now += timedelta(seconds=30)
    stream.connect()
    stream.publish(SESSION_TOPIC, stream.accept(nonce))
    stream.end(Act.GATEWAY_RESTARTED)
    stream.poll()


def good_headend() -> Stream:
    """Return a head-end that offers a session and gives two commands in it."""
    stream = headend_with_session()
    for seq, action in ((1, Action.DISCONNECT), (2, Action.RECONNECT)):
        stream.publish(command_topic(), as_bytes(stream.command(action, seq=seq)))
    return stream


def headend_with_session() -> Stream:
    """Return a head-end that has offered a session, which the kit's gateway has accepted."""
    stream = Stream()
    stream.connect(client_id="hes-1", protocol="3.1.1")
    stream.subscribe("openami/v1/+/+/meter/+/telemetry", "openami/v1/+/+/meter/+/event")
    stream.publish(SESSION_TOPIC, as_bytes(stream.session()))
    stream.send(SESSION_TOPIC, stream.accept(1), Act.SESSION_OFFERED)
    return stream
