"""What each program holds when it has been up for a while and nothing happens: resident, and its own share of it.

    python -m benchmarks.bench_memory [--repeats 3] [--settle 10]

Our programs as they are started in the field, with twenty meters behind the gateway; beside them a broker. Its own
share counts a page that several processes have in common only once among them (PSS), so shares add up. What
programs hold at their work is measured where they work: `bench_gateway_idle`, `bench_ingest`, `soak`. One figure a
line.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.bench_gateway_idle import METERS_A_LINE, Bank, configuration
from benchmarks.figures import figure, say
from benchmarks.processes import free_port, resident_mb, tidy_up_when_told_to_end
from openami.mqtt.embedded import embedded_broker
from openami.simulator.modbus_server import ModbusLine, serving
from openami.simulator.programs import Program

METERS = 20
START_S_MAX = 60.0
_LOOK_S = 0.05


def share_mb(pid: int) -> float:
    """Return a process's proportional share of the memory it holds, in MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


async def measure(folder: Path, settle_s: float) -> dict[str, tuple[float, float]]:
    """Start everything; return what each holds after a while, resident and its share."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(embedded_broker(("mosquitto",)))
        meters = ModbusLine(dict.fromkeys(range(1, METERS_A_LINE + 1), Bank()))
        port = await stack.enter_async_context(serving(meters))
        gateway = folder / "gateway.toml"
        gateway.write_text(
            configuration(folder / "gateway", broker.url, free_port(), [port], METERS)
        )
        headend = ["headend", "run", "--broker", broker.url]
        kit = ["conformance", "serve", "--host", "localhost", "--directory", str(folder / "kit")]
        kit += ["--port", str(free_port()), "--plain-port", str(free_port()), "--page", ""]
        commands = {
            "gateway": ["gateway", "run", "-c", str(gateway)],
            "headend": [*headend, "--client-id", "a", "--store", f"sqlite:///{folder / 'a.db'}"],
            "console": [
                *headend, "--client-id", "b", "--store", f"sqlite:///{folder / 'b.db'}",
                "--listen", f"127.0.0.1:{free_port()}",
            ],
            "kit": kit,
        }  # fmt: skip
        programs = {
            name: Program(name, words, log=folder / f"{name}.log")
            for name, words in commands.items()
        }
        for program in programs.values():
            stack.push_async_callback(program.stop)
            await program.start()
        async with asyncio.timeout(START_S_MAX):
            while any((folder / f"{name}.log").stat().st_size == 0 for name in programs):
                await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(settle_s)
        held = {}
        for name, program in programs.items():
            program.check()
            assert program.pid is not None
            held[name] = (resident_mb(program.pid), share_mb(program.pid))
        return held


WORDS = {
    "gateway": "the gateway, twenty meters",
    "headend": "the head-end, SQLite, without console",
    "console": "the head-end with console and API",
    "kit": "the conformance kit's door and judge",
}


def main() -> int:
    """Measure some times."""
    parser = argparse.ArgumentParser(description="what each program holds at rest")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--settle", type=float, default=10.0, help="seconds until they are looked at"
    )
    arguments = parser.parse_args()
    tidy_up_when_told_to_end()
    held: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, each in asyncio.run(measure(Path(folder), arguments.settle)).items():
                held[name].append(each)
    for name, samples in held.items():
        resident, share = zip(*samples, strict=True)
        say(figure(f"memory.{name}.resident", f"{WORDS[name]}: resident", "MB", resident))
        say(figure(f"memory.{name}.share", f"{WORDS[name]}: its share", "MB", share))
    return 0


if __name__ == "__main__":
    sys.exit(main())
