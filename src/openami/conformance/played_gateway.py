"""The gateway the kit plays for a head-end: readings, an event, a session taken, a command reported (pure).

It is conformant, with three things thrown in that every head-end meets: a message that comes twice, one that is
none, and a report that is late. It moves no relay but its own, which is a word in a register.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from openami.pki.names import GatewayName
from openami.profile import (
    CommandTopic,
    Envelope,
    Event,
    EventSource,
    EventState,
    EventTopic,
    MeterSerial,
    Obis,
    ProfileError,
    Quality,
    RegisterReading,
    SessionTopic,
    Severity,
    TelemetryTopic,
    parse_topic,
    utc_text,
)
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import SIGNATURE, Document, encode_base64url, read_document
from openami.sip.compose import sign
from openami.sip.errors import SipError
from openami.sip.keys import Signer
from openami.sip.reports import ReportStatus, report_members

METERS: Final = (MeterSerial("kit-meter-1"), MeterSerial("kit-meter-2"))
# Longer than a head-end that asks again would wait, shorter than a person does.
REPORT_LATE_S: Final = 5.0
# Sessions a head-end may have offered in a run.
SESSIONS_MAX: Final = 64
# Commands whose reports are remembered, to be told again when a command comes again.
REPORTS_MAX: Final = 1_000
_W_OF_METER = 400
_S_PER_HOUR = 3600

Message = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be published, and after how long."""

    topic: str
    payload: bytes
    after_s: float = 0.0


@dataclass(slots=True)
class PlayedGateway:
    """Its meters, its key, and what it has accepted and reported."""

    name: GatewayName
    signer: Signer
    connected: dict[MeterSerial, bool] = field(default_factory=lambda: dict.fromkeys(METERS, True))
    seq: int = 0
    nonces: OrderedDict[str, str] = field(default_factory=OrderedDict)
    reports: OrderedDict[str, bytes] = field(default_factory=OrderedDict)

    @property
    def filters(self) -> Sequence[str]:
        """What it listens to."""
        ids = (self.name.feeder_id, self.name.gateway_id)
        return (SessionTopic.filter(*ids), CommandTopic.filter(*ids))

    def readings(self, now: datetime) -> Iterator[Message]:
        """Yield a message of each meter."""
        for place, serial in enumerate(METERS):
            topic = TelemetryTopic(self.name.feeder_id, self.name.gateway_id, serial)
            # A counter that has run at constant power since the epoch: it never falls, whoever looks.
            kwh = round(now.timestamp() * _W_OF_METER * (place + 1) / _S_PER_HOUR / 1e6, 3)
            yield (
                str(topic),
                self._envelope(serial, now, [_register("1.8.0", kwh, "kWh"), self._relay(serial)]),
            )

    def event(self, now: datetime) -> Message:
        """Return an event of the first meter."""
        serial = METERS[0]
        topic = EventTopic(self.name.feeder_id, self.name.gateway_id, serial)
        event = Event(
            event_id=f"{serial}-kit-{int(now.timestamp())}",
            type="cover_opened",
            state=EventState.INSTANT,
            severity=Severity.MAJOR,
            occurred_at=utc_text(now),
            source=EventSource.METER,
        )
        return str(topic), self._envelope(serial, now, [self._relay(serial)], event)

    def nonsense(self) -> Message:
        """Return a message that is none."""
        topic = TelemetryTopic(self.name.feeder_id, self.name.gateway_id, METERS[0])
        return str(topic), b'{"schemaVersion":"0.1","registers":[{"obis":"1.8.0",'

    def answers(
        self, topic: str, payload: bytes, *, nonce: bytes, now: datetime
    ) -> Iterable[Answer]:
        """Return what is to be said to a session or a command; nothing to what is neither."""
        try:
            parsed, document = parse_topic(topic), read_document(payload)
            match parsed:
                case SessionTopic():
                    return self._accepted(parsed, document, nonce, now)
                case CommandTopic():
                    return self._reported(parsed, document, now)
                case _:
                    return ()
        except (ProfileError, SipError):
            return ()

    def _accepted(
        self, topic: SessionTopic, document: Document, nonce: bytes, now: datetime
    ) -> Iterable[Answer]:
        offered = {act.type for act in read_acts(document)} & {ActType.OFFER, ActType.KEYRING}
        if not offered or topic.session_id in self.nonces:
            return ()
        self.nonces[topic.session_id] = encode_base64url(nonce)
        while len(self.nonces) > SESSIONS_MAX:
            self.nonces.popitem(last=False)
        unsigned = {name: value for name, value in document.members.items() if name != SIGNATURE}
        iat = int(now.timestamp())
        accepted = sign(unsigned, self.signer, ActType.ACCEPT, iat=iat, nonce=nonce)
        return (Answer(str(topic), _printed(accepted)),)

    def _reported(self, topic: CommandTopic, document: Document, now: datetime) -> Iterable[Answer]:
        event = EventTopic(topic.feeder_id, topic.gateway_id, topic.meter_serial)
        told = self.reports.get(document.digest)
        if told is not None:
            return (Answer(str(event), told),)
        command = document.members.get("command")
        action = command.get("action") if isinstance(command, dict) else None
        moves = {"relay.disconnect": False, "relay.reconnect": True}
        session_id = document.members.get("sessionId")
        if action not in moves or topic.meter_serial not in self.connected:
            status, code = ReportStatus.REFUSED, "UNKNOWN_ACTION"
        elif session_id not in self.nonces:
            status, code = ReportStatus.REFUSED, "NO_SESSION"
        else:
            self.connected[topic.meter_serial] = moves[action]
            status, code = ReportStatus.DONE, "OK"
        seq = command.get("seq") if isinstance(command, dict) else None
        members = report_members(
            event,
            session_id=session_id if isinstance(session_id, str) else None,
            seq=seq if isinstance(seq, int) else None,
            ticket=None,
            command_digest=document.digest,
            status=status,
            code=code,
            nonce=self.nonces.get(session_id) if isinstance(session_id, str) else None,
            registers=[_printable(self._relay(topic.meter_serial))],
            ts=now,
        )
        self.seq += 1
        members["seq"] = self.seq
        signed = sign(members, self.signer, ActType.REPORT, iat=int(now.timestamp()))
        late = REPORT_LATE_S if not self.reports else 0.0
        self.reports[document.digest] = _printed(signed)
        while len(self.reports) > REPORTS_MAX:
            self.reports.popitem(last=False)
        return (Answer(str(event), _printed(signed), late),)

    def _relay(self, serial: MeterSerial) -> RegisterReading:
        position = "connected" if self.connected.get(serial, True) else "disconnected"
        return _register("96.11.1", position, "enum")

    def _envelope(
        self,
        serial: MeterSerial,
        now: datetime,
        registers: Sequence[RegisterReading],
        event: Event | None = None,
    ) -> bytes:
        self.seq += 1
        return Envelope(
            ts=now.astimezone(UTC),
            feeder_id=self.name.feeder_id,
            gateway_id=self.name.gateway_id,
            meter_serial=serial,
            registers=tuple(registers),
            seq=self.seq,
            event=event,
        ).encode()


def _register(code: str, value: float | str, unit: str) -> RegisterReading:
    return RegisterReading(Obis.parse(code), value, unit, Quality.GOOD)


def _printable(reading: RegisterReading) -> dict[str, Any]:
    return {
        "obis": str(reading.obis),
        "value": reading.value,
        "unit": reading.unit,
        "quality": reading.quality.value,
    }


def _printed(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
