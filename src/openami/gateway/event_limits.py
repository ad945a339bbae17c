"""From where on a value is an event: ``[events]`` of the gateway's configuration, and of one meter (pure)."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from openami.gateway.telling import EVENTS_PER_HOUR_DEFAULT

_Percent = Annotated[float, Meta(gt=0, le=100)]
_Above = Annotated[float, Meta(gt=100, le=200)]
_Amount = Annotated[float, Meta(gt=0, le=1e6)]


class Rule(StrEnum):
    """The rules by which the gateway derives events from readings; each can be turned off."""

    POWER_FAIL = "power_fail"
    OVER_VOLTAGE = "over_voltage"
    UNDER_VOLTAGE = "under_voltage"
    PHASE_MISSING = "phase_missing"
    REVERSE_CURRENT = "reverse_current"
    NEUTRAL = "neutral_disturbance"
    THD = "thd_over_limit"
    COUNTERS = "counters"
    RELAY = "relay"
    CREDIT = "credit"
    LEAKAGE = "leakage"


class EventLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``[events]``; a meter's own table ``[line.meter.events]`` lies over it.

    Sources of the defaults: voltages as EN 50160 has them, widened to what weak rural feeders do every evening;
    the leakage thresholds are those of residual current devices (30 mA AC, 6 mA smooth DC).
    """

    nominal_v: Annotated[float, Meta(ge=50, le=1000)] = 230.0
    """Phase to neutral."""
    over_voltage_percent: _Above = 110.0
    under_voltage_percent: _Percent = 85.0
    missing_percent: _Percent = 40.0
    """Below it a phase is missing: loads between phases feed back up to half of the voltage into a dead one."""
    hysteresis_percent: Annotated[float, Meta(ge=0, le=20)] = 2.0
    """How far a voltage has to come back before it is normal again."""
    polls: Annotated[int, Meta(ge=1, le=60)] = 3
    """How many answers in a row have to say it, that it begins or that it is over."""
    exports: bool = False
    """Whether power may flow back: a customer with panels, or a meter of the generation."""
    reverse_kw: _Amount = 0.05
    neutral_a: _Amount = 0.5
    """How much phase and neutral current may differ, at least …"""
    neutral_percent: _Percent = 20.0
    """… and of the larger of the two: two transformers of class 1 do differ."""
    low_credit: float | None = None
    """None: 5 where the credit is told in kWh, and no threshold where it is in another unit."""
    leakage_ac_ma: _Amount = 30.0
    leakage_dc_ma: _Amount = 6.0
    thd_percent: _Percent = 8.0
    per_hour: Annotated[int, Meta(ge=5, le=1000)] = EVENTS_PER_HOUR_DEFAULT
    """How many events of one meter are told in an hour (decision 0057)."""
    off: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.missing_percent >= self.under_voltage_percent:
            raise ValueError(
                f"missing_percent = {self.missing_percent:g} is not below under_voltage_percent = "
                f"{self.under_voltage_percent:g}; a voltage between the two would be both"
            )
        if self.under_voltage_percent + 2 * self.hysteresis_percent >= self.over_voltage_percent:
            raise ValueError(
                f"hysteresis_percent = {self.hysteresis_percent:g} leaves no voltage that is normal"
            )

    def on(self, rule: Rule) -> bool:
        """Whether a rule is to be followed."""
        return rule not in self.off


LOW_CREDIT_KWH: Final = 5.0
"""A day of a small household: time to buy a token."""
