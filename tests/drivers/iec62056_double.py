"""Mode C meters on one line, behind a port: they answer by script, late, spoilt or never.

What they say comes from the simulator's meters, which were written from the standard and not from the driver.
Here is what goes wrong on the way: a meter has one mouth, so what it says comes in its order; several meters
may speak at once.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from openami.simulator.iec_line import HEARING_S, Conversation, IecLine, Said

Send = Callable[[bytes], None]


class Fault(Enum):
    NONE = auto()
    DROP = auto()
    LATE = auto()
    """It has answered, and something on the way holds the answer back."""
    BUSY = auto()
    """The meter is busy, hears nothing meanwhile, and answers when it is done."""
    TRUNCATE = auto()
    FLIP = auto()
    """One bit in one character."""
    BURST = auto()
    """Two to five characters are anything."""
    HOLE = auto()
    """One to three characters are missing."""
    PAIR = auto()
    """Two equal characters are missing, which no exclusive or notices."""
    NOISE = auto()
    """Anything before the answer."""
    TWICE = auto()


# With even parity: a slash, and the order to read out at the speed that is.
_SLASH = b"\xaf"
_ORDER_TO_STAY = {300: b"\x06\x30\x30\x30\x8d\x0a", 9600: b"\x06\x30\x35\x30\x8d\x0a"}

Script = Callable[[], tuple[Fault, float]]


def _no_fault() -> tuple[Fault, float]:
    return Fault.NONE, 0.0


@dataclass
class ReadOutDouble:
    """One meter: its identification and its lines, made anew each time it is read out."""

    lines: Callable[[int], Sequence[str]]
    identification: str = "DOb6double"
    silent: bool = False
    impatient: bool = False
    """Not acknowledged in time it sends its data all the same, at the speed it is at, for readers of mode A."""
    read_outs: int = 0

    def data_lines(self) -> Sequence[str]:
        self.read_outs += 1
        return self.lines(self.read_outs)


@dataclass
class _Mouth:
    """One meter on the bus, as it hears and speaks."""

    meter: ReadOutDouble
    conversation: Conversation
    speaks_at: float = 0.0
    deaf_until: float = 0.0


@dataclass
class ReadOutBus:
    """Meters behind one port, by address."""

    meters: dict[str, ReadOutDouble]
    baudrate: int = 9600
    reaction_s: float = 0.02
    script: Script = _no_fault
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    echo: bool = False
    """The adapter hears what it sends itself, as optical heads do."""
    overlaps: int = 0
    speed: int = 0
    """What the other end is set to, where that can be known; 0: whatever is wanted."""
    _busy: int = 0
    _mouths: dict[str, _Mouth] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for address, meter in self.meters.items():
            self.put(address, meter)

    def put(self, address: str, meter: ReadOutDouble) -> None:
        """Put a meter in this place."""
        self.meters[address] = meter
        line = IecLine({address: meter}, baudrate=self.baudrate, reaction_s=self.reaction_s)
        self._mouths[address] = _Mouth(meter, Conversation(line))

    def received(self, data: bytes, send: Send) -> None:
        if self.echo:
            send(data)
        for mouth in self._mouths.values():
            self._heard(mouth, data, send)

    async def rest(self) -> None:
        """Cancel the answers that are still to come."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _heard(self, mouth: _Mouth, data: bytes, send: Send) -> None:
        now = asyncio.get_running_loop().time()
        if mouth.meter.silent or now < mouth.deaf_until:
            return
        speed = self.speed or mouth.conversation.baudrate
        for said in mouth.conversation.heard(data, speed, now):
            self.overlaps += self._busy
            self._say_by_script(mouth, said, send)

    def _say_by_script(self, mouth: _Mouth, said: Said, send: Send) -> None:
        fault, late_s = self.script()
        now = asyncio.get_running_loop().time()
        at = now + said.after_s
        if fault in (Fault.LATE, Fault.BUSY):
            at += late_s
        if fault is Fault.BUSY:
            mouth.deaf_until = at
            mouth.conversation.hears_until_s += late_s
        if mouth.meter.impatient and said.octets[:1] == _SLASH:
            self._start(self._run_out_of_patience(mouth, at + HEARING_S, send))
        mouth.speaks_at = max(at, mouth.speaks_at)
        self._start(self._say(mouth.speaks_at, said, fault, send))

    def _start(self, doing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(doing, name="meter")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_out_of_patience(self, mouth: _Mouth, at: float, send: Send) -> None:
        loop, read_outs = asyncio.get_running_loop(), mouth.meter.read_outs
        await asyncio.sleep(at - loop.time())
        if mouth.meter.read_outs == read_outs:
            mouth.conversation.hears_until_s = loop.time()
            order = _ORDER_TO_STAY[mouth.conversation.baudrate]
            for said in mouth.conversation.heard(order, mouth.conversation.baudrate, loop.time()):
                self._say_by_script(mouth, said, send)

    async def _say(self, at: float, said: Said, fault: Fault, send: Send) -> None:
        self._busy += 1
        try:
            await asyncio.sleep(at - asyncio.get_running_loop().time())
        finally:
            self._busy -= 1
        octets = said.octets
        if self.speed not in (0, said.baudrate):
            octets = self.chance.randbytes(len(octets) // 3)
        for piece in spoilt(octets, fault, self.chance):
            send(piece)


def spoilt(answer: bytes, fault: Fault, chance: random.Random) -> Sequence[bytes]:
    """Return what arrives of an answer."""
    at = chance.randrange(len(answer)) if answer else 0
    match fault:
        case Fault.DROP:
            return []
        case Fault.TRUNCATE:
            return [answer[:at]]
        case Fault.FLIP:
            return [
                answer[:at] + bytes((answer[at] ^ 1 << chance.randrange(8),)) + answer[at + 1 :]
            ]
        case Fault.BURST:
            width = chance.randrange(2, 6)
            return [(answer[:at] + chance.randbytes(width) + answer[at + width :])[: len(answer)]]
        case Fault.HOLE:
            return [answer[:at] + answer[at + chance.randrange(1, 4) :]]
        case Fault.PAIR:
            pairs = [i for i in range(1, len(answer)) if answer[i - 1] == answer[i]]
            at = chance.choice(pairs) if pairs else 0
            return [answer[: max(0, at - 1)] + answer[at + 1 :]]
        case Fault.NOISE:
            return [chance.randbytes(chance.randrange(1, 12)), answer]
        case Fault.TWICE:
            return [answer, answer]
        case _:
            return [answer]
