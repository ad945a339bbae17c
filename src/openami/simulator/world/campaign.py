"""The same story in many villages, one for each seed, on every core; every breach is told with its seed."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from openami.simulator.world.scenario import Scenario
from openami.simulator.world.story import simulate

# A process is replaced after so many villages: what a library may leak stays small, and is not ours to find here.
VILLAGES_PER_PROCESS = 200
# Villages that wait for a core; more would only hold memory.
WAITING_PER_CORE = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one seed ended, as it can be carried from process to process."""

    seed: int
    days: float
    """Of story; the time to tell everything afterwards is not counted."""
    ledger: dict[str, int]
    happened: dict[str, int]
    breach: str
    """What was broken; empty when every promise held."""
    at_s: float
    """Virtual second at which the world ended."""


def outcome_of(scenario: Scenario, seed: int, days: float | None) -> Outcome:
    """Live through one seed."""
    history = simulate(scenario, seed=seed, days=days)
    breach = history.breach
    return Outcome(
        seed=seed,
        days=scenario.days if days is None else days,
        ledger=history.ledger.rows(),
        happened=history.happened,
        breach="" if breach is None else f"{type(breach).__name__}: {breach}",
        at_s=history.lived_s,
    )


def outcomes(
    scenario: Scenario,
    seeds: Iterable[int],
    *,
    days: float | None = None,
    jobs: int | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Yield each seed's outcome, in the order of the seeds. Each process is prepared first: its log, for one."""
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from (outcome_of(scenario, seed, days) for seed in seeds)
        return
    # Spawned, not forked: a world's disks are registered in SQLite's own library.
    with ProcessPoolExecutor(
        jobs,
        mp_context=get_context("spawn"),
        max_tasks_per_child=VILLAGES_PER_PROCESS,
        initializer=partial(_begin, prepare),
    ) as pool:
        waiting: list[Future[Outcome]] = []
        for seed in seeds:
            waiting.append(pool.submit(outcome_of, scenario, seed, days))
            if len(waiting) >= jobs * WAITING_PER_CORE:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _begin(prepare: Callable[[], None]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare()


def _end_with_parent() -> None:
    """End this process when the one that began it is gone: a pool's worker would wait for work for ever."""
    parent = parent_process()
    assert parent is not None, "a pool's worker has a parent"
    wait([parent.sentinel])
    os._exit(1)
