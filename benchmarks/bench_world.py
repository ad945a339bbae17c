"""The simulated village: what a village-day costs, a large one and many small ones.

    python -m benchmarks.bench_world [--repeats 3] [--days 30]

Prints one JSON object a line; seconds are processor time, of one core, because a world has one thread.
"""

import argparse
import json
import logging
import statistics
import sys
import time

import structlog

from openami.simulator.world.faults import Replayed
from openami.simulator.world.scenario import Scenario, VillageSettings
from openami.simulator.world.story import simulate

LARGE = VillageSettings(gateways=1, meters=100, fast_s=60, billing_s=900, commands_per_day=6)
# A scenario without a fault is one whose faults are thrown: this one harms nobody.
CALM = (Replayed(at_h=1.0, messages=1),)
FIRST_SEED = 100


def lived(scenario: Scenario, seed: int) -> tuple[float, int]:
    """Live through it; return the processor seconds it took, and how many messages there were."""
    began = time.process_time()
    history = simulate(scenario, seed=seed)
    took_s = time.process_time() - began
    if history.breach is not None:
        raise history.breach
    return took_s, history.ledger.expected


def large_day(repeats: int) -> dict[str, object]:
    """A hundred meters every minute for a day, nothing wrong."""
    scenario = Scenario(title="a calm day of a hundred meters", village=LARGE, fault=CALM)
    runs = [lived(scenario, seed=1) for _ in range(repeats)]
    seconds = [took_s for took_s, _ in runs]
    return {
        "benchmark": "world",
        "case": "village-day, 100 meters at 60 s",
        "repeats": repeats,
        "messages": runs[0][1],
        "cpu_s_median": round(statistics.median(seconds), 2),
        "cpu_s_min": round(min(seconds), 2),
        "cpu_s_max": round(max(seconds), 2),
        "us_per_message": round(statistics.median(seconds) / runs[0][1] * 1e6, 1),
    }


def small_days(days: int) -> dict[str, object]:
    """A village-day of each of so many seeds, whatever they throw."""
    scenario = Scenario(title="what the seed throws")
    seconds = [lived(scenario, seed)[0] for seed in range(FIRST_SEED, FIRST_SEED + days)]
    return {
        "benchmark": "world",
        "case": "diced village-days",
        "days": days,
        "cpu_s_mean": round(statistics.mean(seconds), 3),
        "cpu_s_median": round(statistics.median(seconds), 3),
        "cpu_s_max": round(max(seconds), 3),
    }


def main() -> int:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--days", type=int, default=30)
    arguments = parser.parse_args()
    # What the programs say of every fault is not what is measured.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(json.dumps(small_days(arguments.days)), flush=True)
    print(json.dumps(large_day(arguments.repeats)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
