"""The demo: meters, gateway, broker and head-end on this machine, and an account at the end.

Gateway and head-end are the real programs in processes of their own, and the meters are Modbus servers, so a
reading walks the whole way: Modbus TCP → gateway → outbox → MQTT → head-end → store.
"""

import asyncio
import contextlib
from datetime import datetime
from functools import partial
from pathlib import Path

from openami.clock import Clock
from openami.simulator.audit import Account
from openami.simulator.faults import Silent
from openami.simulator.lines import village_lines
from openami.simulator.orders import Orders, house_to_cut_off
from openami.simulator.plan import epoch_ms
from openami.simulator.scenario import (
    Scene,
    Turn,
    story,
    story_length_s,
    village_tonight,
    with_credit_ending,
)
from openami.simulator.stage import (
    LOOK_EVERY_S,
    Audience,
    Cast,
    DemoSettings,
    Show,
    Stage,
    Tell,
    announce,
    ended,
    look,
    stage_set,
    start_headend,
)
from openami.simulator.view import relay_changes
from openami.simulator.village import Village

# The story is told from the first reading on, about so long after the village came to life.
_GATEWAY_START_MS = 1000
# The head-end survives its kill once; after that somebody is looking at its console.
_TOLD_ONCE = (Turn.HEADEND_DIES, Turn.HEADEND_RETURNS)
_COMMAND_TURNS = (Turn.HOUSE_CUT_OFF, Turn.HOUSE_RECONNECTED, Turn.COMMAND_REPLAYED)


async def run_demo(settings: DemoSettings, audience: Audience) -> Account | None:
    """Run a demo and return its account; None when it was stopped before all parts were up.

    Raises PartFailed, TransportError when the broker lets nobody in or none can be started, and StoreError.
    """
    casting = partial(_modbus_village, settings, audience.clock)
    async with stage_set(settings, casting, audience) as stage:
        if stage is None:
            return None
        await _play(stage, audience.show, audience.tell, audience.stop)
        return await ended(stage, audience)


def _modbus_village(settings: DemoSettings, clock: Clock, evening: datetime, _: Path) -> Cast:
    plan = with_credit_ending(
        village_tonight(meters=settings.meters, seed=settings.seed, now=evening),
        story_length_s(settings.duration_s),
        begins_ms=epoch_ms(evening) + _GATEWAY_START_MS,
    )
    village = Village(plan)
    return Cast(village, village_lines(village, clock))


# --- the story -----------------------------------------------------------------------------------


async def _play(stage: Stage, show: Show, tell: Tell, stop: asyncio.Event) -> None:
    """Tell the story, again and again, until the time is over or the demo is stopped."""
    seconds = asyncio.get_running_loop().time
    began_s = seconds()
    duration_s = stage.settings.duration_s
    length_s = story_length_s(duration_s)
    scenes: list[Scene] = []
    tellings = 0
    house = house_to_cut_off(stage.cast.plan)
    orders = None if house is None else stage.orders_for(house)
    while not stop.is_set():
        elapsed_s = seconds() - began_s
        if duration_s is not None and elapsed_s >= duration_s:
            return
        if elapsed_s >= tellings * length_s:
            scenes = [
                Scene(tellings * length_s + scene.at_s, scene.turn)
                for scene in story(length_s)
                if not (tellings and scene.turn in _TOLD_ONCE)
            ]
            tellings += 1
        while scenes and scenes[0].at_s <= elapsed_s:
            await _bring_about(stage, orders, scenes.pop(0).turn, elapsed_s, tell)
        stage.check()
        picture = await look(stage, elapsed_s)
        ordered = None if orders is None else orders.serial
        for change in relay_changes(stage.latest, picture.latest, ordered=ordered):
            announce(stage, change, elapsed_s, tell)
        stage.latest = picture.latest
        show(picture)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()


async def _bring_about(
    stage: Stage, orders: Orders | None, turn: Turn, elapsed_s: float, tell: Tell
) -> None:
    # The last meter of the last row: the feeder's own is the first of the first.
    line = stage.cast.lines[-1]
    if turn in _COMMAND_TURNS:
        await _command(stage, orders, turn, elapsed_s, tell)
        return
    match turn:
        case Turn.METER_DIES:
            line.set_fault(line.serials[-1], Silent())
        case Turn.METER_REVIVES:
            line.set_fault(line.serials[-1], None)
        case Turn.HEADEND_DIES:
            stage.headend_wanted = False
            await stage.headend.kill()
        case Turn.HEADEND_RETURNS:
            await start_headend(stage)
    announce(stage, turn.value, elapsed_s, tell)


async def _command(
    stage: Stage, orders: Orders | None, turn: Turn, elapsed_s: float, tell: Tell
) -> None:
    """Bring a command about, where there is a house for it and nobody else's broker between."""
    if orders is None:
        return
    announce(stage, turn.value, elapsed_s, tell)

    def say(text: str) -> None:
        announce(stage, text, elapsed_s, tell)

    match turn:
        case Turn.HOUSE_CUT_OFF:
            await orders.disconnect(say)
        case Turn.HOUSE_RECONNECTED:
            await orders.reconnect(say)
        case Turn.COMMAND_REPLAYED:
            await orders.replay(say)
