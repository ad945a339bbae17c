"""Gateways' work without gateways: envelopes at a steady rate, each with its number, at QoS 1."""

import asyncio
import struct
from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.publisher import START, envelope

METERS: Final = 50
REGISTERS: Final = 3
TICK_S: Final = 0.1
_CLIENT_ID: Final = b"bench-failover"


class Load:
    """Publishes until it is told to stop. A broker that lives acknowledges at once, so nothing is repeated."""

    def __init__(self, port: int, per_s: int) -> None:
        self.published = 0
        """How many the broker has acknowledged: their ``seq`` are 1 to this."""
        self._port = port
        self._per_s = per_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Publish at the rate; what was sent is acknowledged when it returns."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + _text(_CLIENT_ID)
        writer.write(b"\x10" + bytes([len(body)]) + body)
        connack = await reader.readexactly(4)
        assert connack[3] == 0, f"the broker refused us: {connack!r}"
        sent, loop = 0, asyncio.get_running_loop()
        begun = loop.time()
        while not self._stopping.is_set():
            due = int((loop.time() - begun) * self._per_s)
            writer.write(b"".join(_publish(number) for number in range(sent, due)))
            for _ in range(sent, due):
                await reader.readexactly(4)  # a PUBACK, in order; nothing else comes
                self.published += 1
            sent = due
            await asyncio.sleep(TICK_S)
        writer.close()


def readings_of(seq: int) -> tuple[str, datetime, float]:
    """Return of an envelope: meter, measured time, and the value of its counter."""
    cycle, meter = divmod(seq - 1, METERS)
    return f"BM{meter:05d}", START + timedelta(minutes=cycle), 1842.5 + (seq - 1) / 1000


def seq_of(meter_serial: str, ts: datetime) -> int:
    """Return which envelope a reading came with."""
    cycle = (ts.astimezone(UTC) - START) // timedelta(minutes=1)
    return cycle * METERS + int(meter_serial.removeprefix("BM")) + 1


def _publish(number: int) -> bytes:
    topic, payload = envelope(number, METERS, REGISTERS)
    body = _text(topic.encode()) + struct.pack("!H", number % 65535 + 1) + payload
    length, size = bytearray(), len(body)
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return b"\x32" + bytes(length) + body


def _text(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text
