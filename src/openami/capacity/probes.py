"""The measurements themselves, each bounded in time: the programs' own code, given work and a clock.

What is made to be worked on is made before the clock runs. Every probe makes at least one round, however short
its time.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from openami.capacity.village import METERS, Village
from openami.gateway.outbox import Outbox
from openami.headend.ingest import Accepted
from openami.headend.intake import Intake
from openami.headend.uplink import BATCH_MESSAGES_MAX

# Enough for a 99th percentile with twenty beyond it; a fast disk does them in a second.
SAMPLES_MAX: Final = 2_000
# What a trial leaves on the disk at most, some 100 MB in PostgreSQL and as much in its write-ahead log.
TRIAL_READINGS_MAX: Final = 1_000_000
# A page of a database's log.
SYNCED_BYTES: Final = 4096
# The profile's example has three.
COMMITTED_REGISTERS: Final = 3
# As bench_outbox: one gateway's poll cycle.
CYCLE_METERS: Final = 20
CYCLE_REGISTERS: Final = 8


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took, in seconds: half of the samples at most so long, and 99 of 100."""

    p50_s: float
    p99_s: float
    samples: int

    @classmethod
    def of(cls, samples: list[float]) -> Self:
        """Return the percentiles of samples, by nearest rank. Raises IndexError when there are none."""
        ordered = sorted(samples)
        count = len(ordered)
        return cls(ordered[(count - 1) // 2], ordered[-(-count * 99 // 100) - 1], count)


@dataclass(frozen=True, slots=True)
class Rate:
    """How many a second, and what one of them cost this process's processor, in seconds."""

    per_s: float
    cpu_s: float
    count: int


async def synced(directory: Path, seconds: float) -> Latency:
    """Append pages to a file and sync each, as a write-ahead log does. Raises OSError."""
    samples: list[float] = []
    with (directory / "synced").open("wb", buffering=0) as file:
        until = time.perf_counter() + seconds
        while True:
            file.write(bytes(SYNCED_BYTES))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - began)
            await asyncio.sleep(0)  # so that it can be cancelled
            if len(samples) >= SAMPLES_MAX or time.perf_counter() >= until:
                return Latency.of(samples)


async def judged(intake: Intake, village: Village, registers: int, seconds: float) -> Rate:
    """Decode and judge messages, on one core's time. Nothing is stored."""

    def batch() -> Callable[[], Awaitable[int]]:
        messages = village.messages(BATCH_MESSAGES_MAX, registers)

        async def work() -> int:
            return len(await intake.judge(messages))

        return work

    rate = await _rated(batch, seconds, rounds_max=SAMPLES_MAX)
    return Rate(1 / rate.cpu_s, rate.cpu_s, rate.count)


async def taken_in(intake: Intake, village: Village, registers: int, seconds: float) -> Rate:
    """Judge messages and commit them durably, in the batches of a busy head-end. Raises StoreError."""

    def batch() -> Callable[[], Awaitable[int]]:
        messages = village.messages(BATCH_MESSAGES_MAX, registers)

        async def work() -> int:
            decisions = await intake.judge(messages)
            assert all(isinstance(one, Accepted) and not one.findings for one in decisions)
            tally = await intake.commit(decisions)
            assert tally.stored == len(messages) * registers, (
                "a duplicate costs less than a reading"
            )
            return len(messages)

        return work

    rounds_max = TRIAL_READINGS_MAX // 2 // (BATCH_MESSAGES_MAX * registers)
    return await _rated(batch, seconds, rounds_max=rounds_max)


async def introduced(intake: Intake, village: Village, registers: int) -> None:
    """Make every meter known to the store: its first message costs more than all that follow."""
    await intake.commit(await intake.judge(village.messages(METERS, registers)))


async def committed(intake: Intake, village: Village, seconds: float) -> Latency:
    """Commit message by message, as a quiet village's come. Raises StoreError."""
    samples: list[float] = []
    until = time.perf_counter() + seconds
    while True:
        decisions = await intake.judge(village.messages(1, COMMITTED_REGISTERS))
        began = time.perf_counter()
        await intake.commit(decisions)
        samples.append(time.perf_counter() - began)
        if len(samples) >= SAMPLES_MAX or time.perf_counter() >= until:
            return Latency.of(samples)


async def appended(outbox: Outbox, village: Village, seconds: float) -> tuple[Rate, Latency]:
    """Append poll cycles; return readings a second, and what one cycle's commit took. Raises OutboxError."""
    samples: list[float] = []

    def batch() -> Callable[[], Awaitable[int]]:
        drafts = village.drafts(CYCLE_METERS, CYCLE_REGISTERS)

        async def work() -> int:
            began = time.perf_counter()
            await outbox.append(drafts)
            samples.append(time.perf_counter() - began)
            return len(drafts) * CYCLE_REGISTERS

        return work

    return await _rated(batch, seconds, rounds_max=SAMPLES_MAX), Latency.of(samples)


async def _rated(
    prepare: Callable[[], Callable[[], Awaitable[int]]],
    seconds: float,
    *,
    rounds_max: int,
) -> Rate:
    until = time.perf_counter() + seconds
    count, took_s, cpu_s = 0, 0.0, 0.0
    for _ in range(rounds_max):
        work = prepare()
        cpu, began = time.process_time(), time.perf_counter()
        count += await work()
        took_s += time.perf_counter() - began
        cpu_s += time.process_time() - cpu
        await asyncio.sleep(0)  # so that it can be cancelled
        if time.perf_counter() >= until:
            break
    return Rate(count / took_s, cpu_s / count, count)
