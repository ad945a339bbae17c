"""Durable ingest end to end: publisher → mosquitto → head-end → store, on the cores they share.

The head-end is the real program. Each run starts an empty broker and an empty store, publishes MESSAGES
envelopes of three registers, and ends when the last reading is in the store. The clock runs from the
publisher's start to that moment. Memory is the head-end's resident size at a tenth and at the end.

    python -m benchmarks.bench_ingest [sqlite|postgres] [MESSAGES] [RUNS]

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

REGISTERS = 3
DEADLINE_S = 300  # a run that takes longer has failed

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


async def stored(url: str) -> int:
    """Return how many readings the store says it has."""
    from openami.headend.store import Access, StoreError
    from openami.headend.store.open import open_store

    try:
        async with open_store(url, Access.READ) as store:
            return (await store.totals()).stored
    except StoreError:
        return 0


def run_once(url: str, messages: int) -> dict[str, float]:
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
                sys.executable, "-m", "openami", "headend", "run",
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
            assert publisher.stdin is not None
            for line in headend.stderr:
                if "ready" in line:
                    break
            publisher.stdout.readline()
            before_cpu = cpu_s(headend.pid)
            publisher.stdin.write("go\n")
            publisher.stdin.flush()
            began = time.perf_counter()
            early_mb = 0.0
            while True:
                time.sleep(0.1)
                count = asyncio.run(stored(store))
                if not early_mb and count >= messages * REGISTERS / 10:
                    early_mb = resident_mb(headend.pid)
                if count >= messages * REGISTERS:
                    break
                if time.perf_counter() - began > DEADLINE_S:
                    raise TimeoutError(f"{count} of {messages * REGISTERS} after {DEADLINE_S} s")
            seconds = time.perf_counter() - began
            return {
                "envelopes_per_s": messages / seconds,
                "headend_cpu_us_per_envelope": (cpu_s(headend.pid) - before_cpu) / messages * 1e6,
                "headend_rss_mb_at_tenth": early_mb,
                "headend_rss_mb_at_end": resident_mb(headend.pid),
            }
        finally:
            for process in (publisher, headend, broker):
                process.send_signal(signal.SIGTERM)
            for process in (publisher, headend, broker):
                process.wait(timeout=20)


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
    runs = []
    for _ in range(repeats):
        if engine == "postgres":
            url = postgres_url(os.environ["OPENAMI_BENCH_POSTGRES"])
        else:
            url = "sqlite:///{directory}/headend.db"
        runs.append(run_once(url, messages))
    result: dict[str, object] = {
        "benchmark": "ingest", "engine": engine, "messages": messages, "registers": REGISTERS,
        "runs": repeats,
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
