"""What a village would send, for a measurement: every message different, in the order of time.

Diced, but always the same.
"""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft
from openami.gateway.entries import Kind as DraftKind
from openami.headend.ingest import Message
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    TelemetryTopic,
)
from openami.profile.codec import encode_envelope

METERS: Final = 500
METERS_PER_GATEWAY: Final = 20
INTERVAL: Final = timedelta(minutes=15)

_FEEDER: Final = FeederId("feeder-capacity")
# Code, unit, and between what a house's value lies; the counters' range is where they begin.
_REGISTERS: Final = tuple(
    (Obis.parse(code), unit, low, high)
    for code, unit, low, high in (
        ("1.8.0", "kWh", 1_000.0, 9_000.0),
        ("32.7.0", "V", 220.0, 240.0),
        ("31.7.0", "A", 0.0, 20.0),
        ("1.7.0", "kW", 0.0, 4.0),
        ("13.7.0", "1", 0.8, 1.0),
        ("14.7.0", "Hz", 49.9, 50.1),
        ("2.8.0", "kWh", 0.0, 500.0),
        ("3.8.0", "kvarh", 0.0, 900.0),
    )
)
_COUNTERS: Final = frozenset(map(Obis.parse, ("1.8.0", "2.8.0", "3.8.0")))


class Village:
    """Five hundred meters behind 25 gateways; meter after meter in a diced order, then a quarter hour on."""

    def __init__(self, start: datetime) -> None:
        self._chance = random.Random(0)
        self._turns = self._turn(start)
        self._numbers: Counter[int] = Counter()
        self._counted = [
            {code: round(self._chance.uniform(low, high), 2) for code, _, low, high in _REGISTERS}
            for _ in range(METERS)
        ]

    def messages(self, count: int, registers: int) -> list[Message]:
        """Return the next messages, as a broker would deliver them."""
        return [self._message(registers) for _ in range(count)]

    def drafts(self, count: int, registers: int) -> list[Draft]:
        """Return the next readings as a gateway's poll cycle hands them to its outbox."""
        return [
            Draft(
                self._envelope(*next(self._turns), registers), DraftKind.TELEMETRY, PollGroup.FAST
            )
            for _ in range(count)
        ]

    def _turn(self, ts: datetime) -> Iterator[tuple[int, datetime]]:
        while True:
            for meter in self._chance.sample(range(METERS), METERS):
                yield meter, ts + timedelta(milliseconds=self._chance.randrange(30_000))
            ts += INTERVAL

    def _message(self, registers: int) -> Message:
        meter, ts = next(self._turns)
        envelope = self._envelope(meter, ts, registers, numbered=True)
        topic = TelemetryTopic(envelope.feeder_id, envelope.gateway_id, envelope.meter_serial)
        received = ts + timedelta(milliseconds=self._chance.randrange(100, 5_000))
        return Message(str(topic), encode_envelope(envelope), received)

    def _envelope(
        self, meter: int, ts: datetime, registers: int, *, numbered: bool = False
    ) -> Envelope:
        gateway = meter // METERS_PER_GATEWAY
        if numbered:
            self._numbers[gateway] += 1
        return Envelope(
            ts=ts,
            feeder_id=_FEEDER,
            gateway_id=GatewayId(f"pole-{gateway:04}"),
            meter_serial=MeterSerial(f"CAPACITY-{meter:05}"),
            registers=tuple(
                RegisterReading(code, self._value(meter, code, low, high), unit, Quality.GOOD)
                for code, unit, low, high in _REGISTERS[:registers]
            ),
            seq=self._numbers[gateway] if numbered else None,
        )

    def _value(self, meter: int, code: Obis, low: float, high: float) -> float:
        if code not in _COUNTERS:
            return round(self._chance.uniform(low, high), 2)
        counted = self._counted[meter]
        counted[code] = round(counted[code] + 0.07, 2)
        return counted[code]
