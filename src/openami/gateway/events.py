"""The gateway's own events: their types, how grave they are, and the envelopes that tell them (pure).

An event is an envelope with the registers it is about and the member ``event`` (decision 0009). Its id is
made of what happened, to which meter, when: told twice, it is the same event.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

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


class EventType(StrEnum):
    """What the gateway tells by its own rules."""

    COMMS_LOST = "comms_lost"
    COMMS_RESTORED = "comms_restored"
    ADDRESS_CLASH = "address_clash"
    REGISTER_ROLLBACK = "register_rollback"
    IMPLAUSIBLE_VALUE = "implausible_value"
    CLOCK_INVALID = "clock_invalid"
    CLOCK_ADJUSTED = "clock_adjusted"
    CLOCK_NOT_SET = "clock_not_set"
    """A meter's clock is wrong and the gateway may not set it: a person has to (decision 0059)."""
    INTERVALS_LOST = "intervals_lost"
    """Billing intervals of an outage that the meter's load profile does not hold (decision 0058)."""
    CERTIFICATE_EXPIRING = "certificate_expiring"
    COMMANDS_REFUSED = "commands_refused"
    """Messages nobody could be told a refusal of: unsigned, forged, or not for us."""


_SEVERITY: Mapping[EventType, Severity] = {
    EventType.COMMS_LOST: Severity.MAJOR,
    EventType.COMMS_RESTORED: Severity.INFO,
    EventType.ADDRESS_CLASH: Severity.CRITICAL,  # somebody may be billed for another's energy
    EventType.REGISTER_ROLLBACK: Severity.MAJOR,
    EventType.IMPLAUSIBLE_VALUE: Severity.MINOR,
    EventType.CLOCK_INVALID: Severity.MINOR,
    EventType.CLOCK_ADJUSTED: Severity.INFO,
    EventType.CLOCK_NOT_SET: Severity.MINOR,  # clock_invalid is told beside it, and is the alarm
    EventType.INTERVALS_LOST: Severity.MINOR,  # the registers are totals: no energy is lost with them
    EventType.CERTIFICATE_EXPIRING: Severity.MAJOR,  # without one, nothing gets to the broker
    EventType.COMMANDS_REFUSED: Severity.MINOR,
}


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
) -> Envelope:
    """Return the envelope that tells an event; ``ts`` is when its registers were measured."""
    occurred = utc_text(occurred_at)
    about = ",".join(str(register.obis) for register in registers)
    event = Event(
        event_id=event_id(serial, kind, state, occurred, about),
        type=kind,
        state=state,
        severity=Severity.INFO if state is EventState.CLEARED else _SEVERITY[kind],
        occurred_at=occurred,
        source=EventSource.GATEWAY,
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


def serial_reading(serial: str, quality: Quality) -> RegisterReading:
    """Return the one register that can always be named: which meter, as configured or as found."""
    return RegisterReading(obis=SERIAL_NUMBER, value=_printable(serial), unit="", quality=quality)


def clock_reading(moment: datetime, quality: Quality) -> RegisterReading:
    """Return a clock's time as its register."""
    return RegisterReading(obis=CLOCK, value=utc_text(moment), unit=CLOCK_UNIT, quality=quality)


def _printable(text: str) -> str:
    cleaned = "".join(sign if sign.isprintable() else "?" for sign in text)
    return cleaned[:_DETAIL_CHARS_MAX]
