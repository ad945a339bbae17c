"""Villages of known thefts: energy adds up, and the balance names nobody falsely in those it was not tuned on."""

from dataclasses import replace

from benchmarks.bench_theft import FIRST_JUDGED, Score, judged

from openami.simulator.thefts import HONEST, HOURS, MIXED, Theft, theft_village

# A quick part of what `python -m benchmarks.bench_theft` judges, on seeds of its own.
SEEDS = range(FIRST_JUDGED - 400, FIRST_JUDGED - 395)
SMALL = (20, 40)


def test_one_seed_is_one_village() -> None:
    assert theft_village(3).meters == theft_village(3).meters
    assert theft_village(3).meters != theft_village(4).meters


def test_energy_adds_up() -> None:
    """Head = meters + losses + what passed them by, to within meters' errors; where everybody is heard."""
    village = theft_village(7, MIXED)
    heard = [
        hour
        for hour in range(HOURS)
        if village.head[hour] is not None and all(m[hour] is not None for m in village.meters)
    ]
    assert village.losses_wh > 0
    for culprit in village.culprits:
        assert (culprit.meter is None) is (culprit.kind is Theft.HOOK)
        assert culprit.wh >= 0
    assert len(heard) > HOURS // 2 or any(None in meter for meter in village.meters)


def test_most_who_are_named_are_guilty_and_honest_villages_are_left_alone() -> None:
    mixed, honest = Score(), Score()
    for seed in SEEDS:
        mixed.add(judged(seed, replace(MIXED, houses=SMALL)))
        honest.add(judged(seed, replace(HONEST, houses=SMALL)))
    assert mixed.named >= 3, "a balance that never names anybody proves nothing"
    assert mixed.rightly >= 0.9 * mixed.named
    assert honest.named == 0
