"""The village as it lives: energy, credit and relays at a moment, from a plan.

Time goes in whole milliseconds, power in milliwatts, energy in microjoules (1 mW · 1 ms): all integers, so
nothing is lost to rounding and

    feeder's meter = customers' meters + line losses + theft

holds to the last microjoule over any interval. Loads change on the minute; between the minutes only a
top-up or the end of a credit changes anything, and both happen at their own exact millisecond. So the
state at a moment does not depend on the steps taken to get there.

A prepaid meter opens its relay in the millisecond its credit is used up and closes it when credit is
entered; what is bypassed (theft) goes on drawing, as it does in life. A relay that was ordered open stays open
whatever the credit; one that was ordered closed still waits for credit.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openami.gateway.driver import RelayPosition
from openami.profile import MeterSerial
from openami.simulator.feeder import NOMINAL_V, PHASES, Flow, Load, solve
from openami.simulator.load import LoadClass, LoadShape, load_shapes
from openami.simulator.plan import Customer, VillagePlan

MS_PER_MINUTE = 60_000
# Two a minute are a demo's; this is three days of it, and no village is lived again for so long.
INTERVENTIONS_MAX = 10_000
_PERMILLE = 1000
_MW_PER_W = 1000

# Displacement power factor by class: LED drivers, compressors, motors. Estimates, as the loads are.
_POWER_FACTOR = {
    LoadClass.LIGHTING: 0.92,
    LoadClass.TELEVISION: 0.94,
    LoadClass.FRIDGE: 0.86,
    LoadClass.SHOP: 0.88,
    LoadClass.MILL: 0.79,
    LoadClass.CLINIC: 0.91,
}


@dataclass(frozen=True, slots=True)
class Phase:
    """What a meter measures on one phase now."""

    voltage_v: float
    current_a: float
    active_w: float
    reactive_var: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a meter knows at a moment. Energy counts from the meter's making, in µJ."""

    serial: MeterSerial
    at_ms: int
    phases: tuple[Phase, ...]
    frequency_hz: float
    import_uj: int
    phase_import_uj: tuple[int, ...]
    reactive_uj: int
    """Reactive energy, inductive, in the same unit (µvar·s)."""
    relay: RelayPosition
    credit_uj: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """Where the feeder's energy went since the start, in µJ; adds up exactly."""

    head_uj: int
    customers_uj: int
    losses_uj: int
    theft_uj: int


@dataclass(frozen=True, slots=True)
class RelayOrdered:
    """A relay was ordered open or closed."""

    at_ms: int
    serial: MeterSerial
    position: RelayPosition


@dataclass(frozen=True, slots=True)
class SourceSagged:
    """The transformer's voltage on one phase fell by so much, until it is told otherwise."""

    at_ms: int
    phase: int
    drop_v: float


Intervention = RelayOrdered | SourceSagged
"""What came to a village from outside: with its plan, all that decides what it is."""


