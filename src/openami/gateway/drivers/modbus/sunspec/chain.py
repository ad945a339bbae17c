"""The chain of models: how a SunSpec meter is found out. Pure: a dialogue as a generator, without a wire.

"SunS" stands at one of a few addresses. Behind it models follow one another, each with its id and its length,
the common model first, until the id 0xFFFF. The walk yields what it wants to read and is sent the words, or None
where the meter has no such registers; it returns the chain, or raises ChainError.
"""

from collections.abc import Generator, Sequence, Set
from dataclasses import dataclass
from typing import Final

from openami.gateway.drivers.modbus.decode import text_of
from openami.gateway.drivers.modbus.plan import Block, Shape
from openami.gateway.drivers.modbus.register_map import READ_REGISTERS_MAX, Area
from openami.gateway.drivers.modbus.sunspec.models import COMMON, HEADER_WORDS, shipped_model

MARKER: Final = (0x5375, 0x6E53)  # "SunS"
# SunSpec Device Information Model Specification: where the marker may stand.
BASES: Final = (40_000, 50_000, 0)
# The marker and the shortest common model with a serial number fit behind it.
BASE_MAX: Final = 0xFFFF - 69
END: Final = 0xFFFF
# An inverter with everything SunSpec has defined for it carries some forty; a meter three.
MODELS_MAX: Final = 64
_REGISTERS = 0x10000
# Behind the marker every SunSpec device has its common model, at least to the end of its serial number.
_SHARED_WORDS: Final = 66


class ChainError(ValueError):
    """What the meter tells is no chain of models, or not one we can read; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """Registers the walk wants, and how many before and behind them are sure to be there as well."""

    address: int
    count: int
    before: int = 0
    behind: int = 0

    def block(self, avoid: Set[Shape]) -> Block | None:
        """Return the smallest read that holds them and has no shape that is to be avoided (decision 0014)."""
        widest = min(self.before + self.behind, READ_REGISTERS_MAX - self.count)
        for more in range(widest + 1):
            if (Area.HOLDING, self.count + more) not in avoid:
                address = self.address - min(more, self.before)
                return Block(Area.HOLDING, address, self.count + more)
        return None

    def cut(self, block: Block, words: Sequence[int]) -> tuple[int, ...]:
        """Return the wanted words out of the block's."""
        at = self.address - block.address
        return tuple(words[at : at + self.count])


@dataclass(frozen=True, slots=True)
class Link:
    """One model of a chain; ``address`` is its header's, ``length`` what the header says."""

    id: int
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A meter's models, and what its common model says of it."""

    base: int
    links: tuple[Link, ...]
    maker: str
    model: str
    serial: str
    """Empty where the meter tells none."""


Walk = Generator[Question, tuple[int, ...] | None, Chain]


def walk(bases: Sequence[int]) -> Walk:
    """Find the chain at one of these bases and go along it. Raises ChainError."""
    base = yield from _base(bases)
    links: list[Link] = []
    at = base + len(MARKER)
    while at + HEADER_WORDS <= _REGISTERS:
        behind = 0 if links else _SHARED_WORDS - len(MARKER)
        header = yield Question(at, HEADER_WORDS, before=at - base, behind=behind)
        # Some meters have the end's id without a length, or just end: both are read as an exception.
        if header is None or header[0] == END:
            break
        links.append(_link(at, header, links))
        at += HEADER_WORDS + links[-1].length
    if not links:
        raise ChainError(f"behind the marker at {base} there is no model")
    maker, model, serial = yield from _common(links[0])
    return Chain(base, tuple(links), maker, model, serial)


def _base(bases: Sequence[int]) -> Generator[Question, tuple[int, ...] | None, int]:
    for base in bases:
        words = yield Question(base, len(MARKER), behind=_SHARED_WORDS)
        if words == MARKER:
            return base
    places = ", ".join(map(str, bases))
    raise ChainError(
        f"there is no SunSpec marker at {places}: if the meter's manual names another address, "
        "set it with `bases`; if it is no SunSpec meter, name its register map"
    )


def _link(at: int, header: Sequence[int], before: Sequence[Link]) -> Link:
    link = Link(header[0], at, header[1])
    if not before and link.id != COMMON:
        raise ChainError(f"the first model is {link.id}, not {COMMON}: the chain is broken at {at}")
    if len(before) == MODELS_MAX:
        raise ChainError(f"there are more than {MODELS_MAX} models, the last read at {at}")
    if link.id == 0 or link.length == 0:
        raise ChainError(
            f"model {link.id} with {link.length} registers: the chain is broken at {at}"
        )
    if at + HEADER_WORDS + link.length > _REGISTERS:
        raise ChainError(
            f"model {link.id} at {at} with {link.length} registers ends beyond register 65535"
        )
    return link


def _common(link: Link) -> Generator[Question, tuple[int, ...] | None, tuple[str, str, str]]:
    """Read who the meter says it is; what a short common model has no room for is empty."""
    points = shipped_model(COMMON).points
    wanted = [points[name] for name in ("Mn", "Md", "SN")]
    length = HEADER_WORDS + link.length
    there = [point for point in wanted if point.offset + point.words <= length]
    if not there:
        return "", "", ""
    end = max(point.offset + point.words for point in there)
    words = yield Question(link.address, end, before=len(MARKER), behind=length - end)
    if words is None:
        raise ChainError(f"the common model at {link.address} cannot be read")
    maker, model, serial = (
        text_of(words[point.offset : point.offset + point.words]) if point in there else ""
        for point in wanted
    )
    return maker, model, serial
