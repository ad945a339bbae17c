"""Which blocks to read. Pure.

A block is one read: an area, an address and a count. Its *shape* is what its answer can be told by on
a line without transaction ids: function and byte count. The planner covers the wanted fields with few
blocks, keeps the meter's limits, and keeps off the shapes a late answer may still have (decision 0014):
such a block is cut at another field's edge, or a known neighbour is read along.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from openami.gateway.drivers.modbus.register_map import Area, Field, Limits

# How many known fields before the first wanted one a block may take along to change its shape.
WIDEN_FIELDS_MAX: Final = 3
# Plans differ by what is wanted (three groups) and by the shapes to avoid: few at a time, many in a week.
_PLANS_CACHED_MAX: Final = 512

Shape = tuple[Area, int]


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """One read."""

    area: Area
    address: int
    count: int

    @property
    def shape(self) -> Shape:
        return (self.area, self.count)

    def covers(self, field: Field) -> bool:
        return (
            field.area is self.area
            and self.address <= field.address
            and field.end <= self.address + self.count
        )

    def cut(self, field: Field, words: Sequence[int]) -> tuple[int, ...]:
        """Return a field's words out of the block's."""
        at = field.address - self.address
        return tuple(words[at : at + field.count])


def block_for(field: Field) -> Block:
    """Return the block that reads one field and nothing else."""
    return Block(field.area, field.address, field.count)


@lru_cache(maxsize=_PLANS_CACHED_MAX)
def plan(
    wanted: frozenset[Field],
    *,
    known: tuple[Field, ...],
    limits: Limits,
    avoid: Set[Shape] = frozenset(),
) -> tuple[Block, ...] | None:
    """Return the fewest blocks (of these the fewest registers) that cover the wanted fields.

    ``known`` are the map's fields in order, the wanted among them. None: some wanted field cannot be
    read without a shape that is to be avoided.
    """
    places = [at for at, field in enumerate(known) if field in wanted]
    assert len(places) == len(wanted), "a wanted field is not one of the map's"
    # best[k] covers the wanted fields from the k-th on; filled from the end.
    best: list[_Cover | None] = [None] * len(places) + [_Cover(0, 0, ())]
    for k in range(len(places) - 1, -1, -1):
        for block in _blocks_from(known, places[k], limits, avoid):
            rest = best[_first_not_covered(known, places, k, block)]
            if rest is None:
                continue
            cover = _Cover(rest.blocks + 1, rest.registers + block.count, (block, *rest.plan))
            if best[k] is None or cover < best[k]:  # type: ignore[operator]  # not None here
                best[k] = cover
    return None if best[0] is None else best[0].plan


@dataclass(frozen=True, slots=True, order=True)
class _Cover:
    blocks: int
    registers: int
    plan: tuple[Block, ...]


def sync_block(
    known: tuple[Field, ...], *, limits: Limits, avoid: Set[Shape] = frozenset()
) -> Block | None:
    """Return the smallest read no late answer can be mistaken for, or None when all shapes are in doubt."""
    blocks = (
        block
        for at in range(len(known))
        for block in _blocks_from(known, at, limits, avoid, widen=0)
    )
    return min(blocks, key=lambda block: (block.count, block), default=None)


def _blocks_from(
    known: tuple[Field, ...],
    at: int,
    limits: Limits,
    avoid: Set[Shape],
    widen: int = WIDEN_FIELDS_MAX,
) -> list[Block]:
    """Return the blocks that hold the field ``at`` and begin there, or a few known fields before."""
    first_begin = max(0, at - widen) if avoid else at
    return [
        block
        for begin in range(first_begin, at + 1)
        for block in _blocks_at(known, begin, limits)
        if block.covers(known[at]) and block.shape not in avoid
    ]


def _blocks_at(known: tuple[Field, ...], begin: int, limits: Limits) -> list[Block]:
    area, address, end = known[begin].area, known[begin].address, known[begin].address
    blocks = []
    for field in known[begin:]:
        count = max(end, field.end) - address
        if field.area is not area or count > limits.max_read_registers:
            break
        if field.address - end > limits.max_gap:
            break
        end = address + count
        blocks.append(Block(area, address, count))
    return blocks


def _first_not_covered(
    known: tuple[Field, ...], places: Sequence[int], k: int, block: Block
) -> int:
    while k < len(places) and block.covers(known[places[k]]):
        k += 1
    return k