class _Account:
    """One customer's meter as it counts."""

    __slots__ = (
        *("connected", "credit_uj", "customer", "import_uj", "next_topup", "ordered_open"),
        "shape",
    )

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.shape: LoadShape = load_shapes(customer.load_class)[customer.variant]
        self.import_uj = customer.counter_uj
        self.credit_uj = customer.credit_uj
        self.connected = True
        self.ordered_open = False
        self.next_topup = 0

    def demand_mw(self, local_minute: int) -> tuple[int, int]:
        """Return what is drawn in this minute through the meter, and past it."""
        watts = self.shape.power_w(local_minute - self.customer.shift_minutes)
        demand = watts * self.customer.scale_permille * _MW_PER_W // _PERMILLE
        bypassed = demand * self.customer.bypass_permille // _PERMILLE
        return (demand - bypassed if self.connected else 0), bypassed

    def settle(self, now_ms: int) -> None:
        """Enter the top-ups that are due, and let the relay follow orders and credit."""
        if self.credit_uj is None:
            self.connected = not self.ordered_open
            return
        for topup in self.customer.topups[self.next_topup :]:
            if topup.at_ms > now_ms:
                break
            self.credit_uj += topup.energy_uj
            self.next_topup += 1
        self.connected = self.credit_uj > 0 and not self.ordered_open

    def unchanged_ms(self, now_ms: int, metered_mw: int) -> int | None:
        """Return for how long this meter's relay and credit rule stay as they are; None: for good."""
        if self.credit_uj is None:
            return None
        ends = [topup.at_ms - now_ms for topup in self.customer.topups[self.next_topup :][:1]]
        if metered_mw > 0:
            ends.append(-(-self.credit_uj // metered_mw))
        return min(ends, default=None)

    def count(self, metered_mw: int, elapsed_ms: int) -> None:
        energy = metered_mw * elapsed_ms
        self.import_uj += energy
        if self.credit_uj is not None:
            self.credit_uj -= energy


@dataclass(frozen=True, slots=True)
class _Moment:
    """What flows while nothing changes: per customer (metered, bypassed) in mW, and the feeder."""

    demands: tuple[tuple[int, int], ...]
    flow: Flow
    head_mw: tuple[int, ...]
    head_mvar: int


class Village:
    """A plan and how far it has been lived. Time only goes forward."""

    def __init__(self, plan: VillagePlan) -> None:
        self.plan = plan
        self._now_ms = plan.start_ms
        self._accounts = tuple(_Account(customer) for customer in plan.customers)
        self._by_serial = {a.customer.serial: i for i, a in enumerate(self._accounts)}
        # A third each at the start; afterwards each phase counts its own.
        self._head_uj = _shares(plan.head_counter_uj, PHASES)
        self._head_reactive_uj = plan.head_counter_uj // 3  # as if at a power factor of 0.95
        self._losses_uj = 0
        self._theft_uj = 0
        self._watched: tuple[int, Callable[[], None]] | None = None
        self._sag_v = [0.0] * PHASES
        self.interventions: deque[Intervention] = deque(maxlen=INTERVENTIONS_MAX)
        """In their order, the latest."""
        for account in self._accounts:
            account.settle(self._now_ms)
        self._moment = self._flows()

    def watch(self, period_ms: int, then: Callable[[], None]) -> None:
        """Have ``then`` called at each whole multiple of the period, in the millisecond it comes."""
        self._watched = (period_ms, then)

    @property
    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, until_ms: int) -> None:
        """Live on until this moment. Raises ValueError when it is past already."""
        if until_ms < self._now_ms:
            raise ValueError(f"the village is at {self._now_ms} ms and cannot return to {until_ms}")
        while self._now_ms < until_ms:
            change_ms = self._next_change_ms()
            self._count(min(change_ms, until_ms) - self._now_ms)
            if self._now_ms == change_ms:
                for account in self._accounts:
                    account.settle(self._now_ms)
                self._moment = self._flows()
                if self._watched is not None and self._now_ms % self._watched[0] == 0:
                    self._watched[1]()

    def measured(self, serial: MeterSerial) -> Measured:
        """Return what this meter knows now. Raises KeyError for a serial the village does not have."""
        if serial == self.plan.head_serial:
            return self._head()
        index = self._by_serial[serial]
        account = self._accounts[index]
        metered_mw = self._moment.demands[index][0]
        return Measured(
            serial=serial,
            at_ms=self._now_ms,
            phases=(self._customer_phase(account.customer, metered_mw),),
            frequency_hz=frequency_hz(self.plan.seed, self._now_ms),
            import_uj=account.import_uj,
            phase_import_uj=(account.import_uj,),
            reactive_uj=int(account.import_uj * _reactive_ratio(account.customer)),
            relay=RelayPosition.CONNECTED if account.connected else RelayPosition.DISCONNECTED,
            credit_uj=account.credit_uj,
        )

    def order_relay(self, serial: MeterSerial, position: RelayPosition) -> None:
        """Open or close a customer's relay now; the load behind it goes with it. Raises KeyError."""
        account = self._accounts[self._by_serial[serial]]
        account.ordered_open = position is not RelayPosition.CONNECTED
        account.settle(self._now_ms)
        self._moment = self._flows()
        self.interventions.append(RelayOrdered(self._now_ms, serial, position))

    def sag(self, phase: int, drop_v: float) -> None:
        """Let the transformer's voltage on one phase be so much lower from now on; 0 mends it.

        Loads draw what they drew, as everywhere in the model of the feeder.
        """
        self._sag_v[phase] = drop_v
        self.interventions.append(SourceSagged(self._now_ms, phase, drop_v))

    def relive(self, intervention: Intervention) -> None:
        """Let happen what happened to another village of the same plan, at its own moment."""
        self.advance(intervention.at_ms)
        match intervention:
            case RelayOrdered():
                self.order_relay(intervention.serial, intervention.position)
            case SourceSagged():
                self.sag(intervention.phase, intervention.drop_v)

    def balance(self) -> Balance:
        """Return where the energy went since the start."""
        return Balance(
            head_uj=sum(self._head_uj) - self.plan.head_counter_uj,
            customers_uj=sum(a.import_uj - a.customer.counter_uj for a in self._accounts),
            losses_uj=self._losses_uj,
            theft_uj=self._theft_uj,
        )

    def _next_change_ms(self) -> int:
        period_ms = MS_PER_MINUTE if self._watched is None else self._watched[0]
        to_minute = MS_PER_MINUTE - self._now_ms % MS_PER_MINUTE
        to_watched = period_ms - self._now_ms % period_ms
        changes = (
            account.unchanged_ms(self._now_ms, metered)
            for account, (metered, _) in zip(self._accounts, self._moment.demands, strict=True)
        )
        return self._now_ms + min([to_minute, to_watched, *(c for c in changes if c is not None)])

    def _count(self, elapsed_ms: int) -> None:
        for account, (metered, bypassed) in zip(self._accounts, self._moment.demands, strict=True):
            account.count(metered, elapsed_ms)
            self._theft_uj += bypassed * elapsed_ms
        self._losses_uj += sum(self._moment.flow.losses_mw) * elapsed_ms
        self._head_uj = tuple(
            energy + power * elapsed_ms
            for energy, power in zip(self._head_uj, self._moment.head_mw, strict=True)
        )
        self._head_reactive_uj += self._moment.head_mvar * elapsed_ms
        self._now_ms += elapsed_ms

    def _flows(self) -> _Moment:
        local_minute = self._now_ms // MS_PER_MINUTE + self.plan.utc_offset_minutes
        demands = tuple(account.demand_mw(local_minute) for account in self._accounts)
        loads = [
            _load(a.customer, sum(demand))
            for a, demand in zip(self._accounts, demands, strict=True)
        ]
        flow = solve(self.plan.feeder, loads)
        head = list(flow.losses_mw)
        for load in loads:
            head[load.phase] += load.active_mw
        reactive = sum(int(load.active_mw * load.reactive_ratio) for load in loads)
        return _Moment(demands, flow, tuple(head), reactive)

    def _customer_phase(self, customer: Customer, metered_mw: int) -> Phase:
        voltage = (
            self._source_v(customer.phase)
            - self._moment.flow.drops_v[customer.branch, customer.phase][customer.pole]
        )
        return _phase(voltage, metered_mw / _MW_PER_W, _reactive_ratio(customer))

    def _head(self) -> Measured:
        return Measured(
            serial=self.plan.head_serial,
            at_ms=self._now_ms,
            phases=tuple(self._head_phase(phase) for phase in range(PHASES)),
            frequency_hz=frequency_hz(self.plan.seed, self._now_ms),
            import_uj=sum(self._head_uj),
            phase_import_uj=self._head_uj,
            reactive_uj=self._head_reactive_uj,
            relay=RelayPosition.CONNECTED,
        )

    def _head_phase(self, phase: int) -> Phase:
        reactive = sum(
            sum(demand) / _MW_PER_W * _reactive_ratio(account.customer)
            for account, demand in zip(self._accounts, self._moment.demands, strict=True)
            if account.customer.phase == phase
        )
        active = self._moment.head_mw[phase] / _MW_PER_W
        return _phase(self._source_v(phase), active, reactive / active if active else 0.0)

    def _source_v(self, phase: int) -> float:
        return source_voltage_v(self.plan.seed, phase, self._now_ms) - self._sag_v[phase]


def source_voltage_v(seed: int, phase: int, at_ms: int) -> float:
    """Return the voltage at the transformer: nominal, with slow swings of a small system's regulator."""
    return (
        NOMINAL_V + 2.5 * _swing(seed + phase, at_ms, 600.0) + 0.8 * _swing(seed + 7, at_ms, 37.0)
    )


def frequency_hz(seed: int, at_ms: int) -> float:
    """Return the frequency: a diesel or an inverter, within ±0.1 Hz."""
    return 50.0 + 0.07 * _swing(seed + 11, at_ms, 90.0) + 0.03 * _swing(seed + 13, at_ms, 11.0)


def _swing(seed: int, at_ms: int, period_s: float) -> float:
    return math.sin(2 * math.pi * (at_ms / 1000 / period_s + (seed * 0.618) % 1))


def _phase(voltage_v: float, active_w: float, reactive_ratio: float) -> Phase:
    apparent = active_w * math.hypot(1, reactive_ratio)
    return Phase(voltage_v, apparent / voltage_v, active_w, active_w * reactive_ratio)


def _load(customer: Customer, active_mw: int) -> Load:
    return Load(
        customer.branch, customer.pole, customer.phase, active_mw, _reactive_ratio(customer)
    )


def _reactive_ratio(customer: Customer) -> float:
    return math.tan(math.acos(_POWER_FACTOR[customer.load_class]))


def _shares(total: int, parts: int) -> tuple[int, ...]:
    first = total - (parts - 1) * (total // parts)
    return (first, *[total // parts] * (parts - 1))


def serials(plan: VillagePlan) -> Sequence[MeterSerial]:
    """Return all the village's meters, the feeder's own first."""
    return (plan.head_serial, *(customer.serial for customer in plan.customers))
