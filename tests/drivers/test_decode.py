"""Registers to exact values: properties and edges."""

import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openami.gateway.driver import RegisterInfo
from openami.gateway.drivers.modbus.decode import bits_of, number_of, text_of, value_of
from openami.gateway.drivers.modbus.register_map import (
    Area,
    Certainty,
    Field,
    NumberType,
    Part,
    Ratio,
    Register,
    WordOrder,
)
from openami.profile import Obis

_INTEGERS = [kind for kind in NumberType if kind not in (NumberType.FLOAT32, NumberType.ASCII)]


def _register(
    kind: NumberType,
    *,
    scale: str = "1",
    decimals: int = 0,
    part: Part = Part.WHOLE,
    order: WordOrder = WordOrder.BIG,
    multiply: tuple[Ratio, ...] = (),
    sentinels: frozenset[int] = frozenset(),
    four_quadrant: bool = False,
    words: int = 0,
) -> Register:
    return Register(
        info=RegisterInfo(Obis.parse("1.7.0"), "kW", group="fast"),  # type: ignore[arg-type]
        field=Field(Area.HOLDING, 0, words or kind.words, kind, order),
        scale=Decimal(scale),
        decimals=decimals,
        part=part,
        four_quadrant=four_quadrant,
        multiply=multiply,
        sentinels=sentinels,
        certainty=Certainty.MANUAL,
    )


def _words(raw: bytes, order: WordOrder = WordOrder.BIG) -> tuple[int, ...]:
    words = struct.unpack(f">{len(raw) // 2}H", raw)
    return words if order is WordOrder.BIG else words[::-1]


def _range(kind: NumberType) -> tuple[int, int]:
    bits = 16 * kind.words
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.signed else (0, (1 << bits) - 1)


@given(st.data(), st.sampled_from(_INTEGERS), st.sampled_from(WordOrder))
def test_an_integer_comes_back_in_either_word_order(
    data: st.DataObject, kind: NumberType, order: WordOrder
) -> None:
    low, high = _range(kind)
    value = data.draw(st.integers(low, high) | st.sampled_from([low, high, low + 1, high - 1, 0]))
    words = _words(value.to_bytes(2 * kind.words, "big", signed=kind.signed), order)
    assert value_of(_register(kind, order=order), words, {}) == value


@given(st.data(), st.sampled_from(_INTEGERS), st.integers(0, 6))
def test_a_scaled_integer_is_exact(data: st.DataObject, kind: NumberType, places: int) -> None:
    value = data.draw(st.integers(*_range(kind)))
    register = _register(kind, scale=f"1E-{places}", decimals=places)
    got = value_of(register, _words(value.to_bytes(2 * kind.words, "big", signed=kind.signed)), {})
    assert isinstance(got, int | Decimal)
    assert Fraction(got) == Fraction(value, 10**places)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(WordOrder))
@example(49.97999954223633, WordOrder.BIG)
@example(-0.0, WordOrder.LITTLE)
@example(3.4028234663852886e38, WordOrder.BIG)
@example(1.401298464324817e-45, WordOrder.BIG)
def test_a_float_is_rounded_once_and_stays_within_half_a_step(
    value: float, order: WordOrder
) -> None:
    register = _register(NumberType.FLOAT32, decimals=3, order=order)
    got = value_of(register, _words(struct.pack(">f", value), order), {})
    assert isinstance(got, Decimal)
    assert abs(Fraction(got) - Fraction(value)) <= Fraction(1, 2000)
    assert got.as_tuple().exponent == -3


@given(st.decimals(min_value=0, max_value=9999, places=2))
def test_a_value_a_float32_cannot_hold_comes_back_as_it_was_meant(value: Decimal) -> None:
    words = _words(struct.pack(">f", float(value)))
    assert value_of(_register(NumberType.FLOAT32, decimals=2), words, {}) == value


@pytest.mark.parametrize("raw", ["7FC00000", "FFC00001", "7F800000", "FF800000", "7FFFFFFF"])
def test_a_float_that_is_no_number_is_no_value(raw: str) -> None:
    words = _words(bytes.fromhex(raw))
    assert value_of(_register(NumberType.FLOAT32, decimals=1), words, {}) is None


def test_the_largest_float_is_a_value() -> None:
    words = _words(bytes.fromhex("7F7FFFFF"))
    assert value_of(_register(NumberType.FLOAT32, decimals=1), words, {}) is not None


@given(st.integers(-(2**31), 2**31 - 1))
def test_a_split_sign_loses_nothing(value: int) -> None:
    words = _words(struct.pack(">i", value))
    up = value_of(_register(NumberType.I32, part=Part.POSITIVE), words, {})
    down = value_of(_register(NumberType.I32, part=Part.NEGATIVE), words, {})
    assert isinstance(up, int)
    assert isinstance(down, int)
    assert up >= 0
    assert down >= 0
    assert up == 0 or down == 0
    assert up - down == value


def test_a_sentinel_is_no_value_and_its_neighbours_are() -> None:
    register = _register(NumberType.I16, sentinels=frozenset({0x8000}))
    assert value_of(register, (0x8000,), {}) is None
    assert value_of(register, (0x8001,), {}) == -32767
    assert value_of(register, (0x7FFF,), {}) == 32767


def test_a_sentinel_is_compared_before_the_words_are_scaled_or_cut() -> None:
    register = _register(
        NumberType.I32,
        scale="0.1",
        decimals=1,
        order=WordOrder.LITTLE,
        part=Part.NEGATIVE,
        sentinels=frozenset({0x7FFFFFFF}),
    )
    assert value_of(register, (0xFFFF, 0x7FFF), {}) is None
    assert value_of(register, (0x7FFF, 0xFFFF), {}) == Decimal("3276.9")


def test_ratios_multiply_exactly() -> None:
    register = _register(NumberType.U32, scale="0.01", decimals=2, multiply=(Ratio.CT, Ratio.PT))
    ratios = {Ratio.CT: Decimal("26.6667"), Ratio.PT: Decimal(100)}
    assert value_of(register, (0, 333), ratios) == Decimal("8880.01")


@pytest.mark.parametrize(
    ("told", "meant"),
    [(0.95, "0.95"), (1.05, "0.95"), (-1.05, "-0.95"), (1.0, "1.00"), (-0.3, "-0.30")],
)
def test_a_four_quadrant_power_factor_is_folded(told: float, meant: str) -> None:
    register = _register(NumberType.FLOAT32, decimals=2, four_quadrant=True)
    assert str(value_of(register, _words(struct.pack(">f", told)), {})) == meant


@pytest.mark.parametrize(
    ("units", "rounded"), [(5, "0.00"), (15, "0.02"), (25, "0.02"), (26, "0.03")]
)
def test_halves_are_rounded_to_even(units: int, rounded: str) -> None:
    register = _register(NumberType.U16, scale="0.001", decimals=2)
    assert str(value_of(register, (units,), {})) == rounded


def test_a_serial_number_is_text_without_padding() -> None:
    assert text_of((0x4B53, 0x3132, 0x3300, 0x2020)) == "KS123"


def test_the_type_decides_about_the_sign() -> None:
    bits = bits_of((0xFC49,), WordOrder.BIG)
    assert number_of(bits, NumberType.I16) == -951
    assert number_of(bits, NumberType.U16) == 64585
