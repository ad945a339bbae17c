"""When a pole's message was measured: from its milliseconds since boot and our own time (pure).

The firmware has no wall clock. But in every round it stamps the nameplate's and the cabinet's message with
the milliseconds since boot at which it sends them, and a meter's with those at which its values were
copied. So a message of the first kind that arrives at once says when the pole booted, and from then on the
age of every other is known, late ones included.

The message that travelled fastest in the last hour or two is believed: none arrives before it was sent.
It is believed only when a later round has agreed with it, so that a stamp of another kind (seconds since
1970, or nothing that runs) never dates a reading.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from openami.bridge.firmware import UPTIME_WRAP_MS

# A round of messages takes a second or two to send; two rounds are 30 s apart at the least. Stamps further
# apart than this can confirm each other.
ROUND_S: Final = 5.0
# How far a round may disagree with the one before: a message of 2G's worst minute is that late. Beyond it the
# pole has booted anew, or its stamps are no milliseconds.
DISAGREEMENT_S_MAX: Final = 30.0
# A crystal of an ESP32 is off by 20 ppm: 0.14 s in two hours, less than the network's own delay.
WINDOW_S: Final = 3600.0
# Older than a few rounds no message is delivered by TCP; what looks older is a clock that was set.
AGE_S_MAX: Final = 900.0


@dataclass(frozen=True, slots=True)
class Stamped:
    """A stamp, and when its message arrived."""

    uptime_ms: int
    at: datetime


@dataclass(frozen=True, slots=True)
class PoleClock:
    """What is known of a pole's clock."""

    last: Stamped | None = None
    """The newest round."""
    fastest: Stamped | None = None
    """The message that travelled fastest in this window."""
    earlier: Stamped | None = None
    """… and in the window before."""
    window_began: datetime | None = None
    confirmed: bool = False


def with_round(clock: PoleClock, uptime_ms: int, at: datetime) -> PoleClock:
    """Return what is known after a message that was stamped as it was sent."""
    heard = Stamped(uptime_ms, at)
    last, fastest = clock.last, clock.fastest
    if last is None or fastest is None or clock.window_began is None:
        return PoleClock(last=heard, fastest=heard, window_began=at)
    elapsed_s = (at - last.at).total_seconds()
    if abs(_between_s(last, heard) - elapsed_s) > DISAGREEMENT_S_MAX:
        return PoleClock(last=heard, fastest=heard, window_began=at)
    if _sent(fastest, heard) > at:
        fastest = heard
    if (at - clock.window_began).total_seconds() >= WINDOW_S:
        clock = replace(clock, earlier=fastest, window_began=at)
        fastest = heard
    if elapsed_s < ROUND_S:
        return replace(clock, fastest=fastest)
    agreed = _between_s(last, heard) >= ROUND_S
    return replace(clock, last=heard, fastest=fastest, confirmed=clock.confirmed or agreed)


def measured_at(clock: PoleClock, uptime_ms: int, at: datetime) -> datetime | None:
    """Return when something with this stamp was measured, now that it arrived; None when it is not known."""
    if not clock.confirmed:
        return None
    stamped = Stamped(uptime_ms, at)
    known = [each for each in (clock.fastest, clock.earlier) if each is not None]
    moment = min(at, *(_sent(each, stamped) for each in known))
    if (at - moment).total_seconds() > AGE_S_MAX:
        return None
    return moment


def _sent(reference: Stamped, stamped: Stamped) -> datetime:
    """Return when a stamp was made, if the reference arrived as it was sent."""
    return reference.at + timedelta(seconds=_between_s(reference, stamped))


def _between_s(earlier: Stamped, later: Stamped) -> float:
    """Return the seconds between two stamps, whatever the counter's turn; negative for a step back."""
    half = UPTIME_WRAP_MS // 2
    ahead_ms = (later.uptime_ms - earlier.uptime_ms + half) % UPTIME_WRAP_MS - half
    return ahead_ms / 1000
