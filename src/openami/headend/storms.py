"""Storms: many alarms of one kind at once are one thing that happened, and are shown as one. Pure.

Nothing is hidden: a storm counts its alarms and opens on them, and every alarm is in exactly one place
(decision 0043).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final

from openami.headend.alarms import Alarm, StateKind, gravity
from openami.profile import Severity

# Five houses with one trouble within a quarter of an hour may be chance; a sixth has a cause in common with them.
STORM_MORE_THAN: Final = 5
STORM_WITHIN: Final = timedelta(
    minutes=15
)  # one billing interval: what happened at once is told within it


class Cause(StrEnum):
    """What the alarms of a storm have in common; the narrowest that holds."""

    METER = "meter"
    """They are all of one meter: it flaps."""
    POLE = "pole"
    """They are all on one pole: its supply, or its branch of the bus."""
    GATEWAY = "gateway"
    """They are all behind one gateway: the gateway, or its line to the meters."""
    GATEWAYS = "gateways"
    """They are gateways: their network, or the feeder's supply."""
    FEEDER = "feeder"
    """They have only their feeder in common."""


@dataclass(frozen=True, slots=True)
class Storm:
    """Alarms of one kind on one feeder that came at once; ``where`` names what they have in common."""

    feeder_id: str
    kind: str
    alarms: tuple[Alarm, ...]
    cause: Cause
    where: str

    @property
    def count(self) -> int:
        return len(self.alarms)

    @property
    def severity(self) -> Severity:
        """The gravest of its alarms'."""
        return max((alarm.severity for alarm in self.alarms), key=gravity)

    @property
    def raised_at(self) -> datetime:
        return self.alarms[0].raised_at

    @property
    def last_at(self) -> datetime:
        return max(alarm.last_at for alarm in self.alarms)

    @property
    def is_silence(self) -> bool:
        """Whether somebody has stopped to speak: then what they hang on is to be looked at, not they."""
        return self.kind in (StateKind.METER_SILENT, StateKind.GATEWAY_SILENT)

    @property
    def unacknowledged(self) -> tuple[Alarm, ...]:
        return tuple(alarm for alarm in self.alarms if alarm.acknowledged_at is None)


def fold(
    alarms: Iterable[Alarm],
    *,
    poles: Mapping[tuple[str, str], str] | None = None,
    more_than: int = STORM_MORE_THAN,
    within: timedelta = STORM_WITHIN,
) -> list[Alarm | Storm]:
    """Return the alarms with storms folded, the gravest first and then the newest.

    An alarm belongs to a storm if it lies in any span of ``within`` that has more than ``more_than`` of its kind on
    its feeder; storms whose spans overlap are one. ``poles`` tells the pole of a feeder's meter, where it is known.
    """
    folded: list[Alarm | Storm] = []
    ordered = sorted(
        alarms, key=lambda alarm: (alarm.feeder_id, alarm.kind, alarm.raised_at, alarm.id)
    )
    for _, group in groupby(ordered, key=lambda alarm: (alarm.feeder_id, alarm.kind)):
        same = list(group)
        last = -1
        for first, end in _spans(same, more_than, within):
            folded.extend(same[last + 1 : first])
            folded.append(_storm(same[first : end + 1], poles or {}))
            last = end
        folded.extend(same[last + 1 :])
    return sorted(folded, key=lambda each: (-gravity(each.severity), -each.raised_at.timestamp()))


def _spans(same: Sequence[Alarm], more_than: int, within: timedelta) -> list[tuple[int, int]]:
    """Return where storms begin and end among alarms of one kind, ascending."""
    spans: list[tuple[int, int]] = []
    first = 0
    for at, alarm in enumerate(same):
        while alarm.raised_at - same[first].raised_at > within:
            first += 1
        if at - first < more_than:
            continue
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], at)
        else:
            spans.append((first, at))
    return spans


def _storm(same: Sequence[Alarm], poles: Mapping[tuple[str, str], str]) -> Storm:
    feeder_id = same[0].feeder_id
    cause, where = _in_common(same, poles)
    return Storm(feeder_id, same[0].kind, tuple(same), cause, where or feeder_id)


def _in_common(same: Sequence[Alarm], poles: Mapping[tuple[str, str], str]) -> tuple[Cause, str]:
    gateways = {alarm.gateway_id for alarm in same}
    meters = {alarm.meter_serial for alarm in same}
    on = {poles.get((alarm.feeder_id, alarm.meter_serial), "") for alarm in same}
    if meters == {""}:
        return (Cause.GATEWAY, gateways.pop()) if len(gateways) == 1 else (Cause.GATEWAYS, "")
    for cause, names in ((Cause.METER, meters), (Cause.POLE, on), (Cause.GATEWAY, gateways)):
        if len(names) == 1 and "" not in names:
            return cause, names.pop()
    return Cause.FEEDER, ""
