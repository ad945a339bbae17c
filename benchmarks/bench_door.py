"""The kit's door and judge together, over TLS before a real broker: messages a second, and what they cost.

    python -m benchmarks.bench_door [MESSAGES]

A generator in a process of its own publishes what `benchmarks.publisher` makes, at 1,000 a second and then as fast
as it is acknowledged; the door ends TLS, each packet is read, judged, passed to mosquitto and acknowledged by it.
One JSON line a case: messages a second, the kit's own CPU for each, and how late PUBACKs came.
"""

import asyncio
import json
import resource
import ssl
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.publisher import packets
from openami.clock import SystemClock
from openami.conformance.credentials import USERNAME
from openami.conformance.house import HouseSettings, open_house
from openami.conformance.mqtt_packets import PacketReader, PubAck
from openami.pki.names import GatewayName

MESSAGES = 30_000
METERS = 500
REGISTERS = 6
WINDOW = 200
# The generator wakes as often; a hundredth of a second's messages leave at once.
TICK_S = 0.01


def main(arguments: list[str]) -> None:
    """Measure, or be the generator."""
    if arguments[:1] == ["publish"]:
        port, directory, wanted, rate = arguments[1:]
        asyncio.run(publish(int(port), Path(directory), int(wanted), float(rate)))
        return
    count = int(arguments[0]) if arguments else MESSAGES
    for a_second in (1_000.0, 0.0):
        asyncio.run(measure(count, a_second))


async def measure(count: int, rate: float) -> None:
    """Print one case; ``rate`` 0: as fast as it goes."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "kit"
        settings = HouseSettings(
            host="localhost",
            port=0,
            plain_port=None,
            directory=directory,
            name=GatewayName.parse("feeder-bench-01/gateway-bench"),
        )
        async with open_house(settings, SystemClock()) as house:
            began_cpu = time.process_time()
            generator = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.bench_door", "publish"),
                *(str(house.port), str(directory), str(count), str(rate)),
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await generator.communicate()
            cpu_s = time.process_time() - began_cpu
            judgement = house.judgement()
    told = json.loads(said)
    line = {
        "benchmark": "door",
        "case": f"at {rate:.0f} a second" if rate else "as fast as it goes",
        "messages": count,
        "per_s": round(count / told["took_s"]),
        "kit_cpu_us": round(cpu_s / count * 1e6),
        "puback_p50_ms": told["p50_ms"],
        "puback_p99_ms": told["p99_ms"],
        "resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seen": next(f.seen for f in judgement.findings if f.requirement == "OA-QOS-001"),
    }
    print(json.dumps(line), flush=True)


async def publish(port: int, directory: Path, count: int, rate: float) -> None:
    """Publish everything; print how long it took and how late the acknowledgements were."""
    stream = list(packets(count, METERS, REGISTERS))
    tls = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
    writer.write(_connect((directory / "password").read_text().strip()))
    answers = PacketReader(4)
    for _ in answers.read(await reader.read(65536)):
        pass
    sent_at: dict[int, float] = {}
    late_s: list[float] = []
    began = time.perf_counter()

    async def take() -> None:
        while len(late_s) < count:
            data = await reader.read(65536)
            now = time.perf_counter()
            late_s.extend(
                now - sent_at.pop(framed.packet.packet_id)
                for framed in answers.read(data)
                if isinstance(framed.packet, PubAck)
            )

    taking = asyncio.create_task(take())
    sent = 0
    while sent < count:
        due = count if not rate else min(count, int((time.perf_counter() - began) * rate) + 1)
        due = min(due, len(late_s) + WINDOW)
        for number in range(sent, due):
            sent_at[number % 65535 + 1] = time.perf_counter()
            writer.write(stream[number])
        sent = max(sent, due)
        await asyncio.sleep(TICK_S if rate else 0)
    await taking
    took_s = time.perf_counter() - began
    writer.close()
    late_s.sort()
    row = {
        "took_s": took_s,
        "p50_ms": round(late_s[len(late_s) // 2] * 1000, 1),
        "p99_ms": round(late_s[len(late_s) * 99 // 100] * 1000, 1),
    }
    print(json.dumps(row), flush=True)


def _connect(password: str) -> bytes:
    words = b"".join(
        len(word).to_bytes(2, "big") + word
        for word in (b"bench", USERNAME.encode(), password.encode())
    )
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + words
    assert len(body) < 128
    return bytes((0x10, len(body))) + body


if __name__ == "__main__":
    main(sys.argv[1:])
