"""What goes wrong with a meter on its line, and can be switched on and off while the village lives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Silent:
    """The meter is dead: it never answers."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The meter answers, but only after this long; the line waits with it."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Readdressed:
    """Somebody set the meter to another address: it answers there, and its own is silent.

    Where another meter has that address, the two clash, and this one is heard.
    """

    unit: int


Fault = Silent | Slow | Readdressed
