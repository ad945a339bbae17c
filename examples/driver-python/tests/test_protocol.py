"""Lines of the protocol, without a socket."""

from decimal import Decimal

import pytest
from openami_pulse_counter.protocol import (
    Answer,
    NoAnswer,
    energy_kwh,
    question,
    read_answer,
    read_question,
)

LINE = b"!07 02 SN-4711 184250 19\n"


def test_an_answer_is_read_as_the_manual_spells_it() -> None:
    assert read_answer(LINE) == Answer(7, 2, "SN-4711", 184_250)
    assert Answer(7, 2, "SN-4711", 184_250).encode() == LINE


def test_a_question_is_read_as_it_was_written() -> None:
    assert question(7, 2) == b"?07 02 28\n"
    assert read_question(question(7, 2)) == (7, 2)


@pytest.mark.parametrize("end", range(len(LINE)))
def test_an_answer_cut_at_any_byte_is_none(end: int) -> None:
    with pytest.raises(NoAnswer):
        read_answer(LINE[:end])


@pytest.mark.parametrize("at", range(len(LINE)))
def test_an_answer_with_any_byte_bent_is_none(at: int) -> None:
    with pytest.raises(NoAnswer):
        read_answer(LINE[:at] + bytes((LINE[at] ^ 0x01,)) + LINE[at + 1 :])


def test_energy_is_exact() -> None:
    assert energy_kwh(184_250, 1000) == Decimal("184.2500")
    assert energy_kwh(1, 3000) == Decimal("0.0003")
