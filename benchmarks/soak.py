"""Two days without an uplink, and then all of it at once, through a real broker into a real store.

    python -m benchmarks.soak [--meters 500] [--hours 48] [--interval-s 30] [--directory DIR]

The outbox is the gateway's own, on a real disk, filled in compressed time: a clock that obeys goes through the
hours, one durable commit a cycle. Then the real gateway program drains it through mosquitto into the real head-end
program, while it goes on reading one meter. At the end every reading is compared by identity and value. Prints one
JSON object; exit code 1 when a reading is lost, added or changed.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.bench_gateway_idle import Bank
from benchmarks.processes import resident_mb
from openami.clock import Clock, SystemClock
from openami.gateway.config import DATABASE_FILE
from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Draft, Kind, OutboxLimits, open_outbox
from openami.gateway.timekeeping import ClockSource
from openami.headend.store import Access, Store, Tally
from openami.headend.store.open import open_store
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
    Value,
)
from openami.simulator.audit import everything_arrived, traffic
from openami.simulator.config_files import MeterPlace, gateway_toml, headend_toml, modbus_place
from openami.simulator.modbus_server import ModbusLine, serving
from openami.simulator.programs import Program

FEEDER_ID, GATEWAY_ID = FeederId("feeder-soak"), GatewayId("gateway-soak")
REGISTERS = (("1.8.0", "kWh"), ("1.7.0", "kW"), ("32.7.0", "V"))
OBIS = tuple(Obis.parse(code) for code, _ in REGISTERS)
# Room for all of it: an envelope of three registers is charged with less than this.
BYTES_MAX_PER_ENVELOPE = 640
BYTES_MAX_LEAST = 64 * 1024 * 1024
LOOK_S = 0.5
START_S_MAX = 30.0
DRAIN_S_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Silence:
    """What a gateway reads while its uplink is away."""

    meters: int
    interval_s: int
    cycles: int
    begun: datetime

    @property
    def envelopes(self) -> int:
        return self.meters * self.cycles

    def ts(self, cycle: int) -> datetime:
        """Return when a cycle was measured."""
        return self.begun + timedelta(seconds=cycle * self.interval_s)

    def drafts(self, cycle: int) -> list[Draft]:
        """Return what a cycle's poll of every meter brings."""
        return [
            Draft(
                Envelope(
                    ts=self.ts(cycle),
                    feeder_id=FEEDER_ID,
                    gateway_id=GATEWAY_ID,
                    meter_serial=serial(meter),
                    registers=tuple(
                        RegisterReading(obis, value, unit, Quality.GOOD)
                        for obis, (_, unit), value in zip(
                            OBIS, REGISTERS, values(meter, cycle), strict=True
                        )
                    ),
                ),
                Kind.TELEMETRY,
                PollGroup.FAST,
            )
            for meter in range(self.meters)
        ]


def serial(meter: int) -> MeterSerial:
    """Return a meter's serial number."""
    return MeterSerial(f"SOAK-{meter:05d}")


def values(meter: int, cycle: int) -> tuple[float, float, float]:
    """Return what a meter shows: no two cycles the same, so that a swapped value is seen."""
    return (
        meter + cycle / 1000,
        (meter * 7 + cycle) % 9973 / 1000,
        210 + (meter + cycle) % 4001 / 100,
    )


class CompressedClock:
    """Wall time and boot time run together, as fast as they are told to."""

    def __init__(self, begun: datetime) -> None:
        self._now = begun
        self._boottime_s = 1_000.0

    def now(self) -> datetime:
        return self._now

    def boottime(self) -> float:
        return self._boottime_s

    def synchronised(self) -> bool:
        return True

    def go_to(self, moment: datetime) -> None:
        self._boottime_s += (moment - self._now).total_seconds()
        self._now = moment


class Memory:
    """Resident sizes on the way, by the quarter of the work in which they were seen."""

    def __init__(self) -> None:
        self._seen: tuple[list[float], ...] = ([], [], [], [])

    def note(self, pid: int, done: float) -> None:
        """Note what a process holds when this share of the work is done."""
        self._seen[min(3, int(done * 4))].append(resident_mb(pid))

    def told(self) -> list[dict[str, float]]:
        """Return least, median and greatest of each quarter, in MB."""
        return [
            {
                "min": round(min(seen), 1),
                "median": round(statistics.median(seen), 1),
                "max": round(max(seen), 1),
            }
            for seen in self._seen
            if seen
        ]


