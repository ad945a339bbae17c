"""What goes over the line: questions and answers, without a socket."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

NUMBERS: Final = 100
"""Question numbers run from 0 to 99 and begin again."""
LINE_BYTES_MAX: Final = 80
"""The longest answer has 60; more is something else."""
_KWH = Decimal("0.0001")


class NoAnswer(ValueError):
    """A line that is no answer: cut, bent, or something else."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a channel told."""

    number: int
    channel: int
    label: str
    """The number on the meter's label, as the box was told it: ASCII without spaces."""
    pulses: int

    def encode(self) -> bytes:
        """Return the line, its end included."""
        return _line(f"!{self.number:02d} {self.channel:02d} {self.label} {self.pulses}")


def question(number: int, channel: int) -> bytes:
    """Return the line that asks for a channel."""
    return _line(f"?{number:02d} {channel:02d}")


def read_question(line: bytes) -> tuple[int, int]:
    """Return number and channel of a question. Raises NoAnswer."""
    fields = _fields(line, b"?", 2)
    return _number(fields[0]), _number(fields[1])


def read_answer(line: bytes) -> Answer:
    """Return what an answer tells. Raises NoAnswer."""
    number, channel, label, pulses = _fields(line, b"!", 4)
    return Answer(_number(number), _number(channel), label, _number(pulses))


def energy_kwh(pulses: int, pulses_per_kwh: int) -> Decimal:
    """Return the energy of so many pulses, exact to 0.1 Wh. Never a float: it is billed."""
    return (Decimal(pulses) / pulses_per_kwh).quantize(_KWH, ROUND_HALF_EVEN)


def _line(text: str) -> bytes:
    body = text.encode("ascii")
    return body + b" %02X\n" % (sum(body) % 256)


def _fields(line: bytes, sign: bytes, count: int) -> list[str]:
    body, space, check = line.rpartition(b" ")
    if not line.endswith(b"\n") or not space or check != b"%02X\n" % (sum(body) % 256):
        raise NoAnswer(f"{line!r} is cut or bent")
    if not body.startswith(sign) or not body.isascii():
        raise NoAnswer(f"{line!r} is something else")
    fields = body[1:].decode("ascii").split(" ")
    if len(fields) != count:
        raise NoAnswer(f"{line!r} has {len(fields)} fields, not {count}")
    return fields


def _number(text: str) -> int:
    if not text.isdecimal():
        raise NoAnswer(f"{text!r} is no number")
    return int(text)
