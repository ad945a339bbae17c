"""Durable ingest end to end: publisher → mosquitto → head-end → store, on the cores they share.

The head-end is the real program. Each run starts an empty broker and an empty store, publishes MESSAGES
envelopes of three registers, and ends when the last reading is in the store. The clock runs from the
publisher's start to that moment. Memory is the head-end's resident size on the way.

    python -m benchmarks.bench_ingest [sqlite|postgres] [MESSAGES] [RUNS] [5|3.1.1]

PostgreSQL: a server of the benchmark's own, or the one that OPENAMI_BENCH_POSTGRES=postgresql://… names.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext

from benchmarks.broker import running_broker
from benchmarks.postgres_server import database, postgres_server
from benchmarks.processes import cpu_s, end, resident_mb, tidy_up_when_told_to_end
from openami.headend.store import Access
from openami.headend.store.open import open_store

METERS, REGISTERS = 500, 3
DEADLINE_S = 300  # a run that takes longer has failed
LOOK_S = 0.05  # how often the store is asked; the figure is as fine as that
RESIDENT_AT = (0.1, 0.5, 1.0)


def run_once(url: str, messages: int, protocol: str, first: int = 0) -> dict[str, float]:
    """Publish and store everything once, from the numbered message on; return the figures of the run."""
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        store = url.format(directory=folder)
        headend = subprocess.Popen(
            [
                sys.executable, "-m", "openami", "headend", "run", "--mqtt-version", protocol,
                "--broker", broker.url, "--store", store,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        publisher = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.publisher",
                *map(str, (broker.port, messages, METERS, REGISTERS, first)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert headend.stderr is not None
            assert publisher.stdout is not None
            for line in headend.stderr:
                if "ready" in line:
                    break
            publisher.stdout.readline()
            return asyncio.run(timed(publisher, headend.pid, store, messages))
        finally:
            end(publisher)
            end(headend)


async def timed(
    publisher: subprocess.Popen[str], pid: int, url: str, messages: int
) -> dict[str, float]:
    """Let the publisher go; return the figures when the last reading is stored."""
    assert publisher.stdin is not None
    resident: list[float] = []
    async with open_store(url, Access.READ) as store, asyncio.timeout(DEADLINE_S):
        there = (await store.totals()).stored
        before_cpu, began = cpu_s(pid), time.perf_counter()
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
        for share in RESIDENT_AT:
            due = there + messages * REGISTERS * share
            while (await store.totals()).stored < due:
                await asyncio.sleep(LOOK_S)
            resident.append(resident_mb(pid))
        seconds = time.perf_counter() - began
    return {
        "envelopes_per_s": messages / seconds,
        "headend_cpu_us_per_envelope": (cpu_s(pid) - before_cpu) / messages * 1e6,
        **{
            f"headend_rss_mb_at_{share:.0%}": mb
            for share, mb in zip(RESIDENT_AT, resident, strict=True)
        },
    }


def main(arguments: list[str]) -> None:
    """Run the benchmark and print one JSON object."""
    tidy_up_when_told_to_end()
    engine = arguments[0] if arguments else "sqlite"
    messages = int(arguments[1]) if len(arguments) > 1 else 200_000
    repeats = int(arguments[2]) if len(arguments) > 2 else 3
    protocol = arguments[3] if len(arguments) > 3 else "5"
    runs = []
    with postgres_server() if engine == "postgres" else nullcontext() as server:
        for _ in range(repeats):
            if engine == "sqlite":
                runs.append(run_once("sqlite:///{directory}/headend.db", messages, protocol))
                continue
            assert server is not None, "PostgreSQL is not installed"
            with database(server) as url:
                runs.append(run_once(url, messages, protocol))
    result: dict[str, object] = {
        "benchmark": "ingest", "engine": engine, "messages": messages, "registers": REGISTERS,
        "mqtt": protocol, "runs": repeats,
    }  # fmt: skip
    for figure in runs[0]:
        values = sorted(run[figure] for run in runs)
        result[figure] = {
            "median": round(statistics.median(values), 1),
            "min": round(values[0], 1),
            "max": round(values[-1], 1),
        }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
