"""What may be done to assets: swap a meter, protect one, set a feeder's name, zone, billing day and tariff. Pure.

Each takes a feeder as it is and returns it as it is afterwards; what cannot be is `AssetsRefused`, with its remedy.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from openami.headend.assets import BILLING_DAY_MAX, Feeder, FeederAssets, Meter
from openami.profile.identifiers import is_id

# A register of seven digits before the point is full long before.
REGISTER_KWH_MAX: Final = 1e9
# A name on a screen and on a bill.
NAME_CHARS_MAX: Final = 120


class AssetsRefused(Exception):
    """A change that cannot be; the message says why, ``remedy`` what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A meter that was taken down and the one that was put up in its place, in the same moment."""

    old: str
    new: str
    at: datetime
    closing_kwh: float
    opening_kwh: float


def swapped(assets: FeederAssets, swap: Swap, *, now: datetime) -> FeederAssets:
    """Return the feeder after a swap: the old placement closed, the new one open at the same place.

    Raises AssetsRefused.
    """
    old = assets.meter(swap.old, swap.at)
    if old is None:
        raise AssetsRefused(
            f"no meter {swap.old} hangs on {assets.feeder.id} at that time",
            "check the serial and the time; `openami feeder import` tells the head-end of a meter",
        )
    if not is_id(swap.new):
        raise AssetsRefused(
            f"{swap.new[:80]!r} is no serial", "1 to 64 of A-Z a-z 0-9 . _ -, as the meter says it"
        )
    if swap.at > now:
        raise AssetsRefused("a swap cannot be in the future", "enter it when it is done")
    if old.valid_to is not None:
        raise AssetsRefused(
            f"{swap.old} was taken down at {old.valid_to:%Y-%m-%d %H:%M} UTC already",
            "name the meter that hangs there now",
        )
    if swap.at <= old.valid_from:
        raise AssetsRefused(f"{swap.old} has not hung there that long", "check the time")
    if any(
        m.serial == swap.new and (m.valid_to is None or m.valid_to > swap.at) for m in assets.meters
    ):
        raise AssetsRefused(
            f"{swap.new} hangs on this feeder already", "a serial is in one place at a time"
        )
    for what, register in (("closing", swap.closing_kwh), ("opening", swap.opening_kwh)):
        check_register(register, what)
    if old.opening_kwh is not None and swap.closing_kwh < old.opening_kwh:
        raise AssetsRefused(
            f"the closing register {swap.closing_kwh:g} kWh is below the {old.opening_kwh:g} kWh "
            f"{swap.old} began with",
            "read it again: are closing and opening exchanged?",
        )
    closed = replace(old, valid_to=swap.at, closing_kwh=swap.closing_kwh)
    opened = replace(
        old, serial=swap.new, valid_from=swap.at, opening_kwh=swap.opening_kwh, closing_kwh=None
    )
    kept = [meter for meter in assets.meters if meter is not old]
    return replace(assets, meters=in_order([*kept, closed, opened]))


def check_register(register: float, what: str) -> None:
    """Raise AssetsRefused unless a number may be a register in kWh."""
    if not (math.isfinite(register) and 0 <= register <= REGISTER_KWH_MAX):
        raise AssetsRefused(
            f"a register of {register:g} kWh cannot be", f"give the {what} register in kWh"
        )


def protected(
    assets: FeederAssets, serial: str, *, now: datetime, on: bool, why: str
) -> FeederAssets:
    """Return the feeder with a meter protected, or no longer. Raises AssetsRefused."""
    meter = assets.meter(serial, now)
    if meter is None:
        raise AssetsRefused(
            f"no meter {serial} is known to hang on {assets.feeder.id}",
            "import it first: `openami feeder import`",
        )
    if not on and not why.strip():
        raise AssetsRefused(
            f"{serial} stays protected: nobody said why not", "give a reason; it is kept"
        )
    others = [each for each in assets.meters if each is not meter]
    return replace(assets, meters=in_order([*others, replace(meter, protected=on)]))


def described(assets: FeederAssets, feeder: Feeder) -> FeederAssets:
    """Return the feeder under other settings. Raises AssetsRefused."""
    if not feeder.name.strip() or len(feeder.name) > NAME_CHARS_MAX:
        raise AssetsRefused(
            "a feeder has a name", f"1 to {NAME_CHARS_MAX} characters, as people say it"
        )
    if not is_zone(feeder.time_zone):
        raise AssetsRefused(
            f"{feeder.time_zone[:80]!r} is no time zone", "use an IANA name, such as Africa/Nairobi"
        )
    if not 1 <= feeder.billing_day <= BILLING_DAY_MAX:
        raise AssetsRefused(
            f"there is no day {feeder.billing_day} in every month", f"1 to {BILLING_DAY_MAX}"
        )
    return replace(assets, feeder=feeder)


def is_zone(name: str) -> bool:
    """Return whether a text is the IANA name of a time zone."""
    try:
        ZoneInfo(name)
    except (
        ZoneInfoNotFoundError,
        ValueError,
        OSError,
    ):  # what it says of a path, a folder, a long name
        return False
    return True


def in_order(meters: list[Meter]) -> tuple[Meter, ...]:
    """Return placements by serial, then by time."""
    return tuple(sorted(meters, key=lambda each: (each.serial, each.valid_from)))
