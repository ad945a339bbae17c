"""Gateways that send as the real ones do: what has no PUBACK is sent again over the next connection, in turn.

They know by number what they were acknowledged, which is what a cluster is judged by.
"""

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import msgspec

from openami.mqtt.backoff import Backoff
from openami.mqtt.cluster import ClusterPort
from openami.mqtt.port import Connection, TransportError
from openami.mqtt.settings import BrokerSettings

FEEDER = "feeder-1"
METERS = 5
IN_FLIGHT = 20  # a gateway's own default
START = datetime(2026, 6, 22, tzinfo=UTC)
PROVEN_AFTER_S = 60.0  # as the gateway's own `Reconnector`


def name(index: int) -> str:
    """Return what the certificate calls a gateway."""
    return f"{FEEDER}/gateway-{index}"


def identity(index: int, number: int) -> tuple[str, int]:
    """Return meter and measured time (ms since 1970) of a gateway's numbered message."""
    cycle, meter = divmod(number, METERS)
    ts = START + timedelta(seconds=cycle)
    return f"G{index}M{meter}", round(ts.timestamp() * 1000)


def message(index: int, number: int) -> tuple[str, bytes]:
    """Return topic and payload: one register, so that a message is one reading in the store."""
    serial, ts_ms = identity(index, number)
    ts = datetime.fromtimestamp(ts_ms / 1000, UTC)
    body = {
        "schemaVersion": "0.1",
        "ts": ts.isoformat().replace("+00:00", "Z"),
        "feederId": FEEDER,
        "gatewayId": f"gateway-{index}",
        "meterSerial": serial,
        "seq": number + 1,
        "registers": [
            {"obis": "1.8.0", "value": 1842.5 + number / 1000, "unit": "kWh", "quality": "good"}
        ],
    }
    return f"openami/v1/{name(index)}/meter/{serial}/telemetry", msgspec.json.encode(body)


class Gateway:
    """One of them. ``going`` is cleared to have it send nothing new."""

    def __init__(self, index: int, settings: BrokerSettings, dice: random.Random) -> None:
        self.index = index
        self.going = asyncio.Event()
        self.acknowledged: list[tuple[float, int]] = []
        """When a PUBACK came, and for which number; bound: the length of a benchmark."""
        self.sent = 0
        self._port = ClusterPort(settings)
        self._urls = settings.addresses
        self._backoff = Backoff(dice.random)
        self._again: deque[int] = deque()  # sent and not acknowledged: at most IN_FLIGHT

    @property
    def node(self) -> int:
        """Which node it is connected to, or will try next."""
        return self._urls.index(self._port.address)

    @property
    def owed(self) -> int:
        """How many it has sent without an answer."""
        return self.sent - len(self.acknowledged)

    async def run(self) -> None:
        """Connect, send, wait, for ever."""
        while True:
            began_s = time.monotonic()
            try:
                async with self._port.connect() as connection:
                    await self._send(connection)
            except TransportError:
                if time.monotonic() - began_s >= PROVEN_AFTER_S:
                    self._backoff.reset()
                await asyncio.sleep(self._backoff.next_s())

    async def _send(self, connection: Connection) -> None:
        senders = [asyncio.create_task(self._sender(connection)) for _ in range(IN_FLIGHT)]
        try:
            await asyncio.wait(senders, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for sender in senders:
                sender.cancel()
            ended = await asyncio.gather(*senders, return_exceptions=True)
        raise next(each for each in ended if isinstance(each, TransportError))

    async def _sender(self, connection: Connection) -> None:
        while True:
            if not self._again:
                await self.going.wait()
            number = self._again.popleft() if self._again else self._next()
            try:
                await connection.publish(*message(self.index, number))
            except BaseException:
                self._again.append(number)
                raise
            self.acknowledged.append((time.monotonic(), number))

    def _next(self) -> int:
        self.sent += 1
        return self.sent - 1
