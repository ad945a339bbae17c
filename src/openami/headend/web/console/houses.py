"""What an operator is shown of each meter of a feeder, and which of them come first. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from openami.headend.assets import FeederAssets, MeterRole
from openami.headend.consumption import Known
from openami.headend.states import MeterState
from openami.headend.store import Reading
from openami.headend.store.energy import MeterToday
from openami.profile import Obis

CREDIT: Final = Obis.parse("96.8.0")
RELAY: Final = Obis.parse("96.11.1")
# Two evenings of light and a radio: time to walk to somebody who sells credit.
LOW_CREDIT_KWH: Final = 2.0

SILENT: Final = frozenset(
    {MeterState.METER_SILENT, MeterState.GATEWAY_SILENT, MeterState.NEVER_SEEN}
)


class Show(StrEnum):
    """Which meters a list shows; a meter may be in several."""

    ALL = "all"
    ATTENTION = "attention"
    SILENT = "silent"
    SUSPECT = "suspect"
    OFF = "off"
    LOW_CREDIT = "low_credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One meter as a row of the table and as a mark of the diagram."""

    feeder_id: str
    serial: str
    state: MeterState
    role: MeterRole = MeterRole.CUSTOMER
    customer: str = ""
    pole_id: str | None = None
    pole: str = ""
    phase: str = ""
    protected: bool = False
    gateway_id: str = ""
    today_wh: int | None = None
    at_least: bool = False
    """Whether what is known of today is a lower bound only."""
    credit_kwh: float | None = None
    relay: str | None = None
    """As the meter last told it, by the register list; None when it never did."""
    last_seen: datetime | None = None

    @property
    def silent(self) -> bool:
        """Return whether nothing is heard of it, whoever is to blame."""
        return self.state in SILENT

    @property
    def off(self) -> bool:
        """Return whether its relay was last told open."""
        return self.relay is not None and self.relay != "connected"

    @property
    def low_credit(self) -> bool:
        """Return whether its credit will soon be used up."""
        return self.credit_kwh is not None and self.credit_kwh < LOW_CREDIT_KWH

    @property
    def mark(self) -> str:
        """Return the one word its mark in the diagram stands for, the most urgent."""
        if self.silent or self.state is MeterState.SUSPECT:
            return self.state.value
        return "off" if self.off else self.state.value

    def shown(self, show: Show) -> bool:
        """Return whether a list shows it."""
        match show:
            case Show.ALL:
                return True
            case Show.SILENT:
                return self.silent
            case Show.SUSPECT:
                return self.state is MeterState.SUSPECT
            case Show.OFF:
                return self.off
            case Show.LOW_CREDIT:
                return self.low_credit
            case Show.ATTENTION:
                return self.silent or self.mark != MeterState.REPORTING or self.low_credit

    def found_by(self, words: str) -> bool:
        """Return whether its serial, its customer or its pole has each of the words in it."""
        text = f"{self.serial} {self.customer} {self.pole} {self.gateway_id}".casefold()
        return all(word in text for word in words.casefold().split())


def houses_of(
    assets: FeederAssets,
    today: Sequence[MeterToday],
    states: Mapping[str, MeterState],
    now: datetime,
) -> tuple[House, ...]:
    """Return every meter of a feeder, those that need somebody first, then along the line."""
    feeder_id = assets.feeder.id
    heard = {each.meter.meter_serial: each for each in today}
    placed = {meter.serial: meter for meter in assets.meters_at(now)}
    poles = {pole.id: pole for pole in assets.poles}
    customers = {customer.id: customer.name for customer in assets.customers}
    gone = {meter.serial for meter in assets.meters} - set(placed)
    houses = []
    for serial in (heard.keys() - gone) | placed.keys():
        told, meter = heard.get(serial), placed.get(serial)
        pole = poles.get(meter.pole_id or "") if meter else None
        latest = told.latest if told else {}
        houses.append(
            House(
                feeder_id=feeder_id,
                serial=serial,
                state=states.get(serial, MeterState.NEVER_SEEN),
                role=meter.role if meter else MeterRole.CUSTOMER,
                customer=customers.get(meter.customer_id or "", "") if meter else "",
                pole_id=pole.id if pole else None,
                pole=pole.name if pole else "",
                phase=meter.phase if meter else "",
                protected=meter.protected if meter else False,
                gateway_id=told.meter.gateway_id if told else "",
                today_wh=told.wh if told else None,
                at_least=told is not None and told.known >= Known.AT_LEAST,
                credit_kwh=_number(latest.get(CREDIT)),
                relay=_word(latest.get(RELAY)),
                last_seen=told.meter.last_seen if told else None,
            )
        )
    order = {pole.id: at for at, pole in enumerate(assets.poles)}
    houses.sort(key=lambda house: (_urgency(house), _along(house, order)))
    return tuple(houses)


def along_the_line(houses: Sequence[House], assets: FeederAssets) -> list[House]:
    """Return meters in the order in which they hang, whatever their state: for drawings, which stay put."""
    order = {pole.id: at for at, pole in enumerate(assets.poles)}
    return sorted(houses, key=lambda house: _along(house, order))


def counts(houses: Sequence[House]) -> dict[Show, int]:
    """Count the meters of each list."""
    return {show: sum(house.shown(show) for house in houses) for show in Show}


def _urgency(house: House) -> int:
    tests = (house.silent, house.state is MeterState.SUSPECT, house.off, house.low_credit)
    return next((rank for rank, true in enumerate(tests) if true), len(tests))


def _along(house: House, order: Mapping[str, int]) -> tuple[int, int, str, str]:
    """The head first, then pole by pole; what nobody placed comes last."""
    head = 0 if house.role is MeterRole.HEAD else 1
    at = len(order) if house.pole_id is None else order[house.pole_id]
    return head, at, house.phase, house.serial


def _number(reading: Reading | None) -> float | None:
    if reading is None or isinstance(reading.value, bool | str):
        return None
    return float(reading.value)


def _word(reading: Reading | None) -> str | None:
    return reading.value if reading is not None and isinstance(reading.value, str) else None
