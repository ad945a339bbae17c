"""Villages by the hour whose truth is known: who is honest, what is lost, and how energy passes meters by.

For judging the feeder balance (headend/balance) on many villages: a village is two months of hourly registers, as a
head-end would have them, and beside them the truth. Energy adds up exactly,

    head = Σ what houses draw + technical losses + hooks on the line

before the meters' own errors. Nothing here knows how the balance judges. What is assumed, none of it measured in
a village, stands in the constants; households differ from hour to hour far more than these shapes do, so that a
real feeder should be easier to read than this one, and its faults are more inventive.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from math import exp, log, pi, sin
from typing import Final

from openami.simulator.load import MINUTES_PER_DAY, LoadClass, load_shapes

HOURS_A_DAY: Final = 24
DAYS: Final = 60
HOURS: Final = HOURS_A_DAY * DAYS

# Class 1 and class 0.5 meters, a third of their limit as the standard deviation of the type.
_METER_ERROR: Final = 0.004
_HEAD_ERROR: Final = 0.002
# Registers of the common meters go by 10 Wh.
_STEP_WH: Final = 10
# Households use their appliances when they like: the spread of one hour about its mean, and of one day.
_HOUR_SHAPE: Final = 1.6
_DAY_SIGMA: Final = 0.25
_AWAY_PER_DAY: Final = 0.01
_AWAY_DAYS_MAX: Final = 9
# People leave for work elsewhere: some houses stand empty from one day on.
_LEFT_PER_DAY: Final = 0.0008
# Of what a feeder of this length loses at its mean load, by the choice of its builder.
_LOSS_SHARES: Final = (0.02, 0.07)
_STANDING_LOSS_W: Final = (20, 90)
_NIGHT: Final = frozenset((*range(18, 24), *range(6)))


class Theft(StrEnum):
    """How energy passes a meter by."""

    FULL = "full bypass"
    """From some day on nothing is counted any more."""
    PART = "half phase"
    """A part of the load hangs before the meter."""
    NIGHT = "night only"
    """On most nights nothing is counted."""
    SWITCHED = "now and then"
    """On some days nothing is counted."""
    HOOK = "hook on the line"
    """A load of nobody's meter."""


THEFTS_AT_METERS: Final = (Theft.FULL, Theft.PART, Theft.NIGHT, Theft.SWITCHED)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a kind of village is like."""

    houses: tuple[int, int] = (30, 120)
    thieves: tuple[int, int] = (0, 4)
    hooks: tuple[int, int] = (0, 2)
    wrong_clocks: tuple[int, int] = (0, 2)
    elsewhere: tuple[int, int] = (0, 1)
    """Meters on the list that another feeder supplies."""
    silent_share: tuple[float, float] = (0.0, 0.08)
    late_share: tuple[float, float] = (0.0, 0.1)
    season: tuple[float, float] = (-0.3, 0.3)


HONEST: Final = Settings(thieves=(0, 0), hooks=(0, 0))
MIXED: Final = Settings(thieves=(1, 4))


@dataclass(frozen=True, slots=True)
class Culprit:
    """The truth about one theft: which meter (None for a hook), how, and how much in all."""

    meter: int | None
    kind: Theft
    wh: int


@dataclass(slots=True)
class TheftVillage:
    """What the head-end has, and the truth."""

    seed: int
    head: list[int | None]
    """Wh by hour, from a midnight on; None where nothing is known."""
    meters: list[list[int | None]]
    phases: list[str]
    """Which phase each meter hangs on, as the operator's list has it."""
    culprits: tuple[Culprit, ...]
    wrong_clocks: dict[int, int] = field(default_factory=dict)
    """By meter: how many hours its clock is ahead."""
    losses_wh: int = 0
    """Technical losses in all."""

    @property
    def guilty(self) -> frozenset[int]:
        """Meters that energy passes by."""
        return frozenset(each.meter for each in self.culprits if each.meter is not None)


