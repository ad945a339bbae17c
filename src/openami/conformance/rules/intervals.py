"""How often each meter is measured, from the times of its readings: what is to be expected in a while."""

from datetime import datetime, timedelta
from typing import Final

from openami.conformance.message import Message
from openami.conformance.recent import Recent
from openami.profile import EventTopic, Quality

Meter = tuple[str, str, str]
"""Feeder, gateway and meter."""

# Meters whose interval is known; a feeder has 500.
METERS_KEPT_MAX: Final = 2_000
# Enough that one late reading does not change it.
_SPACINGS_KEPT = 5
_SPACINGS_NEEDED = 2


class Intervals:
    """The usual spacing of each meter's readings."""

    def __init__(self) -> None:
        self._meters: Recent[Meter, tuple[datetime, tuple[timedelta, ...]]] = Recent(
            METERS_KEPT_MAX
        )

    def note(self, message: Message) -> None:
        """Take a message's time into account; only new measurements count."""
        meter = measured_meter(message)
        if meter is None or message.envelope is None:
            return
        ts = message.envelope.ts
        before = self._meters.get(meter)
        if before is None:
            self._meters.note(meter, (ts, ()))
        elif ts > before[0]:
            spacings = (*before[1], ts - before[0])[-_SPACINGS_KEPT:]
            self._meters.note(meter, (ts, spacings))

    def of(self, meter: Meter) -> timedelta | None:
        """Return a meter's interval, None until it is known."""
        known = self._meters.get(meter)
        if known is None or len(known[1]) < _SPACINGS_NEEDED:
            return None
        return sorted(known[1])[len(known[1]) // 2]

    def meters(self) -> list[Meter]:
        """Return the meters that were measured."""
        return [meter for meter, _ in self._meters.items()]


def meter_of(message: Message) -> Meter | None:
    """Return the meter an envelope is about."""
    envelope = message.envelope
    if envelope is None:
        return None
    return (envelope.feeder_id, envelope.gateway_id, envelope.meter_serial)


def measured_meter(message: Message) -> Meter | None:
    """Return the meter a telemetry message tells a measurement of; None where it repeats what was known."""
    envelope = message.envelope
    if envelope is None or message.kind is EventTopic or is_lost(message):
        return None
    return meter_of(message)


def is_lost(message: Message) -> bool:
    """Whether a message says that its meter does not answer."""
    envelope = message.envelope
    return envelope is not None and any(
        reading.quality is Quality.COMMS_LOST for reading in envelope.registers
    )
