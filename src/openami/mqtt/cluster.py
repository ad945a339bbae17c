"""ClusterPort: the way to a broker that has several addresses, tried in turn (decision 0071).

One attempt, one address: whoever connects again after a failure comes to the next. The caller's `Backoff` lies
between two attempts whatever their addresses, so a dead node's clients do not meet the living ones in the
same instant, and a cluster that is away altogether is asked no more often than a single broker.
"""

import itertools
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from openami.mqtt.client import MqttConnection, MqttPort
from openami.mqtt.port import MessagePort, TransportError
from openami.mqtt.settings import BrokerSettings

_log = structlog.get_logger(__name__)


class ClusterPort:
    """The addresses of one broker, one after the other; a single one is a list of one.

    Where a client begins follows from its name, so that gateways with the same list are spread over the
    nodes, and each is found where it was. It leaves a node when the connection ends or cannot be made.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        # One count of connections for all: a packet id of one node must not be acknowledged at another.
        epochs = itertools.count(1)
        nodes = [settings.at(url) for url in settings.addresses]
        self._addresses = [str(node.endpoint) for node in nodes]
        self._ports = [MqttPort(node, epochs=epochs) for node in nodes]
        self._turn = zlib.crc32(settings.client_id.encode()) % len(self._ports)

    @property
    def address(self) -> str:
        """Where we are connected, or shall try next."""
        return self._addresses[self._turn]

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[MqttConnection]:
        """Open a connection to the address whose turn it is. Raises TransportError; then it is the next's."""
        try:
            async with self._ports[self._turn].connect() as connection:
                if len(self._ports) > 1:
                    _log.info("broker node", address=self.address)
                yield connection
        except TransportError:
            self._turn = (self._turn + 1) % len(self._ports)
            raise


def _obeys_the_port(port: ClusterPort) -> MessagePort:
    return port
