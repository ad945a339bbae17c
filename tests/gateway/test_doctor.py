"""The doctor: bytes in every type and order, and what a line's behaviour means."""

import struct
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.drivers.line_double import crc
from tests.gateway.scan_line import (
    OPTICAL,
    GoldenBank,
    OpticalMeter,
    RtuMeter,
    Said,
    SoftwarePort,
    on_virtual_time,
)

from openami.gateway.doctor.examining import QUESTIONS, examine
from openami.gateway.doctor.spellings import Expected, Order, plausible, spellings
from openami.gateway.doctor.symptoms import Examination, Sign, Symptom, symptoms
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area
from openami.gateway.scan.findings import PortSetting
from openami.gateway.scan.framing import RtuFraming

VOLTAGE = Expected("32.7.0", "V", Fraction(80), Fraction(300))

# --- spellings -----------------------------------------------------------------------------------


def _as_sent(octets: bytes, order: Order) -> bytes:
    """Spell a value given highest byte first as a meter of this order sends it."""
    letters = {2: "AB", 4: "ABCD", 8: "ABCDEFGH"}[len(octets)]
    sent = {
        Order.ABCD: letters,
        Order.CDAB: "".join(letters[at : at + 2] for at in range(len(letters) - 2, -1, -2)),
        Order.BADC: "".join(letters[at : at + 2][::-1] for at in range(0, len(letters), 2)),
        Order.DCBA: letters[::-1],
    }[order]
    return bytes(octets[letters.index(letter)] for letter in sent)


