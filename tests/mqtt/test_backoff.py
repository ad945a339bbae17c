"""How long to wait before the next attempt."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.mqtt.backoff import Backoff


def test_the_bound_doubles_to_the_ceiling_and_begins_again_after_a_reset() -> None:
    backoff = Backoff(lambda: 1.0, first_s=1, ceiling_s=10)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert [backoff.next_s() for _ in range(2)] == [1, 2]


def test_the_jitter_is_full() -> None:
    """Two gateways that lost the broker at the same second do not come back at the same second."""
    backoff = Backoff(lambda: 0.25, first_s=1, ceiling_s=10)
    assert [backoff.next_s() for _ in range(3)] == [0.25, 0.5, 1.0]


def test_a_thousand_failures_neither_overflow_nor_pass_the_ceiling() -> None:
    backoff = Backoff(lambda: 1.0, first_s=1, ceiling_s=10)
    assert max(backoff.next_s() for _ in range(2_000)) == 10


@given(seed=st.integers(), count=st.integers(1, 50))
def test_a_delay_is_never_negative_nor_above_its_bound(seed: int, count: int) -> None:
    backoff = Backoff(random.Random(seed).random, first_s=0.5, ceiling_s=60)
    for attempt in range(count):
        assert 0 <= backoff.next_s() <= min(60, 0.5 * 2**attempt)


@pytest.mark.parametrize(("first_s", "ceiling_s"), [(0, 1), (-1, 1), (2, 1)])
def test_bounds_that_make_no_sense_are_refused(first_s: float, ceiling_s: float) -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(random.random, first_s=first_s, ceiling_s=ceiling_s)
