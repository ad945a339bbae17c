"""What a gateway at its work costs: a hundred meters polled each minute, a broker, somebody at its page.

The gateway is the real program, its meters are Modbus TCP servers, its broker is mosquitto, on this
machine. After a first minute (imports, first polls) processor time and resident memory of the gateway are
watched for MINUTES whole minutes; the page is asked for every ten seconds meanwhile, as a phone would.

    python -m benchmarks.bench_gateway_idle [METERS] [MINUTES]

Targets: at most 2 % of one core, at most 60 MB.
"""

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.processes import cpu_s, free_port, resident_mb
from openami.mqtt.embedded import embedded_broker
from openami.simulator.modbus_server import Area, ModbusLine, Write, WriteRefused, serving

METERS_A_LINE = 25
LOOK_S = 10
WARM_UP_S = 65  # the first aligned minute, whenever we begin


class Bank:
    """An SDM120 that stands still: every register is there, and 0 is a possible value of each."""

    def registers(self, area: Area) -> Mapping[int, int]:
        return _REGISTERS

    def write(self, how: Write, address: int, word: int) -> None:
        raise WriteRefused


_REGISTERS = dict.fromkeys(range(0x160), 0)


def configuration(folder: Path, broker_url: str, page: int, ports: list[int], meters: int) -> str:
    """Return the gateway's file."""
    rows = [
        'feeder_id = "feeder-1"',
        'gateway_id = "pole-1"',
        f'data_dir = "{folder}"',
        'clock = "rtc"',
        f'[mqtt]\nurl = "{broker_url}"',
        f'[status]\nlisten = "127.0.0.1:{page}"',
    ]
    for line, port in enumerate(ports):
        rows += ['[[line]]\ndriver = "modbus"\ntransport = "tcp"\nhost = "127.0.0.1"']
        rows += [f'name = "bus{line}"', f"port = {port}"]
        for unit in range(1, min(METERS_A_LINE, meters - line * METERS_A_LINE) + 1):
            serial = f"M-{line}-{unit:03}"
            rows.append(f'[[line.meter]]\nserial = "{serial}"\nunit = {unit}\nmap = "sdm120"')
    return "\n".join(rows)


async def watched(pid: int, page: int, minutes: int) -> dict[str, object]:
    """Return what the process used in each of so many minutes."""
    shares, memory = [], []
    await asyncio.sleep(WARM_UP_S)
    for _ in range(minutes):
        began, used = time.perf_counter(), cpu_s(pid)
        for _ in range(60 // LOOK_S):
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{page}/")
            memory.append(resident_mb(pid))
        shares.append(100 * (cpu_s(pid) - used) / (time.perf_counter() - began))
    return {
        "cpu_percent": round(statistics.median(shares), 2),
        "cpu_percent_spread": [round(min(shares), 2), round(max(shares), 2)],
        "rss_mb": round(max(memory), 1),
        "rss_mb_first": round(memory[0], 1),
    }


async def main(meters: int, minutes: int) -> None:
    """Run the gateway and print its figures."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = await stack.enter_async_context(embedded_broker())
        lines = -(-meters // METERS_A_LINE)
        bank = Bank()
        ports = [
            await stack.enter_async_context(
                serving(ModbusLine(dict.fromkeys(range(1, METERS_A_LINE + 1), bank)))
            )
            for _ in range(lines)
        ]
        page = free_port()
        file = folder / "gateway.toml"
        file.write_text(configuration(folder / "data", broker.url, page, ports, meters))
        command = [sys.executable, "-m", "openami", "gateway", "run", "-c", str(file)]
        gateway = await asyncio.create_subprocess_exec(*command)
        try:
            figures = await watched(gateway.pid, page, minutes)
        finally:
            gateway.send_signal(signal.SIGTERM)
            await gateway.wait()
    print(json.dumps({"meters": meters, "minutes": minutes, "cores": os.cpu_count(), **figures}))


if __name__ == "__main__":
    asyncio.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 100,
            int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        )
    )
