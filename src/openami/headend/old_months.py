"""How old months stand: what is closed (decision 0075) and kept (0074), what is due, and what to do. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from openami.headend.store.closed import ClosedTotals, Waiting
from openami.headend.store.months import midnight_of, month_name, month_of

# What has become old is begun within the hour, and takes minutes for a village's month, hours for its years: a
# head-end that has not done it after a day does not do it.
OVERDUE_AFTER: Final = timedelta(days=1)


class State(StrEnum):
    """How one thing stands. Only what is overdue needs somebody."""

    OK = "ok"
    OFF = "off"
    DUE = "due"
    """Will be done by the head-end by itself, while it runs."""
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about old months, in words."""

    name: str
    state: State
    says: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is judged: what the head-end's file says, and what its store does."""

    now: datetime
    """In UTC, as all of it."""
    after_days: int | None
    """Months are closed so many days after their end; None: never."""
    totals: ClosedTotals
    waiting: Waiting
    open_due: Sequence[str]
    """Months with readings that ended ``after_days`` ago and are not marked as due, the oldest first."""
    open_overdue: Sequence[str]
    """Of these, those that were due OVERDUE_AFTER ago."""
    keep_months: int | None
    """So many whole months before the current one are kept; None: all."""
    kept_since: datetime | None
    """What the store holds to, whatever the file says now."""
    would_keep_since: datetime | None = None
    """Where that would move to if it were looked at now."""
    to_remove: int = 0
    """Readings that are kept no longer, and there."""
    unfolded_days: int = 0
    """Days of meters whose energy has to be folded before readings go."""


def findings(facts: Facts) -> list[Finding]:
    """Return how everything stands: closing first, then retention."""
    return [*_closing(facts), *_retention(facts)]


def _closing(facts: Facts) -> Iterator[Finding]:
    totals = facts.totals
    if facts.after_days is None:
        yield Finding(
            "closing",
            State.OFF,
            "off: old months stay row by row"
            + (", and what comes late for closed ones stays beside them" if totals.files else ""),
            "[closing] in the head-end's file closes them, at a tenth of the bytes or so",
        )
    else:
        yield Finding("closing", State.OK, f"on: {facts.after_days} days after a month's end")
    if totals.through is None or not totals.files:
        yield Finding("closed", State.OK, "nothing is closed")
    else:
        yield Finding(
            "closed",
            State.OK,
            f"{_closed_up_to(facts)}: {totals.readings} readings in {totals.files} files, "
            f"{totals.bytes} bytes",
        )
    if facts.after_days is not None:
        yield _due(facts)
    elif totals.due:
        yield Finding(
            "due", State.OFF, f"{totals.due} months of meters wait, and nobody closes them"
        )


def _closed_up_to(facts: Facts) -> str:
    """Return up to when all is closed, or was: what came late since does not count."""
    first = facts.waiting.first_month
    if first is None:
        return f"up to {facts.totals.through}"
    return f"before {month_name(first)}, and of that some"


def _due(facts: Facts) -> Finding:
    waiting = facts.waiting
    parts = []
    if facts.open_due:
        parts.append(f"{_named(facts.open_due)} not begun")
    if waiting.first:
        assert waiting.first_month is not None
        parts.append(f"{waiting.first} meters of {month_name(waiting.first_month)} and later")
    if waiting.late:
        parts.append(f"{waiting.late} closed months of meters to which something came late")
    if not parts:
        return Finding("due", State.OK, "nothing waits to be closed")
    says = "; ".join(parts)
    if not facts.open_overdue and not _begun_is_overdue(facts):
        return Finding("due", State.DUE, says, "the head-end closes it by itself within hours")
    return Finding(
        "due",
        State.OVERDUE,
        says,
        "is the head-end running with this file? Its log says `months were closed`, or `months were not closed` "
        "and why, or `a closed month is damaged`. By hand, beside it and in the same --store: "
        f"`openami headend close --after-days {facts.after_days}`; interrupted, it goes on when asked again",
    )


def _begun_is_overdue(facts: Facts) -> bool:
    month = facts.waiting.first_month
    if month is None or facts.after_days is None:
        return False
    return facts.now > midnight_of(month + 1) + timedelta(days=facts.after_days) + OVERDUE_AFTER


def _retention(facts: Facts) -> Iterator[Finding]:
    since = facts.kept_since
    if facts.keep_months is None:
        kept = (
            "all readings are kept"
            if since is None
            else f"nothing measured before {since:%Y-%m-%d} is"
        )
        yield Finding("retention", State.OFF, f"off: {kept}")
        return
    yield Finding("retention", State.OK, f"on: {facts.keep_months} whole months before this one")
    yield Finding(
        "kept",
        State.OK,
        "all readings: there are no more months with readings than are to stay"
        if since is None
        else f"readings since {since:%Y-%m-%d}",
    )
    yield _to_go(facts)


def _to_go(facts: Facts) -> Finding:
    if not facts.to_remove:
        return Finding("to remove", State.OK, "nothing")
    says = f"{facts.to_remove} readings"
    if facts.would_keep_since is not None:
        says += f" before {facts.would_keep_since:%Y-%m-%d}"
    if facts.unfolded_days:
        return Finding(
            "to remove",
            State.DUE,
            f"{says}, when the energy of {facts.unfolded_days} days of meters is folded",
            "the head-end folds while it runs, within minutes",
        )
    if facts.now - midnight_of(month_of(facts.now)) <= OVERDUE_AFTER:
        return Finding(
            "to remove", State.DUE, says, "the head-end removes them by itself within hours"
        )
    return Finding(
        "to remove",
        State.OVERDUE,
        says,
        "is the head-end running with this file, for an hour by now? By hand, beside it: "
        "`openami headend retention -c FILE`; interrupted, it goes on when asked again",
    )


def _named(months: Sequence[str]) -> str:
    return months[0] if len(months) == 1 else f"{len(months)} months from {months[0]} on"