def theft_village(seed: int, settings: Settings = MIXED) -> TheftVillage:
    """Return the village of a seed."""
    dice = random.Random(f"thefts {seed}")
    drawn = [_house(dice, settings) for _ in range(dice.randint(*settings.houses))]
    passed = [[0.0] * HOURS for _ in drawn]
    culprits = []
    for meter in _thieves(dice, drawn, dice.randint(*settings.thieves)):
        kind = dice.choice(THEFTS_AT_METERS)
        since = dice.choice((0, dice.randrange(HOURS)))
        passed[meter] = _passed(dice, kind, since, drawn[meter])
        culprits.append(Culprit(meter, kind, round(sum(passed[meter]))))
    hooks = [_hook(dice) for _ in range(dice.randint(*settings.hooks))]
    culprits += [Culprit(None, Theft.HOOK, round(sum(hook))) for hook in hooks]
    phases = [dice.choice("ABC") for _ in (*drawn, *hooks)]
    losses = _losses(dice, [*drawn, *hooks], phases)
    supplied = [sum(hour) for hour in zip(*drawn, *hooks, losses, strict=True)]
    clocks = {
        meter: dice.choice((-6, -5, -3, -2, -1, 1, 2, 3, 5, 12))
        for meter in dice.sample(range(len(drawn)), dice.randint(*settings.wrong_clocks))
    }
    strangers = [_house(dice, settings) for _ in range(dice.randint(*settings.elsewhere))]
    counted = [
        _registered(
            dice, _by_clock(_less(house, past), clocks.get(meter, 0)), _METER_ERROR, _STEP_WH
        )
        for meter, (house, past) in enumerate(zip(drawn, passed, strict=True))
    ]
    counted += (_registered(dice, each, _METER_ERROR, _STEP_WH) for each in strangers)
    phases[len(drawn) :] = [dice.choice("ABC") for _ in strangers]
    head: list[int | None] = list(_registered(dice, supplied, _HEAD_ERROR, _STEP_WH))
    meters = [_heard(dice, each, settings) for each in counted]
    _forget(dice, head, dice.randint(0, 12))
    return TheftVillage(seed, head, meters, phases, tuple(culprits), clocks, round(sum(losses)))


# --- houses --------------------------------------------------------------------------------------


