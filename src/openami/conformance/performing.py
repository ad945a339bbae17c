"""Performing the acts: the shell around the table in ``acts.py``.

One act after the other, because two at a time would explain each other's effects. What is published, cut or asked
here is told to the judge as an observation like any other; whether the gateway did right is not decided here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from openami.conformance.acts import (
    ACT_LIFE,
    HANDS_S_MAX,
    ActEvent,
    ActRow,
    ActState,
    next_act,
    relay_meter,
    spared,
)
from openami.conformance.bench import Bench, Standing, Undone, until
from openami.conformance.hook import HookFailed
from openami.conformance.observation import (
    Act,
    ActBegan,
    ActEnded,
    RelaySeen,
)
from openami.conformance.relay_orders import RelayOrders
from openami.profile import MeterSerial
from openami.profile.life import Party

# A look at all findings costs some milliseconds, and an act takes seconds.
_NEXT_LOOK_S = 0.5
# What should come again or afterwards is looked for by the rules for two minutes.
RULES_WAIT_S_MAX: Final = 130.0
# One relay is enough, and a second one is the neighbour's.
RELAYS_ASKED_MAX: Final = 4
# Intervals that a link or a meter stays away: the rules look for what came in three of them.
HELD_INTERVALS: Final = 3.5
HELD_S_MIN: Final = 5.0
HELD_S_MAX: Final = 2_700.0
# A message that is not acknowledged may be sent again at once; then the link is cut.
_CUT_AFTER_S: Final = 1.0
# What is sent again is sent first; the rules wait longer, and need nobody to wait with them.
RESENT_S_MAX: Final = 20.0


@dataclass(slots=True)
class Performance:
    """All acts of a run, one after the other."""

    bench: Bench
    rows: Sequence[ActRow]
    standings: dict[Act, Standing] = field(init=False)
    _confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    _skipped: asyncio.Event = field(default_factory=asyncio.Event)
    _power_seen: bool | None = None
    _idle_since: datetime | None = None
    _asked_for: set[MeterSerial] = field(default_factory=set)  # bound: RELAYS_ASKED_MAX

    def __post_init__(self) -> None:
        self.standings = {row.act: Standing(row=row) for row in self.rows}

    # --- what the person says

    def confirm(self) -> None:
        """What was asked for is done."""
        self._confirmed.set()

    def skip(self) -> None:
        """What is under way, or asked for, is left out."""
        self._skipped.set()

    def saw_power(self, *, power: bool) -> None:
        """The house of the meter that was asked about has power, or has none."""
        self._power_seen = power

    @property
    def buttons(self) -> Mapping[str, Callable[[], None]]:
        """What a person may say, by the word on the page."""
        return {
            "done": self.confirm,
            "skip": self.skip,
            "yes": lambda: self.saw_power(power=True),
            "no": lambda: self.saw_power(power=False),
        }

    # --- how far it is

    def is_over(self, idle_s_max: float) -> bool:
        """Whether every act has ended and was judged, or nothing more happened for so long.

        What is missed has to be waited for by the rules before they say so.
        """
        if self._idle_since is None:
            return False
        idle_s = (self._now() - self._idle_since).total_seconds()
        judged = self.bench.judge.judgement(self._now())
        open_ = {f.requirement for f in judged.findings if f.verdict == "not exercised"}
        states = [s.state for s in self.standings.values()]
        due = [s.row for s in self.standings.values() if s.state is ActState.DONE]
        if any(requirement in open_ for row in due for requirement in row.serves):
            return idle_s >= max(idle_s_max, RULES_WAIT_S_MAX)
        return all(ACT_LIFE.is_terminal(state) for state in states) or idle_s >= idle_s_max

    # --- performing

    async def run(self) -> None:
        """Perform act after act; look for ever, because a reconnected gateway may be ready for more."""
        while True:
            now = self._now()
            judged = self.bench.judge.judgement(now)
            open_ = {f.requirement for f in judged.findings if f.verdict == "not exercised"}
            states = {act: standing.state for act, standing in self.standings.items()}
            for row in spared(self.rows, states, open_):
                self._move(row, ActEvent.EXERCISED, Party.KIT)
                states[row.act] = self.standings[row.act].state
            await self._ask_for_relays()
            row_due = next_act(self.rows, states, open_, self.bench.scene)
            if row_due is None:
                self._idle_since = self._idle_since or now
                await asyncio.sleep(_NEXT_LOOK_S)
                continue
            self._idle_since = None
            await self._perform(row_due)

    async def _ask_for_relays(self) -> None:
        """Ask the hook where relays are that no reading tells of, each once."""
        bench = self.bench
        if bench.hook is None or "relay" not in bench.verbs or relay_meter(bench.scene) is not None:
            return
        for serial in list(bench.scene.meters)[:RELAYS_ASKED_MAX]:
            if serial not in self._asked_for:
                self._asked_for.add(serial)
                # A meter without a relay is no failure of the hook's.
                with contextlib.suppress(HookFailed):
                    connected = await bench.hook.relay(serial)
                    bench.see(RelaySeen(self._now(), serial, connected))

    async def _perform(self, row: ActRow) -> None:
        """Perform one act to its end, whichever it is."""
        standing = self.standings[row.act]
        self._confirmed.clear()
        self._skipped.clear()
        standing.meter = self._meter_for(row)
        steps = asyncio.create_task(self._steps(row, standing), name=f"act {row.act}")
        skipped = asyncio.create_task(self._skipped.wait(), name="skip")
        try:
            async with asyncio.timeout(row.timeout_s):
                await asyncio.wait((steps, skipped), return_when=asyncio.FIRST_COMPLETED)
            if not steps.done():
                self._end(standing, ActEvent.SKIP, Party.VENDOR, "left out")
                return
            await steps
            self._end(standing, ActEvent.SEEN, Party.KIT, standing.detail)
        except TimeoutError:
            self._end(standing, ActEvent.TIME_PASSED, Party.TIME, "not seen in time")
        except (Undone, HookFailed) as error:
            if standing.state is ActState.WAITING:
                self._begin(standing)
            self._end(standing, ActEvent.IMPOSSIBLE, Party.KIT, str(error))
        finally:
            for task in (steps, skipped):
                task.cancel()
            await asyncio.gather(steps, skipped, return_exceptions=True)
            standing.prompt = None
            self.bench.door.put_up()
            self.bench.door.withholding = False

    async def _steps(self, row: ActRow, standing: Standing) -> None:
        match row.act:
            case Act.ACKNOWLEDGEMENT_WITHHELD:
                await self._withhold(standing)
            case Act.NETWORK_LOST:
                await self._lose_network(standing)
            case Act.COMMAND_WITHOUT_SESSION:
                self._begin(standing)
                await self._orders(standing).without_session()
            case Act.SESSION_OFFERED:
                self._begin(standing)
                await self._orders(standing).in_session()
            case _:
                await self._by_hook_or_hands(standing)

    def _meter_for(self, row: ActRow) -> MeterSerial | None:
        """Return the meter an act is about: one with a relay, for orders; else one whose relay is not needed."""
        if not row.of_meter:
            return None
        meters = self.bench.scene.meters
        aimed = relay_meter(self.bench.scene)
        if row.act is Act.METER_UNPLUGGED:
            others = [m for m in meters.values() if m is not aimed]
            chosen = others[0] if others else next(iter(meters.values()), None)
        else:
            chosen = aimed or next(iter(meters.values()), None)
        return None if chosen is None else chosen.serial

    # --- the link

    async def _withhold(self, standing: Standing) -> None:
        scene, door = self.bench.scene, self.bench.door
        before = scene.withheld
        self._begin(standing)
        door.withholding = True
        await until(lambda: scene.withheld > before)
        await asyncio.sleep(_CUT_AFTER_S)
        door.withholding = False
        cut_at = self._now()
        door.cut()
        await until(
            lambda: scene.last_connected_at is not None and scene.last_connected_at > cut_at
        )
        try:
            async with asyncio.timeout(RESENT_S_MAX):
                await until(lambda: standing.row.shows(scene, cut_at, None))
            standing.detail = "the message has come again"
        except TimeoutError:
            standing.detail = "the message has not come again so far"

    async def _lose_network(self, standing: Standing) -> None:
        hold_s = self.bench.outage_s or self._held_s(None)
        self._begin(standing)
        standing.detail = f"down for {hold_s:.0f} s"
        self.bench.door.take_down()
        await asyncio.sleep(hold_s)
        # The link's loss is over before anybody can come back.
        up_at = self._now()
        self._tell_end(standing, done=True, detail="")
        self.bench.door.put_up()
        standing.detail = "up again: waiting for the gateway"
        await until(lambda: standing.row.shows(self.bench.scene, up_at, None))
        standing.detail = f"was down for {hold_s:.0f} s"

    def _held_s(self, serial: MeterSerial | None) -> float:
        """Return how long HELD_INTERVALS of a meter are, or of the one that is told of most often."""
        meters = self.bench.scene.meters
        meter = meters.get(serial) if serial is not None else None
        chosen = [meter] if meter is not None else list(meters.values())
        known = [m.interval_s for m in chosen if m.interval_s]
        shortest = min(known, default=HELD_S_MIN)
        return min(max(HELD_INTERVALS * shortest, HELD_S_MIN), HELD_S_MAX)

    # --- hooks and hands

    async def _by_hook_or_hands(self, standing: Standing) -> None:
        """Have it done, wait until it shows, and have it undone, whatever happens in between."""
        row = standing.row
        try:
            await self._done(standing)
        except asyncio.CancelledError:
            if {row.hook, row.undo_hook} <= self.bench.verbs:
                await self._hooked(str(row.undo_hook), standing.meter)
            raise
        if row.undo_asks is not None:
            self._tell_end(standing, done=True, detail="")
            await self._undone(standing)

    async def _done(self, standing: Standing) -> None:
        row = standing.row
        assert row.asks is not None
        asked_at = self._now()

        def shows() -> bool:
            return row.shows(self.bench.scene, asked_at, standing.meter)

        if row.hook in self.bench.verbs:
            self._begin(standing)
            await self._hooked(str(row.hook), standing.meter)
        else:
            await self._asked(standing, row.asks, shows)
        if row.act is Act.METER_UNPLUGGED:
            await asyncio.sleep(self._held_s(standing.meter))
        else:
            await until(shows)

    async def _asked(self, standing: Standing, words: str, shows: Callable[[], bool]) -> None:
        """Ask a person; return when it shows, or the person says that it is done."""
        standing.state = ACT_LIFE.after(standing.state, ActEvent.ASK, by=Party.KIT)
        standing.prompt = words.format(meter=standing.meter)
        await until(lambda: self._confirmed.is_set() or shows())
        said = self._confirmed.is_set()
        event, by = (ActEvent.CONFIRM, Party.VENDOR) if said else (ActEvent.SHOWS, Party.GATEWAY)
        self._begin(standing, event, by)

    async def _undone(self, standing: Standing) -> None:
        """Have what was taken away brought back."""
        row, since = standing.row, self._now()
        if row.undo_hook in self.bench.verbs:
            await self._hooked(str(row.undo_hook), standing.meter)
            return
        assert row.undo_asks is not None
        self._confirmed.clear()
        standing.prompt = row.undo_asks.format(meter=standing.meter)

        def is_back() -> bool:
            meter = self.bench.scene.meters.get(standing.meter or MeterSerial(""))
            return meter is not None and meter.good_at is not None and meter.good_at > since

        await until(lambda: self._confirmed.is_set() or is_back())

    async def _hooked(self, verb: str, meter: MeterSerial | None) -> None:
        assert self.bench.hook is not None
        await self.bench.hook.do(verb, *(() if meter is None else (meter,)))

    def _orders(self, standing: Standing) -> RelayOrders:
        async def ask(serial: MeterSerial) -> bool:
            return await self._power_at(standing, serial)

        return RelayOrders(bench=self.bench, standing=standing, ask_for_power=ask)

    async def _power_at(self, standing: Standing, serial: MeterSerial) -> bool:
        """Ask a person whether a house has power."""
        self._power_seen = None
        standing.prompt = f"Look at the relay of meter {serial}: does its house have power?"
        standing.asks_where = True
        try:
            async with asyncio.timeout(HANDS_S_MAX):
                await until(lambda: self._power_seen is not None)
        finally:
            standing.prompt, standing.asks_where = None, False
        return bool(self._power_seen)

    # --- telling and waiting

    def _begin(
        self, standing: Standing, event: ActEvent = ActEvent.BEGIN, by: Party = Party.KIT
    ) -> None:
        standing.state = ACT_LIFE.after(standing.state, event, by=by)
        standing.began_at = self._now()
        standing.prompt = None
        self.bench.see(ActBegan(standing.began_at, standing.row.act, standing.meter))

    def _end(self, standing: Standing, event: ActEvent, by: Party, detail: str) -> None:
        standing.state = ACT_LIFE.after(standing.state, event, by=by)
        standing.detail = detail
        self._tell_end(standing, done=standing.state is ActState.DONE, detail=detail)

    def _tell_end(self, standing: Standing, *, done: bool, detail: str) -> None:
        """Tell the judge, once, that what was begun is over."""
        if standing.began_at is not None:
            self.bench.see(ActEnded(self._now(), standing.row.act, done, detail))
            standing.began_at = None

    def _move(self, row: ActRow, event: ActEvent, by: Party) -> None:
        standing = self.standings[row.act]
        standing.state = ACT_LIFE.after(standing.state, event, by=by)

    def _now(self) -> datetime:
        return self.bench.now()
