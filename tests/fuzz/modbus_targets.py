"""Modbus frames off a line: noise, halves, other meters' answers. The first four bytes choose the question."""

from collections.abc import Sequence

from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU
from tests.fuzz.target import Target

from openami.gateway.drivers.modbus.frames import (
    EXCEPTION_BIT,
    WRITE_ONE,
    WRITE_SEVERAL,
    FrameError,
    Question,
    block_of,
    crc16,
    echo_of,
    mbap_answer,
    rtu_answer,
    rtu_pdu,
    words_of,
)
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area

_FUNCTIONS = (3, 4, WRITE_ONE, WRITE_SEVERAL)
_HEAD_BYTES = 4
_REQUEST_BYTES = 8  # of a read: unit, function, address, count, CRC
_CUTS_MAX = 300  # an RTU frame has at most 256 bytes


def _question(head: bytes) -> Question:
    unit, function = head[0], _FUNCTIONS[head[1] % len(_FUNCTIONS)]
    echo = b"" if function < WRITE_ONE else echo_of(function, head[2], head[3])
    return Question(unit, function, 1 + head[2] % 125, transaction=head[3], echo=echo)


def rtu(data: bytes) -> None:
    """Of every beginning of what came: nothing, or one whole frame of it that answers, CRC and all."""
    if len(data) < _HEAD_BYTES:
        return
    question, line = _question(data), data[_HEAD_BYTES:]
    for cut in range(min(len(line), _CUTS_MAX) + 1):
        answer = rtu_answer(line[:cut], question)
        if answer:
            assert answer in line[:cut]
            assert crc16(answer[:-2]) == answer[-2:]
            assert answer[0] == question.unit
            _fits(answer[1:-2], question)
            _pymodbus_reads(FramerRTU(DecodePDU(False)), answer, question, transaction=0)


def mbap(data: bytes) -> None:
    """Of every beginning of what came: nothing, or one whole frame that answers; more bytes never change it."""
    if len(data) < _HEAD_BYTES:
        return
    question, stream = _question(data), data[_HEAD_BYTES:]
    before = b""
    for cut in range(min(len(stream), _CUTS_MAX) + 1):
        answer = mbap_answer(stream[:cut], question)
        assert answer == before or not before
        if answer and not before:
            assert answer in stream[:cut]
            assert int.from_bytes(answer[:2], "big") == question.transaction
            _fits(answer[7:], question)
            _pymodbus_reads(
                FramerSocket(DecodePDU(False)), answer, question, transaction=question.transaction
            )
        before = answer


def _fits(pdu: bytes, question: Question) -> None:
    if pdu[0] & EXCEPTION_BIT:
        assert len(pdu) == 2
    elif question.echo:
        assert pdu == question.echo
    else:
        area = Area.HOLDING if question.function == 3 else Area.INPUT
        assert len(words_of(pdu, Block(area, 0, question.count))) == question.count


def _pymodbus_reads(
    framer: FramerBase, answer: bytes, question: Question, *, transaction: int
) -> None:
    """What the sieve lets through is a whole message to the library behind it."""
    used, message = framer.handleFrame(answer, question.unit, transaction)
    assert used == len(answer)
    assert message is not None
    if not message.isError() and not question.echo:
        assert len(message.registers) == question.count


def golden(data: bytes) -> None:
    """FrameError, or a read request and an answer that fits it: what a register map brings as golden frames."""
    try:
        _, request = rtu_pdu(data[:_REQUEST_BYTES])
        block = block_of(request)
        _, response = rtu_pdu(data[_REQUEST_BYTES:])
        words = words_of(response, block)
    except FrameError:
        return
    assert len(words) == block.count


def sealed_golden(data: bytes) -> None:
    """The same with the CRCs made right, so that what is behind them is reached."""
    at, data = _REQUEST_BYTES - 2, data[:_CUTS_MAX]
    golden(b"".join(part + crc16(part) for part in (data[:at], data[at:])))


def _sealed(text: str) -> bytes:
    frame = bytes.fromhex(text)
    return frame + crc16(frame)


_RTU = (
    bytes([1, 0, 1, 0]) + _sealed("01 03 04 43 67 0e 56"),
    bytes([1, 1, 1, 0]) + b"\0\xff" + _sealed("02 04 02 00 01") + _sealed("01 04 04 43 67 0e 56"),
    bytes([1, 1, 1, 0]) + _sealed("01 84 02"),
    bytes([9, 2, 7, 1]) + _sealed("09 06 00 07 00 01"),
    bytes([9, 3, 7, 1]) + _sealed("09 10 00 07 00 01"),
)
_MBAP = (
    bytes([1, 0, 1, 5]) + bytes.fromhex("0005 0000 0007 01 03 04 4367 0e56"),
    bytes([1, 1, 1, 5])
    + bytes.fromhex("0004 0000 0003 01 84 02")
    + bytes.fromhex("0005 0000 0003 01 84 02"),
    bytes([9, 2, 7, 1]) + bytes.fromhex("0001 0000 0006 09 06 0007 0001"),
)
_GOLDEN = (
    _sealed("01 04 00 00 00 02") + _sealed("01 04 04 43 67"),
    _sealed("01 03 00 00 00 01") + _sealed("01 03 02 00 07"),
)
_BARE: Sequence[bytes] = (
    bytes.fromhex("01 04 00 00 00 02 01 04 04 43 67 0e"),
    bytes.fromhex("01 03 00 00 00 01 01 03 02 00 07"),
)

TARGETS = (
    Target("modbus_rtu", rtu, lambda: _RTU, 150),
    Target("modbus_mbap", mbap, lambda: _MBAP, 150),
    Target("modbus_golden", golden, lambda: _GOLDEN, 100),
    Target("modbus_golden_sealed", sealed_golden, lambda: _BARE, 100),
)
