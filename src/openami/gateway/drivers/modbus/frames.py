"""Frames: picking the one answer we wait for out of whatever a line delivers. Pure.

RTU answers carry no number that ties them to a question. What can be checked is unit, function, byte
count and CRC; a frame that fails any of them is stepped over as a whole, so that an answer is never
found inside another one. Noise before an answer costs nothing. TCP adds the transaction number.
"""

from dataclasses import dataclass
from typing import Final

from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area

WRITE_ONE: Final = 6
WRITE_SEVERAL: Final = 16
EXCEPTION_BIT: Final = 0x80
_RTU_BYTES_MIN = 5  # unit, function, code, CRC: an exception
_RTU_BYTES_BESIDE_DATA = 5  # unit, function, byte count, CRC
_RTU_BYTES_OF_ECHO = 8  # unit, function, address, value or count, CRC
_MBAP_BYTES = 7  # transaction, protocol, length, unit: Modbus on TCP/IP, 3.1.3
_MBAP_LENGTH_MIN, _MBAP_LENGTH_MAX = 3, 254


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
    return byte


# A line that babbles has a CRC computed for each of its bytes; by table that takes an eighth of the time.
_CRC_OF_BYTE: Final = tuple(map(_crc_of_byte, range(256)))


class FrameError(ValueError):
    """Bytes that are not the frame they should be; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, as far as its answer can be told by it."""

    unit: int
    function: int
    count: int
    transaction: int = 0
    echo: bytes = b""
    """Of a write: the one PDU that confirms it."""


def crc16(data: bytes) -> bytes:
    """Return the CRC of a Modbus RTU frame as it stands on the line, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_OF_BYTE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def rtu_answer(buffer: bytes, question: Question) -> bytes:
    """Return the first whole frame in the buffer that can answer the question, or nothing."""
    at = 0
    while at + _RTU_BYTES_MIN <= len(buffer):
        size = _rtu_size(buffer, at)
        frame = buffer[at : at + size]
        if size == 0 or len(frame) < size or crc16(frame[:-2]) != frame[-2:]:
            at += 1
        elif frame[0] == question.unit and _answers(frame[1:-2], question):
            return frame
        else:
            at += size
    return b""


def _rtu_size(buffer: bytes, at: int) -> int:
    function = buffer[at + 1]
    if function & EXCEPTION_BIT:
        return _RTU_BYTES_MIN
    if function in (WRITE_ONE, WRITE_SEVERAL):
        return _RTU_BYTES_OF_ECHO
    return buffer[at + 2] + _RTU_BYTES_BESIDE_DATA if function in (3, 4) else 0


def mbap_answer(buffer: bytes, question: Question) -> bytes:
    """Return the frame in the buffer that answers the question, or nothing; for Modbus TCP."""
    at = 0
    while at + _MBAP_BYTES < len(buffer):
        length = int.from_bytes(buffer[at + 4 : at + 6], "big")
        if not _MBAP_LENGTH_MIN <= length <= _MBAP_LENGTH_MAX or any(buffer[at + 2 : at + 4]):
            return b""  # not Modbus, or out of step: nothing behind it can be trusted
        frame = buffer[at : at + _MBAP_BYTES - 1 + length]
        if len(frame) < _MBAP_BYTES - 1 + length:
            return b""
        if (
            int.from_bytes(frame[:2], "big") == question.transaction
            and frame[6] == question.unit
            and _answers(frame[_MBAP_BYTES:], question)
        ):
            return frame
        at += len(frame)
    return b""


def echo_of(function: int, address: int, word: int) -> bytes:
    """Return the PDU that confirms the write of one register (application protocol 6.6 and 6.12)."""
    told = word if function == WRITE_ONE else 1
    return bytes([function]) + address.to_bytes(2, "big") + told.to_bytes(2, "big")


def _answers(pdu: bytes, question: Question) -> bool:
    if pdu[0] == question.function | EXCEPTION_BIT:
        return len(pdu) == 2
    if question.echo:
        return pdu == question.echo
    return (
        len(pdu) == 2 + 2 * question.count
        and pdu[0] == question.function
        and pdu[1] == 2 * question.count
    )


# --- for golden frames ---------------------------------------------------------------------------


def rtu_pdu(frame: bytes) -> tuple[int, bytes]:
    """Return unit and PDU of one whole RTU frame. Raises FrameError."""
    if len(frame) < 4 or crc16(frame[:-2]) != frame[-2:]:
        raise FrameError(f"{frame.hex(' ')}: the CRC is {crc16(frame[:-2]).hex(' ')}")
    return frame[0], frame[1:-2]


def block_of(request: bytes) -> Block:
    """Return the block a read request's PDU asks for. Raises FrameError."""
    areas = {area.function: area for area in Area}
    if len(request) != 5 or request[0] not in areas:
        raise FrameError(f"{request.hex(' ')} is not a read of registers")
    return Block(
        areas[request[0]],
        int.from_bytes(request[1:3], "big"),
        int.from_bytes(request[3:5], "big"),
    )


def words_of(response: bytes, block: Block) -> tuple[int, ...]:
    """Return the registers an answer's PDU holds. Raises FrameError if it does not fit the block."""
    question = Question(0, block.area.function, block.count)
    if not _answers(response, question) or response[0] & EXCEPTION_BIT:
        raise FrameError(f"{response.hex(' ')} does not answer a read of {block.count} registers")
    data = response[2:]
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