@cache
def _shape(load_class: LoadClass) -> tuple[tuple[float, ...], ...]:
    """Return the mean Wh of each hour of a day, by the class's variants."""
    return tuple(
        tuple(
            sum(day[minute] for day in shape.weekdays for minute in range(h * 60, h * 60 + 60))
            / (60 * len(shape.weekdays))
            for h in range(MINUTES_PER_DAY // 60)
        )
        for shape in load_shapes(load_class)
    )


_MIX: Final = (
    *((LoadClass.LIGHTING, 30), (LoadClass.TELEVISION, 34), (LoadClass.FRIDGE, 18)),
    *((LoadClass.SHOP, 11), (LoadClass.MILL, 3), (LoadClass.CLINIC, 4)),
)


def _house(dice: random.Random, settings: Settings) -> list[float]:
    classes, weights = zip(*_MIX, strict=True)
    shape = dice.choice(_shape(dice.choices(classes, weights)[0]))
    scale = exp(dice.gauss(0, 0.4))
    late = dice.randint(-1, 1)
    season = dice.uniform(*settings.season)
    away = 0
    drawn: list[float] = []
    for day in range(DAYS):
        away = away - 1 if away else _away(dice)
        if dice.random() < _LEFT_PER_DAY:
            away = DAYS
        trend = 1 + season * sin(pi * day / DAYS / 2)
        usual = 0.05 if away else scale * trend * exp(dice.gauss(0, _DAY_SIGMA))
        drawn += (
            usual
            * shape[(hour + late) % HOURS_A_DAY]
            * dice.gammavariate(_HOUR_SHAPE, 1 / _HOUR_SHAPE)
            for hour in range(HOURS_A_DAY)
        )
    return drawn


def _away(dice: random.Random) -> int:
    return dice.randint(1, _AWAY_DAYS_MAX) if dice.random() < _AWAY_PER_DAY else 0


def _hook(dice: random.Random) -> list[float]:
    """A load before all meters: somebody's lights, cooker or workshop, on some days, from some day on."""
    shape = dice.choice(
        _shape(dice.choice((LoadClass.LIGHTING, LoadClass.TELEVISION, LoadClass.SHOP)))
    )
    scale, share = dice.uniform(1, 5), dice.uniform(0.4, 1)
    since = dice.choice((0, dice.randrange(DAYS)))
    drawn: list[float] = []
    for day in range(DAYS):
        on = scale if day >= since and dice.random() < share else 0.0
        drawn += (on * each * dice.gammavariate(_HOUR_SHAPE, 1 / _HOUR_SHAPE) for each in shape)
    return drawn


def _thieves(dice: random.Random, drawn: Sequence[Sequence[float]], count: int) -> list[int]:
    """Return who steals: whoever uses much has more to gain."""
    ranked = sorted(range(len(drawn)), key=lambda meter: log(dice.random()) / sum(drawn[meter]))
    return sorted(ranked[-count:]) if count else []


def _passed(dice: random.Random, kind: Theft, since: int, drawn: Sequence[float]) -> list[float]:
    """Return what of a load passes its meter by."""
    part = dice.uniform(0.3, 0.75)
    share = dice.uniform(0.5, 0.95)
    on_today = [dice.random() < share for _ in range(DAYS + 1)]
    past = [0.0] * HOURS
    for hour in range(since, HOURS):
        day, of_day = divmod(hour, HOURS_A_DAY)
        night = (hour - 6) // HOURS_A_DAY  # a night belongs to the evening it began on
        match kind:
            case Theft.PART:
                past[hour] = part * drawn[hour]
            case Theft.NIGHT:
                past[hour] = drawn[hour] if of_day in _NIGHT and on_today[night] else 0.0
            case Theft.SWITCHED:
                past[hour] = drawn[hour] if on_today[day] else 0.0
            case _:
                past[hour] = drawn[hour]
    return past


# --- the line ------------------------------------------------------------------------------------


def _losses(
    dice: random.Random, loads: Sequence[Sequence[float]], phase_of: Sequence[str]
) -> list[float]:
    """Return technical losses: by the square of each phase's load, of each service cable's, and a standing part."""
    distance = [dice.random() for _ in loads]
    share = exp(dice.uniform(*map(log, _LOSS_SHARES)))
    standing = dice.uniform(*_STANDING_LOSS_W)
    squares = []
    for hour in zip(*loads, strict=True):
        phases = dict.fromkeys("ABC", 0.0)
        cables = 0.0
        for wh, phase, far in zip(hour, phase_of, distance, strict=True):
            phases[phase] += wh * (0.4 + far)
            cables += wh * wh
        squares.append(sum(each * each for each in phases.values()) + 2 * cables)
    total = sum(map(sum, loads))
    ohms = share * total / sum(squares)
    return [ohms * square + standing for square in squares]


# --- the meters ----------------------------------------------------------------------------------


def _less(drawn: Sequence[float], past: Sequence[float]) -> list[float]:
    return [each - gone for each, gone in zip(drawn, past, strict=True)]


def _by_clock(counted: Sequence[float], ahead: int) -> list[float]:
    """Return hours as a meter stamps them whose clock is so many hours ahead."""
    return [counted[hour - ahead] if 0 <= hour - ahead < HOURS else 0.0 for hour in range(HOURS)]


def _registered(
    dice: random.Random, drawn: Sequence[float], error: float, step_wh: int
) -> list[int]:
    """Return the hours as differences of a register that goes by steps, of a meter with an error of its own."""
    gain = 1 + dice.gauss(0, error)
    register, before, hours = dice.random() * step_wh, 0, []
    for wh in drawn:
        register += wh * gain
        now = int(register // step_wh) * step_wh
        hours.append(now - before)
        before = now
    return hours


def _heard(dice: random.Random, counted: Sequence[int], settings: Settings) -> list[int | None]:
    """Return what came: some meters are silent for a time or for ever, of some the last days are late."""
    heard: list[int | None] = list(counted)
    if dice.random() < dice.uniform(*settings.silent_share):
        if dice.random() < 0.2:
            return [None] * HOURS
        for _ in range(dice.randint(1, 3)):
            _forget(dice, heard, dice.randint(2, 160))
    if dice.random() < dice.uniform(*settings.late_share):
        late = dice.randint(3, 72)
        heard[-late:] = [None] * late
    return heard


def _forget(dice: random.Random, heard: list[int | None], hours: int) -> None:
    begin = dice.randrange(HOURS)
    for hour in range(begin, min(begin + hours, HOURS)):
        heard[hour] = None
