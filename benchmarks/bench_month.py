"""A simulated month: does anything grow that should not? Sampled once a virtual day.

    python -m benchmarks.bench_month [DAYS [SEED]]

What may grow is the head-end's store, by its readings; everything else has to be as large on the last day as on the
tenth: tasks, open files, the gateways' cards, the write-ahead logs, what the broker holds. The process's memory
is printed beside it: it holds the whole world, the witness's own notes among it.
"""

import asyncio
import gc
import json
import logging
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from openami.simulator.world.faults import dice_faults
from openami.simulator.world.scenario import VillageSettings
from openami.simulator.world.story import Story
from openami.simulator.world.world import World

DAY_S = 86_400.0
VILLAGE = VillageSettings(gateways=2, meters=4, fast_s=900, billing_s=900)


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is at the end of a virtual day."""

    day: int
    resident_kb: int
    objects: int
    tasks: int
    open_files: int
    card_bytes: int
    log_bytes: int
    broker_messages: int
    store_bytes: int
    stored_messages: int


def sample(world: World, day: int) -> Sample:
    """Look at everything there is."""
    gc.collect()
    cards = [gateway.database for gateway in world.gateways]
    logs = [Path(f"{file}-wal") for file in (*cards, world.headend.database)]
    clients = [gateway.door.client_id for gateway in world.gateways]
    return Sample(
        day=day,
        resident_kb=int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        objects=len(gc.get_objects()),
        tasks=len(asyncio.all_tasks()),
        open_files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        card_bytes=sum(file.stat().st_size for file in cards if file.exists()),
        log_bytes=sum(file.stat().st_size for file in logs if file.exists()),
        broker_messages=sum(map(world.broker.owed, clients)),
        store_bytes=world.headend.database.stat().st_size,
        stored_messages=world.stored,
    )


def main(days: int, seed: int) -> None:
    """Live through it and print each day's sample, then how the last ten days compare with the second ten."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    samples: list[Sample] = []
    with ExitStack() as stack:
        world = World(VILLAGE, stack, seed=seed)
        story = Story(world, days, dice_faults(seed, days))

        async def sampler() -> None:
            for day in range(1, days + 1):
                await world.sleep_until(day * DAY_S)
                samples.append(sample(world, day))
                print(json.dumps(asdict(samples[-1])), flush=True)

        async def told() -> None:
            world.begin("sampler", sampler)
            await story.tell()

        world.live(told)
        if world.breach is not None:
            raise world.breach
    third = max(1, days // 3)
    early, late = samples[third : 2 * third], samples[-third:]
    for name in ("resident_kb", "objects", "tasks", "open_files", "card_bytes", "log_bytes"):
        before, after = (
            statistics.median(getattr(s, name) for s in part) for part in (early, late)
        )
        row = {"benchmark": "month", "case": name, "second third": before, "last third": after}
        print(json.dumps(row))


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*[*given, *(30, 1)[len(given) :]])
