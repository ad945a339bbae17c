"""A tap between broker and head-end: which envelopes the head-end acknowledged, and when.

It passes every byte on and reads along, as much of MQTT 3.1.1 as that takes: the broker's PUBLISH at QoS 1, the
head-end's PUBACK.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
_READ_BYTES: Final = 65536
_SEQ: Final = re.compile(rb'"seq":(\d+)')


class Tap:
    """Holds what was acknowledged: envelopes by their ``seq``, each with the moment of its first PUBACK."""

    def __init__(self, broker_port: int) -> None:
        self.acknowledged: dict[int, float] = {}
        self.port = 0
        self._broker_port = broker_port

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection of the head-end to the broker and back."""
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        under_way: dict[int, int] = {}

        def down(packet: bytes) -> None:
            # QoS 1, which is what gateways publish with; the head-end's own trials carry no seq.
            if packet[0] & 0xF6 == PUBLISH | 0x02 and (seq := _SEQ.search(packet)):
                under_way[_packet_id(packet)] = int(seq[1])

        def up(packet: bytes) -> None:
            if packet[0] == PUBACK and (seq := under_way.pop(_packet_id(packet), None)) is not None:
                self.acknowledged.setdefault(seq, time.monotonic())

        with suppress(asyncio.CancelledError):  # the run is over
            async with asyncio.TaskGroup() as group:
                group.create_task(_copied(reader, to_broker, up))
                group.create_task(_copied(from_broker, writer, down))


@asynccontextmanager
async def running_tap(broker_port: int) -> AsyncIterator[Tap]:
    """Yield a tap that listens on a port of its own."""
    tap = Tap(broker_port)
    server = await asyncio.start_server(tap.pass_on, "127.0.0.1", 0)
    async with server:
        tap.port = server.sockets[0].getsockname()[1]
        yield tap


async def _copied(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, heard: Callable[[bytes], None]
) -> None:
    rest = b""
    try:
        while data := await source.read(_READ_BYTES):
            sink.write(data)
            rest += data
            taken = 0
            for packet in packets(rest):
                taken += len(packet)
                heard(packet)
            rest = rest[taken:]
            await sink.drain()
    except OSError:
        pass  # one side has gone, and so does the other
    finally:
        sink.close()


def packets(data: bytes) -> Iterator[bytes]:
    """Yield the whole MQTT packets that data begins with."""
    begin = 0
    while (size := _size(data, begin)) is not None and begin + size <= len(data):
        yield data[begin : begin + size]
        begin += size


def _size(data: bytes, begin: int) -> int | None:
    length = 0
    for place, digit in enumerate(data[begin + 1 : begin + 5]):
        length |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            return 2 + place + length
    return None


def _packet_id(packet: bytes) -> int:
    at = 2
    while packet[at - 1] & 0x80:
        at += 1
    if packet[0] & 0xF0 == PUBLISH:
        at += 2 + int.from_bytes(packet[at : at + 2])
    return int.from_bytes(packet[at : at + 2])
