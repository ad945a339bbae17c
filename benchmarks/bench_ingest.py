"""Durable ingest end to end: publisher → mosquitto → head-end → store, on the cores they share.

The head-end is the real program. Each run starts an empty broker and an empty store, publishes MESSAGES
envelopes of three registers, and ends when the last reading is in the store. The clock runs from the
publisher's start to that moment. Memory is the head-end's resident size on the way.

    python -m benchmarks.bench_ingest [sqlite|postgres] [MESSAGES] [RUNS] [5|3.1.1]

PostgreSQL: name a server whose databases may be made and dropped, OPENAMI_BENCH_POSTGRES=postgresql://….
"""

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from openami.headend.store import Access
from openami.headend.store.open import open_store

REGISTERS = 3
DEADLINE_S = 300  # a run that takes longer has failed
LOOK_S = 0.05  # how often the store is asked; the figure is as fine as that
RESIDENT_AT = (0.1, 0.5, 1.0)

CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 1000000
max_queued_bytes 0
max_inflight_messages 1000
set_tcp_nodelay true
message_size_limit 65536
user root
"""


def free_port() -> int:
    """Return a loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_mb(pid: int) -> float:
    """Return a process's resident size in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def cpu_s(pid: int) -> float:
    """Return the processor seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_once(url: str, messages: int, protocol: str) -> dict[str, float]:
    """Publish and store everything once; return the figures of the run."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        config = Path(folder) / "mosquitto.conf"
        config.write_text(CONFIG.format(port=port, directory=folder))
        store = url.format(directory=folder)
        log = (Path(folder) / "log").open("wb")
        broker = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=log, stderr=log)
        time.sleep(0.3)
        headend = subprocess.Popen(
            [
                sys.executable, "-m", "openami", "headend", "run", "--mqtt-version", protocol,
                "--broker", f"mqtt://127.0.0.1:{port}", "--store", store,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        publisher = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.publisher", str(port), str(messages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert headend.stderr is not None
            assert publisher.stdout is not None
            for line in headend.stderr:
                if "ready" in line:
                    break
            publisher.stdout.readline()
            return asyncio.run(timed(publisher, headend.pid, store, messages))
        finally:
            for process in (publisher, headend, broker):
                process.send_signal(signal.SIGTERM)
            for process in (publisher, headend, broker):
                process.wait(timeout=20)


async def timed(
    publisher: subprocess.Popen[str], pid: int, url: str, messages: int
) -> dict[str, float]:
    """Let the publisher go; return the figures when the last reading is stored."""
    assert publisher.stdin is not None
    resident: list[float] = []
    async with open_store(url, Access.READ) as store, asyncio.timeout(DEADLINE_S):
        before_cpu, began = cpu_s(pid), time.perf_counter()
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
        for share in RESIDENT_AT:
            while (await store.totals()).stored < messages * REGISTERS * share:  # noqa: ASYNC110 - another process
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


def postgres_url(server: str) -> str:
    """Make an empty database and return its URL."""
    import asyncpg

    name = f"openami_bench_{os.getpid()}_{time.monotonic_ns()}"

    async def create() -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()

    asyncio.run(create())
    return server.rsplit("/", 1)[0] + "/" + name


def main(arguments: list[str]) -> None:
    """Run the benchmark and print one JSON object."""
    engine = arguments[0] if arguments else "sqlite"
    messages = int(arguments[1]) if len(arguments) > 1 else 200_000
    repeats = int(arguments[2]) if len(arguments) > 2 else 3
    protocol = arguments[3] if len(arguments) > 3 else "5"
    runs = []
    for _ in range(repeats):
        if engine == "postgres":
            url = postgres_url(os.environ["OPENAMI_BENCH_POSTGRES"])
        else:
            url = "sqlite:///{directory}/headend.db"
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
