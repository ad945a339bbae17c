"""Events derived from answers: hysteresis, several answers, one end for each beginning, a restart at any moment."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.driver import PollGroup, RegisterInfo, RelayPosition
from openami.gateway.event_limits import EventLimits, Rule
from openami.gateway.event_rules import (
    Answer,
    Derived,
    RuleMemory,
    answers_again,
    derive,
    silent_among_answering,
)
from openami.gateway.relay_orders import RelayOrder
from openami.gateway.telling import Happening, Telling, admit
from openami.profile import EventState, Obis, Severity, Value

NOW = datetime(2026, 6, 22, 14, tzinfo=UTC)
RAISED, CLEARED, INSTANT = EventState.RAISED, EventState.CLEARED, EventState.INSTANT
CONNECTED, DISCONNECTED, READY = RelayPosition
POLLS = EventLimits().polls


class House:
    """One meter's rules, as the gateway keeps them between polls; ``restarts`` as often as it is asked to."""

    def __init__(self, limits: EventLimits | None = None, unit: str = "kWh") -> None:
        self.limits = limits or EventLimits()
        self.unit = unit
        self.rules, self.telling = RuleMemory(), Telling()
        self.before: dict[Obis, Value] = {}
        self.order: RelayOrder | None = None
        self.now = NOW
        self.found: list[Derived] = []
        self.told_of: list[Derived] = []

    def restart(self) -> None:
        coded = msgspec.json.encode((self.rules, self.telling))
        self.rules, self.telling = msgspec.json.decode(coded, type=tuple[RuleMemory, Telling])

    def answers(
        self, values: Mapping[str, Value], *, named: Sequence[str] = ()
    ) -> list[tuple[str, EventState]]:
        """Answer with these values; the meter's map may name more than it has."""
        self.now += timedelta(minutes=1)
        told = {Obis.parse(code): value for code, value in values.items()}
        codes = {*told, *self.before, *(Obis.parse(code) for code in named)}
        answer = Answer(
            values=told,
            before=self.before,
            infos={code: self.info(code) for code in codes},
            limits=self.limits,
            order=self.order,
        )
        self.rules, again = answers_again(self.rules, self.telling)
        self.rules, found = derive(self.rules, self.telling, answer)
        self.before = {**self.before, **told}
        return self.tell([*([again] if again else []), *found])

    def is_silent(self, neighbours: int) -> list[tuple[str, EventState]]:
        self.now += timedelta(minutes=1)
        self.found, self.told_of = [], []
        if not neighbours:
            return []
        self.rules, derived = silent_among_answering(
            self.rules, self.telling, polls=3, neighbours=neighbours
        )
        return self.tell([derived] if derived else [])

    def tell(self, found: Sequence[Derived]) -> list[tuple[str, EventState]]:
        self.found = list(found)
        happenings = [Happening(d.type, d.state, d.part, d.severity) for d in found]
        admitted = admit(self.telling, happenings, self.now, per_hour=self.limits.per_hour)
        self.telling = admitted.telling
        told = [
            (derived, state)
            for derived, state in zip(found, admitted.states, strict=True)
            if state is not None
        ]
        self.told_of = [derived for derived, _ in told]
        return [(str(derived.type), state) for derived, state in told]

    def info(self, code: Obis) -> RegisterInfo:
        return RegisterInfo(code, self.unit, PollGroup.FAST)


def many(house: House, values: Mapping[str, Value], polls: int) -> list[tuple[str, EventState]]:
    return [told for _ in range(polls) for told in house.answers(values)]


