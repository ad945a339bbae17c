"""The line as a drawing: transformer, poles, and a mark for each house. Pure; units are SVG's.

The line is laid out like a furrow: ten poles to the right, down, and ten back. A branch begins a row of its own
and says from which pole. Without poles, the meters stand behind the gateway that hears them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from openami.headend.assets import FeederAssets, MeterRole, Pole
from openami.headend.states import MeterState
from openami.headend.web.console.houses import House, along_the_line

# At the width of a card every mark is as large as a letter; on a phone the drawing is moved sideways.
WIDTH: Final = 580
_POLES_PER_ROW: Final = 10
_LEFT: Final = 44
_POLE_STEP: Final = (WIDTH - _LEFT - 8) // _POLES_PER_ROW
_MARK_STEP: Final = 12
_MARKS_WIDE: Final = 4  # on one side of a pole, before the next rank begins
_RANK: Final = 12
_TO_WIRE: Final = 18  # from the wire to the first rank: the pole's name stands between
_ROW_GAP: Final = 14
_BESIDE_GATEWAY: Final = 8
_NAME_CHARS_MAX: Final = 6  # between two poles; who has longer names sees the pole's number


@dataclass(frozen=True, slots=True)
class Mark:
    """A house that needs somebody: a shape that leads to its meter."""

    x: int
    y: int
    house: House


@dataclass(frozen=True, slots=True)
class Post:
    """A pole, or the head of a row."""

    x: int
    y: int
    name: str


@dataclass(slots=True)
class Drawing:
    """What is drawn."""

    width: int = WIDTH
    height: int = 0
    wires: list[str] = field(default_factory=list)
    """Paths."""
    heads: list[Post] = field(default_factory=list)
    """Where rows begin: the transformer, or the pole a branch leaves from."""
    gateways: list[Post] = field(default_factory=list)
    poles: list[Post] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sound: list[tuple[int, int]] = field(default_factory=list)
    """Houses that report: drawn together, as one path of dots."""

    @property
    def dots(self) -> str:
        """Return the path of the houses that report, step by step: the steps repeat, and compress well."""
        steps, (at_x, at_y) = [], (0, 0)
        for x, y in self.sound:
            steps.append(f"m{x - at_x} {y - at_y}h0")
            at_x, at_y = x, y
        return "".join(steps)

    def put(self, house: House, x: int, y: int) -> None:
        """Draw a house."""
        if house.mark == MeterState.REPORTING:
            self.sound.append((x, y))
        else:
            self.marks.append(Mark(x, y, house))


def line_diagram(assets: FeederAssets, houses: Sequence[House]) -> Drawing:
    """Draw a feeder; without poles, by gateway."""
    drawn = Drawing()
    placed = [house for house in along_the_line(houses, assets) if house.role is MeterRole.CUSTOMER]
    by_pole: dict[str, list[House]] = {}
    loose: list[House] = []
    for house in placed:
        if house.pole_id is None:
            loose.append(house)
        else:
            by_pole.setdefault(house.pole_id, []).append(house)
    y = 4
    for start, chain in _chains(assets.poles):
        y = _draw_chain(drawn, chain, by_pole, y, "TX" if start is None else f"{_short(start)} →")
    by_gateway: dict[str, list[House]] = {}
    for house in loose:
        by_gateway.setdefault(house.gateway_id, []).append(house)
    for gateway_id, its in sorted(by_gateway.items()):
        y = _draw_gateway(drawn, gateway_id, its, y)
    drawn.height = y
    return drawn


def _chains(poles: Sequence[Pole]) -> Iterator[tuple[Pole | None, list[Pole]]]:
    """Yield the line and its branches: the pole each leaves from, and its poles in order."""
    known = {pole.id for pole in poles}
    after: dict[str | None, list[Pole]] = {}
    by_number = sorted(poles, key=lambda pole: pole.number)
    described = any(pole.parent for pole in poles)
    for at, pole in enumerate(by_number):
        parent = pole.parent if pole.parent in known else None
        if not described and at:
            parent = by_number[at - 1].id  # nobody said how they hang together: in their order
        after.setdefault(parent, []).append(pole)
    starts: list[tuple[Pole | None, Pole]] = [
        (None, pole) for pole in reversed(after.get(None, []))
    ]
    while starts:
        origin, pole = starts.pop()
        chain = [pole]
        while following := after.get(chain[-1].id):
            starts += [(chain[-1], branch) for branch in reversed(following[1:])]
            chain.append(following[0])
        yield origin, chain


def _draw_chain(
    drawn: Drawing,
    chain: Sequence[Pole],
    by_pole: Mapping[str, Sequence[House]],
    top: int,
    origin: str,
) -> int:
    """Draw one line of poles; return where the next may begin."""
    turn: tuple[int, int] | None = None
    for number, at in enumerate(range(0, len(chain), _POLES_PER_ROW)):
        row = chain[at : at + _POLES_PER_ROW]
        ranks = max(_ranks((len(by_pole.get(pole.id, ())) + 1) // 2) for pole in row)
        y = top + ranks * _RANK + _TO_WIRE
        backwards = number % 2 == 1
        xs = [_LEFT + _POLE_STEP // 2 + place * _POLE_STEP for place in range(_POLES_PER_ROW)]
        if backwards:
            xs.reverse()
        if turn is None:
            drawn.heads.append(Post(2, y, origin))
            drawn.wires.append(f"M30 {y}H{xs[len(row) - 1]}")
        else:
            drawn.wires.append(f"M{turn[0]} {turn[1]}h{_side(backwards)}V{y}H{xs[len(row) - 1]}")
        for x, pole in zip(xs, row, strict=False):
            drawn.poles.append(Post(x, y, _short(pole)))
            _draw_houses(drawn, by_pole.get(pole.id, ()), x, y)
        turn = (xs[len(row) - 1], y)
        top = y + ranks * _RANK + _TO_WIRE + _ROW_GAP
    return top


def _short(pole: Pole) -> str:
    """Return what there is room for beside a pole."""
    return pole.name if len(pole.name) <= _NAME_CHARS_MAX else str(pole.number)


def _side(backwards: bool) -> int:
    reach = _POLE_STEP // 2
    return reach if backwards else -reach


def _ranks(houses: int) -> int:
    return -(-houses // _MARKS_WIDE)


def _draw_houses(drawn: Drawing, houses: Sequence[House], x: int, y: int) -> None:
    """Half of them above the wire, half below, the nearest rank first."""
    above = (len(houses) + 1) // 2
    for side, its in ((-1, houses[:above]), (1, houses[above:])):
        if not its:
            continue
        per_rank = -(-len(its) // _ranks(len(its)))
        for place, house in enumerate(its):
            rank, column = divmod(place, per_rank)
            wide = min(len(its) - rank * per_rank, per_rank)
            left = x - (wide - 1) * _MARK_STEP // 2
            drawn.put(house, left + column * _MARK_STEP, y + side * (_TO_WIRE + rank * _RANK))


def _draw_gateway(drawn: Drawing, gateway_id: str, houses: Sequence[House], top: int) -> int:
    """Draw the meters nobody has placed, in rows behind their gateway."""
    per_row = (WIDTH - _BESIDE_GATEWAY) // _MARK_STEP
    y = top + _RANK
    drawn.gateways.append(Post(2, y, gateway_id))
    for place, house in enumerate(houses):
        rank, column = divmod(place, per_row)
        drawn.put(house, _BESIDE_GATEWAY + column * _MARK_STEP, y + (rank + 1) * _RANK + 4)
    return y + (-(-len(houses) // per_row) + 1) * _RANK + _ROW_GAP