async def fill(data_dir: Path, silence: Silence, limits: OutboxLimits) -> dict[str, object]:
    """Live through the silence; return what it took."""
    clock, memory, own_pid = CompressedClock(silence.begun), Memory(), _own_pid()
    data_dir.mkdir()  # noqa: ASYNC240 - nothing else runs yet
    began = time.perf_counter()
    longest_s = 0.0
    path = data_dir / DATABASE_FILE
    async with open_outbox(path, limits, clock, clock_source=ClockSource.RTC) as outbox:
        for cycle in range(silence.cycles):
            clock.go_to(silence.ts(cycle))
            drafts = silence.drafts(cycle)
            append_began = time.perf_counter()
            await outbox.append(drafts)
            longest_s = max(longest_s, time.perf_counter() - append_began)
            if cycle % 10 == 0:
                memory.note(own_pid, cycle / silence.cycles)
        state = await outbox.state()
    assert state.pending == silence.envelopes, "the outbox's bound was too small for the silence"
    took_s = time.perf_counter() - began
    disk = path.stat().st_size
    return {
        "fill_s": round(took_s, 1),
        "fill_envelopes_per_s": round(silence.envelopes / took_s),
        "append_longest_ms": round(longest_s * 1000),
        "fill_memory_mb": memory.told(),
        "outbox_file_bytes": disk,
        "outbox_charged_bytes": state.bytes_used,
        "file_bytes_per_envelope": round(disk / silence.envelopes, 1),
        "charged_bytes_per_envelope": round(state.bytes_used / silence.envelopes, 1),
    }


@dataclass(frozen=True, slots=True)
class Drain:
    """The programs of a drain."""

    gateway: Program
    headend: Program
    outbox: Path
    store: Store


@asynccontextmanager
async def draining(directory: Path, limits: OutboxLimits) -> AsyncIterator[Drain]:
    """Start broker, head-end and the gateway that has everything; stop them in the end."""
    async with AsyncExitStack() as parts:
        broker = await parts.enter_async_context(embedded_broker(("mosquitto",)))
        port = await parts.enter_async_context(serving(ModbusLine({1: Bank()})))
        store_url = f"sqlite:///{directory / 'headend.db'}"
        mqtt = BrokerSettings(url=broker.url, client_id="soak-gateway")
        toml = gateway_toml(
            feeder_id=FEEDER_ID,
            gateway_id=GATEWAY_ID,
            data_dir=directory / "gateway",
            mqtt=mqtt,
            lines=[
                modbus_place(
                    "live", port, [MeterPlace(MeterSerial("LIVE-1"), {"unit": 1, "map": "sdm120"})]
                )
            ],
        ).replace("[uplink]", "[uplink]\nbackfill_per_s = 0\nin_flight_max = 200")
        toml += f"\n[outbox]\nbytes_max = {limits.bytes_max}\n"
        (directory / "gateway.toml").write_text(toml)
        (directory / "headend.toml").write_text(
            headend_toml(
                store_url=store_url,
                mqtt=BrokerSettings(url=broker.url, client_id="soak-headend", protocol="3.1.1"),
            )
        )
        programs = {}
        for name in ("headend", "gateway"):
            words = [name, "run", "-c", str(directory / f"{name}.toml")]
            program = Program(name, words, log=directory / f"{name}.log")
            programs[name] = program
            parts.push_async_callback(program.stop)
            await program.start()
            async with asyncio.timeout(START_S_MAX):
                while name == "headend" and not program.has_said("ready:"):
                    program.check()
                    await asyncio.sleep(0.05)
        store = await parts.enter_async_context(open_store(store_url, Access.READ))
        yield Drain(
            programs["gateway"],
            programs["headend"],
            directory / "gateway" / DATABASE_FILE,
            store,
        )