@given(st.sampled_from(list(Order)), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_found_in_the_order_it_was_sent_in(order: Order, value: float) -> None:
    raw = _as_sent(struct.pack(">f", value), order)
    (found,) = [s for s in spellings(raw) if (s.type, s.order) == ("float32", order)]
    assert found.number == Fraction(value)


@given(st.sampled_from(list(Order)), st.integers(-(2**63), 2**63 - 1))
def test_a_signed_number_of_four_registers_is_found_in_the_order_it_was_sent_in(
    order: Order, value: int
) -> None:
    raw = _as_sent(struct.pack(">q", value), order)
    (found,) = [s for s in spellings(raw) if (s.type, s.order) == ("i64", order)]
    assert found.number == value


def test_every_type_stands_beside_every_order() -> None:
    assert [(s.type, s.order) for s in spellings(b"\x01\x02")] == [
        ("u16", "ABCD"),
        ("i16", "ABCD"),
        ("u16", "BADC"),
        ("i16", "BADC"),
    ]
    assert len(spellings(bytes(4))) == 3 * 4
    assert len(spellings(bytes(8))) == 3 * 4


@pytest.mark.parametrize("order", list(Order))
def test_a_voltage_in_any_order_is_the_plausible_one(order: Order) -> None:
    raw = _as_sent(struct.pack(">f", 230.5), order)
    best = plausible(spellings(raw), VOLTAGE)[0]
    assert (best.spelling.type, best.spelling.order, best.value) == (
        "float32",
        order,
        Fraction("230.5"),
    )
    assert best.reason == "230.5 V is within 80 to 300 of 32.7.0"


def test_a_scale_is_found_by_the_range() -> None:
    best = plausible(spellings(b"\x09\x00"), VOLTAGE)[0]
    assert (best.spelling.type, best.scale, best.value) == (
        "u16",
        Decimal("0.1"),
        Fraction(2304, 10),
    )


def test_what_the_display_shows_finds_word_order_and_scale_of_a_counter() -> None:
    shown = Expected("1.8.0", "kWh", shown=Fraction("1842.5"))
    (best,) = plausible(spellings(bytes.fromhex("cf ba 00 02")), shown)
    assert (best.spelling.type, best.spelling.order, best.scale) == ("u32", "CDAB", Decimal("0.01"))


def test_a_scale_of_the_map_is_the_only_one_tried() -> None:
    tenth = Expected("32.7.0", "V", Fraction(80), Fraction(300), scales=(Decimal("0.01"),))
    assert plausible(spellings(b"\x09\x00"), tenth) == ()


def test_zero_is_plausible_in_no_order() -> None:
    assert plausible(spellings(bytes(4)), Expected("1.7.0", "kW", Fraction(-9), Fraction(9))) == ()


# --- symptoms ------------------------------------------------------------------------------------

BLOCK = Block(Area.HOLDING, 0x000C, 1)


class Faulty(RtuMeter):
    """A meter whose answers are changed by a function of the question's number."""

    def changed(self, number: int, answer: bytes) -> bytes:
        return answer

    def hear(self, octets: bytes, setting: PortSetting) -> Iterable[Said]:
        for delay_s, told in super().hear(octets, setting):
            yield delay_s, self.changed(len(self.asked), told)


class Bent(Faulty):
    def changed(self, number: int, answer: bytes) -> bytes:
        return answer[:-1] + bytes((answer[-1] ^ 0x55,))


class Cut(Faulty):
    def changed(self, number: int, answer: bytes) -> bytes:
        return answer[:4]


class Babbling(Faulty):
    def changed(self, number: int, answer: bytes) -> bytes:
        return b"\x80\xf8\x00\xff\x00\xf8"


class SevenBits(Faulty):
    def changed(self, number: int, answer: bytes) -> bytes:
        return bytes(o | (o.bit_count() & 1) << 7 for o in b"/HXE5HXE110\r\n")


class AtTimes(Faulty):
    def changed(self, number: int, answer: bytes) -> bytes:
        return answer if number % 2 else b""


class Stranger(Faulty):
    def changed(self, number: int, answer: bytes) -> bytes:
        body = b"\x09" + answer[1:-2]
        return body + crc(body)


def examined(port: SoftwarePort, block: Block = BLOCK) -> tuple[Symptom, ...]:
    examination: Examination = on_virtual_time(
        examine(port, RtuFraming(), 1, block, setting=PortSetting(9600))
    )
    assert len(examination.exchanges) == QUESTIONS
    return symptoms(examination)


def signs(*meters: RtuMeter | OpticalMeter, block: Block = BLOCK, echo: bool = False) -> set[Sign]:
    return {one.sign for one in examined(SoftwarePort(*meters, echo=echo), block)}


def dds238() -> GoldenBank:
    return GoldenBank("dds238")


def test_a_healthy_line_shows_good_answers_and_nothing_else() -> None:
    (good,) = examined(SoftwarePort(RtuMeter(1, dds238())))
    assert good.sign is Sign.GOOD
    assert good.evidence.startswith("5 of 5")


@pytest.mark.parametrize(
    ("meter", "sign"),
    [
        (Bent(1, dds238()), Sign.BENT),
        (Cut(1, dds238()), Sign.CUT),
        (Babbling(1, dds238()), Sign.STRANGE),
        (SevenBits(1, dds238()), Sign.SEVEN_BITS),
        (RtuMeter(2, dds238()), Sign.SILENCE),
    ],
)
def test_a_sick_line_shows_its_sign_and_no_other(meter: RtuMeter, sign: Sign) -> None:
    found = examined(SoftwarePort(meter))
    assert [one.sign for one in found] == [sign]
    assert all(one.look_at for one in found)


def test_a_meter_that_answers_at_times_is_told_from_a_dead_one() -> None:
    silence, good = examined(SoftwarePort(AtTimes(1, dds238())))
    assert (silence.sign, good.sign) == (Sign.SILENCE, Sign.GOOD)
    assert "loose wire" in silence.look_at


def test_an_exception_names_its_code_and_what_it_means() -> None:
    (exception,) = examined(SoftwarePort(RtuMeter(1, dds238())), Block(Area.HOLDING, 0x4000, 2))
    assert exception.sign is Sign.EXCEPTION
    assert "code 2" in exception.evidence
    assert "take 1 off" in exception.look_at


def test_an_echo_alone_and_an_echo_before_the_answer_are_told_apart() -> None:
    alone = examined(SoftwarePort(echo=True))
    assert {one.sign for one in alone} == {Sign.ECHO}
    assert "the meter is silent" in alone[0].look_at
    assert signs(RtuMeter(1, dds238()), echo=True) == {Sign.ECHO, Sign.GOOD}


def test_two_meters_at_the_address_are_two_answers() -> None:
    pair = (RtuMeter(1, dds238()), RtuMeter(1, dds238(), thinks_s=0.08))
    assert Sign.TWICE in signs(*pair)


def test_an_answer_of_another_unit_is_a_second_master_or_a_slow_meter() -> None:
    assert Sign.ANOTHER_UNIT in signs(Stranger(1, dds238()))


def test_a_late_meter_is_told_from_a_dead_one_and_gets_a_timeout() -> None:
    late = examined(SoftwarePort(RtuMeter(1, dds238(), thinks_s=1.6)))
    (one,) = [symptom for symptom in late if symptom.sign is Sign.LATE]
    assert "timeout_s" in one.look_at


@pytest.mark.parametrize(
    "setting", [PortSetting(9600, "E"), PortSetting(2400), PortSetting(19200, "E")]
)
def test_a_meter_with_another_speed_or_parity_is_found_there(setting: PortSetting) -> None:
    (elsewhere,) = examined(SoftwarePort(RtuMeter(1, dds238(), setting)))
    assert elsewhere.sign is Sign.OTHER_SETTING
    assert str(setting) in elsewhere.evidence


def test_who_talks_unasked_is_heard_before_anything_is_asked() -> None:
    port = SoftwarePort(OpticalMeter(b"/HXE5HXE110\r\n", b"", OPTICAL))

    async def talked_over() -> Examination:
        await port.prepare(OPTICAL)
        await port.send(bytes(o | (o.bit_count() & 1) << 7 for o in b"/?!\r\n"))
        return await examine(port, RtuFraming(), 1, BLOCK, setting=PortSetting(9600), others=())

    assert Sign.TALK in {one.sign for one in symptoms(on_virtual_time(talked_over()))}
