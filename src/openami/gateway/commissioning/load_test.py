"""A load is switched on behind a meter: whose power rises? (pure)

A serial number proves which meter answers, not whose house it is wired to. A lamp does: switched on in the house,
the power has to rise at this meter and at no other. Where it rises at another, the two may be swapped; where each
shows the other's lamp, they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from openami.gateway.commissioning.hour import (
    EXPORTED,
    IMPORTED,
    POWER_EXPORTED,
    POWER_IMPORTED,
    POWER_NET,
    VOLTAGES,
    net_power,
)
from openami.gateway.events import SERIAL_NUMBER
from openami.profile import Obis
from openami.sip.commissioning import LoadTest, LoadVerdict, Tick

# A lamp told as 60 W draws 40 or 80; half of it is no other thing's noise.
ROSE_SHARE_MIN: Final = 0.5
# Another house's rise is this lamp's only if it is about as large.
ELSEWHERE_SHARE_MAX: Final = 1.6
# A meter that counts whole tens of watts cannot show less.
LOAD_W_MIN: Final = 10
# A kettle and an iron together; more is a misprint, or no test for a village's fuse.
LOAD_W_MAX: Final = 20_000
# Measured before the lamp this long ago, a power says nothing of now: somebody went to look for a lamp.
BEFORE_AGE_S_MAX: Final = 1_800.0
POWERS: Final = frozenset({POWER_NET, POWER_IMPORTED, POWER_EXPORTED})
ASKED_NOW: Final = frozenset({*POWERS, IMPORTED, EXPORTED, *VOLTAGES, SERIAL_NUMBER})
"""What a meter is asked on the spot: enough to tell it and its house apart."""
# The others count as read within so many polls since the lamp was on: then somebody else may have switched one on.
HEARD_WITHIN_POLLS: Final = 2
_W_PER_KW: Final = 1000.0


class PowerAt(msgspec.Struct, frozen=True):
    """A meter's net power in watts (imports positive), and when it was measured."""

    watts: float
    at: datetime


class LoadBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A load test under way: every meter's power before the load, this one's with it, the others' since."""

    load_w: int
    at: datetime
    before: dict[str, PowerAt]
    after: PowerAt | None = None
    after_at: datetime | None = None
    """When the load was said to be on; None before."""
    since: dict[str, PowerAt] = {}
    """What each other meter told first since then; later ones are other people's lamps."""

    def switched_on(self, meter: str, after: PowerAt | None, at: datetime) -> "LoadBegun":
        """Return the test once the load is said to be on. Of one that was seen here the others are forgotten."""
        on = replace(self, after=after, after_at=at, since={})
        if on.verdict(meter) is LoadVerdict.ROSE:
            return replace(on, before={meter: self.before[meter]})
        return on

    def heard(self, meter: str, powers: Mapping[str, PowerAt], within_s: float) -> "LoadBegun":
        """Return the test with what other meters told for the first time since the load is on."""
        after_at = self.after_at
        if after_at is None:
            return self
        until = after_at + timedelta(seconds=within_s)
        new = {
            serial: power
            for serial, power in powers.items()
            if serial in self.before
            and serial not in (meter, *self.since)
            and after_at <= power.at <= until
        }
        return replace(self, since={**self.since, **new}) if new else self

    def unheard(self, meter: str) -> int:
        """Return how many other meters have not told anything since."""
        if self.after_at is None:
            return 0
        return len(self.before.keys() - self.since.keys() - {meter})

    def verdict(self, meter: str) -> LoadVerdict:
        """Say what the load did at this meter, as far as is known."""
        was = self.before.get(meter)
        if self.after is None or was is None:
            return LoadVerdict.SILENT
        rise_w = self.after.watts - was.watts
        if rise_w >= ROSE_SHARE_MIN * self.load_w:
            return LoadVerdict.ROSE
        if rise_w <= -ROSE_SHARE_MIN * self.load_w:
            return LoadVerdict.FELL
        return LoadVerdict.ELSEWHERE if self.elsewhere(meter) else LoadVerdict.UNCHANGED

    def elsewhere(self, meter: str) -> tuple[str, ...]:
        """Return the other meters whose power rose by about the load, the likeliest first."""
        rises = {
            serial: now.watts - self.before[serial].watts
            for serial, now in self.since.items()
            if serial != meter
        }
        alike = {
            serial: abs(rise_w - self.load_w)
            for serial, rise_w in rises.items()
            if ROSE_SHARE_MIN * self.load_w <= rise_w <= ELSEWHERE_SHARE_MAX * self.load_w
        }
        return tuple(sorted(alike, key=lambda serial: (alike[serial], serial)))

    def result(self, meter: str) -> LoadTest | None:
        """Return what came of it, as far as the other meters were heard; None before the load is on."""
        if self.after_at is None:
            return None
        was = self.before.get(meter)
        return LoadTest(
            load_w=self.load_w,
            before_w=None if was is None else was.watts,
            after_w=None if self.after is None else self.after.watts,
            verdict=self.verdict(meter),
            elsewhere=() if self.verdict(meter) is LoadVerdict.ROSE else self.elsewhere(meter),
            at=self.after_at,
        )


def power_w(values: Mapping[Obis, object]) -> float | None:
    """Return the net power in watts from registers in kW; None where they tell none."""

    def number(obis: Obis) -> float | None:
        value = values.get(obis)
        return None if value is None or isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]

    kw = net_power(
        net=number(POWER_NET),
        imported=number(POWER_IMPORTED),
        exported=number(POWER_EXPORTED),
    )
    return None if kw is None else kw * _W_PER_KW


def swapped(ticks: Iterable[Tick]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of meters each of which showed the other's load."""
    loads = {tick.meter: tick.load for tick in ticks if tick.load is not None}
    for one, load in sorted(loads.items()):
        for other in load.elsewhere:
            theirs = loads.get(other)
            if one < other and _at_another(load) and _shows(theirs, one):
                yield one, other


def _at_another(load: LoadTest) -> bool:
    return load.verdict is LoadVerdict.ELSEWHERE


def _shows(load: LoadTest | None, meter: str) -> bool:
    return load is not None and _at_another(load) and meter in load.elsewhere
