"""Events and the envelopes that tell them (pure).

An event is an envelope with the registers it is about and the member ``event`` (decision 0009). Its id is
made of what happened, to which meter, when: told twice, it is the same event.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from openami.gateway.event_types import EVENT_TYPES, EventType
from openami.gateway.normalise import Source
from openami.profile import (
    Envelope,
    Event,
    EventSource,
    EventState,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    Severity,
    utc_text,
)

SERIAL_NUMBER = Obis.parse("0-0:96.1.0")
CLOCK = Obis.parse("0-0:1.0.0")
CLOCK_UNIT = "ISO 8601"

# Half of what makes a collision likely after 2**40 events; a feeder has some hundred a day.
_ID_BYTES = 10
# The details are for a person's eye; a driver's error may quote a whole frame.
_DETAIL_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class LoggedCode:
    """What makes an entry of a meter's log that entry, however often it is read."""

    log: str
    at: datetime
    """The meter's own time for it, believed or not."""
    code_system: str
    code: int

    @property
    def identity(self) -> tuple[str, ...]:
        """The parts of its event's id."""
        return self.log, utc_text(self.at), self.code_system, str(self.code)


def event_id(serial: MeterSerial, *parts: str) -> str:
    """Return the same id for the same event, whenever it is made."""
    told = "\0".join((serial, *parts))
    return hashlib.blake2s(told.encode(), digest_size=_ID_BYTES).hexdigest()


def event_envelope(
    kind: EventType,
    state: EventState,
    *,
    source: Source,
    serial: MeterSerial,
    occurred_at: datetime,
    registers: tuple[RegisterReading, ...],
    ts: datetime,
    detail: str,
    severity: Severity | None = None,
    logged: LoggedCode | None = None,
) -> Envelope:
    """Return the envelope that tells an event; ``ts`` is when its registers were measured.

    ``severity`` where it is not its type's. ``logged`` where a meter's own log tells it.
    """
    occurred = utc_text(occurred_at)
    about = ",".join(str(register.obis) for register in registers)
    parts = (kind, state, occurred, about) if logged is None else (kind, *logged.identity)
    event = Event(
        event_id=event_id(serial, *parts),
        type=kind,
        state=state,
        severity=severity or _severity(kind, state),
        occurred_at=occurred,
        source=EventSource.GATEWAY if logged is None else EventSource.METER,
        code_system=None if logged is None else logged.code_system,
        code=None if logged is None else logged.code,
        detail=_printable(detail) or None,
    )
    return Envelope(
        ts=ts,
        feeder_id=source.feeder_id,
        gateway_id=source.gateway_id,
        meter_serial=serial,
        registers=registers,
        event=event,
    )


def _severity(kind: EventType, state: EventState) -> Severity:
    return Severity.INFO if state is EventState.CLEARED else EVENT_TYPES[kind].severity


def serial_reading(serial: str, quality: Quality) -> RegisterReading:
    """Return the one register that can always be named: which meter, as configured or as found."""
    return RegisterReading(obis=SERIAL_NUMBER, value=_printable(serial), unit="", quality=quality)


def clock_reading(moment: datetime, quality: Quality) -> RegisterReading:
    """Return a clock's time as its register."""
    return RegisterReading(obis=CLOCK, value=utc_text(moment), unit=CLOCK_UNIT, quality=quality)


def _printable(text: str) -> str:
    cleaned = "".join(sign if sign.isprintable() else "?" for sign in text)
    return cleaned[:_DETAIL_CHARS_MAX]
