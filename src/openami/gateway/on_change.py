"""Which readings need not be told: on-change reporting with a heartbeat, by poll group (pure, decision 0069).

Every register is read as before. A reading is withheld if all of this holds:

- its group reports on change, and the register is no counter: what a bill is made of is always told;
- the meter tells the register its days are accounted by (1.8.0), so that nobody takes the rest for missing;
- since the last heartbeat it was told with the same quality, and has left its deadband around that value not once;
- nothing happened at this poll: beside an event all that was read is told.

What was last told is not kept across a restart: it would be older than what the head-end has, and a reading could
be withheld beside a wrong one. The first poll of a process tells everything.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.normalise import TimedReading
from openami.profile import Obis, ProfileError, Quality, RegisterCatalogue, RegisterReading, Value

# A chart's point an hour, and a fault in the telling over within it; the first hour of a meter counts heartbeats.
FAST_HEARTBEAT_S_MAX: Final = 3600
DAILY_HEARTBEAT_S_MAX: Final = 31 * 24 * 60 * 60
# The register a meter's days are accounted by (decision 0030); with it in hand, an absent other is no loss.
ACCOUNTED_BY: Final = Obis.parse("1.8.0")
_ANY: Final = float("inf")
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Deadband(NamedTuple):
    """How far a value may be from the one that was told and still need no telling.

    ``width`` is in the register's unit or, where ``relative``, a share of the told value.
    """

    width: float = 0.0
    relative: bool = False

    def holds(self, told: Value, value: Value) -> bool:
        """Return whether the told value still stands for this one."""
        if not _is_number(told) or not _is_number(value):
            return type(told) is type(value) and told == value
        assert isinstance(told, int | float)
        assert isinstance(value, int | float)
        return abs(value - told) <= (abs(told) * self.width if self.relative else self.width)


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """``[report.fast]`` or ``[report.daily]``: that group is told on change."""

    heartbeat_s: int
    """At each multiple of it, counted from midnight UTC of 1970, everything is told once."""
    deadband: Mapping[str, float | str] = {}
    """By OBIS code: a number in the register's unit, or a share of the told value, ``"2%"``."""

    def __post_init__(self) -> None:
        self.deadbands  # noqa: B018 – raises what is wrong with it

    @property
    def deadbands(self) -> Mapping[Obis, Deadband]:
        """The same, read. Raises ValueError."""
        return {_code(code): _deadband(code, text) for code, text in self.deadband.items()}


class Reported(msgspec.Struct, frozen=True):
    """What was last told of a register, and in which heartbeat's time."""

    value: Value
    quality: Quality
    beat: int


class OnChange:
    """The rule as it is configured: which groups, how wide, how often."""

    def __init__(
        self, reports: Mapping[PollGroup, GroupReport], *, fast_beat_s: int | None = None
    ) -> None:
        """``fast_beat_s``: between heartbeats so far apart no number of the fast group is told (decision 0076)."""
        beats_s = {group: report.heartbeat_s for group, report in reports.items()}
        self._deadbands = {group: report.deadbands for group, report in reports.items()}
        self._default = {group: Deadband() for group in reports}
        if fast_beat_s is not None:
            beats_s[PollGroup.FAST] = max(fast_beat_s, beats_s.get(PollGroup.FAST, 0))
            self._deadbands[PollGroup.FAST] = {}
            self._default[PollGroup.FAST] = Deadband(_ANY)
        self._heartbeats = {group: timedelta(seconds=beat_s) for group, beat_s in beats_s.items()}

    def covers(self, info: RegisterInfo, catalogue: RegisterCatalogue, *, accounted: bool) -> bool:
        """Return whether readings of a register may be withheld at all.

        ``accounted``: whether its meter tells the register that its days are accounted by (`ACCOUNTED_BY`).
        """
        if info.group not in self._heartbeats or info.monotonic or not accounted:
            return False
        entry = catalogue.get(info.obis)
        return entry is None or not entry.monotonic

    def told(
        self,
        readings: Sequence[TimedReading],
        reported: Mapping[Obis, Reported],
        *,
        infos: Mapping[Obis, RegisterInfo],
        catalogue: RegisterCatalogue,
        now: datetime,
        accounted: bool,
        something_happened: bool,
    ) -> tuple[Sequence[TimedReading], Mapping[Obis, Reported]]:
        """Return those of a poll's readings that are told, and what has then been told of each register."""
        if not self._heartbeats:
            return readings, reported
        told: list[TimedReading] = []
        after = dict(reported)
        for timed in readings:
            reading = timed.reading
            info = infos.get(reading.obis)
            if info is None or not self.covers(info, catalogue, accounted=accounted):
                told.append(timed)
                continue
            beat = (now - _EPOCH) // self._heartbeats[info.group]
            default = self._default[info.group]
            deadband = self._deadbands[info.group].get(reading.obis, default)
            last = reported.get(reading.obis)
            if something_happened or not _stands(last, reading, beat, deadband):
                told.append(timed)
                after[reading.obis] = Reported(reading.value, reading.quality, beat)
        return told, after


def _stands(last: Reported | None, reading: RegisterReading, beat: int, deadband: Deadband) -> bool:
    # A clock that was set either way begins another heartbeat: then it is told.
    return (
        last is not None
        and last.beat == beat
        and last.quality is reading.quality
        and deadband.holds(last.value, reading.value)
    )


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _code(code: str) -> Obis:
    try:
        return Obis.parse(code)
    except ProfileError as error:
        raise ValueError(f"deadband: {code[:40]!r} is no OBIS code: {error.detail}") from None


def _deadband(code: str, said: float | str) -> Deadband:
    text = said.strip() if isinstance(said, str) else ""
    try:
        width = float(text.removesuffix("%")) / 100 if isinstance(said, str) else said
    except ValueError:
        width = -1.0
    if not 0 <= width < float("inf") or (isinstance(said, str) and not text.endswith("%")):
        raise ValueError(
            f"deadband: {said!r} of {code} is no width; write a number in the register's unit, or "
            'a share such as "2%"'
        )
    return Deadband(width, relative=isinstance(said, str))