# --- what lasts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "normal", "beyond", "between"),
    [
        ("over_voltage", {"32.7.0": 230.0}, {"32.7.0": 253.1}, {"32.7.0": 250.0}),
        ("under_voltage", {"32.7.0": 230.0}, {"32.7.0": 195.4}, {"32.7.0": 197.0}),
        ("power_fail", {"32.7.0": 230.0}, {"32.7.0": 0.0}, None),
        (
            "phase_missing",
            {"32.7.0": 230.0, "52.7.0": 229.0, "72.7.0": 231.0},
            {"32.7.0": 230.0, "52.7.0": 4.0, "72.7.0": 231.0},
            None,
        ),
        ("reverse_current", {"2.7.0": 0.0}, {"2.7.0": 0.06}, {"2.7.0": 0.04}),
        ("reverse_current", {"16.7.0": 0.5}, {"16.7.0": -0.06}, {"16.7.0": -0.04}),
        ("reverse_current", {"1.7.0": 0.5}, {"1.7.0": -0.06}, {"1.7.0": -0.04}),
        (
            "neutral_disturbance",
            {"31.7.0": 5.0, "91.7.0": 5.1},
            {"31.7.0": 5.0, "91.7.0": 3.9},
            {"31.7.0": 5.0, "91.7.0": 4.2},
        ),
        ("thd_over_limit", {"32.7.124": 3.0}, {"32.7.124": 8.1}, {"32.7.124": 7.5}),
    ],
)
def test_a_condition_begins_and_ends_after_so_many_answers_in_a_row(
    kind: str,
    normal: Mapping[str, Value],
    beyond: Mapping[str, Value],
    between: Mapping[str, Value] | None,
) -> None:
    house = House()
    assert many(house, normal, 5) == []
    assert many(house, beyond, POLLS - 1) == []
    assert many(house, normal, 1) == []
    assert many(house, beyond, POLLS) == [(kind, RAISED)]
    assert many(house, beyond, 5) == []
    if between is not None:
        assert many(house, between, 10) == [], "a value between the thresholds ends nothing"
    assert many(house, normal, POLLS - 1) == []
    assert many(house, beyond, 1) == []
    assert many(house, normal, POLLS) == [(kind, CLEARED)]
    assert many(house, between or normal, 10) == [], "and begins nothing"


def test_a_dead_phase_is_missing_and_not_low_and_three_are_a_power_failure() -> None:
    house = House()
    dead, alive = {"52.7.0": 0.0, "72.7.0": 0.0}, {"52.7.0": 230.0, "72.7.0": 230.0}
    assert many(house, {"32.7.0": 230.0, **dead}, POLLS) == [("phase_missing", RAISED)]
    assert many(house, {"32.7.0": 0.0, **dead}, POLLS) == [("power_fail", RAISED)]
    told = many(house, {"32.7.0": 230.0, **alive}, POLLS)
    assert sorted(told) == [("phase_missing", CLEARED), ("power_fail", CLEARED)]


def test_behind_an_open_contactor_there_is_no_voltage_by_right() -> None:
    house = House()
    house.answers({"32.7.0": 230.0, "96.3.10": "disconnected"})
    assert many(house, {"32.7.0": 0.0}, 10) == []
    told = many(house, {"32.7.0": 0.0, "96.3.10": "connected"}, POLLS)
    assert told == [("relay_unordered", INSTANT), ("power_fail", RAISED)]


def test_a_rule_that_is_turned_off_ends_what_it_told() -> None:
    """Who reads `reverse_current` and writes ``exports = true`` has no alarm left that stands for ever."""
    house = House()
    assert many(house, {"2.7.0": 1.0}, POLLS) == [("reverse_current", RAISED)]
    house.limits = EventLimits(exports=True)
    assert many(house, {"2.7.0": 1.0}, 5) == [("reverse_current", CLEARED)]


def test_an_answer_without_all_phases_says_nothing_of_them() -> None:
    house = House()
    house.answers({"32.7.0": 230.0, "52.7.0": 230.0, "72.7.0": 230.0})
    assert many(house, {"32.7.0": 300.0}, 10) == []


def test_phases_that_only_the_map_has_keep_nothing_from_being_said() -> None:
    """SunSpec names three phases to a meter of one: it must not be deaf to its own."""
    house = House()
    told = [house.answers({"32.7.0": 170.0}, named=["52.7.0", "72.7.0"]) for _ in range(POLLS)]
    assert told[-1] == [("under_voltage", RAISED)]


def test_a_customer_with_panels_may_send_power_back() -> None:
    assert many(House(EventLimits(exports=True)), {"2.7.0": 3.0}, 10) == []


def test_the_neutral_of_three_phases_carries_the_difference_by_right() -> None:
    values = {"31.7.0": 5.0, "51.7.0": 1.0, "71.7.0": 1.0, "91.7.0": 4.0}
    assert many(House(), values, 10) == []


def test_credit_crosses_its_threshold_at_once_and_is_over_when_a_token_is_in() -> None:
    house = House()
    assert house.answers({"96.8.0": 5.1}) == []
    assert house.answers({"96.8.0": 5.0}) == [("low_credit", RAISED)]
    assert house.answers({"96.8.0": 0.0}) == [("credit_exhausted", RAISED)]
    assert house.answers({"96.8.0": -0.4}) == []
    assert house.answers({"96.8.0": 5.2}) == [("credit_exhausted", CLEARED)]
    assert house.answers({"96.8.0": 5.5}) == [("low_credit", CLEARED)]


