"""Percentiles by nearest rank: of few samples the 99th is the longest, never one that was not measured."""

import pytest

from openami.capacity.probes import Latency


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (100, 50, 99), (1000, 500, 990)]
)
def test_percentiles(count: int, p50: float, p99: float) -> None:
    samples = [float(n) for n in range(count, 0, -1)]
    assert Latency.of(samples) == Latency(p50, p99, count)
