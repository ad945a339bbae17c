"""The village from above: poles where they stand, houses around them. Pure; units are SVG's.

North is up. A house has no position of its own, so it stands in a ring around its pole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, radians, sin
from typing import Final

from openami.headend.assets import FeederAssets, MeterRole, Pole
from openami.headend.web.console.houses import House, along_the_line
from openami.headend.web.console.line_diagram import WIDTH, Drawing, Post

_EDGE: Final = 40
_HEIGHT_MAX: Final = 460  # a village along a road north to south still fits a screen
_RING: Final = 13
_RING_STEP: Final = 11
_METRES_PER_DEGREE: Final = 111_320
# Round lengths a scale bar may have.
_BAR_M: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_BAR_WIDE: Final = WIDTH / 4


@dataclass(frozen=True, slots=True)
class Map:
    """A drawing, and how long its scale bar is."""

    drawing: Drawing
    bar: int
    bar_metres: int
    unplaced: int
    """Houses whose pole has no position, or who have no pole."""


def village_map(assets: FeederAssets, houses: Sequence[House]) -> Map | None:
    """Draw a feeder from the positions of its poles; None when no pole has one."""
    where = {
        pole.id: (pole.longitude, pole.latitude)
        for pole in assets.poles
        if pole.longitude is not None and pole.latitude is not None
    }
    if not where:
        return None
    longitudes = [longitude for longitude, _ in where.values()]
    latitudes = [latitude for _, latitude in where.values()]
    west, south, north = min(longitudes), min(latitudes), max(latitudes)
    narrow = cos(radians((south + north) / 2))
    wide = (max(longitudes) - west) * narrow
    high = north - south
    # A village of one pole is drawn as if it were a hundred metres wide.
    scale = min(
        (WIDTH - 2 * _EDGE) / max(wide, 100 / _METRES_PER_DEGREE),
        (_HEIGHT_MAX - 2 * _EDGE) / max(high, 100 / _METRES_PER_DEGREE),
    )
    across = (WIDTH - wide * scale) / 2
    at = {
        pole_id: (
            round(across + (longitude - west) * narrow * scale),
            round(_EDGE + (north - latitude) * scale),
        )
        for pole_id, (longitude, latitude) in where.items()
    }
    drawn = Drawing(height=round(high * scale) + 2 * _EDGE + 16)
    _draw_wires(drawn, assets.poles, at)
    unplaced = _draw_houses(drawn, along_the_line(houses, assets), at)
    metres = max((m for m in _BAR_M if m / _METRES_PER_DEGREE * scale <= _BAR_WIDE), default=10)
    return Map(drawn, round(metres / _METRES_PER_DEGREE * scale), metres, unplaced)


def _draw_wires(drawn: Drawing, poles: Sequence[Pole], at: dict[str, tuple[int, int]]) -> None:
    ordered = sorted(poles, key=lambda pole: pole.number)
    described = any(pole.parent for pole in poles)
    for place, pole in enumerate(ordered):
        if pole.id not in at:
            continue
        x, y = at[pole.id]
        drawn.poles.append(Post(x, y, pole.name))
        before = pole.parent if described else (ordered[place - 1].id if place else None)
        if before in at:
            from_x, from_y = at[before]
            drawn.wires.append(f"M{from_x} {from_y}L{x} {y}")


def _draw_houses(drawn: Drawing, houses: Sequence[House], at: dict[str, tuple[int, int]]) -> int:
    around: dict[str, list[House]] = {}
    unplaced = 0
    for house in houses:
        if house.role is not MeterRole.CUSTOMER:
            continue
        if house.pole_id in at:
            around.setdefault(house.pole_id, []).append(house)
        else:
            unplaced += 1
    for pole_id, its in around.items():
        x, y = at[pole_id]
        ring, begun = 0, 0
        for place, house in enumerate(its):
            radius = _RING + ring * _RING_STEP
            room = int(2 * pi * radius / _RING_STEP)
            turn = 2 * pi * (place - begun) / min(room, len(its) - begun)
            drawn.put(house, round(x + radius * sin(turn)), round(y - radius * cos(turn)))
            if place - begun + 1 == room:
                ring, begun = ring + 1, place + 1
    return unplaced
