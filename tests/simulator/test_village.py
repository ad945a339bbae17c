"""The village's physics add up: for any seed, any interval, and whatever steps it is lived in."""

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openami.gateway.driver import RelayPosition
from openami.simulator.feeder import Feeder, Load, solve
from openami.simulator.load import LoadClass
from openami.simulator.plan import (
    METERS_MAX,
    UJ_PER_KWH,
    Customer,
    TopUp,
    VillagePlan,
    epoch_ms,
    plan_village,
)
from openami.simulator.village import Measured, Village, serials

START = datetime(2026, 6, 22, 13, 30, tzinfo=UTC)  # 19:00 in the village, lamps on
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

seeds = st.integers(min_value=0, max_value=2**32)
sizes = st.integers(min_value=2, max_value=12)
few = settings(max_examples=40, deadline=None)


def a_village(seed: int = 1, meters: int = 8, start: datetime = START) -> Village:
    return Village(plan_village(meters=meters, seed=seed, start=start))


def prepaid(credit_uj: int, *topups: TopUp, bypass_permille: int = 0) -> VillagePlan:
    """A village of one prepaid shop, which always draws something in the evening."""
    plan = plan_village(meters=2, seed=1, start=START)
    shop = dataclasses.replace(
        plan.customers[0],
        load_class=LoadClass.SHOP,
        variant=0,
        credit_uj=credit_uj,
        topups=topups,
        bypass_permille=bypass_permille,
    )
    return dataclasses.replace(plan, customers=(shop,))


@few
@given(seed=seeds, meters=sizes, first=st.integers(0, HOUR_MS), then=st.integers(0, 2 * HOUR_MS))
def test_the_head_meter_is_customers_and_losses_and_theft(
    seed: int, meters: int, first: int, then: int
) -> None:
    """Over any interval, not only from the start, to the last microjoule."""
    village = a_village(seed, meters)
    village.advance(village.now_ms + first)
    before = village.balance()
    heads_before = village.measured(village.plan.head_serial)
    village.advance(village.now_ms + then)
    after = village.balance()
    delivered = after.head_uj - before.head_uj
    explained = [
        after.customers_uj - before.customers_uj,
        after.losses_uj - before.losses_uj,
        after.theft_uj - before.theft_uj,
    ]
    assert delivered == sum(explained)
    assert min(explained) >= 0
    head = village.measured(village.plan.head_serial)
    assert head.import_uj - heads_before.import_uj == delivered
    assert head.import_uj == sum(head.phase_import_uj)


@few
@given(seed=seeds, meters=sizes, cuts=st.lists(st.integers(0, 3 * HOUR_MS), max_size=8))
def test_the_state_does_not_depend_on_the_steps(seed: int, meters: int, cuts: list[int]) -> None:
    at_once, in_steps = a_village(seed, meters), a_village(seed, meters)
    end = at_once.now_ms + 3 * HOUR_MS
    for cut in sorted(cuts):
        in_steps.advance(in_steps.plan.start_ms + cut)
    for village in (at_once, in_steps):
        village.advance(end)
    assert at_once.balance() == in_steps.balance()
    for serial in serials(at_once.plan):
        assert at_once.measured(serial) == in_steps.measured(serial)


@given(seed=seeds, meters=sizes)
@few
def test_one_seed_is_one_village(seed: int, meters: int) -> None:
    one = plan_village(meters=meters, seed=seed, start=START)
    assert one == plan_village(meters=meters, seed=seed, start=START)
    assert one.meters == meters == len(set(serials(one)))


def test_another_seed_is_another_village() -> None:
    assert plan_village(meters=8, seed=1, start=START) != plan_village(
        meters=8, seed=2, start=START
    )


@pytest.mark.parametrize("meters", [1, METERS_MAX + 1])
def test_a_village_is_neither_empty_nor_endless(meters: int) -> None:
    with pytest.raises(ValueError, match="a village has"):
        plan_village(meters=meters, seed=1, start=START)


def test_the_largest_village_lives() -> None:
    village = a_village(meters=METERS_MAX)
    village.advance(village.now_ms + 2 * MINUTE_MS)
    balance = village.balance()
    assert balance.head_uj == balance.customers_uj + balance.losses_uj + balance.theft_uj > 0


@pytest.mark.parametrize("meters", [2, 32, 33, METERS_MAX])
def test_every_meter_keeps_a_voltage(meters: int) -> None:
    """From the mill's morning to the television's evening, up to the last pole of the last branch."""
    village = a_village(meters=meters, start=datetime(2026, 6, 22, 4, 0, tzinfo=UTC))
    for _ in range(6):
        village.advance(village.now_ms + 150 * MINUTE_MS)
        for serial in serials(village.plan):
            assert all(190 < p.voltage_v < 240 for p in village.measured(serial).phases)


