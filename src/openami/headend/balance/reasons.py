"""Why energy is missing, in plain words, the reason that explains most first. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from math import sqrt
from typing import Final

from openami.headend.balance import Balance, PlaceHours, Range, Reason, ReasonKind, Silence
from openami.headend.balance.following import Attribution, Followed, Trace

# Below a fiftieth of the supply, what is left is within what meters and this reckoning err by.
_UNEXPLAINED_SHARE: Final = 0.02
# Of what is passed by at a meter, the estimate is good to about a third.
_PASSED_SHARE: Final = (0.67, 1.33)
# Fewer hours do not show how losses follow the load.
_LOSS_HOURS_MIN: Final = 48
# A meter that counts nothing for a week while something flows is worth a walk.
_STILL_HOURS_MIN: Final = 7 * 24
# A leak or a meter's own error is smaller than half an ampere.
_BYPASSED_A_MIN: Final = 0.5
# Two standard errors on either side.
_ERRORS: Final = 2


def reasons_of(
    balance: Balance,
    customers: Sequence[PlaceHours],
    found: Attribution,
    supply: Sequence[int],
    counted: Sequence[int],
) -> Balance:
    """Return the balance with its reasons."""
    reasons = [
        *_silent(balance),
        *_followed(balance, customers, found.followed, counted),
        *_still(customers, counted),
    ]
    if balance.unaccounted.high < 0:
        reasons.append(_head_wrong(balance))
    elif (technical := _technical(balance, supply, customers, counted)) is not None:
        reasons.append(technical)
        passed = sum(each.wh.low for each in reasons if each.kind is ReasonKind.BYPASS)
        left = Range(
            balance.unaccounted.low - technical.wh.high - passed,
            balance.unaccounted.high - technical.wh.low - passed,
        )
        if left.low > _UNEXPLAINED_SHARE * balance.supplied_wh:
            reasons.append(_unmetered(left))
    return replace(
        balance, reasons=tuple(sorted(reasons, key=lambda each: (-each.wh.high, each.kind)))
    )


def _silent(balance: Balance) -> list[Reason]:
    reasons = []
    for kind, whys, words in (
        (
            ReasonKind.NOT_REPORTED,
            (Silence.NOT_REPORTED, Silence.NEVER),
            "did not report for a part of this time; what they counted then is not known",
        ),
        (ReasonKind.LATE, (Silence.LATE,), "are late: their readings are still being asked for"),
    ):
        unheard = [each for each in balance.unheard if each.why in whys]
        if unheard:
            wh = sum((each.may_be for each in unheard), Range(0, 0))
            meters = "meter" if len(unheard) == 1 else "meters"
            sentence = f"{len(unheard)} {meters} {words}."
            reasons.append(Reason(kind, wh, tuple(each.serial for each in unheard), sentence))
    return reasons


_WORDS: Final = {
    Trace.PART: "A part of the load passes this meter by: energy is missing whenever it counts much. "
    "Look for a second wire before the meter.",
    Trace.SWITCHED: "At times the load passes this meter by: energy is missing just when it counts less "
    "than usual. Look for a switch or a bridge.",
    Trace.STOPPED: "This meter counts nothing since a certain day, and since that day its load is "
    "missing. The meter is bypassed or stuck: look at both.",
    Trace.ELSEWHERE: "What this meter counts is not supplied by this feeder. It may be listed on the "
    "wrong feeder or phase.",
    Trace.SHIFTED: "This meter's clock is {hours} h {way}: its energy is missing at one time and too much "
    "at another; in sum nothing is missing.",
}
_KINDS: Final = {
    Trace.PART: ReasonKind.BYPASS,
    Trace.SWITCHED: ReasonKind.BYPASS,
    Trace.STOPPED: ReasonKind.BYPASS,
    Trace.ELSEWHERE: ReasonKind.WRONG_FEEDER,
    Trace.SHIFTED: ReasonKind.CLOCK,
}


def _followed(
    balance: Balance,
    customers: Sequence[PlaceHours],
    followed: Sequence[Followed],
    counted: Sequence[int],
) -> list[Reason]:
    reasons = []
    for each in followed:
        place = customers[each.number]
        kind = _KINDS[each.trace]
        # The weeks before were looked at too; of what passed, this period has its share.
        part = len(counted) / max(1, len(place.wh))
        low, high = (
            round(min(each.missing_wh * part * share, max(balance.unaccounted.high, 0)))
            for share in _PASSED_SHARE
        )
        words = _WORDS[each.trace].format(
            hours=abs(each.shift_hours), way="ahead" if each.shift_hours > 0 else "behind"
        )
        reasons.append(
            Reason(
                kind,
                Range(low, high),
                (place.serial,),
                words,
                accuses=kind is ReasonKind.BYPASS,
                sure=round(each.votes, 1),
            )
        )
    return reasons


def _still(customers: Sequence[PlaceHours], counted: Sequence[int]) -> list[Reason]:
    """Meters whose own registers contradict one another. Worth a look, and no more: one moment is no proof."""
    reasons = []
    for place in customers:
        told = [wh for n in counted if (wh := place.wh[n]) is not None]
        if place.flows and len(told) >= _STILL_HOURS_MIN and not any(told):
            words = "Current flows, and for the whole time nothing was counted: the meter is stuck."
            reasons.append(Reason(ReasonKind.STUCK, Range(0, 0), (place.serial,), words))
        elif place.bypassed_a is not None and place.bypassed_a >= _BYPASSED_A_MIN:
            words = (
                f"Its neutral carries {place.bypassed_a:.1f} A more or less than its phase: a part of "
                "the current may pass it by."
            )
            reasons.append(Reason(ReasonKind.STUCK, Range(0, 0), (place.serial,), words))
    return reasons


def _head_wrong(balance: Balance) -> Reason:
    too_much = Range(-balance.unaccounted.high, -balance.unaccounted.low)
    return Reason(
        ReasonKind.HEAD_WRONG,
        too_much,
        (),
        "More was sold than supplied. The head meter counts too little (look at its current "
        "transformers), or meters are listed here that another feeder supplies.",
    )


def _technical(
    balance: Balance,
    supply: Sequence[int],
    customers: Sequence[PlaceHours],
    counted: Sequence[int],
) -> Reason | None:
    """Return what the line itself loses, by how the missing energy rises with the square of what was sold."""
    pairs = []
    for wh, n in zip(supply, counted, strict=True):
        told = [place.wh[n] for place in customers]
        if None not in told:
            sold = sum(wh or 0 for wh in told)
            pairs.append((float(sold * sold), float(wh - sold)))
    if len(pairs) < _LOSS_HOURS_MIN or balance.unaccounted.high <= 0:
        return None
    mean_x, mean_y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    size = sum((x - mean_x) ** 2 for x, _ in pairs)
    if not size:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in pairs) / size
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in pairs)
    error = sqrt(left / (len(pairs) - 2) / size)
    squares = sum(x for x, _ in pairs) * len(counted) / len(pairs)
    low, high = (
        round(min(max(0.0, slope + sign * _ERRORS * error) * squares, balance.unaccounted.high))
        for sign in (-1, 1)
    )
    return Reason(
        ReasonKind.TECHNICAL,
        Range(low, high),
        (),
        "Wires lose energy as they get warm: with the square of the load. So much of what is missing "
        "rises and falls like that.",
    )


def _unmetered(left: Range) -> Reason:
    return Reason(
        ReasonKind.UNMETERED,
        left,
        (),
        "What is left follows no single meter: a connection without a meter, a hook on the line, or "
        "several small causes. Nobody can be named from these figures.",
    )


def named(balance: Balance) -> frozenset[str]:
    """Return the serials of the meters that a balance names as passed by."""
    return frozenset(chain.from_iterable(each.serials for each in balance.suspicions))
