"""The demo's commands: one house is cut off and gets its light back; then somebody plays the first command again.

The requests go into the head-end's store, as `openami command send` puts them there; head-end and gateway do the
rest. What is told is what the ledger says, and where the simulated relay really stands.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from openami.clock import Clock
from openami.headend.commands import LedgerCommand, plain
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.mqtt.client import MqttPort
from openami.mqtt.settings import BrokerSettings
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial
from openami.profile.command import CommandState
from openami.simulator.load import LoadClass
from openami.simulator.plan import PREPAID_MODEL, VillagePlan
from openami.simulator.village import Village
from openami.sip.actions import Action

WHO: Final = "demo"
# The types of meter whose relay can be ordered.
RELAY_MODELS: Final = frozenset({PREPAID_MODEL, "dds238"})
# A command takes a tenth of a second; the story goes on without one that takes this long.
ANSWER_S_MAX: Final = 4.0
_LOOK_EVERY_S: Final = 0.02
_VALID_FOR: Final = timedelta(minutes=1)
# A command is taken within milliseconds; a relay that has not moved by then has been left alone.
REPLAY_SETTLED_S: Final = 0.5


def house_to_cut_off(plan: VillagePlan) -> MeterSerial | None:
    """Return a house nothing else happens to in the story; None in a village without one."""
    # The last one's meter dies, and one prepaid customer's credit ends and is bought anew.
    # A clinic is protected: nobody cuts it off in passing.
    free = [
        c
        for c in plan.customers[:-1]
        if c.model in RELAY_MODELS and not c.topups and c.load_class is not LoadClass.CLINIC
    ]
    return free[0].serial if free else None


@dataclass(slots=True)
class Orders:
    """The village's commands; ``intruder`` is a client that got past the broker's access rules."""

    store_url: str
    feeder_id: FeederId
    gateway_id: GatewayId
    serial: MeterSerial
    village: Village
    intruder: BrokerSettings
    clock: Clock
    answer_s_max: float = ANSWER_S_MAX
    captured: LedgerCommand | None = None

    async def disconnect(self, tell: Callable[[str], None]) -> None:
        """Cut the house off, and keep the command as it went over the wire."""
        done = await self.order(Action.DISCONNECT, "unpaid since March", tell)
        if done.state is CommandState.CONFIRMED:
            self.captured = done

    async def reconnect(self, tell: Callable[[str], None]) -> None:
        """Give the house its light back."""
        await self.order(Action.RECONNECT, "paid", tell)

    async def replay(self, tell: Callable[[str], None]) -> None:
        """Publish the disconnect again, byte for byte, past the broker's access rules."""
        if self.captured is None or self.captured.document is None:
            return
        before = self.village.measured(self.serial).relay
        topic = CommandTopic(self.feeder_id, self.gateway_id, self.serial)
        async with MqttPort(self.intruder).connect() as connection:
            await connection.publish(str(topic), self.captured.document)
        await asyncio.sleep(REPLAY_SETTLED_S)
        after = self.village.measured(self.serial).relay
        end = "replay refused" if after is before else "REPLAY MOVED THE RELAY"
        tell(
            f"the signed disconnect of {self.serial} is published again by an intruder: "
            f"{end}, the relay is {after.value}"
        )

    async def order(self, action: Action, why: str, tell: Callable[[str], None]) -> LedgerCommand:
        """Ask for a command, wait for its end for as long as the story does, and tell it."""
        now = self.clock.now()
        new = LedgerCommand(
            id=f"cmd-{secrets.token_hex(4)}",
            feeder_id=self.feeder_id,
            gateway_id=self.gateway_id,
            meter_serial=self.serial,
            action=action,
            requested_by=WHO,
            reason=why,
            requested_at=now,
            not_after=(now + _VALID_FOR).replace(microsecond=0),
            due_at=now,
        )
        async with open_store(self.store_url, Access.EDIT) as store:
            await store.request_command(new, now)
            found = new
            for _ in range(int(self.answer_s_max / _LOOK_EVERY_S)):
                found = await store.command(new.id) or new
                if not found.is_open:
                    break
                await asyncio.sleep(_LOOK_EVERY_S)
        for line in receipt(found):
            tell(line)
        return found


def receipt(command: LedgerCommand) -> Sequence[str]:
    """Return who asked for what, why and when, in which session, and how it ended."""
    lines = [
        f"{command.requested_by} asks for {command.action} of {command.meter_serial}: "
        f"{command.reason}",
        f"  {command.id}: {plain(command)}",
    ]
    if command.digest is not None and command.sent_at is not None:
        lines.append(
            f"  sent {command.sent_at:%H:%M:%S} in {command.session_id} as number {command.seq}, "
            f"digest {command.digest}"
        )
    if command.ended_at is not None:
        took = command.ended_at - command.requested_at
        lines.append(
            f"  {command.state.name.lower()} ({command.code}) after "
            f"{took / timedelta(milliseconds=1):.0f} ms, by the gateway's signed report"
        )
    return lines
