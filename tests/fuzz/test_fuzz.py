"""The fuzz targets, bounded: corpus and seeds played again, and a few thousand spoilt inputs, always the same.

`make fuzz` runs the same targets for as long as there is time (docs/fuzzing.md).
"""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import CORPUS, TARGETS, kept, sound

_CORPUS_BYTES_MAX = 200_000  # what a clone carries for it

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
pytestmark = [
    pytest.mark.xdist_group("fuzz"),  # one village of keys serves them all
    # A spoilt certificate may have a serial number of 0; that it is read with a warning is no fault.
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]


@each_target
def test_what_is_sound_or_once_failed_holds(target: Target) -> None:
    for data in sound(target):
        target.run(data)
    for nothing in (b"", b"\0", b"\n"):
        target.run(nothing)


@each_target
def test_what_is_spoilt_holds(target: Target) -> None:
    seeds = sound(target)

    @settings(
        max_examples=target.examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(seeds), st.randoms(use_true_random=False))
    def holds(seed: bytes, chance: random.Random) -> None:
        target.run(mutated(seed, seeds, chance))

    holds()


@pytest.mark.parametrize(
    "planted", [b"\0", b"\xff", b"[" * 17, b"9" * 400, b"\x1b", b'"obis":"1.8.0","obis":']
)
def test_what_readers_stumble_over_is_among_the_changes(planted: bytes) -> None:
    """Each reader that would fall over one of these is found out within the examples of one target."""
    seed, chance = b'{"obis":"1.8.0","value":1}', random.Random(0)
    assert planted not in seed
    assert any(planted in mutated(seed, [seed], chance) for _ in range(4_000))


def test_the_corpus_is_small_and_all_of_it_is_played() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert set(files) == {path for name in TARGETS for path in kept(name)}
    assert sum(path.stat().st_size for path in files) <= _CORPUS_BYTES_MAX
    assert Path(__file__).parent / "corpus" == CORPUS
