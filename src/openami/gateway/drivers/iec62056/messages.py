"""Sign-on, identification, acknowledgement: the messages around the data (IEC 62056-21, clause 6.3). Pure.

The meter's identification ``/XXXZident`` tells its maker, and in one character how fast it would speak and in
which mode: a digit in mode C, a letter A to I in mode B, anything else in mode A. Mode E is mode C with a word
more (``\\2``).
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from openami.gateway.drivers.iec62056.characters import ACK
from openami.gateway.drivers.iec62056.errors import UnfitAnswer

ADDRESS_CHARS_MAX: Final = 32  # of the device address (6.3.1)
IDENTIFICATION_CHARS_MAX: Final = 64  # 16 in the standard (6.3.2); makers write more
BAUDRATES: Final = (300, 600, 1200, 2400, 4800, 9600, 19200)
"""By the digit that names them, 0 to 6 (6.3.2)."""
REACTION_S: Final = 0.2
"""Who was spoken to waits at least so long before it answers (t_r, 6.3.14.2)."""
REACTION_FAST_S: Final = 0.02
"""… where the third letter of its maker is a small one (6.3.2)."""
REACTION_S_MAX: Final = 1.5
"""Who has not answered by then will not; nor will a pause within a message be longer (t_r and t_a)."""

_identification = re.compile(
    rb"/([A-Za-z]{3})([^/!\x00-\x1f\x7f-\xff])([^/!\x00-\x1f\x7f-\xff]{0,%d})\r\n"
    % IDENTIFICATION_CHARS_MAX
)


class Mode(Enum):
    """How the dialogue goes on after the identification."""

    A = auto()
    """The meter sends its data at once, at the speed it has."""
    B = auto()
    """It sends them at once, at the speed it has named."""
    C = auto()
    """It waits for an acknowledgement that says how to go on."""


@dataclass(frozen=True, slots=True)
class Identification:
    """Who answered a sign-on, and how it would go on."""

    maker: str
    mode: Mode
    baudrate: int | None
    """What it would switch to; None where it names no speed, or one the standard does not know."""
    text: str

    @property
    def reaction_s(self) -> float:
        """How long it has to be left in peace before it is answered."""
        return REACTION_FAST_S if self.maker[2].islower() else REACTION_S

    def __str__(self) -> str:
        return f"{self.maker} {self.text}".strip()


def sign_on(address: str) -> bytes:
    """Return the request to the meter of this address; to any meter, where it is empty."""
    return b"/?" + address.encode("ascii") + b"!\r\n"


def acknowledgement(baudrate: int) -> bytes:
    """Return the order to read out at this speed: normal protocol, data read-out mode."""
    return b"%c0%d0\r\n" % (ACK, BAUDRATES.index(baudrate))


def find_identification(characters: bytes) -> Identification | None:
    """Return the identification that these characters end in; None where there is none yet.

    What stands before it is thrown away: noise of a line that turns round, and our own sign-on from a line with an
    echo. Raises UnfitAnswer where something stands behind it, since nobody may speak then.
    """
    found = _identification.search(characters)
    if found is None:
        return None
    if found.end() != len(characters):
        raise UnfitAnswer("two answers came to one sign-on")
    maker, key, text = (part.decode("ascii") for part in found.groups())
    if key.isdigit():
        mode, at = Mode.C, int(key)
    elif "A" <= key <= "I":
        mode, at = Mode.B, ord(key) - ord("A") + 1
    else:
        return Identification(maker, Mode.A, None, key + text)
    return Identification(maker, mode, BAUDRATES[at] if at < len(BAUDRATES) else None, text)
