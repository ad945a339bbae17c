"""The data block: STX, the data, ETX and its check character (IEC 62056-21, clause 6.3.4). Pure."""

from dataclasses import dataclass
from typing import Final

from openami.gateway.drivers.iec62056.characters import ETX, SPOILT, STX, check_character
from openami.gateway.drivers.iec62056.errors import UnfitAnswer

BLOCK_CHARS_MAX: Final = 32 * 1024
"""The longest read-outs, with fifteen months of every tariff, have some 10,000 characters."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block that has come to its end."""

    data: bytes
    """What stood between STX and ETX."""
    sound: bool
    """Whether every parity and the check character were right."""


class BlockReader:
    """Reads one block, in pieces as they come. What comes before STX is thrown away, what comes behind it too."""

    def __init__(self) -> None:
        self._characters = bytearray()
        self._began = False
        self._looked_at = 0
        """How many characters are known not to end it."""

    @property
    def empty(self) -> bool:
        """Whether nothing of a block has come yet."""
        return not self._began

    def feed(self, characters: bytes) -> Block | None:
        """Return the block, when it has come to its end. Raises UnfitAnswer."""
        self._characters += characters
        if not self._began and not self._begin():
            return None
        end = self._characters.find(ETX, self._looked_at)
        if end < 0 or end + 1 == len(self._characters):
            self._looked_at = len(self._characters) if end < 0 else end
            if len(self._characters) > BLOCK_CHARS_MAX:
                raise UnfitAnswer(f"a block of more than {BLOCK_CHARS_MAX} characters is not read")
            return None
        covered, check = bytes(self._characters[: end + 1]), self._characters[end + 1]
        sound = SPOILT not in covered and check == check_character(covered)
        return Block(covered[:-1], sound)

    def _begin(self) -> bool:
        start = self._characters.find(STX)
        before = self._characters if start < 0 else self._characters[:start]
        if b"/" in before:
            # Another identification: we do not know which of our questions this is about.
            raise UnfitAnswer("an identification came where the data were due")
        del self._characters[: len(before) + 1]
        self._began = start >= 0
        return self._began
