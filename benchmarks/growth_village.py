"""The village of `bench_growth`: five hundred meters whose twelve registers move as real ones do.

The same names as `benchmarks.publisher` gives, so that what is published through a broker continues what is there:
counters never go back, the grid's voltage and frequency wander, values have the digits a meter shows.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from benchmarks.publisher import FEEDER, GATEWAY, START
from openami.headend.ingest import Accepted, Kind, Message
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
)

METERS = 500
INTERVAL = timedelta(minutes=15)
REGISTERS_AT_ONCE = 3
# OBIS code, unit, digits behind the point; the first is the one that bills are made of.
REGISTERS: tuple[tuple[str, str, int], ...] = (
    ("1.8.0", "kWh", 2), ("2.8.0", "kWh", 2), ("3.8.0", "kvarh", 2),
    ("1.7.0", "kW", 3), ("32.7.0", "V", 1), ("31.7.0", "A", 2),
    ("14.7.0", "Hz", 2), ("13.7.0", "1", 2), ("9.8.0", "kVAh", 2),
    ("96.7.21", "count", 0), ("91.7.0", "A", 2), ("96.8.0", "kWh", 1),
)  # fmt: skip
READINGS_A_ROUND = METERS * len(REGISTERS)
_CODES = tuple(Obis.parse(code) for code, _, _ in REGISTERS)


def serial(meter: int) -> MeterSerial:
    """Return a meter's name."""
    return MeterSerial(f"BM{meter:05d}")


def begin_of(readings: int) -> datetime:
    """Return when so many readings begin that end where the publisher begins."""
    return START - INTERVAL * (readings // READINGS_A_ROUND + 1)


class GrowingVillage:
    """The stream, round by round: every meter tells its registers, three at a time, in messages of its own."""

    def __init__(self, begin: datetime, registers: Sequence[int] = range(len(REGISTERS))) -> None:
        """``registers``: which of REGISTERS are told, by their place."""
        self.next_ts = begin
        self._registers = registers
        self._dice = random.Random(1)
        self._seq = 0
        self._counters = [
            [round(self._dice.uniform(10, 9_000), 2) for _ in range(METERS)] for _ in range(5)
        ]

    def batches(self, messages: int) -> Iterator[list[Accepted]]:
        """Yield batches for ever."""
        batch: list[Accepted] = []
        while True:
            for message in self._round():
                batch.append(message)
                if len(batch) == messages:
                    yield batch
                    batch = []

    def _round(self) -> Iterator[Accepted]:
        dice, ts = self._dice, self.next_ts
        self.next_ts += INTERVAL
        hertz, volts = 50 + dice.gauss(0, 0.05), 228 + dice.gauss(0, 3)
        for meter in dice.sample(range(METERS), METERS):
            # Never on the minute, as the publisher's are: two values for one moment are a conflict, not a reading.
            moment = ts + timedelta(milliseconds=dice.randrange(1, 30_000))
            received = moment + timedelta(milliseconds=dice.randrange(100, 5_000))
            values = self._values(meter, hertz, volts)
            for first in range(0, len(self._registers), REGISTERS_AT_ONCE):
                self._seq += 1
                envelope = Envelope(
                    ts=moment,
                    feeder_id=FeederId(FEEDER),
                    gateway_id=GatewayId(GATEWAY),
                    meter_serial=serial(meter),
                    registers=tuple(
                        RegisterReading(
                            _CODES[n],
                            round(values[n], REGISTERS[n][2]),
                            REGISTERS[n][1],
                            Quality.GOOD,
                        )
                        for n in self._registers[first : first + REGISTERS_AT_ONCE]
                    ),
                    seq=self._seq,
                )
                yield Accepted(Kind.TELEMETRY, envelope, Message("", b"", received))

    def _values(self, meter: int, hertz: float, volts: float) -> tuple[float, ...]:
        dice, counters = self._dice, self._counters
        kw = dice.expovariate(1 / 0.15)
        kwh = kw * INTERVAL.total_seconds() / 3600
        factor = min(1.0, 0.85 + dice.random() * 0.15)
        for counter, grown in zip(counters, (kwh, 0.0, kwh * 0.3, kwh / factor, -kwh), strict=True):
            counter[meter] += grown
        at_home = volts - kw * 2 + dice.gauss(0, 0.5)
        amperes = kw * 1000 / at_home / factor
        imported, exported, reactive, apparent, credit = (counter[meter] for counter in counters)
        return (
            imported, exported, reactive,
            kw, at_home, amperes,
            hertz, factor, apparent,
            float(meter % 7), amperes * 0.98, credit,
        )  # fmt: skip
