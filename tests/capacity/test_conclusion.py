"""What is concluded from figures that are given by hand."""

import dataclasses

from openami.capacity.conclusion import READINGS_TELLING_MIN, USUAL_BYTES, Figures, conclude
from openami.capacity.doubts import Conditions, DoubtCode
from openami.capacity.probes import Latency, Rate
from openami.capacity.reckoning import Limit

QUIET = Conditions("ext4", cores=2, load_before=0.1, others_share=0.0, steal_share=0.0)
ENOUGH = Figures(
    synced=Latency(0.001, 0.002, 100),
    committed=Latency(0.002, 0.01, 100),
    judged={3: Rate(90_000, 11e-6, 9000), 8: Rate(50_000, 20e-6, 9000)},
    taken_in={3: Rate(30_000, 32e-6, 9000), 8: Rate(17_000, 57e-6, 9000)},
    appended=Rate(40_000, 20e-6, 9000),
    cycle=Latency(0.003, 0.01, 100),
    readings=READINGS_TELLING_MIN,
    grown_bytes=READINGS_TELLING_MIN * 33,
)


def test_enough_readings_say_what_one_takes() -> None:
    found = conclude("sqlite", ENOUGH, QUIET, 10**12)
    assert found.bytes_per_reading == 33
    assert found.doubts == []
    assert [(one.load.interval_s, one.load.registers) for one in found.reaches] == [
        (900, 3), (900, 8), (60, 3), (60, 8)
    ]  # fmt: skip
    assert [one.by[Limit.INTAKE] for one in found.reaches] == [
        8_100_000, 4_590_000, 540_000, 306_000
    ]  # fmt: skip


def test_too_few_readings_say_so_and_the_benchmark_stands_in() -> None:
    few = dataclasses.replace(ENOUGH, readings=READINGS_TELLING_MIN - 1)
    for engine, usual in USUAL_BYTES.items():
        found = conclude(engine, few, QUIET, 10**12)
        assert found.bytes_per_reading == usual
        assert [doubt.code for doubt in found.doubts] == [DoubtCode.FEW_READINGS]


def test_a_disk_that_cannot_be_seen_limits_nothing() -> None:
    found = conclude("postgresql", ENOUGH, QUIET, None)
    assert found.room is None
    assert all(set(one.by) == {Limit.INTAKE, Limit.COMMITS} for one in found.reaches)
