"""The events the bridge tells, and the envelopes that tell them (pure; decision 0009).

An event's id is made of what happened, to which meter, when: told twice, it is the same event.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from openami.profile import (
    Envelope,
    Event,
    EventSource,
    EventState,
    EventTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    Severity,
    TelemetryTopic,
    utc_text,
)

SERIAL_NUMBER: Final = Obis.parse("0-0:96.1.0")

# Half of what makes a collision likely after 2**40 events; a feeder has some hundred a day.
_ID_BYTES: Final = 10


class EventType(StrEnum):
    """What the bridge tells; the words are the gateway's where the thing is the same."""

    COMMS_LOST = "comms_lost"
    COMMS_RESTORED = "comms_restored"
    REGISTER_ROLLBACK = "register_rollback"
    CABINET_OPEN = "cabinet_open"
    COMMANDS_REFUSED = "commands_refused"


_SEVERITY: Final[Mapping[EventType, Severity]] = {
    EventType.COMMS_LOST: Severity.MAJOR,
    EventType.COMMS_RESTORED: Severity.INFO,
    EventType.REGISTER_ROLLBACK: Severity.MAJOR,
    EventType.CABINET_OPEN: Severity.MAJOR,
    EventType.COMMANDS_REFUSED: Severity.MINOR,
}


@dataclass(frozen=True, slots=True)
class Source:
    """Whose meter it is: the three ids of an envelope."""

    feeder_id: FeederId
    gateway_id: GatewayId
    serial: MeterSerial

    @property
    def telemetry(self) -> TelemetryTopic:
        """Where its readings are published."""
        return TelemetryTopic(self.feeder_id, self.gateway_id, self.serial)

    @property
    def event(self) -> EventTopic:
        """Where its events are published."""
        return EventTopic(self.feeder_id, self.gateway_id, self.serial)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An envelope and the topic it goes to."""

    topic: TelemetryTopic | EventTopic
    envelope: Envelope


def telemetry(source: Source, ts: datetime, registers: tuple[RegisterReading, ...]) -> Outgoing:
    """Return a meter's registers, to be published."""
    return Outgoing(source.telemetry, _envelope(source, ts, registers, None))


def event(
    kind: EventType,
    state: EventState,
    source: Source,
    *,
    occurred_at: datetime,
    registers: tuple[RegisterReading, ...] = (),
    detail: str,
) -> Outgoing:
    """Return an event, to be published; without registers of its own it names the meter."""
    registers = registers or (_name_reading(source.serial, kind),)
    occurred = utc_text(occurred_at)
    about = ",".join(str(register.obis) for register in registers)
    told = "\0".join((source.serial, kind, state, occurred, about))
    member = Event(
        event_id=hashlib.blake2s(told.encode(), digest_size=_ID_BYTES).hexdigest(),
        type=kind,
        state=state,
        severity=Severity.INFO if state is EventState.CLEARED else _SEVERITY[kind],
        occurred_at=occurred,
        source=EventSource.GATEWAY,
        detail=detail,
    )
    return Outgoing(source.event, _envelope(source, occurred_at, registers, member))


def _name_reading(serial: MeterSerial, kind: EventType) -> RegisterReading:
    """Return the one register that can always be told: which meter it is.

    In events alone, which have to hold one. The firmware reads no serial number, and a register that was
    never read is left out of telemetry (decision 0007).
    """
    quality = Quality.COMMS_LOST if kind is EventType.COMMS_LOST else Quality.GOOD
    return RegisterReading(obis=SERIAL_NUMBER, value=serial, unit="", quality=quality)


def _envelope(
    source: Source, ts: datetime, registers: tuple[RegisterReading, ...], member: Event | None
) -> Envelope:
    return Envelope(
        ts=to_the_millisecond(ts),
        feeder_id=source.feeder_id,
        gateway_id=source.gateway_id,
        meter_serial=source.serial,
        registers=registers,
        event=member,
    )


def to_the_millisecond(moment: datetime) -> datetime:
    """Return the moment as the store keeps it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
