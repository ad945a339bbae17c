"""How long to wait before the next attempt."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.mqtt.backoff import PROVEN_AFTER_S, QUICK_RETURNS_MAX, Backoff


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


def after_an_outage() -> Backoff:
    """Return one that has waited for long, and draws the longest wait each time."""
    backoff = Backoff(lambda: 1.0, first_s=1, ceiling_s=120)
    for _ in range(20):
        backoff.next_s()
    return backoff


@pytest.mark.parametrize(
    ("held_s", "acknowledged", "wait_s"),
    [
        (20.0, True, 1),
        (20.0, False, 120),
        (PROVEN_AFTER_S - 0.1, False, 120),
        (PROVEN_AFTER_S, False, 1),
    ],
)
def test_a_connection_proves_itself_by_what_is_acknowledged_or_by_holding(
    held_s: float, acknowledged: bool, wait_s: float
) -> None:
    backoff = after_an_outage()
    backoff.connection_lost(held_s=held_s, acknowledged=acknowledged)
    assert backoff.next_s() == wait_s


def test_after_an_outage_the_nodes_of_a_cluster_may_go_down_one_after_the_other() -> None:
    backoff = after_an_outage()
    for _node in range(3):
        backoff.connection_lost(held_s=15, acknowledged=True)
        assert backoff.next_s() == 1


def test_a_broker_that_acknowledges_and_throws_out_at_once_is_asked_ever_less_often() -> None:
    backoff = after_an_outage()
    waits = []
    for _ in range(QUICK_RETURNS_MAX + 8):
        backoff.connection_lost(held_s=0.1, acknowledged=True)
        waits.append(backoff.next_s())
    assert waits == [1, 1, 1, 2, 4, 8, 16, 32, 64, 120, 120]
    backoff.connection_lost(held_s=PROVEN_AFTER_S, acknowledged=True)
    assert backoff.next_s() == 1
    backoff.connection_lost(held_s=1, acknowledged=True)
    assert backoff.next_s() == 1, "it has held, and may be lost as often again"


def test_two_clients_of_one_name_come_back_a_few_times_a_minute_at_most() -> None:
    """Each throws the other out by coming, and is acknowledged something meanwhile: an hour of that."""
    dice = random.Random(4)
    clients = [Backoff(dice.random), Backoff(dice.random)]
    now_s, came, returns = 0.0, 0, [0.0, 0.0]
    inside, since_s = None, 0.0
    while now_s < 3600:
        comes = 0 if returns[0] <= returns[1] else 1
        now_s, came = returns[comes], came + 1
        if inside is not None:
            clients[inside].connection_lost(held_s=now_s - since_s, acknowledged=True)
            returns[inside] = now_s + clients[inside].next_s()
        inside, since_s, returns[comes] = comes, now_s, float("inf")
    assert came < 3 * 60


@given(seed=st.integers(), count=st.integers(1, 50))
def test_a_delay_is_never_negative_nor_above_its_bound(seed: int, count: int) -> None:
    backoff = Backoff(random.Random(seed).random, first_s=0.5, ceiling_s=60)
    for attempt in range(count):
        assert 0 <= backoff.next_s() <= min(60, 0.5 * 2**attempt)


@pytest.mark.parametrize(("first_s", "ceiling_s"), [(0, 1), (-1, 1), (2, 1)])
def test_bounds_that_make_no_sense_are_refused(first_s: float, ceiling_s: float) -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(random.random, first_s=first_s, ceiling_s=ceiling_s)