def test_a_credit_in_a_currency_has_no_threshold_but_a_configured_one() -> None:
    house = House(unit="INR")
    assert house.answers({"19.10.0": 1.0}) == []
    assert house.answers({"19.10.0": 0.0}) == [("credit_exhausted", RAISED)]
    house = House(EventLimits(low_credit=100.0), unit="INR")
    assert house.answers({"19.10.0": 99.0}) == [("low_credit", RAISED)]


@pytest.mark.parametrize(
    ("code", "fine", "leaks"), [("128.7.0", 29.0, 31.0), ("128.7.2", 5.7, 6.1)]
)
def test_leakage_is_told_after_two_answers(code: str, fine: float, leaks: float) -> None:
    house = House()
    assert house.answers({code: fine}) == []
    assert house.answers({code: leaks}) == []
    assert house.answers({code: leaks}) == [("leakage_alarm", RAISED)]
    assert many(house, {code: fine}, 5) == [], "it has to be left by a tenth"
    assert many(house, {code: fine / 2}, 2) == [("leakage_alarm", CLEARED)]


# --- counters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("96.20.0", "meter_cover_open"),
        ("96.20.5", "terminal_cover_open"),
        ("96.20.15", "magnetic_field"),
        ("96.7.21", "power_fail"),
    ],
)
def test_a_counter_that_goes_on_is_told_each_time_and_its_first_value_never(
    code: str, kind: str
) -> None:
    house = House()
    assert house.answers({code: 3}) == []
    assert house.answers({code: 3}) == []
    assert house.answers({code: 5}) == [(kind, INSTANT)]
    assert "2 times" in house.found[0].detail
    assert house.answers({code: 5}) == []
    house.restart()
    assert house.answers({code: 5}) == []


def test_power_failures_that_are_over_are_minor() -> None:
    house = House()
    house.answers({"96.7.0": 1, "96.7.21": 4})
    assert house.answers({"96.7.0": 2, "96.7.21": 5}) == [("power_fail", INSTANT)]
    assert house.found[0].severity is Severity.MINOR


# --- relays -----------------------------------------------------------------------------------------


def relay(position: RelayPosition) -> dict[str, Value]:
    return {"96.3.10": position.value}


def test_a_change_that_a_command_ordered_is_told_as_ordered() -> None:
    house = House()
    house.answers(relay(CONNECTED))
    house.order = RelayOrder("s/m/1", DISCONNECTED)
    assert house.answers(relay(DISCONNECTED)) == [("relay_disconnected", INSTANT)]
    house.order = RelayOrder("s/m/2", CONNECTED)
    assert house.answers(relay(READY)) == [("ready_for_reconnection", INSTANT)]
    assert house.answers(relay(CONNECTED)) == [("relay_connected", INSTANT)]


def test_an_order_explains_one_change_and_the_next_is_somebody_elses() -> None:
    house = House()
    house.answers(relay(CONNECTED))
    house.order = RelayOrder("s/m/1", DISCONNECTED)
    house.answers(relay(DISCONNECTED))
    house.restart()
    assert house.answers(relay(CONNECTED)) == [("relay_unordered", INSTANT)]
    assert house.answers(relay(DISCONNECTED)) == [("relay_unordered", INSTANT)]


def test_a_change_nobody_ordered_is_told_so() -> None:
    house = House()
    house.answers(relay(CONNECTED))
    assert house.answers(relay(DISCONNECTED)) == [("relay_unordered", INSTANT)]


def test_an_order_of_before_the_start_explains_a_change_too() -> None:
    """The journal has it: the power went between the order and the next reading."""
    house = House()
    house.answers(relay(CONNECTED))
    house.restart()
    house.order = RelayOrder("s/m/1", DISCONNECTED, recalled=True)
    assert house.answers(relay(DISCONNECTED)) == [("relay_disconnected", INSTANT)]


def test_a_meter_that_cuts_off_an_exhausted_customer_needs_no_order() -> None:
    house = House()
    house.answers({"96.8.0": 0.2, **relay(CONNECTED)})
    told = house.answers({"96.8.0": 0.0, **relay(DISCONNECTED)})
    assert ("relay_disconnected", INSTANT) in told
    assert "credit" in house.found[-1].detail


def test_a_contactor_that_does_not_obey_is_told_after_so_many_answers_and_until_it_does() -> None:
    house = House()
    house.answers(relay(CONNECTED))
    house.order = RelayOrder("s/m/1", DISCONNECTED)
    assert many(house, relay(CONNECTED), POLLS - 1) == []
    assert house.answers(relay(CONNECTED)) == [("relay_failure", RAISED)]
    told = many(house, relay(DISCONNECTED), POLLS)
    assert told == [("relay_disconnected", INSTANT), ("relay_failure", CLEARED)]


