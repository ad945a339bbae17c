"""A load generator: publishes envelopes at QoS 1 as fast as the broker acknowledges them.

It speaks just enough MQTT 3.1.1 to connect, publish and count PUBACKs, on one socket, with packets made
beforehand: the two cores are the broker's and the head-end's, not the generator's.

    python -m benchmarks.publisher PORT MESSAGES [METERS [REGISTERS [FIRST [FEEDERS]]]]

FIRST is the number of the first message: what a run before published is not published again.
"""

import asyncio
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

FEEDER = "feeder-bench-01"
GATEWAY = "gateway-bench"
WINDOW = 200  # messages in flight: enough to keep the broker busy, small enough to be held to it
CHUNK_MESSAGES = 100  # written at once: a system call for a hundred messages
START = datetime(2026, 6, 22, tzinfo=UTC)

_REGISTERS: tuple[tuple[str, str, Callable[[int], float]], ...] = (
    ("1.8.0", "kWh", lambda n: 1842.5 + n / 1000),
    ("1.7.0", "kW", lambda n: (n % 1000) / 1000),
    ("32.7.0", "V", lambda n: 225.0 + n % 100 / 10),
    ("31.7.0", "A", lambda n: (n % 600) / 100),
    ("14.7.0", "Hz", lambda n: 49.9 + n % 20 / 100),
    ("13.7.0", "1", lambda n: 0.8 + n % 20 / 100),
)


def feeder_of(meter: int, feeders: int) -> str:
    """Return which feeder a meter is on, where there are several."""
    return FEEDER if feeders == 1 else f"feeder-bench-{meter % feeders + 1:02}"


def envelope(number: int, meters: int, registers: int, feeders: int = 1) -> tuple[str, bytes]:
    """Return topic and payload of the numbered message: meter by meter, then the next minute."""
    cycle, meter = divmod(number, meters)
    feeder = feeder_of(meter, feeders)
    serial = f"BM{meter:05d}"
    body = {
        "schemaVersion": "0.1",
        "ts": (START + timedelta(minutes=cycle)).isoformat().replace("+00:00", "Z"),
        "feederId": feeder,
        "gatewayId": GATEWAY,
        "meterSerial": serial,
        "seq": number + 1,
        "registers": [
            {"obis": obis, "value": value(number), "unit": unit, "quality": "good"}
            for obis, unit, value in _REGISTERS[:registers]
        ],
    }
    return f"openami/v1/{feeder}/{GATEWAY}/meter/{serial}/telemetry", msgspec.json.encode(body)


def _length(size: int) -> bytes:
    encoded = bytearray()
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(encoded)


def packets(
    count: int, meters: int, registers: int, first: int = 0, feeders: int = 1
) -> Iterator[bytes]:
    """Yield PUBLISH packets, QoS 1, with packet ids 1 to 65535 in turn."""
    for number in range(first, first + count):
        topic, payload = envelope(number, meters, registers, feeders)
        head = (
            struct.pack("!H", len(topic)) + topic.encode() + struct.pack("!H", number % 65535 + 1)
        )
        yield b"\x32" + _length(len(head) + len(payload)) + head + payload


async def publish(port: int, stream: list[bytes]) -> None:
    """Publish everything; return when the last PUBACK is in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client_id = b"bench-publisher"
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack("!H", len(client_id)) + client_id
    writer.write(b"\x10" + _length(len(body)) + body)
    connack = await reader.readexactly(4)
    assert connack[3] == 0, f"the broker refused us: {connack!r}"
    acknowledged = sent = 0
    rest = b""
    while acknowledged < len(stream):
        while sent < len(stream) and sent - acknowledged < WINDOW:
            chunk = stream[sent : sent + CHUNK_MESSAGES]
            writer.write(b"".join(chunk))
            sent += len(chunk)
        data = rest + await reader.read(65536)
        whole = len(data) // 4  # a PUBACK is four bytes, and nothing else comes
        acknowledged += whole
        rest = data[whole * 4 :]
    writer.write(b"\xe0\x00")
    await writer.drain()
    writer.close()


def main(arguments: list[str]) -> None:
    """Make the packets, say so, wait for a line on stdin, publish, say so."""
    port, count = int(arguments[0]), int(arguments[1])
    meters = int(arguments[2]) if len(arguments) > 2 else 500
    registers = int(arguments[3]) if len(arguments) > 3 else 3
    first = int(arguments[4]) if len(arguments) > 4 else 0
    feeders = int(arguments[5]) if len(arguments) > 5 else 1
    stream = list(packets(count, meters, registers, first, feeders))
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(publish(port, stream))
    print("published", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
