"""The acts of the mixed demo: each does something to the village, and waits until the operator's store shows it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from openami.gateway.driver import RelayPosition
from openami.gateway.meter_clocks import SETTING_TAKES_S
from openami.headend.commands import LedgerCommand
from openami.headend.store import Reading, StoredEvent
from openami.profile import EventState, MeterSerial, Obis
from openami.profile.command import CommandState
from openami.simulator.dlms.meter import Event
from openami.simulator.mixed_lines import MixedLines
from openami.simulator.mixed_plan import (
    CAPTURE_PERIOD,
    SLOW_CLOCKS_PERIOD,
    LineName,
    MixedVillage,
)
from openami.simulator.mixed_summary import Act, Gap, Summary, by_type
from openami.simulator.mixed_values import Relived
from openami.simulator.orders import Orders
from openami.simulator.stage import Stage, Tell, announce
from openami.sip.actions import Action

# A poll, a read of the logs, the way to the store and a look: seconds, on a busy machine a minute.
ACT_S_MAX: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
# Three billing instants, of which the polls at either side stand for one each.
CUT_S: Final = 14.0
# To live a village again takes a second for some minutes; what comes after the acts is more of the same.
COMPARED_MAX: Final = timedelta(minutes=15)
# What is left of an error that a gateway has corrected over a line, by a machine that is busy.
_CLOCK_RIGHT: Final = timedelta(seconds=5)
# Out of 230 V: below 85 %, above what is taken for a missing phase.
_SAG_V: Final = 60.0
# A feeder of twenty meters tells some dozens; the store gives the newest.
_EVENTS_MAX: Final = 1000

_RELAY: Final = Obis.parse("96.3.10")
_MODBUS_RELAY: Final = Obis.parse("96.11.1")
# What a meter tells of itself beside its name.
_MEASURED: Final = (Obis.parse("1.8.0"), Obis.parse("32.7.0"), Obis.parse("1.7.0"))


@dataclass(slots=True)
class Acts:
    """All acts of one demo, and what was seen of them."""

    stage: Stage
    mixed: MixedVillage
    lines: MixedLines
    tell: Tell
    seen: dict[Act, bool] = field(default_factory=dict)
    waits: dict[Act, str] = field(default_factory=dict)
    cut_at: datetime | None = None
    mended_at: datetime | None = None
    _began_s: float = 0.0

    async def play(self) -> None:
        """Play all acts, those that can be at the same time at the same time."""
        self._began_s = asyncio.get_running_loop().time()
        acts = (
            self._dead_meter,
            self._wrong_address,
            self._slow_clock,
            self._sagging_phase,
            self._relays,
            self._cover_then_cut,
        )
        tasks = [asyncio.create_task(act(), name=act.__name__) for act in acts]
        try:
            await asyncio.gather(*tasks)  # no group: a StoreError is to come out as itself
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- from the start --------------------------------------------------------------------------

    async def _dead_meter(self) -> None:
        dead = self.mixed.roles.dead
        await self._see(
            Act.DEAD,
            f"{dead} has never answered: its neighbours are read, it is told lost, nothing is made up",
            self._told(dead, "comms_lost"),
        )

    async def _wrong_address(self) -> None:
        roles = self.mixed.roles
        await self._see(
            Act.WRONG_ADDRESS,
            f"{roles.readdressed} was put up with the address of {roles.neighbour}: the number it says "
            "gives it away, and neither is published",
            self._told(roles.neighbour, "address_clash"),
        )

    async def _slow_clock(self) -> None:
        slow = self.mixed.roles.slow_clock
        meter = self.lines.dlms_meters[slow]
        behind_s = -meter.time.error.total_seconds()
        await self._see(
            Act.SLOW_CLOCK,
            f"the clock of {slow} is {behind_s:.0f} s slow",
            self._told(slow, "clock_invalid"),
        )
        if capture_edge_near(self.stage.clock.now(), behind_s):
            self.waits[Act.CLOCK_SET] = "the quarter hour is too near to set it"
            self._say(f"the clock of {slow} is left for now: {self.waits[Act.CLOCK_SET]}")
            self.seen[Act.CLOCK_SET] = False
            return
        told = await self._comes(self._told(slow, "clock_adjusted"))
        self.seen[Act.CLOCK_SET] = told and abs(meter.time.error) < _CLOCK_RIGHT
        self._say(f"the gateway has {'' if told else 'NOT '}set the clock of {slow}")

    # --- on the feeder ---------------------------------------------------------------------------

    async def _sagging_phase(self) -> None:
        village, plan = self.stage.cast.village, self.mixed.plan
        roles = self.mixed.roles
        elsewhere = {roles.dead, *self.mixed.lines[LineName.DLMS_SERIAL]}
        # The phase of the one with the Modbus relay: there is somebody on it.
        phase = next(c.phase for c in plan.customers if c.serial == roles.relay)
        customers = [
            customer.serial
            for customer in plan.customers
            if customer.phase == phase and customer.serial not in elsewhere
        ]
        serials = [plan.head_serial, *customers]
        self._say(
            f"a regulator fails: phase {phase + 1} of the transformer falls by {_SAG_V:.0f} V, and "
            f"{len(customers)} houses with it"
        )
        village.sag(phase, _SAG_V)
        raised = await self._comes(self._all_told(serials, "under_voltage", EventState.RAISED))
        village.sag(phase, 0.0)
        self._say(
            f"under_voltage of {', '.join(serials) if raised else 'NOT all of them'}; it is mended"
        )
        cleared = await self._comes(self._all_told(serials, "under_voltage", EventState.CLEARED))
        self.seen[Act.SAG] = raised and cleared
        self._say(f"under_voltage is over: {'seen' if cleared else 'NOT SEEN'}")

    async def _cover_then_cut(self) -> None:
        opened = self.mixed.roles.opened
        self.lines.dlms_meters[opened].open_cover()
        await self._see(
            Act.COVER,
            f"somebody takes the cover off {opened}: its own log says so, with the code of its makers",
            self._cover_told(opened),
        )
        await self._cut()

    def _cover_told(self, serial: MeterSerial) -> Callable[[], Awaitable[bool]]:
        async def told() -> bool:
            codes = [
                json.loads(event.payload)["event"].get("code")
                for event in await self._events(serial)
                if event.type == "meter_cover_open"
            ]
            return int(Event.METER_COVER_REMOVED) in codes

        return told

    async def _cut(self) -> None:
        cut, now = self.mixed.roles.cut, self.stage.clock.now
        self._say(f"the serial line of {', '.join(cut)} is cut for {CUT_S:.0f} s")
        self.lines.cut_serial_line()
        self.cut_at = now()
        lost = await self._comes(self._all_told(cut, "comms_lost", EventState.RAISED))
        left_s = CUT_S - (now() - self.cut_at).total_seconds()
        await asyncio.sleep(max(0.0, left_s))
        self.mended_at = now()
        self.lines.mend_serial_line()
        self._say("the line is mended: what is missing stands in the meters' load profiles")
        closed = await self._comes(self._gap_closed)
        self.seen[Act.GAP] = lost and closed
        rows = {serial: len(await self._captured(serial)) for serial in cut}
        self._say(
            "read from the load profiles, with the meters' own times: "
            + ", ".join(f"{count} intervals of {serial}" for serial, count in rows.items())
        )

    async def _gap_closed(self) -> bool:
        """Whether each instant of the gap has its reading; those at its ends may have been polled."""
        for serial in self.mixed.roles.cut:
            if not {reading.ts for reading in await self._captured(serial)}.issuperset(
                self._missed()
            ):
                return False
        return True

    def _missed(self) -> Sequence[datetime]:
        """Return the instants that surely nobody asked for: a period from either end."""
        assert self.cut_at is not None
        assert self.mended_at is not None
        period_s = CAPTURE_PERIOD.total_seconds()
        first = int((self.cut_at + CAPTURE_PERIOD).timestamp() // period_s + 1)
        last = int((self.mended_at - CAPTURE_PERIOD).timestamp() // period_s)
        zone = self.cut_at.tzinfo
        return [datetime.fromtimestamp(n * period_s, zone) for n in range(first, last + 1)]

    async def _captured(self, serial: MeterSerial) -> Sequence[Reading]:
        """Return what was read of a meter's energy out of its load profile."""
        readings = await self._readings(serial, _MEASURED[0])
        return [reading for reading in readings if self.is_captured(reading)]

    def is_captured(self, reading: Reading) -> bool:
        """Whether a reading came out of a load profile: from the gap, at a capture's very time."""
        if self.cut_at is None or reading.meter_serial not in self.mixed.roles.cut:
            return False
        end = self.mended_at or self.stage.clock.now()
        on_time = reading.ts.timestamp() % CAPTURE_PERIOD.total_seconds() == 0
        return self.cut_at - CAPTURE_PERIOD < reading.ts < end + CAPTURE_PERIOD and on_time

    # --- relays ----------------------------------------------------------------------------------

    async def _relays(self) -> None:
        roles = self.mixed.roles
        if (orders := self.stage.orders_for(roles.button, answer_s_max=ACT_S_MAX)) is not None:
            self.seen[Act.DLMS_RELAY] = await self._armed_relay(orders, roles.button)
        if (orders := self.stage.orders_for(roles.relay, answer_s_max=ACT_S_MAX)) is not None:
            self.seen[Act.MODBUS_RELAY] = await self._relay(orders, roles.relay)

    async def _armed_relay(self, orders: Orders, serial: MeterSerial) -> bool:
        meter = self.lines.dlms_meters[serial]
        opened = await orders.order(Action.DISCONNECT, "unpaid since March", self._say)
        await orders.order(Action.RECONNECT, "paid", self._say)
        armed = await self._comes(
            self._stands(serial, _RELAY, RelayPosition.READY_FOR_RECONNECTION)
        )
        self._say(
            f"{serial} is ready_for_reconnection: its mode leaves it to the customer, who presses the button"
            if armed
            else f"{serial} is NOT ready_for_reconnection"
        )
        pressed = meter.press_button()
        closed = await self._comes(self._stands(serial, _RELAY, RelayPosition.CONNECTED))
        self._say(f"{serial} is {'connected' if closed else 'NOT connected'} again")
        return _confirmed(opened) and armed and pressed and closed

    async def _relay(self, orders: Orders, serial: MeterSerial) -> bool:
        opened = await orders.order(Action.DISCONNECT, "unpaid since May", self._say)
        was_open = await self._comes(
            self._stands(serial, _MODBUS_RELAY, RelayPosition.DISCONNECTED)
        )
        closed = await orders.order(Action.RECONNECT, "paid", self._say)
        return _confirmed(opened) and was_open and _confirmed(closed)

    def _stands(
        self, serial: MeterSerial, obis: Obis, position: RelayPosition
    ) -> Callable[[], Awaitable[bool]]:
        async def stands() -> bool:
            latest = await self.stage.store.latest(self.stage.feeder_id, serial)
            return any(each.obis == obis and each.value == position for each in latest)

        return stands

    # --- what is seen ----------------------------------------------------------------------------

    async def summary(self) -> Summary:
        """Return what was seen, once all has arrived."""
        stage, plan = self.stage, self.mixed.plan
        village = stage.cast.village
        until = min(stage.clock.now(), stage.begun + COMPARED_MAX)
        relived = Relived(plan, list(village.interventions), until=until)
        compared: dict[str, int] = {}
        wrong: list[Reading] = []
        for line, serials in self.mixed.lines.items():
            for serial in serials:
                found = relived.compare(
                    await self._readings(serial, until=until), captured=self.is_captured
                )
                compared[line] = compared.get(line, 0) + found.compared
                wrong += found.wrong
        await self._check_silence()
        return Summary(
            acts=dict(sorted(self.seen.items(), key=lambda each: list(Act).index(each[0]))),
            waits=self.waits,
            events=by_type(await self._events()),
            compared=compared,
            wrong=tuple(wrong),
            gap=await self._gap(),
        )

    async def _gap(self) -> Gap | None:
        if self.cut_at is None or self.mended_at is None:
            return None
        closed = {serial: len(await self._captured(serial)) for serial in self.mixed.roles.cut}
        return Gap(self.cut_at, self.mended_at, closed)

    async def _check_silence(self) -> None:
        """Take back what was seen of meters for which something was published after all."""
        roles = self.mixed.roles
        for act, serials in (
            (Act.DEAD, (roles.dead,)),
            (Act.WRONG_ADDRESS, (roles.readdressed, roles.neighbour)),
        ):
            for serial in serials:
                measured = [
                    reading for reading in await self._readings(serial) if reading.obis in _MEASURED
                ]
                if measured:
                    self.seen[act] = False

    async def _readings(
        self, serial: MeterSerial, obis: Obis | None = None, until: datetime | None = None
    ) -> Sequence[Reading]:
        stage = self.stage
        readings = stage.store.readings(
            stage.feeder_id, serial, obis=obis, since=stage.begun, until=until
        )
        return [reading async for reading in readings]

    async def _events(self, serial: MeterSerial | None = None) -> Sequence[StoredEvent]:
        return await self.stage.store.events(
            feeder_id=self.stage.feeder_id, meter_serial=serial, at_most=_EVENTS_MAX
        )

    def _told(
        self, serial: MeterSerial, kind: str, state: EventState | None = None
    ) -> Callable[[], Awaitable[bool]]:
        return self._all_told([serial], kind, state)

    def _all_told(
        self, serials: Sequence[MeterSerial], kind: str, state: EventState | None = None
    ) -> Callable[[], Awaitable[bool]]:
        async def told() -> bool:
            found = {
                event.meter_serial
                for event in await self._events()
                if event.type == kind and state in (None, event.state)
            }
            return found.issuperset(serials)

        return told

    async def _see(self, act: Act, what: str, shown: Callable[[], Awaitable[bool]]) -> None:
        """Say what happens, wait until it is shown, and say whether it was."""
        self._say(what)
        self.seen[act] = await self._comes(shown)
        self._say(f"{act.value}: {'seen' if self.seen[act] else 'NOT SEEN'}")

    async def _comes(self, shown: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until something is shown, for as long as an act may take."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ACT_S_MAX
        while not (seen := await shown()) and loop.time() < until:  # noqa: ASYNC110 – a program of its own writes it
            await asyncio.sleep(_LOOK_EVERY_S)
        return seen

    def _say(self, what: str) -> None:
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        announce(self.stage, what, elapsed_s, self.tell)


def _confirmed(command: LedgerCommand) -> bool:
    return command.state is CommandState.CONFIRMED


def capture_edge_near(moment: datetime, behind_s: float) -> bool:
    """Whether a clock so far behind may not be set in this minute, because a capture is near."""
    quarter_s = SLOW_CLOCKS_PERIOD.total_seconds()
    into_s = moment.timestamp() % quarter_s
    return into_s < behind_s + 2 * SETTING_TAKES_S or into_s > quarter_s - ACT_S_MAX
