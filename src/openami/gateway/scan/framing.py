"""Modbus frames as a scan hears them: whole answers from anybody, and the bytes that are none. Pure.

The driver takes the one answer it waits for and drops the rest; here the rest is what tells.
"""

from dataclasses import dataclass
from typing import Final

from openami.gateway.drivers.modbus.frames import EXCEPTION_BIT, crc16
from openami.gateway.scan.findings import Protocol

FUNCTIONS: Final = (3, 4)
"""All that is ever asked (decision 0060)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One frame that may answer: who says it is its own, and its PDU."""

    unit: int
    pdu: bytes

    @property
    def is_exception(self) -> bool:
        return bool(self.pdu[0] & EXCEPTION_BIT)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a question brought: whole answers, and bytes that are none."""

    answers: tuple[Answer, ...]
    rest: bytes = b""
    echoed: bool = False
    """The question itself came back first: a two-wire adapter that hears itself."""


class RtuFraming:
    """Frames as they stand on a serial line, also where a device server carries them over TCP."""

    protocol: Final = Protocol.MODBUS_RTU

    def question(self, unit: int, pdu: bytes) -> bytes:
        """Return the bytes of a question."""
        body = bytes((unit,)) + pdu
        return body + crc16(body)

    def heard(self, received: bytes, question: bytes) -> Heard:
        """Return what came after a question: its echo, whole answers to a read, and what is left."""
        echoed = received.startswith(question)
        buffer = received[len(question) :] if echoed else received
        answers, rest, at = [], bytearray(), 0
        while at < len(buffer):
            frame = _rtu_frame(buffer, at)
            if frame is None:
                rest.append(buffer[at])
                at += 1
            else:
                answers.append(Answer(frame[0], frame[1:-2]))
                at += len(frame)
        return Heard(tuple(answers), bytes(rest), echoed)


def _rtu_frame(buffer: bytes, at: int) -> bytes | None:
    if len(buffer) < at + 5:
        return None
    function = buffer[at + 1]
    if function & ~EXCEPTION_BIT not in FUNCTIONS:
        return None
    size = 5 if function & EXCEPTION_BIT else buffer[at + 2] + 5
    frame = buffer[at : at + size]
    return frame if len(frame) == size and crc16(frame[:-2]) == frame[-2:] else None


class MbapFraming:
    """Frames of Modbus TCP; each question has its number, and only its own answer is heard, as by the driver."""

    protocol: Final = Protocol.MODBUS_TCP

    def __init__(self) -> None:
        self._transaction = 0

    def question(self, unit: int, pdu: bytes) -> bytes:
        """Return the bytes of a question, under the next number."""
        self._transaction = (self._transaction + 1) & 0xFFFF
        head = self._transaction.to_bytes(2, "big") + bytes(2) + (len(pdu) + 1).to_bytes(2, "big")
        return head + bytes((unit,)) + pdu

    def heard(self, received: bytes, question: bytes) -> Heard:
        """Return the answers under the question's number; older ones are passed over."""
        answers, at = [], 0
        while len(received) >= at + 9 and not any(received[at + 2 : at + 4]):
            end = at + 6 + int.from_bytes(received[at + 4 : at + 6], "big")
            if len(received) < end or end < at + 9:
                break
            answer = Answer(received[at + 6], received[at + 7 : end])
            ours = received[at : at + 2] == question[:2] and answer.unit == question[6]
            if ours and answer.pdu[0] & ~EXCEPTION_BIT == question[7]:
                answers.append(answer)
            at = end
        return Heard(tuple(answers), received[at:])


Framing = RtuFraming | MbapFraming