def test_time_goes_forward() -> None:
    village = a_village()
    village.advance(village.now_ms)
    with pytest.raises(ValueError, match="cannot return"):
        village.advance(village.now_ms - 1)


def test_a_meter_counts_what_it_measures() -> None:
    """Power times time is energy, on every meter, within the minute in which power is constant."""
    village = a_village(meters=30)
    village.advance(village.now_ms + 1)
    before = {s: village.measured(s) for s in serials(village.plan)}
    village.advance(village.now_ms + 30_000)
    for serial, earlier in before.items():
        power_mw = round(sum(phase.active_w for phase in earlier.phases) * 1000)
        counted = village.measured(serial).import_uj - earlier.import_uj
        assert counted == power_mw * 30_000


def test_a_village_draws_as_much_as_its_customers_own() -> None:
    """A day of 60 customers: tens of kilowatt-hours, losses of some percent, an evening peak."""
    village = Village(plan_village(meters=61, seed=3, start=datetime(2026, 6, 22, tzinfo=UTC)))
    midnight = village.now_ms
    hourly = []
    for hour in range(1, 25):
        before = village.balance().head_uj
        village.advance(midnight + hour * HOUR_MS)
        hourly.append((village.balance().head_uj - before) / UJ_PER_KWH)
    assert 20 < sum(hourly) < 150
    assert 0.002 < village.balance().losses_uj / village.balance().head_uj < 0.12
    assert village.balance().theft_uj > 0