@pytest.mark.parametrize(
    "order",
    [RelayOrder("s/m/1", DISCONNECTED, recalled=True), RelayOrder("s/m/1", READY), None],
)
def test_what_was_not_seen_to_be_ordered_of_the_contactor_does_not_fail(
    order: RelayOrder | None,
) -> None:
    house = House()
    house.order = order
    assert many(house, relay(CONNECTED), 10) == []


# --- silence ----------------------------------------------------------------------------------------


def test_silence_among_answering_neighbours_may_be_a_lost_supply_and_ends_with_an_answer() -> None:
    house = House()
    assert house.is_silent(2) + house.is_silent(2) == []
    assert house.is_silent(2) == [("power_fail", RAISED)]
    assert house.found[0].severity is Severity.MINOR
    assert house.is_silent(2) == []
    assert house.answers({"32.7.0": 230.0}) == [("power_fail", CLEARED)]
    assert house.is_silent(2) + house.is_silent(2) == []


def test_a_line_that_is_silent_says_nothing_of_anybodys_supply() -> None:
    house = House()
    assert [told for _ in range(50) for told in house.is_silent(0)] == []
    assert house.is_silent(1) == [], "and counts for nothing when the others are back"


# --- for any history --------------------------------------------------------------------------------

_VOLTS = st.sampled_from([0.0, 150.0, 196.0, 230.0, 249.0, 251.0, 260.0])
_ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "32.7.0": _VOLTS,
        "2.7.0": st.sampled_from([0.0, 0.03, 1.0]),
        "31.7.0": st.sampled_from([0.0, 5.0]),
        "91.7.0": st.sampled_from([0.0, 5.0]),
        "96.8.0": st.sampled_from([-1.0, 0.0, 4.9, 5.3, 60.0]),
        "96.3.10": st.sampled_from([position.value for position in RelayPosition]),
        "128.7.0": st.sampled_from([1.0, 28.0, 40.0]),
    },
)
_STEP = st.one_of(_ANSWERS, st.integers(0, 2))
_ORDERS = st.one_of(st.none(), st.sampled_from([CONNECTED, DISCONNECTED]))


@given(st.lists(st.tuples(_STEP, _ORDERS, st.booleans()), max_size=60), st.sampled_from([5, 60]))
def test_each_beginning_has_one_end_at_most_and_a_restart_changes_nothing(
    steps: list[tuple[dict[str, Value] | int, RelayPosition | None, bool]], per_hour: int
) -> None:
    """Two gateways see the same; one is started anew as often as it likes, and both tell the same."""
    limits = EventLimits(per_hour=per_hour)
    steady, restarted = House(limits), House(limits)
    begun: set[str] = set()
    for number, (step, order, restart) in enumerate(steps):
        if restart:
            restarted.restart()
        told: list[list[tuple[str, EventState]]] = []
        for house in (steady, restarted):
            if order is not None:
                house.order = RelayOrder(str(number), order)
            told.append(house.is_silent(step) if isinstance(step, int) else house.answers(step))
        assert told[0] == told[1]
        for derived, (kind, state) in zip(steady.told_of, told[0], strict=True):
            key = f"{kind}/{derived.part}"
            if state is RAISED:
                assert key not in begun, "told twice"
                begun.add(key)
            elif derived.state is CLEARED:
                assert key in begun, "an end without a beginning"
                begun.discard(key)


@pytest.mark.parametrize("rule", Rule)
def test_each_rule_can_be_turned_off(rule: Rule) -> None:
    """With all the others on, a house in which everything happens tells all but this one's."""
    values: dict[str, Value] = {
        "32.7.0": 260.0, "52.7.0": 3.0, "72.7.0": 150.0, "2.7.0": 1.0, "32.7.124": 20.0,
        "96.8.0": -1.0, "128.7.0": 100.0, "96.3.10": "connected",
    }  # fmt: skip

    def told(limits: EventLimits) -> set[str]:
        house = House(limits)
        found = house.answers({"96.20.0": 1, **values})
        house.order = RelayOrder("1", DISCONNECTED)
        found += many(house, {"96.20.0": 2, **values}, POLLS)
        house = House(limits)
        found += many(house, {"31.7.0": 5.0, "91.7.0": 1.0, "32.7.0": 0.0}, POLLS)
        return {kind for kind, _ in found}

    all_kinds, without = told(EventLimits()), told(EventLimits(off=(rule,)))
    assert without < all_kinds


def test_thresholds_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match="missing_percent = 90"):
        EventLimits(missing_percent=90)
    with pytest.raises(ValueError, match="hysteresis_percent"):
        EventLimits(hysteresis_percent=15)
