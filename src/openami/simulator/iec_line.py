"""A line of meters of IEC 62056-21 mode C as they hear and answer: bytes and the time in, bytes out. Pure.

The two ends of the wire are written by two hands: this one knows parity, check character and messages from the
standard and not from the driver.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Protocol

from openami.simulator.faults import Fault, Readdressed, Silent, Slow

BAUDRATES = (300, 600, 1200, 2400, 4800, 9600, 19200)
REACTION_S = 0.02
"""Between a message and its answer, in meters that write the third letter of their maker small."""
HEARING_S = 1.5
"""So long a meter waits for an acknowledgement, or for the wish to have its data again."""
_BITS_PER_CHARACTER = 10  # 7E1, which is 8N1 with the parity as the eighth bit
_HEARD_BYTES_MAX = 256  # of what is no message yet; the longest has 38
_message = re.compile(
    rb"/\?(?P<address>[^!\r\n]{0,32})!\r\n|\x06(?P<order>[0-9]{3})\r\n|(?P<again>\x15)"
)


class ReadOutSource(Protocol):
    """A meter as a mode C line sees it."""

    @property
    def identification(self) -> str:
        """What it answers to a sign-on, behind the slash: maker, speed, type."""
        ...

    def data_lines(self) -> Sequence[str]:
        """Return the lines of its read-out as it stands now."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a meter says, so long after it was spoken to, and at which speed."""

    octets: bytes
    after_s: float
    baudrate: int


class IecLine:
    """The meters of one line by address, and what is wrong with each."""

    def __init__(
        self,
        meters: Mapping[str, ReadOutSource],
        *,
        baudrate: int = 300,
        reaction_s: float = REACTION_S,
    ) -> None:
        """``baudrate``: at which a dialogue begins; where it ends is in the meters' identification."""
        assert baudrate in BAUDRATES
        self.baudrate = baudrate
        self.reaction_s = reaction_s
        self._meters = {address.lstrip("0"): meter for address, meter in meters.items()}
        self._faults: dict[str, Fault] = {}

    def set_fault(self, address: str, fault: Fault | None) -> None:
        """Let the meter of this (rightful) address fail from now on, or be well again (None)."""
        key = address.lstrip("0")
        assert key in self._meters
        self._faults.pop(key, None)
        if fault is not None:
            self._faults[key] = fault

    def hearing(self, address: str) -> tuple[ReadOutSource, float] | None:
        """Return who answers to this address, and how much later than it should."""
        key = self._rightful(address.lstrip("0"))
        fault = self._faults.get(key)
        if key not in self._meters or isinstance(fault, Silent):
            return None
        return self._meters[key], fault.delay_s if isinstance(fault, Slow) else 0.0

    def _rightful(self, asked: str) -> str:
        if not asked and len(self._meters) == 1:
            return next(iter(self._meters))
        for rightful, fault in self._faults.items():
            if isinstance(fault, Readdressed) and str(fault.unit) == asked:
                return rightful
        return "" if isinstance(self._faults.get(asked), Readdressed) else asked


class Conversation:
    """What is said on one port; bytes and the time in, bytes out."""

    def __init__(self, line: IecLine) -> None:
        self._line = line
        self._inbox = b""
        self._meter: ReadOutSource | None = None
        self._late_s = 0.0
        self._sent: bytes | None = None
        """The block that can be had again."""
        self.baudrate = line.baudrate
        """At which the meter is."""
        self.hears_until_s = 0.0
        """Until when it hears an order, or the wish to have its block again."""

    def heard(self, octets: bytes, baudrate: int, now_s: float) -> Sequence[Said]:
        """Return what is answered to bytes that came at this speed."""
        self._inbox = (self._inbox + octets)[-_HEARD_BYTES_MAX:]
        said = []
        while (found := _message.search(_characters(self._inbox))) is not None:
            self._inbox = self._inbox[found.end() :]
            airtime_s = len(found[0]) * _BITS_PER_CHARACTER / baudrate
            answer = self._answer(found, baudrate, now_s)
            if answer is not None:
                after_s = airtime_s + self._line.reaction_s + self._late_s
                self.hears_until_s = now_s + after_s + HEARING_S
                said.append(Said(answer, after_s, self.baudrate))
        return said

    def _answer(self, message: re.Match[bytes], baudrate: int, now_s: float) -> bytes | None:
        if message["address"] is not None:
            if baudrate != self._line.baudrate:
                return None
            return self._signed_on(message["address"].decode("ascii"))
        if self._meter is None or now_s > self.hears_until_s or baudrate != self.baudrate:
            return None
        if message["order"] is not None:
            return self._ordered(self._meter, message["order"].decode("ascii"))
        return self._sent

    def _signed_on(self, address: str) -> bytes | None:
        self.baudrate, self._meter, self._sent = self._line.baudrate, None, None
        hearing = self._line.hearing(address)
        if hearing is None:
            return None
        self._meter, self._late_s = hearing
        return _octets(f"/{self._meter.identification}\r\n".encode("ascii"))

    def _ordered(self, meter: ReadOutSource, order: str) -> bytes | None:
        if (order[0], order[2]) != ("0", "0") or self._sent is not None:
            return None  # programming and makers' own modes are not simulated
        speed = dict(enumerate(BAUDRATES)).get(int(order[1]))
        if speed is None or (order[1] != meter.identification[3] and speed != self.baudrate):
            return None
        self.baudrate = speed
        self._sent = _block(meter.data_lines())
        return self._sent


def _block(lines: Sequence[str]) -> bytes:
    data = "".join(f"{line}\r\n" for line in [*lines, "!"]).encode("ascii") + b"\x03"
    return _octets(b"\x02" + data + bytes((reduce(xor, data),)))


def _octets(characters: bytes) -> bytes:
    return bytes(code | (code.bit_count() % 2) << 7 for code in characters)


def _characters(octets: bytes) -> bytes:
    """Return the characters; what has a wrong parity is none of any message."""
    return bytes(octet & 0x7F if octet.bit_count() % 2 == 0 else 0 for octet in octets)
