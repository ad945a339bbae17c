"""A pole and its bridge, without network: rounds in, envelopes out."""

from datetime import datetime, timedelta
from typing import Any

from tests.bridge.firmware_samples import POLE, ROUND_S, START, FirmwarePole, as_payload

from openami.bridge.findings import Effect, Reason
from openami.bridge.meshems import Message, PoleMap
from openami.bridge.stream import Patience
from openami.bridge.translating import Poles, Told
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    decode_envelope,
)

PATIENCE = Patience(
    doubt_after=timedelta(seconds=900),
    lost_after=timedelta(seconds=3600),
    silent_after=timedelta(seconds=ROUND_S * 3.5),
)
MAP = PoleMap(
    topic=POLE,
    feeder_id=FeederId("feeder-a"),
    gateway_id=GatewayId("pole-7"),
    meters={f"meter_{n}": MeterSerial(f"DDS-100{n}") for n in range(3)},
    panel=MeterSerial("PANEL-7"),
    patience=PATIENCE,
)


class Bridged:
    """The bridge's pure part, told what arrives and when."""

    def __init__(self, known: PoleMap = MAP, *, clock_trusted: bool = True) -> None:
        self.poles = Poles({known.topic: known})
        self.pole = FirmwarePole(known.topic)
        self.now = START
        self.clock_trusted = clock_trusted

    def hear(
        self, name: str, members: dict[str, Any] | bytes, at: datetime | None = None, **message: Any
    ) -> Told:
        """Return what one message comes to; ``name`` is a subtopic."""
        payload = members if isinstance(members, bytes) else as_payload(members)
        topic = message.pop("topic", f"openami/{POLE}/{name}")
        told = self.poles.take(
            Message(topic, payload, at or self.now, **message), clock_trusted=self.clock_trusted
        )
        for outgoing in told.outgoing:
            assert decode_envelope(outgoing.envelope.encode()) == outgoing.envelope
        return told

    def round(self) -> list[Told]:
        """Let a round pass; return what its messages come to."""
        told = []
        for topic, payload, at in self.pole.round(self.now):
            told.append(self.hear("", payload, at, topic=topic))
        self.now += timedelta(seconds=ROUND_S)
        return told

    def settled(self) -> "Bridged":
        """Let so many rounds pass that the pole's clock is known."""
        for _ in range(2):
            self.round()
        return self

    def uptime_ms(self) -> int:
        """Return the pole's milliseconds since boot now."""
        return self.pole.uptime_ms(self.now)


def envelopes(told: Told | list[Told]) -> list[Envelope]:
    """Return the envelopes that were published."""
    several = told if isinstance(told, list) else [told]
    return [outgoing.envelope for each in several for outgoing in each.outgoing]


def of_meter(told: list[Told], serial: str) -> list[Envelope]:
    """Return the envelopes of one meter."""
    return [envelope for envelope in envelopes(told) if envelope.meter_serial == serial]


def values(envelope: Envelope) -> dict[str, object]:
    """Return the values by code."""
    return {str(register.obis): register.value for register in envelope.registers}


def qualities(envelope: Envelope) -> dict[str, str]:
    """Return the qualities by code."""
    return {str(register.obis): register.quality.value for register in envelope.registers}


def reasons(told: Told | list[Told]) -> set[Reason]:
    """Return why something was not passed on as it came."""
    several = told if isinstance(told, list) else [told]
    return {each.reason for one in several for each in one.findings}


def effect(told: Told, reason: Reason) -> Effect:
    """Return what a reason led to."""
    (found,) = {each.effect for each in told.findings if each.reason is reason}
    return found
