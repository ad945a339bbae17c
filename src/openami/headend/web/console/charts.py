"""Charts as SVG's own words: axes, lines and bars from energy by period. Pure; units are SVG's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor, log10
from typing import Final

from openami.headend.consumption import Known

WIDTH: Final = 580
HEIGHT: Final = 232
_LEFT: Final = 34
_RIGHT: Final = 28
_TOP: Final = 10
_BOTTOM: Final = 26
_LABELS: Final = 6  # of an axis: as many as are read at a glance
_TIMES_MAX: Final = 9  # so that a phone's labels do not touch


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid and what it stands for."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class TimeTick:
    """A moment on the axis of time; ``midnight`` is named by its day."""

    at: float
    moment: datetime
    midnight: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a chart's data stand."""

    since: datetime
    until: datetime
    top: float
    """The greatest value there is room for."""
    height: int = HEIGHT
    width: int = WIDTH

    left: int = _LEFT
    above: int = _TOP

    @property
    def right(self) -> int:
        """Return where the data end."""
        return self.width - _RIGHT

    @property
    def base(self) -> int:
        """Return where nothing is."""
        return self.height - _BOTTOM

    def x(self, moment: datetime) -> float:
        """Return where a moment is."""
        share = (moment - self.since) / (self.until - self.since)
        return round(_LEFT + share * (self.right - _LEFT), 1)

    def y(self, value: float, top: float | None = None) -> float:
        """Return where a value is; with ``top``, on an axis of its own."""
        return round(self.base - value / (top or self.top) * (self.base - _TOP), 1)

    def ticks(self, top: float | None = None) -> Sequence[Tick]:
        """Return the lines of an axis of values."""
        step = nice_step(top or self.top)
        return [
            Tick(self.y(step * n, top), step * n)
            for n in range(floor((top or self.top) / step) + 1)
        ]

    @property
    def digits(self) -> int:
        """Return how many digits behind the point the axis needs."""
        return max(0, -floor(log10(nice_step(self.top))))

    def times(self, zone_midnight: datetime) -> Sequence[TimeTick]:
        """Return the moments of the axis of time, at whole hours or days of the feeder's clock."""
        long = self.until - self.since
        hours = next(
            (
                h
                for h in (1, 2, 3, 4, 6, 12, 24, 48, 96, 168)
                if long / timedelta(hours=h) < _TIMES_MAX
            ),
            0,
        )
        step = timedelta(hours=hours) if hours else long / (_TIMES_MAX - 1)
        found = []
        moment = zone_midnight
        while moment <= self.until:
            if moment >= self.since:
                local = moment.astimezone(zone_midnight.tzinfo)
                found.append(TimeTick(self.x(moment), local, not local.hour and not local.minute))
            moment += step
        return found


def nice_step(top: float) -> float:
    """Return the distance between lines of an axis: 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return 1
    rough = top / _LABELS
    power = 10.0 ** floor(log10(rough))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= rough)


def room_for(values: Sequence[float | None]) -> float:
    """Return the top of an axis: the greatest value, and up to its next line."""
    greatest = max((value for value in values if value is not None), default=0)
    if greatest <= 0:
        return 1
    step = nice_step(greatest)
    return ceil(greatest / step) * step


def line(frame: Frame, at: Sequence[datetime], values: Sequence[float | None]) -> str:
    """Return a path through values; where one is not known the line is broken off."""
    path: list[str] = []
    before: tuple[float, float] | None = None
    for moment, value in zip(at, values, strict=False):
        if value is None:
            before = None
            continue
        x, y = frame.x(moment), frame.y(value)
        # Steps, not places: they are shorter, and alike.
        path.append(
            f"M{x:g} {y:g}"
            if before is None
            else f"l{round(x - before[0], 1):g} {round(y - before[1], 1):g}"
        )
        before = (x, y)
    return "".join(path)


def steps(frame: Frame, at: Sequence[datetime], values: Sequence[float], top: float) -> str:
    """Return an area of steps from the base, one more moment than values."""
    path = [f"M{frame.x(at[0]):g} {frame.base}"]
    for number, value in enumerate(values):
        if number == 0 or value != values[number - 1]:
            path.append(f"V{frame.y(value, top):g}")
        if number + 1 == len(values) or value != values[number + 1]:
            path.append(f"H{frame.x(at[number + 1]):g}")
    return "".join((*path, f"V{frame.base}Z"))


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars by how well their periods are known, each kind one path."""

    measured: str
    estimated: str
    """A gap reaches over an end of the period: its share is an estimate."""
    at_least: str
    """Lower bounds."""


def bars(
    frame: Frame, at: Sequence[datetime], wh: Sequence[int | None], known: Sequence[Known]
) -> Bars:
    """Return a bar for each period of which something is known; one more moment than periods."""
    paths: dict[Known, list[str]] = {kind: [] for kind in Known}
    for begin, end, value, kind in zip(at, at[1:], wh, known, strict=False):
        if value is None or value <= 0 or kind is Known.NOTHING:
            continue
        left, right = frame.x(begin), frame.x(end)
        gap = min(1.0, (right - left) / 5)
        y = frame.y(value / 1000)
        paths[kind].append(
            f"M{round(left + gap / 2, 1):g} {frame.base}V{y:g}H{round(right - gap / 2, 1):g}V{frame.base}"
        )
    return Bars(
        "".join(paths[Known.MEASURED]), "".join(paths[Known.SPREAD]), "".join(paths[Known.AT_LEAST])
    )


def spans(
    words: Sequence[str], at: Sequence[datetime], frame: Frame
) -> Iterator[tuple[str, float, float]]:
    """Yield runs of the same word, left and width: a strip has few of them."""
    begin = 0
    for number in range(1, len(words) + 1):
        if number == len(words) or words[number] != words[begin]:
            left, right = frame.x(at[begin]), frame.x(at[number])
            yield words[begin], left, round(max(right - left, 0.5), 1)
            begin = number
