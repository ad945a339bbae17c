"""The mixed demo: a feeder of several makes, what goes wrong on one, and whether all of it was seen.

Modbus, SunSpec, DLMS over the network and over a serial line, and IEC 62056-21 meters are read by one gateway.
One of them is dead, one was put up with its neighbour's address, one has a slow clock. Somebody opens a cover, a
phase of the transformer sags, a serial line is cut for a while, relays are ordered. Each act waits until the
operator's store shows it, and says so; at the end every value that was stored is put beside the village's own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from openami.clock import Clock
from openami.simulator.audit import Account
from openami.simulator.mixed_acts import Acts
from openami.simulator.mixed_lines import MixedLines, mixed_lines
from openami.simulator.mixed_plan import MixedVillage, mixed_village
from openami.simulator.mixed_summary import Summary
from openami.simulator.scenario import village_tonight
from openami.simulator.stage import (
    LOOK_EVERY_S,
    Audience,
    Cast,
    DemoSettings,
    Show,
    Stage,
    ended,
    look,
    stage_set,
)
from openami.simulator.village import Village

# Every second poll: a line that is cut for seconds misses some.
_BILLING_POLLS = 2


@dataclass(slots=True)
class _Company:
    """Who plays, once the stage is set."""

    mixed: MixedVillage | None = None
    lines: MixedLines | None = None


async def run_mixed_demo(
    settings: DemoSettings, audience: Audience
) -> tuple[Account | None, Summary | None]:
    """Run a mixed demo; return its account and its summary, or None when it was stopped before all was up.

    Its acts take as long as they take; a longer ``duration_s`` leaves the village running after them. Raises as
    `openami.simulator.demo.run_demo` does.
    """
    company = _Company()
    casting = partial(_cast, company, settings, audience.clock)
    async with stage_set(settings, casting, audience) as stage:
        if stage is None:
            return None, None
        assert company.mixed is not None
        assert company.lines is not None
        acts = Acts(stage, company.mixed, company.lines, audience.tell)
        began_s = asyncio.get_running_loop().time()
        async with _shown(stage, audience.show, began_s) as showing:
            whole = _whole(acts, settings.duration_s, began_s)
            await _first_of(showing, whole, audience.stop.wait())
        account = await ended(stage, audience)
        return account, await acts.summary()


def _cast(
    company: _Company, settings: DemoSettings, clock: Clock, evening: datetime, directory: Path
) -> Cast:
    plan = village_tonight(meters=settings.meters, seed=settings.seed, now=evening)
    company.mixed = mixed_village(plan)
    village = Village(company.mixed.plan)
    company.lines = mixed_lines(company.mixed, village, clock, directory)
    return Cast(village, company.lines.lines, _BILLING_POLLS)


async def _whole(acts: Acts, duration_s: float | None, began_s: float) -> None:
    """Play all acts, and let the village live on until the time is over."""
    await acts.play()
    if duration_s is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(duration_s - (asyncio.get_running_loop().time() - began_s))


async def _first_of(showing: asyncio.Task[None], *others: Awaitable[object]) -> None:
    """Wait until one of these is over, whichever it is. Raises what it raised."""
    tasks = [asyncio.ensure_future(each) for each in others]
    try:
        done, _ = await asyncio.wait((showing, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _shown(stage: Stage, show: Show, began_s: float) -> AsyncIterator[asyncio.Task[None]]:
    """Show a picture each second while the context lasts; the task ends with PartFailed when a part has ended."""

    async def showing() -> None:
        while True:
            stage.check()
            show(await look(stage, asyncio.get_running_loop().time() - began_s))
            await asyncio.sleep(LOOK_EVERY_S)

    task = asyncio.create_task(showing(), name="show")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