class TestCredit:
    def test_runs_down_with_consumption(self) -> None:
        village = Village(prepaid(UJ_PER_KWH))
        shop = village.plan.customers[0].serial
        village.advance(village.now_ms + HOUR_MS)
        measured = village.measured(shop)
        used = measured.import_uj - village.plan.customers[0].counter_uj
        assert used > 0
        assert measured.credit_uj == UJ_PER_KWH - used
        assert measured.relay is RelayPosition.CONNECTED

    def test_used_up_opens_the_relay_in_that_millisecond(self) -> None:
        lasting = Village(prepaid(UJ_PER_KWH))
        lasting.advance(lasting.now_ms + 10 * MINUTE_MS)
        used = self.used_uj(lasting)
        village = Village(prepaid(used))
        village.advance(village.now_ms + 10 * MINUTE_MS - 1)
        assert self.shop(village).relay is RelayPosition.CONNECTED
        village.advance(village.now_ms + 1)
        assert self.shop(village).relay is RelayPosition.DISCONNECTED
        assert self.shop(village).credit_uj == 0
        village.advance(village.now_ms + HOUR_MS)
        assert self.used_uj(village) == used
        assert self.shop(village).phases[0].current_a == 0

    def test_entered_closes_it_again(self) -> None:
        back = epoch_ms(START) + HOUR_MS + 123
        village = Village(prepaid(1, TopUp(back, UJ_PER_KWH)))
        village.advance(back - 1)
        assert self.shop(village).relay is RelayPosition.DISCONNECTED
        village.advance(back)
        assert self.shop(village).relay is RelayPosition.CONNECTED
        assert 0.99 * UJ_PER_KWH < (self.shop(village).credit_uj or 0) <= UJ_PER_KWH
        village.advance(back + MINUTE_MS)
        assert self.shop(village).phases[0].current_a > 0

    def test_of_nothing_keeps_the_relay_open_from_the_start(self) -> None:
        assert self.shop(Village(prepaid(0))).relay is RelayPosition.DISCONNECTED

    def test_is_no_matter_to_who_pays_afterwards(self) -> None:
        plan = prepaid(0)
        later = dataclasses.replace(plan.customers[0], credit_uj=None)
        measured = self.shop(Village(dataclasses.replace(plan, customers=(later,))))
        assert measured.credit_uj is None
        assert measured.relay is RelayPosition.CONNECTED

    def test_does_not_stop_a_bypass(self) -> None:
        """The relay is open, the meter stands, and the feeder still delivers: that is theft."""
        village = Village(prepaid(0, bypass_permille=500))
        village.advance(village.now_ms + HOUR_MS)
        balance = village.balance()
        assert balance.customers_uj == 0
        assert balance.theft_uj > 0
        assert balance.head_uj == balance.theft_uj + balance.losses_uj

    @few
    @given(
        credit=st.integers(0, UJ_PER_KWH // 5),
        topups=st.lists(
            st.builds(
                TopUp,
                st.integers(epoch_ms(START), epoch_ms(START) + 3 * HOUR_MS),
                st.integers(0, UJ_PER_KWH // 5),
            ),
            max_size=4,
        ),
        cuts=st.lists(st.integers(0, 3 * HOUR_MS), max_size=5),
    )
    def test_is_the_same_whatever_the_steps(
        self, credit: int, topups: list[TopUp], cuts: list[int]
    ) -> None:
        plan = prepaid(credit, *sorted(topups, key=lambda topup: topup.at_ms))
        at_once, in_steps = Village(plan), Village(plan)
        for cut in sorted(cuts):
            in_steps.advance(plan.start_ms + cut)
        for village in (at_once, in_steps):
            village.advance(plan.start_ms + 3 * HOUR_MS)
        assert self.shop(at_once) == self.shop(in_steps)
        bought = credit + sum(topup.energy_uj for topup in topups)
        assert self.used_uj(at_once) + (self.shop(at_once).credit_uj or 0) == bought

    @staticmethod
    def shop(village: Village) -> Measured:
        return village.measured(village.plan.customers[0].serial)

    def used_uj(self, village: Village) -> int:
        return self.shop(village).import_uj - village.plan.customers[0].counter_uj


class TestFeeder:
    line = Feeder(poles=4)
    fork = Feeder(poles=4, branches=2)

    def test_without_load_loses_nothing(self) -> None:
        flow = solve(self.line, [])
        assert flow.losses_mw == (0, 0, 0)
        assert flow.drops_v == {(0, phase): (0.0,) * 5 for phase in range(3)}

    def test_loses_four_times_as_much_at_twice_the_load(self) -> None:
        once = solve(self.line, [Load(0, 4, 0, 1_000_000, 0.0)]).losses_mw[0]
        twice = solve(self.line, [Load(0, 4, 0, 2_000_000, 0.0)]).losses_mw[0]
        assert twice == pytest.approx(4 * once, rel=1e-3)

    def test_by_hand(self) -> None:
        """230 W resistive on pole 2: 1 A through two spans and one service cable."""
        flow = solve(self.line, [Load(0, 2, 1, 230_000, 0.0)])
        assert flow.losses_mw == (0, int((2 * 0.0868 + 0.0732) * 1000), 0)
        assert flow.drops_v[0, 1] == pytest.approx((0, 0.0868, 0.1736, 0.1736, 0.1736))

    def test_branches_share_nothing_but_the_transformer(self) -> None:
        near, far = Load(0, 4, 0, 1_000_000, 0.0), Load(1, 4, 0, 1_000_000, 0.0)
        apart, together = solve(self.fork, [near, far]), solve(self.line, [near, near])
        assert apart.drops_v[0, 0] == apart.drops_v[1, 0] == solve(self.line, [near]).drops_v[0, 0]
        assert sum(apart.losses_mw) < sum(together.losses_mw)

    @few
    @example([Load(0, 1, 2, 1743, 0.0), Load(0, 2, 2, 129, 0.0)])
    @given(
        st.lists(
            st.builds(
                Load,
                st.integers(0, 1),
                st.integers(1, 4),
                st.integers(0, 2),
                st.integers(0, 3_000_000),
                st.floats(0, 1),
            ),
            max_size=12,
        )
    )
    def test_voltage_only_falls_on_the_way_out(self, loads: list[Load]) -> None:
        flow = solve(self.fork, loads)
        for drops in flow.drops_v.values():
            assert list(drops) == sorted(drops)
        assert all(loss >= 0 for loss in flow.losses_mw)


def test_voltage_is_lower_at_the_far_end() -> None:
    """Two like customers on one phase, near and far; the far one has less voltage, more current."""
    plan = plan_village(meters=3, seed=1, start=START)
    mill: Customer = dataclasses.replace(
        plan.customers[0], load_class=LoadClass.FRIDGE, variant=0, pole=1, phase=0, credit_uj=None
    )
    near = dataclasses.replace(mill, scale_permille=1000, shift_minutes=0)
    far = dataclasses.replace(near, serial=plan.customers[1].serial, pole=6)
    village = Village(dataclasses.replace(plan, customers=(near, far), feeder=Feeder(poles=6)))
    village.advance(village.now_ms + MINUTE_MS)
    at_near, at_far = (village.measured(c.serial).phases[0] for c in (near, far))
    assert at_near.active_w == at_far.active_w > 0
    assert at_far.voltage_v < at_near.voltage_v
    assert at_far.current_a > at_near.current_a
