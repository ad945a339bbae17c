"""A story told: a village's days, with what goes wrong and what people ask for, to the ledger at the end.

Faults happen at their moments, people ask for relays to be moved, an attacker has the broker; the witness stops
the world at the first broken promise. When the story is over everything is mended, and the village is given time
to tell what it still has to tell; then the ledger is drawn. One seed, one history.

    history = simulate(load_scenario("monsoon-week"), seed=7)
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from openami.gateway.room import OutboxLimits
from openami.headend.commands import LedgerCommand
from openami.simulator.world.faults import Fault, dice_faults, ends_at_h, kind_of
from openami.simulator.world.keys import HES
from openami.simulator.world.ledger import Ledger, StoreReader
from openami.simulator.world.relays import check_relays
from openami.simulator.world.scenario import Scenario, diced_village
from openami.simulator.world.trouble import Trouble
from openami.simulator.world.witness import PromiseBroken
from openami.simulator.world.world import FEEDER, World
from openami.sip.actions import Action

# The witness looks at every card so often, so that thinning cannot take what nobody has seen.
LOOK_EVERY_S: Final = 3600.0
# After the story. A day's backlog of fifty meters is told in an hour; what has to be asked for takes some
# rounds of asking.
MENDED_S_MAX: Final = 5 * 86_400.0
MENDED_LOOK_S: Final = 900.0
# Keyrings are signed anew every month (sip.keyring_draft.LIFE is three).
KEYRING_EVERY_S: Final = 30 * 86_400.0
_COMMAND_LIFE: Final = timedelta(minutes=10)


@dataclass(slots=True)
class History:
    """How a world ended: its ledger, or the breach that stopped it and when."""

    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    breach: BaseException | None = None
    lived_s: float = 0.0
    """Virtual seconds, the mended time after the story among them."""
    happened: dict[str, int] = field(default_factory=dict)
    """How often each kind of fault began."""


def simulate(scenario: Scenario, *, seed: int, days: float | None = None) -> History:
    """Live through a scenario and return its history. The same arguments, the same history."""
    days = scenario.days if days is None else days
    faults = [f for f in scenario.fault or dice_faults(seed, days) if f.at_h < days * 24]
    with ExitStack() as stack:
        world = World(scenario.village or diced_village(seed), stack, seed=seed)
        story = Story(world, days, faults)
        world.live(story.tell)
        story.history.breach = world.breach
        story.history.lived_s = world.loop.time()
        return story.history


# How often is looked whether the head-end has made its store and subscribed, before any gateway is started.
_FIRST_START_LOOK_S: Final = 0.1


class Story:
    """One telling of a story in a world."""

    def __init__(self, world: World, days: float, faults: Sequence[Fault]) -> None:
        self.history = History(world.seed)
        self._world = world
        self._days = days
        self._faults = faults

    async def tell(self) -> None:
        """Tell it, to the ledger. Raises Breach."""
        self._world.headend.boot()
        # A village is set up in this order: a broker keeps nothing for who has never come.
        while not self._world.broker.has_subscribed(HES):  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(_FIRST_START_LOOK_S)
        dice = self._world.dice("crystals")
        for gateway in self._world.gateways:
            gateway.boot(None, drift_ppm=dice.uniform(-20, 20))
            gateway.clock.follow()
        self._world.begin("keyrings", self._keyrings)
        self._world.begin("looks", self._looks)
        people = self._world.begin("people", self._people)
        trouble = Trouble(self._world)
        troubles = []
        for fault in self._faults:
            await self._world.sleep_until(fault.at_h * 3600)
            kind = kind_of(fault)
            self.history.happened[kind] = self.history.happened.get(kind, 0) + 1
            troubles.append(self._world.begin(str(fault), partial(trouble.happen, fault)))
        await self._world.sleep_until(self._days * 86_400)
        people.cancel()
        await self._world.sleep_until(3600 * max(map(ends_at_h, self._faults), default=0.0))
        await asyncio.gather(*troubles)
        await trouble.mend_everything()
        await self._tell_all()
        self._draw_ledger()

    async def _tell_all(self) -> None:
        """Give the village time to tell what it has, until nothing is missing or no more will come."""
        until_s = self._world.loop.time() + MENDED_S_MAX
        while self._world.loop.time() < until_s:
            await asyncio.sleep(MENDED_LOOK_S)
            self._world.look_around()
            waiting = sum(
                len(self._world.cards[gateway.card].unsettled) for gateway in self._world.gateways
            )
            if not waiting and not self._world.broker.owed(HES) and not await self._open_commands():
                return

    async def _open_commands(self) -> bool:
        return bool(
            await self._world.in_store(lambda store: store.commands(only_open=True, at_most=1))
        )

    async def _looks(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._world.look_around()

    def _draw_ledger(self) -> None:
        ledger = self.history.ledger
        ledger.stored = self._world.stored
        now = {gateway.card for gateway in self._world.gateways}
        kept_since = self._world.now() - timedelta(days=OutboxLimits().kept_days)
        ledger.beyond_kept = sum(
            self._world.cards[gateway.card].strike_what_is_not_kept(
                gateway.database, kept_since=kept_since
            )
            for gateway in self._world.gateways
        )
        ledger.lost = sum(len(c.unsettled) for name, c in self._world.cards.items() if name in now)
        ledger.gone_with_card = sum(
            len(c.unsettled) for name, c in self._world.cards.items() if name not in now
        )
        ledger.thinned = sum(card.thinned for card in self._world.cards.values())
        ledger.expected = ledger.stored + ledger.thinned + ledger.gone_with_card
        ledger.expected += ledger.beyond_kept + ledger.lost
        seen = sum(card.messages for card in self._world.cards.values())
        unseen = sum(card.thinned - card.thinned_seen for card in self._world.cards.values())
        assert ledger.expected == seen + unseen, "each message is counted once"
        StoreReader(self._world.headend.database).count(ledger)
        ledger.commands, ledger.movements = check_relays(
            self._world.headend.database, self._world.meters, now_ms=self._world.now_ms()
        )
        if ledger.lost:
            missing = {
                n: sorted(c.unsettled)[:3] for n, c in self._world.cards.items() if c.unsettled
            }
            raise PromiseBroken(2, f"{ledger.lost} messages are lost: {missing}")

    # --- people ----------------------------------------------------------------------------------

    async def _keyrings(self) -> None:
        while True:
            keyring, entry = self._world.keys.next_keyring(self._world.now())
            await self._world.in_store(lambda store: store.add_keyring(keyring, entry))  # noqa: B023
            await asyncio.sleep(KEYRING_EVERY_S)

    async def _people(self) -> None:
        """Cut somebody off, give somebody the light back, all day."""
        dice, number = self._world.dice("people"), 0
        while self._world.village.commands_per_day:
            await asyncio.sleep(dice.expovariate(self._world.village.commands_per_day / 86_400))
            number += 1
            gateway, now = dice.choice(self._world.gateways), self._world.now()
            new = LedgerCommand(
                id=f"cmd-{number}",
                idempotency_key=f"key-{number}",
                feeder_id=FEEDER,
                gateway_id=gateway.gateway_id,
                meter_serial=dice.choice(gateway.serials),
                action=dice.choice((Action.DISCONNECT, Action.RECONNECT)),
                requested_by="people",
                reason="simulated",
                requested_at=now,
                not_after=(now + _COMMAND_LIFE).replace(microsecond=0),
                due_at=now,
            )
            verdict = await self._world.in_store(lambda store: store.request_command(new, now))  # noqa: B023
            assert verdict is not None
