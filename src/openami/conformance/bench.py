"""The bench: what acts are performed with, and where each of them stands."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from openami.clock import Clock
from openami.conformance.acts import ActRow, ActState
from openami.conformance.door import Door
from openami.conformance.hook import Hook
from openami.conformance.judge import Judge
from openami.conformance.observation import Act, Observation, Sent
from openami.conformance.operator import Operator
from openami.conformance.scene import Scene
from openami.mqtt.port import Connection
from openami.profile import MeterSerial
from openami.sip.keyring import Keyring

# What is waited for comes within seconds; a tenth is not noticed.
_LOOK_S = 0.1


class Undone(Exception):
    """An act cannot be done; the message says why, to the person."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """Where an act stands, for those who look on."""

    row: ActRow
    state: ActState = ActState.WAITING
    meter: MeterSerial | None = None
    detail: str = ""
    prompt: str | None = None
    """What a person is asked to do now."""
    asks_where: bool = False
    """Whether the prompt is a question: does the house have power?"""
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What acts are performed with."""

    door: Door
    connection: Connection
    judge: Judge
    scene: Scene
    operator: Operator
    keyring: Keyring | None
    keyring_payload: bytes | None
    clock: Clock
    see: Callable[[Observation], None]
    hook: Hook | None = None
    verbs: frozenset[str] = frozenset()
    outage_s: float | None = None
    """How long the network is taken away; None: as long as the gateway's own interval asks for."""

    def now(self) -> datetime:
        """Return the kit's time."""
        return self.clock.now()

    async def send(self, topic: str, payload: bytes, purpose: Act) -> None:
        """Publish a message, told to the judge before it can have an effect. Raises TransportError."""
        self.see(Sent(self.now(), topic, payload, purpose))
        await self.connection.publish(topic, payload)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the act's own time ends the wait."""
    while not condition():  # noqa: ASYNC110 - of a dozen conditions over two objects that are only told things
        await asyncio.sleep(_LOOK_S)
