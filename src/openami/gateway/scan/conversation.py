"""A conversation: questions one after the other, as a generator without a port. Pure.

It yields what is to be sent and how long to wait, and is sent what has arrived: at least one byte, or none when
the time is over. So what an answer means is decided here and tested without a line.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")

HEARD_BYTES_MAX: Final = 4096
"""Of one answer; the longest there can be has 2 kB, more is a line that babbles."""
_CHUNKS_MAX = HEARD_BYTES_MAX  # a port that gives one byte at a time


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this (possibly nothing), then wait for the first byte, at most so long."""

    send: bytes
    wait_s: float
    """The meter's time to think; the time the bytes take on the line is the port's to add."""


Conversation: TypeAlias = Generator[Ask, bytes, T]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a meter may think, and how long a pause ends its answer; in seconds."""

    wait_s: float
    quiet_s: float


def hear(
    question: bytes, pace: Pace, *, whole: Callable[[bytes], bool] = lambda _: False
) -> Conversation[bytes]:
    """Ask, and return all that comes until it is ``whole``, or nothing more comes."""
    heard = yield Ask(question, pace.wait_s)
    for _ in range(_CHUNKS_MAX):
        if not heard or len(heard) >= HEARD_BYTES_MAX or whole(heard):
            break
        more = yield Ask(b"", pace.quiet_s)
        if not more:
            break
        heard += more
    return heard[:HEARD_BYTES_MAX]