async def drain(directory: Path, silence: Silence, limits: OutboxLimits) -> dict[str, object]:
    """Let the gateway send what it has; return what it took and what arrived."""
    memories = {"gateway": Memory(), "headend": Memory()}
    began = time.perf_counter()
    async with draining(directory, limits) as running, asyncio.timeout(DRAIN_S_MAX):
        while True:
            running.gateway.check()
            running.headend.check()
            done = traffic(running.outbox).sent / silence.envelopes
            for program, memory in zip(
                (running.gateway, running.headend), memories.values(), strict=True
            ):
                assert program.pid is not None
                memory.note(program.pid, done)
            if traffic(running.outbox).backlog == 0 and await everything_arrived(
                running.outbox, running.store, before=Tally()
            ):
                break
            await asyncio.sleep(LOOK_S)
        took_s = time.perf_counter() - began
        await running.gateway.stop()
        compared = await compare(running.store, silence)
        tally = await running.store.totals()
    return {
        "drain_s": round(took_s, 1),
        "drain_envelopes_per_s": round(silence.envelopes / took_s),
        **{f"{name}_memory_mb": memory.told() for name, memory in memories.items()},
        **compared,
        "delivered_again": tally.duplicates,
        "conflicts": tally.conflicts,
        "rejected": tally.rejected_messages + tally.rejected_items,
        "store_bytes": (directory / "headend.db").stat().st_size,
    }


async def compare(store: Store, silence: Silence) -> Mapping[str, int]:
    """Compare what is stored with what was read, reading by reading."""
    lost = added = changed = doubled = 0
    for meter in range(silence.meters):
        kept: dict[tuple[datetime, Obis], Value] = {}
        rows = 0
        async for reading in store.readings(FEEDER_ID, serial(meter)):
            kept[reading.ts, reading.obis] = reading.value
            rows += 1
        doubled += rows - len(kept)
        for cycle in range(silence.cycles):
            for obis, value in zip(OBIS, values(meter, cycle), strict=True):
                found = kept.pop((silence.ts(cycle), obis), None)
                lost += found is None
                changed += found is not None and found != value
        added += len(kept)
    expected = silence.envelopes * len(OBIS)
    return {
        "readings": expected, "lost": lost, "doubled": doubled, "changed": changed, "added": added,
    }  # fmt: skip


def silence_until(now: datetime, *, meters: int, hours: float, interval_s: int) -> Silence:
    """Return a silence that ends now, at the latest full second."""
    cycles = round(hours * 3600 / interval_s)
    begun = now.replace(microsecond=0) - timedelta(seconds=cycles * interval_s)
    return Silence(meters, interval_s, cycles, begun)


async def soak(directory: Path, silence: Silence) -> dict[str, object]:
    """Fill, drain, compare; return the figures."""
    bytes_max = max(BYTES_MAX_LEAST, BYTES_MAX_PER_ENVELOPE * silence.envelopes)
    limits = OutboxLimits(bytes_max=bytes_max)
    about = {
        "benchmark": "soak", "meters": silence.meters, "interval_s": silence.interval_s,
        "hours": silence.cycles * silence.interval_s / 3600, "envelopes": silence.envelopes,
        "outbox_bytes_max": bytes_max,
    }  # fmt: skip
    filled = await fill(directory / "gateway", silence, limits)
    print(json.dumps(about | filled), file=sys.stderr, flush=True)
    return about | filled | await drain(directory, silence, limits)


def is_sound(figures: Mapping[str, object]) -> bool:
    """Return whether every reading arrived, once and unchanged, and nothing else did."""
    wrong: Sequence[str] = ("lost", "doubled", "changed", "added", "conflicts", "rejected")
    return all(figures[name] == 0 for name in wrong)


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)


def _obeys_the_port(clock: CompressedClock) -> Clock:
    return clock


def main() -> int:
    """Run it as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--meters", type=int, default=500)
    parser.add_argument("--hours", type=float, default=48.0)
    parser.add_argument("--interval-s", type=int, default=30)
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    asked = parser.parse_args()
    silence = silence_until(
        SystemClock().now(), meters=asked.meters, hours=asked.hours, interval_s=asked.interval_s
    )
    with tempfile.TemporaryDirectory(prefix="openami-soak-", dir=asked.directory) as folder:
        figures = asyncio.run(soak(Path(folder), silence))
    print(json.dumps(figures))
    return 0 if is_sound(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
