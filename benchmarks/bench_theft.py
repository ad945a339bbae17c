"""Is a meter that energy passes by found, and is nobody else named? On simulated villages whose truth is known.

    python -m benchmarks.bench_theft [--villages 200] [--first 10000]

Villages of the seeds from FIRST_JUDGED on were never looked at when the bounds were chosen; 0 to 199 and 1,000 to
1,199 were.
Each is judged once, on two months of hours. Prints one JSON object a line:

* villages with thefts, hooks, wrong clocks, silent, late and wrongly listed meters: precision (of the meters named,
  how many does energy pass by), recall by kind and by energy, each with its 95 % interval (Wilson's);
* honest villages, with all of that but thefts: false accusations per 100 village-months.

A theft that began before the first hour, or of a few watts, counts like any other.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from math import sqrt

from openami.headend.balance.following import Trace, attribute
from openami.simulator.thefts import DAYS, HONEST, MIXED, Settings, theft_village

FIRST_JUDGED = 10_000
MONTH_DAYS = 30
# Of a feeder's supply: what an operator would walk for.
MATERIAL_SHARE = 0.01
Z_95 = 1.96
ACCUSING = (Trace.PART, Trace.SWITCHED, Trace.STOPPED)


@dataclass
class Score:
    """What was named in villages, and what should have been."""

    villages: int = 0
    named: int = 0
    rightly: int = 0
    thefts: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    passed_wh: int = 0
    found_wh: int = 0
    material: int = 0
    material_found: int = 0

    def add(self, other: "Score") -> None:
        """Add another score to this one."""
        self.villages += other.villages
        self.named += other.named
        self.rightly += other.rightly
        self.thefts += other.thefts
        self.found += other.found
        self.passed_wh += other.passed_wh
        self.found_wh += other.found_wh
        self.material += other.material
        self.material_found += other.material_found


def judged(seed: int, settings: Settings) -> Score:
    """Judge one village."""
    village = theft_village(seed, settings)
    attribution = attribute(village.head, village.meters, village.phases)
    named = {each.number for each in attribution.followed if each.trace in ACCUSING}
    score = Score(villages=1, named=len(named), rightly=len(named & village.guilty))
    supplied = sum(wh or 0 for wh in village.head)
    for culprit in village.culprits:
        if culprit.meter is None:
            continue
        found = culprit.meter in named
        score.thefts[culprit.kind] += 1
        score.found[culprit.kind] += found
        score.passed_wh += culprit.wh
        score.found_wh += culprit.wh * found
        if culprit.wh >= MATERIAL_SHARE * supplied:
            score.material += 1
            score.material_found += found
    return score


def interval(hits: int, of: int) -> dict[str, float | int]:
    """Return a share with its 95 % interval by Wilson, which holds near 0 and 1 as well."""
    if not of:
        return {"of": 0}
    share, z2 = hits / of, Z_95 * Z_95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 * sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"of": of, "share": round(share, 3), "low": round(low, 3), "high": round(high, 3)}


def score_of(seeds: Iterable[int], settings: Settings) -> Score:
    """Judge villages, on two processes."""
    seeds = list(seeds)
    total = Score()
    with ProcessPoolExecutor(2) as pool:
        for each in pool.map(judged, seeds, [settings] * len(seeds)):
            total.add(each)
    return total


def main() -> int:
    """Judge both kinds of village."""
    parser = argparse.ArgumentParser(description="judge the balance on simulated villages")
    parser.add_argument("--villages", type=int, default=200)
    parser.add_argument("--first", type=int, default=FIRST_JUDGED)
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.villages)
    mixed = score_of(seeds, MIXED)
    row: dict[str, object] = {
        "benchmark": "theft", "case": "villages with thefts", "villages": mixed.villages,
        "days": DAYS, "precision": interval(mixed.rightly, mixed.named),
        "recall": interval(mixed.found.total(), mixed.thefts.total()),
        "recall of thefts above 1 % of the supply": interval(mixed.material_found, mixed.material),
        "share of stolen energy found": round(mixed.found_wh / max(1, mixed.passed_wh), 3),
        "recall by kind": {
            str(kind): interval(mixed.found[kind], mixed.thefts[kind]) for kind in sorted(mixed.thefts)
        },
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    honest = score_of(seeds, HONEST)
    months = honest.villages * DAYS / MONTH_DAYS
    row = {
        "benchmark": "theft", "case": "honest villages", "villages": honest.villages, "days": DAYS,
        "falsely named": honest.named,
        "per 100 village-months": round(100 * honest.named / months, 2),
        # No more than so many, with 95 %: Poisson, its upper bound.
        "at most (95 %)": round(100 * upper(honest.named) / months, 2),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return 0


def upper(count: int) -> float:
    """Return the count a Poisson mean is below with 97.5 %, when so many were seen (Wilson and Hilferty)."""
    n = count + 1
    return n * (1 - 1 / (9 * n) + Z_95 / (3 * sqrt(n))) ** 3


if __name__ == "__main__":
    sys.exit(main())
