"""Energy counters of the firmware: coarse, forgotten at a reset, and zero where nothing was read (pure).

A counter travels as a 32-bit float of watt-hours, so its steps grow with it; with one family of meters it
lives in RAM and begins at zero with every boot. A counter that goes back is suspect until it has gone on
from its new place a few times: then it is a new beginning, which the head-end reckons with (decision 0039).
"""

from dataclasses import dataclass, replace
from typing import Final

from openami.bridge.findings import Finding, Reason, finding

# A 32-bit float holds 24 bits: beyond 2**24 hundredths of a kWh its steps are larger than a meter's count.
COARSE_ABOVE_KWH: Final = 2**24 / 100
# One or two readings can be a disturbance; three in a row are a meter that was reset or replaced.
RESTART_CONFIRMED_READINGS: Final = 3
# A float's last digit is no energy; a watt-hour is a tenth of a meter's own step.
DECIMALS: Final = 3


@dataclass(frozen=True, slots=True)
class Counter:
    """What is remembered of a counter: the last value believed, and where it went on from if it went back."""

    believed_kwh: float | None = None
    restart_kwh: float | None = None
    restart_readings: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """A counter's value now; None where nothing is to be published."""

    kwh: float | None
    counter: Counter
    finding: Finding | None = None
    began_to_doubt: bool = False
    """It has gone back with this reading: there is an event to tell."""


def counted(
    counter: Counter, watt_hours: float | None, obis: str, *, zero_means_none: bool
) -> Counted:
    """Return what a counter says now.

    ``zero_means_none``: a zero that was never anything else is left out; an import counter's is published
    as suspect, for a new meter has one.
    """
    if watt_hours is None:
        return Counted(None, counter)
    kwh = round(watt_hours / 1000, DECIMALS)
    if kwh < 0:
        return Counted(
            None, counter, finding(Reason.OUT_OF_RANGE, f"{kwh:g} kWh is below zero", obis=obis)
        )
    if kwh == 0 and not counter.believed_kwh:
        if zero_means_none:
            return Counted(None, counter)
        return Counted(
            kwh,
            counter,
            finding(Reason.COUNTER_ZERO, "zero: a new meter's, or never read", obis=obis),
        )
    if counter.believed_kwh is not None and kwh < counter.believed_kwh:
        return _back(counter, counter.believed_kwh, kwh, obis)
    forward = Counter(believed_kwh=kwh)
    if kwh > COARSE_ABOVE_KWH:
        step_wh = 2 ** (int(watt_hours).bit_length() - 24)
        told = finding(Reason.COUNTER_COARSE, f"{kwh:g} kWh in steps of {step_wh} Wh", obis=obis)
        return Counted(kwh, forward, told)
    return Counted(kwh, forward)


def _back(counter: Counter, believed_kwh: float, kwh: float, obis: str) -> Counted:
    goes_on = counter.restart_kwh is not None and kwh >= counter.restart_kwh
    readings = counter.restart_readings + 1 if goes_on else 1
    if readings >= RESTART_CONFIRMED_READINGS:
        return Counted(kwh, Counter(believed_kwh=kwh))
    told = finding(Reason.COUNTER_WENT_BACK, f"from {believed_kwh:g} to {kwh:g} kWh", obis=obis)
    after = replace(counter, restart_kwh=kwh, restart_readings=readings)
    return Counted(kwh, after, told, began_to_doubt=counter.restart_kwh is None)
