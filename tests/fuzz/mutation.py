"""Ways to spoil a message: bytes, tokens, structure. One grammar, whoever draws the chances.

Under hypothesis the chances are drawn and shrunk; under atheris and the plain runner they come from a seeded
generator. Each change starts from something sound, because what is rejected at its first byte tests one line.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

from tests.profile.messages import TOKENS, spoil_bytes, spoil_tokens

# What readers have been known to stumble over and no message of ours ever holds.
_SPLINTERS: Final[tuple[bytes, ...]] = (
    *(b"\0", b"\\u0000", b"\\ud800", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x1b[2J"),
    *(b"\n", b"\r\n", b"\xc2\x85", b"\xe2\x80\xa8", b"\xd9\xa1", b"\\u0661"),
    *(b"1e400", b"-1e400", b"1e-400", b"1e999999999", b"nan", b"inf", b"NaN", b"9" * 4400, b"9" * 400, b"-0"),
    *(b"[" * 20, b"[" * 3000, b'{"a":' * 20, b'{"a":' * 3000, b"{" * 3000, b"a." * 300),
    *(b"'''", b'"""', b"[[", b"]]", b"#", b"=", b"../../x", b"%00", b"1" * 300),
)  # fmt: skip
_CHANGES_MAX: Final = 4
_BYTES_MAX: Final = 96 * 1024  # a little more than the largest message that any surface reads

Change = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def mutated(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return the bytes with one to four changes; ``others`` lend the pieces for a splice."""
    changed = sound
    for _ in range(chance.choice((1, 1, 1, 2, _CHANGES_MAX))):
        changed = chance.choice(_CHANGES)(changed, others, chance)
    return changed[:_BYTES_MAX]


def _bytes(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return spoil_bytes(sound, chance)


def _flip(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    if not sound:
        return sound
    at = chance.randrange(len(sound))
    return sound[:at] + bytes([sound[at] ^ 1 << chance.randrange(8)]) + sound[at + 1 :]


def _similar(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Exchange a letter or a digit for another: all of it stays well formed, and is not what was signed."""
    places = [at for at, byte in enumerate(sound) if chr(byte).isascii() and chr(byte).isalnum()]
    if not places:
        return sound
    at = chance.choice(places)
    kin = b"0123456789" if sound[at : at + 1].isdigit() else b"abcdefxyzABCDEFXYZ"
    return sound[:at] + bytes([chance.choice(kin)]) + sound[at + 1 :]


def _truncate(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return sound[: chance.randint(0, len(sound))]


def _splice(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return sound[: chance.randint(0, len(sound))] + other[chance.randint(0, len(other)) :]


def _splinter(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randint(0, len(sound))
    return sound[:at] + chance.choice(_SPLINTERS) + sound[at + chance.choice((0, 0, 1, 4)) :]


def _instead(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Put a splinter in the place of a word, where a reader has already taken the key for good."""
    words = [
        at for at in range(1, len(sound)) if sound[at - 1 : at] in (b'"', b" ", b":", b"=", b"/")
    ]
    if not words:
        return sound
    at = chance.choice(words)
    end = at
    while end < len(sound) and sound[end : end + 1].isalnum():
        end += 1
    return sound[:at] + chance.choice(_SPLINTERS) + sound[end:]


def _double(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    begin = chance.randint(0, len(sound))
    end = chance.randint(begin, len(sound))
    return sound[:end] + sound[begin:end] + sound[end:]


def _line(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Take a line from another and put it somewhere: a key in the wrong table, a header in the body."""
    lines = sound.split(b"\n")
    lent = chance.choice(chance.choice(others).split(b"\n"))
    lines.insert(chance.randint(0, len(lines)), lent)
    return b"\n".join(lines)


def _token(sound: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    try:
        return spoil_tokens(sound, chance.choice(TOKENS), chance) if sound else sound
    except UnicodeDecodeError:
        return _bytes(sound, others, chance)


_CHANGES: Final[Sequence[Change]] = (
    _bytes, _flip, _similar, _similar, _truncate, _splice, _splinter, _instead, _instead, _double, _line,
    _token, _token,
)  # fmt: skip
