"""When to warn of a certificate's end, and when to renew it (pure)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# A month to send for somebody, a week to drive, a day to hurry.
WARNED_BEFORE: Final = (timedelta(days=30), timedelta(days=7), timedelta(days=1), timedelta(0))


@dataclass(frozen=True, slots=True)
class Warned:
    """The last warning: of which end, and how long before it."""

    until: datetime
    before: timedelta


def warning(until: datetime, now: datetime, warned: Warned | None) -> Warned | None:
    """Return the warning that is due and was not given; None for none. A new end is warned of anew."""
    left = until - now
    due = [before for before in WARNED_BEFORE if left <= before]
    if not due:
        return None
    latest = Warned(until, min(due))
    if warned is not None and warned.until == until and warned.before <= latest.before:
        return None
    return latest
