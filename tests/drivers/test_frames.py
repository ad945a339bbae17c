"""Picking one answer out of what a line delivers."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases import in_one_test

from openami.gateway.drivers.modbus.frames import (
    FrameError,
    Question,
    block_of,
    crc16,
    mbap_answer,
    rtu_answer,
    words_of,
)
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area

_ASKED = Question(unit=3, function=4, count=2, transaction=7)


def _rtu(unit: int, pdu: bytes) -> bytes:
    body = bytes([unit]) + pdu
    return body + crc16(body)


def _mbap(transaction: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


_PDU = bytes([4, 4, 0x43, 0x66, 0x80, 0])
_ANSWER = _rtu(3, _PDU)


def test_the_crc_is_the_one_of_the_manuals() -> None:
    # Eastron's example: read two input registers of unit 1.
    assert crc16(bytes.fromhex("010400000002")) == bytes.fromhex("71CB")
    assert crc16(bytes.fromhex("01040443663334")) == bytes.fromhex("1B38")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_noise_around_an_answer_costs_nothing_unless_it_looks_like_a_frame(
    before: bytes, after: bytes
) -> None:
    assert rtu_answer(before + _ANSWER + after, _ASKED) == _ANSWER


@pytest.mark.parametrize("size", range(len(_ANSWER)))
def test_a_truncated_answer_is_none(size: int) -> None:
    assert rtu_answer(_ANSWER[:size], _ASKED) == b""
    whole = _mbap(7, 3, _PDU)
    assert mbap_answer(whole[: size + len(whole) - len(_ANSWER)], _ASKED) == b""


@in_one_test(range(8 * len(_ANSWER)))
def test_an_answer_with_one_wrong_bit_is_none(at: int) -> None:
    frame = bytearray(_ANSWER)
    frame[at // 8] ^= 1 << at % 8
    assert rtu_answer(bytes(frame), _ASKED) == b""


@pytest.mark.parametrize(
    "other",
    [
        _rtu(2, _PDU),
        _rtu(3, bytes([3, 4, 0, 0, 0, 0])),
        _rtu(3, bytes([4, 2, 0, 0])),
        _rtu(3, bytes([4, 6, 0, 0, 0, 0, 0, 0])),
        _rtu(3, bytes([0x83, 2])),
        _rtu(3, bytes([4, 0, 0, 0, 2])),  # our own question, heard back
    ],
    ids=["unit", "function", "shorter", "longer", "exception of another function", "echo"],
)
def test_the_answer_to_another_question_is_stepped_over(other: bytes) -> None:
    assert rtu_answer(other, _ASKED) == b""
    assert rtu_answer(other + _ANSWER, _ASKED) == _ANSWER


def test_an_exception_answers_too() -> None:
    exception = _rtu(3, bytes([0x84, 2]))
    assert rtu_answer(exception, _ASKED) == exception


def test_an_answer_inside_another_ones_data_is_not_taken() -> None:
    hidden = _rtu(9, bytes([4, 10]) + _ANSWER + b"\0")
    assert rtu_answer(hidden, _ASKED) == b""


@pytest.mark.parametrize(
    "other",
    [_mbap(6, 3, _PDU), _mbap(7, 2, _PDU), _mbap(7, 3, _PDU[:-2]), _mbap(7, 3, bytes([0x83, 2]))],
    ids=["transaction", "unit", "byte count", "function"],
)
def test_on_tcp_the_transaction_counts_as_well(other: bytes) -> None:
    answer = _mbap(7, 3, _PDU)
    assert mbap_answer(answer, _ASKED) == answer
    assert mbap_answer(other, _ASKED) == b""
    assert mbap_answer(other + answer, _ASKED) == answer


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert len(rtu_answer(data, _ASKED)) in (0, 5, 9)
    assert len(mbap_answer(data, _ASKED)) in (0, 9, 13)


def test_words_come_out_of_an_answer_that_fits() -> None:
    block = Block(Area.INPUT, 0, 2)
    assert words_of(_PDU, block) == (0x4366, 0x8000)
    with pytest.raises(FrameError, match="does not answer"):
        words_of(_PDU, Block(Area.INPUT, 0, 1))
    with pytest.raises(FrameError, match="does not answer"):
        words_of(bytes([0x84, 2]), block)
    with pytest.raises(FrameError, match="not a read"):
        block_of(bytes([6, 0, 0, 0, 1]))
