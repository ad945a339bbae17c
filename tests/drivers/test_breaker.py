"""What a dead meter may cost, as arithmetic: no wire, any number of days."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.breaker import PROBE_WAIT_S_MAX, SILENT_SHARE, Breaker


def _spent(cycle_s: float, question_s: float, seconds: float, retries: int) -> list[float]:
    """Live through a dead meter; return what it cost in each cycle."""
    breaker = Breaker.closed(cycle_s=cycle_s, question_s=question_s, now=0.0)
    costs: list[float] = []
    now = 0.0
    while now < seconds:
        cost = 0.0
        for _ in range(1 + retries):
            if breaker.asks_at(now + cost) > now + cost:
                break
            cost += question_s
            breaker = breaker.failed(question_s, now + cost)
        costs.append(cost)
        now += cycle_s
    return costs


@given(
    st.floats(10, 900),
    st.floats(0.05, 3),
    st.integers(0, 5),
)
def test_a_dead_meter_costs_a_twentieth_at_most(
    cycle_s: float, question_s: float, retries: int
) -> None:
    costs = _spent(cycle_s, question_s, 100 * cycle_s, retries)
    # One question is the least that can be asked; in a short cycle it is paid back in the next ones.
    assert max(costs) <= max(SILENT_SHARE * cycle_s, question_s) + 1e-6
    assert sum(costs) <= SILENT_SHARE * cycle_s * len(costs) + question_s


def test_a_meter_dead_for_a_day_costs_next_to_nothing() -> None:
    costs = _spent(60.0, 1.4, 86400.0, retries=1)
    assert max(costs) <= 3.0
    assert sum(costs) / 86400 < 0.006


def test_the_first_failure_may_be_repeated_the_second_opens() -> None:
    breaker = Breaker.closed(cycle_s=60.0, question_s=1.4, now=0.0)
    once = breaker.failed(1.4, 1.4)
    assert once.asks_at(1.4) == 1.4
    twice = once.failed(1.4, 2.8)
    assert twice.asks_at(2.8) == pytest.approx(2.8 + 28.0)
    assert twice.failed(1.4, 40.0).asks_at(40.0) == pytest.approx(40.0 + 56.0)


def test_the_wait_is_bounded() -> None:
    breaker = Breaker.closed(cycle_s=60.0, question_s=1.4, now=0.0)
    now = 0.0
    for _ in range(5000):
        now = breaker.asks_at(now) + 1.4
        breaker = breaker.failed(1.4, now)
    assert breaker.asks_at(now) - now == PROBE_WAIT_S_MAX


def test_an_answer_closes_it_at_once_and_what_was_spent_stays_spent() -> None:
    breaker = (
        Breaker.closed(cycle_s=60.0, question_s=1.4, now=0.0).failed(1.4, 1.4).failed(1.4, 2.8)
    )
    closed = breaker.answered()
    assert closed.failures == 0
    assert closed.saved_s == breaker.saved_s
    # 0.2 s are left of 3: after an answer it is asked when a question is paid for, not when the probe is due
    assert closed.asks_at(30.9) == 30.9
    assert breaker.asks_at(2.8 + 27.9) > 2.8 + 27.9


def test_a_meter_that_answers_is_always_asked() -> None:
    breaker = Breaker.closed(cycle_s=60.0, question_s=1.4, now=0.0)
    for now in range(0, 6000, 60):
        assert breaker.asks_at(float(now)) == now
        breaker = breaker.answered()


def test_every_fifth_question_lost_is_afforded() -> None:
    """20 % of the questions fail: a cycle of three questions goes on, retries included."""
    breaker = Breaker.closed(cycle_s=60.0, question_s=1.4, now=0.0)
    refused = 0
    for number in range(3000):
        now = number * 20.0
        if breaker.asks_at(now) > now:
            refused += 1
        elif number % 5 == 0:
            breaker = breaker.failed(1.4, now)
        else:
            breaker = breaker.answered()
    assert refused == 0
