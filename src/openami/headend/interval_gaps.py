"""Gaps of gateways that do not number what they send: spans in which expected readings have not come. Pure.

Only for those. Where numbers are told and none is missing, an absent reading was never sent, and asking for it
would bring nothing (decision 0031).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from openami.headend.completeness import DayAccount, MissingReason
from openami.headend.gap_life import Gap, GapEvent, Span, ended
from openami.headend.store.identity import to_ms

# One interval may be a poll that failed, two a slow link; a third is asked for.
INTERVALS_MIN: Final = 3

# Of these it is known why they are missing, and that asking does not bring them.
_EXPLAINED: Final = frozenset(
    {
        MissingReason.METER_SILENT,
        MissingReason.REJECTED,
        MissingReason.THINNED,
        MissingReason.WITHHELD,
    }
)


@dataclass(frozen=True, slots=True)
class Silence:
    """A span in which readings of one gateway are missing, and how many."""

    span: Span
    missing: int


def silences(accounts: Iterable[DayAccount]) -> list[Silence]:
    """Return when readings of a gateway's meters are missing that may be asked for; spans that meet are one."""
    found: list[Silence] = []
    for account in accounts:
        for gap in account.gaps:
            if gap.reason not in _EXPLAINED and gap.intervals >= INTERVALS_MIN:
                assert account.interval_s is not None
                half = timedelta(seconds=account.interval_s) / 2
                found.append(Silence(Span(gap.begin - half, gap.end + half), gap.intervals))
    joined: list[Silence] = []
    for each in sorted(found, key=lambda silence: silence.span.begin):
        if joined and each.span.begin <= joined[-1].span.end:
            end = max(each.span.end, joined[-1].span.end)
            span = Span(joined[-1].span.begin, end)
            joined[-1] = Silence(span, joined[-1].missing + each.missing)
        else:
            joined.append(each)
    return joined


def noticed_silences(
    known: Sequence[Gap],
    found: Sequence[Silence],
    gateway: tuple[str, str],
    *,
    looked_since: datetime,
    now: datetime,
) -> list[Gap]:
    """Return a gateway's gaps by interval that are new or have changed; what lies before the look stays."""
    changed = []
    for gap in known:
        if gap.epoch or gap.measured_from is None or gap.measured_from < looked_since:
            continue
        within = [each for each in found if _touch(gap, each)]
        missing = sum(each.missing for each in within)
        if missing == gap.missing:
            continue
        if not missing:
            changed.append(ended(gap, GapEvent.FILL, gap.reason, now))
            continue
        begin, end = (min(e.span.begin for e in within), max(e.span.end for e in within))
        filled_at = now if missing < gap.missing else gap.changed_at
        changed.append(
            replace(
                gap,
                missing=missing,
                measured_from=begin,
                measured_to=end,
                last=to_ms(end),
                changed_at=filled_at,
            )
        )
    own = [gap for gap in known if not gap.epoch]
    new = [each for each in found if not any(_touch(gap, each) for gap in own)]
    return [*changed, *(_new(each, gateway, now) for each in new)]


def _new(silence: Silence, gateway: tuple[str, str], now: datetime) -> Gap:
    span = silence.span
    return Gap(
        feeder_id=gateway[0],
        gateway_id=gateway[1],
        epoch=0,
        first=to_ms(span.begin),
        last=to_ms(span.end),
        missing=silence.missing,
        measured_from=span.begin,
        measured_to=span.end,
        noticed_at=now,
        changed_at=now,
    )


def _touch(gap: Gap, silence: Silence) -> bool:
    return gap.first <= to_ms(silence.span.end) and to_ms(silence.span.begin) <= gap.last
