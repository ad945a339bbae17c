"""The gateway's outbox: readings a second that are durable, what the disk is given for each, the drain.

    python -m benchmarks.bench_outbox [--repeats 5] [--directory DIR]

Prints one JSON object a line; every figure is a median with its least and greatest.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from openami.clock import SystemClock
from openami.gateway import uplink
from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Draft, Kind, Outbox, OutboxLimits, open_outbox
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import embedded_broker
from openami.mqtt.settings import BrokerSettings
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
)

REGISTERS = ("1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0", "13.7.0", "14.7.0", "3.8.0")
CYCLES = 300
BACKLOG = 5_000
START = datetime(2026, 7, 1, tzinfo=UTC)
CLOCK = SystemClock()


def cycle(number: int, meters: int, registers: int = len(REGISTERS)) -> list[Draft]:
    """What one poll cycle appends: so many registers of each meter."""
    ts = START + timedelta(minutes=number)
    return [
        Draft(
            Envelope(
                ts=ts,
                feeder_id=FeederId("feeder-north-paravur-01"),
                gateway_id=GatewayId("pole-ems-0042"),
                meter_serial=MeterSerial(f"DS1000-{meter:05d}"),
                registers=tuple(
                    RegisterReading(Obis.parse(obis), 1842.5 + number, "kWh", Quality.GOOD)
                    for obis in REGISTERS[:registers]
                ),
            ),
            Kind.TELEMETRY,
            PollGroup.FAST,
        )
        for meter in range(meters)
    ]


def bytes_written() -> int | None:
    """What this process has caused to be written to the disk, if the kernel tells."""
    with suppress(OSError):
        for line in Path("/proc/self/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return None


async def append_and_mark(directory: Path, meters: int) -> dict[str, float]:
    """Whole poll cycles: append, take, mark; encoding included."""
    async with open_outbox(directory / "gateway.db", OutboxLimits(), CLOCK) as outbox:
        batches = [cycle(number, meters) for number in range(CYCLES)]
        await outbox.append(batches[0])
        written = bytes_written()
        began = time.perf_counter()
        for batch in batches:
            await outbox.append(batch)
        took_s = time.perf_counter() - began
        appended = bytes_written()
        while entries := await outbox.pending(meters):
            await outbox.mark_sent([entry.seq for entry in entries], CLOCK.now())
        marked = bytes_written()
    readings = CYCLES * meters * len(REGISTERS)
    figures = {"readings_per_s": readings / took_s, "commit_ms": took_s / CYCLES * 1000}
    if written is not None and appended is not None and marked is not None:
        figures["bytes_per_reading_append"] = (appended - written) / readings
        figures["bytes_per_reading_mark"] = (marked - appended) / readings
    return figures


async def drain(directory: Path, url: str, window: int) -> dict[str, float]:
    """A backlog through a real broker, until the last of it is marked."""
    settings = BrokerSettings(url=url, client_id=f"bench-{directory.name}")
    async with open_outbox(directory / "gateway.db", OutboxLimits(), CLOCK) as outbox:
        for number in range(BACKLOG // 100):
            await outbox.append(cycle(number, 100))
        async with MqttPort(settings).connect() as connection:
            began = time.perf_counter()
            sending = asyncio.create_task(
                uplink.run(
                    outbox,
                    connection,
                    UplinkSettings(in_flight_max=window, backfill_per_s=0),
                    CLOCK,
                )
            )
            await _drained(outbox)
            took_s = time.perf_counter() - began
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    return {"envelopes_per_s": BACKLOG / took_s}


async def _drained(outbox: Outbox) -> None:
    while (await outbox.state()).pending:
        await asyncio.sleep(0.02)


async def look(directory: Path) -> dict[str, float]:
    """What the status page costs, at a full day of fifty meters."""
    async with open_outbox(directory / "gateway.db", OutboxLimits(), CLOCK) as outbox:
        for number in range(1_440 // 4):
            await outbox.append(cycle(number, 200))
        began = time.perf_counter()
        for _ in range(200):
            await outbox.state()
        return {"state_ms": (time.perf_counter() - began) / 200 * 1000}


def report(name: str, runs: Sequence[dict[str, float]], **about: object) -> None:
    """Print the runs' medians with their spread."""
    figures = {
        key: {
            "median": round(statistics.median(run[key] for run in runs), 2),
            "min": round(min(run[key] for run in runs), 2),
            "max": round(max(run[key] for run in runs), 2),
        }
        for key in runs[0]
    }
    print(json.dumps({"bench": name, **about, "repeats": len(runs), **figures}), flush=True)


async def main(repeats: int, parent: Path | None) -> None:
    async def runs(one: Callable[[Path], object]) -> list[dict[str, float]]:
        results = []
        for _ in range(repeats):
            directory = Path(tempfile.mkdtemp(prefix="openami-bench-", dir=parent))
            try:
                results.append(await one(directory))  # type: ignore[misc]
            finally:
                shutil.rmtree(directory)
        return results

    for meters in (1, 20, 100):
        figures = await runs(lambda directory, n=meters: append_and_mark(directory, n))  # type: ignore[misc]
        report("outbox_append", figures, meters=meters, registers=len(REGISTERS), cycles=CYCLES)
    report("outbox_state", await runs(look), entries=72_000)
    async with embedded_broker() as broker:
        for window in (20, 100):
            figures = await runs(lambda directory, n=window: drain(directory, broker.url, n))  # type: ignore[misc]
            report("outbox_drain", figures, window=window, broker=broker.program)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.repeats, arguments.directory)))
