"""One read-out as a dialogue: what is sent when, what is waited for (IEC 62056-21, mode C). Pure.

    /?address!  →
                ←  /XXXZident
    ACK 0 Z 0   →                    then both go over to speed Z
                ←  STX data ! ETX BCC
    NAK         →                    if it was not sound: the meter sends it again

A meter of mode A or B sends its data without waiting for the acknowledgement. The dialogue is a generator: it
yields acts, and is sent what a `Listen` has brought. Who drives it owns the wire and the clock.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from openami.gateway.drivers.iec62056.block import BLOCK_CHARS_MAX, Block, BlockReader
from openami.gateway.drivers.iec62056.characters import NAK, Parity, as_read, to_send
from openami.gateway.drivers.iec62056.errors import NoAnswer, NotSpoken, UnfitAnswer
from openami.gateway.drivers.iec62056.messages import (
    Identification,
    Mode,
    acknowledgement,
    find_identification,
    sign_on,
)

REPEATS_MAX: Final = 2
"""How often a block is asked for again: a line that spoils three in a row has another fault."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Leave the meter in peace for so long; to be answered with what has come all the same."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class SetSpeed:
    """Go over to this speed, once what was sent has left."""

    baudrate: int


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for bytes; to be answered with those that have come, or with none when none came in time."""


Act: TypeAlias = Pause | Send | SetSpeed | Listen
_T = TypeVar("_T")
Dialogue: TypeAlias = Generator[Act, bytes, _T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How one line is spoken on."""

    baudrate: int
    """At which a dialogue begins."""
    baudrate_max: int
    """To which it may change; the same where the line has one speed only."""
    parity: Parity = Parity.EVEN
    reaction_s: float | None = None
    """How long a meter is left in peace before it is answered, if not as the standard has it."""


def read_out(address: str, manner: Manner) -> Dialogue[bytes]:
    """Return a meter's data. Raises NoAnswer, UnfitAnswer, NotSpoken."""
    yield Send(to_send(sign_on(address), manner.parity))
    who = yield from _identification(manner)
    reaction_s = who.reaction_s if manner.reaction_s is None else manner.reaction_s
    baudrate = _speed(who, manner)
    if who.mode is Mode.C:
        yield from _answer(acknowledgement(baudrate), reaction_s, manner)
    if baudrate != manner.baudrate:
        yield SetSpeed(baudrate)
    for repeat in range(1 + REPEATS_MAX):
        if repeat:
            yield from _answer(bytes((NAK,)), reaction_s, manner)
        block = yield from _block(who, manner)
        if block is not None and block.sound:
            return block.data
        if who.mode is not Mode.C:
            break  # they do not listen while they send, nor afterwards
    raise UnfitAnswer(f"the data of {who} come cut short or with wrong parity or check character")


def _answer(characters: bytes, reaction_s: float, manner: Manner) -> Dialogue[None]:
    """Answer the meter, which waits for us. Raises UnfitAnswer where it speaks: that is about something older."""
    if (yield Pause(reaction_s)):
        raise UnfitAnswer("the meter goes on speaking where it should wait for us")
    yield Send(to_send(characters, manner.parity))


def _identification(manner: Manner) -> Dialogue[Identification]:
    characters = b""
    while True:
        octets = yield Listen()
        if not octets and not characters:
            raise NoAnswer("no answer to the sign-on")
        characters += as_read(octets, manner.parity)
        found = find_identification(characters)
        if found is not None:
            return found
        if not octets or len(characters) > BLOCK_CHARS_MAX:
            raise UnfitAnswer(
                f"{len(characters)} characters came that are no identification: check speed and parity"
            )


def _speed(who: Identification, manner: Manner) -> int:
    """Return at which speed the data are to come. Raises NotSpoken."""
    proposed = manner.baudrate if who.baudrate is None else who.baudrate
    if manner.baudrate <= proposed <= manner.baudrate_max:
        return proposed
    if who.mode is Mode.B:
        raise NotSpoken(
            f"{who} goes over to {proposed} Bd whether it is asked to or not, and this line does not: "
            "its `baudrate_max` has to allow it, and its converter has to follow"
        )
    return manner.baudrate  # a meter of mode C is told to stay; mode A names no speed


def _block(who: Identification, manner: Manner) -> Dialogue[Block | None]:
    """Return the next block; None for one that broke off. Raises NoAnswer, UnfitAnswer."""
    reader = BlockReader()
    heard = False
    while True:
        octets = yield Listen()
        if not octets:
            if reader.empty:
                raise (UnfitAnswer if heard else NoAnswer)(
                    f"{who} sends no data behind STX: it is not of mode C, has changed to another "
                    "speed, or sends no check character"
                )
            return None
        heard = True
        block = reader.feed(as_read(octets, manner.parity))
        if block is not None:
            return block
