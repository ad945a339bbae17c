"""Chains to register maps, and the registers to exact values."""

import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.drivers.sunspec_bench import BASE, meter_203, meter_213

from openami.gateway.driver import PollGroup
from openami.gateway.drivers.modbus.plan import plan
from openami.gateway.drivers.modbus.readings import readings_of
from openami.gateway.drivers.modbus.sunspec.chain import Chain, ChainError, Link
from openami.gateway.drivers.modbus.sunspec.layout import Discovery, layout
from openami.gateway.drivers.modbus.sunspec.models import METERS, shipped_model
from openami.profile import Obis

_METER_AT = 40_070
_COMMON = Link(1, 40_002, 66)


def chain(*links: Link) -> Chain:
    return Chain(BASE, (_COMMON, *links), "Maker", "Model", "SN-1")


def values(
    words: Sequence[int], discovery: Discovery | None = None
) -> Mapping[str, int | Decimal | str | bool]:
    """What a meter with this one meter model tells."""
    found = layout(chain(Link(words[0], _METER_AT, words[1])), discovery or Discovery())
    bank = dict(enumerate(words, start=_METER_AT))
    fields = {
        register.field: [bank[at] for at in range(register.field.address, register.field.end)]
        for register in found.registers.values()
    }
    readings = readings_of(list(found.registers.values()), fields, {})
    return {str(reading.obis): reading.value for reading in readings}


def test_an_integer_meter_is_read_with_its_scale_factors() -> None:
    """Watts to kilowatts, watt-hours to kilowatt-hours, percent to 1, digits as the meter has them."""
    told = values(
        meter_203(
            {
                3: 4130,
                6: -3,
                8: 2305,
                9: 2310,
                10: 2298,
                15: -1,
                16: 4998,
                17: -2,
                18: -951,
                19: 500,
                22: 0,
                28: 120,
                32: 1,
                33: -910,
                37: -1,
                38: 0,
                39: 7,
                46: 0x001C,
                47: 0x1D44,
                54: 0,
                106: 0b100,
            }
        )
    )
    assert {code: str(value) for code, value in told.items()} == {
        "31.7.0": "4.130",
        "32.7.0": "230.5",
        "52.7.0": "231.0",
        "72.7.0": "229.8",
        "14.7.0": "49.98",
        "1.7.0": "0.000",
        "2.7.0": "0.951",
        "16.7.0": "-0.951",
        "21.7.0": "0.500",
        "3.7.0": "1.20",
        "4.7.0": "0.00",
        "13.7.0": "-0.910",
        "1.8.0": "1842.500",
        "2.8.0": "0.007",
        "96.5.0": "4",
    }


def test_a_float_meter_is_read() -> None:
    told = values(meter_213({4: 4.13, 12: 230.5, 26: 49.98, 28: -951.0, 52: 0.91, 68: 1_842_500.0}))
    assert {code: str(value) for code, value in told.items()} == {
        "31.7.0": "4.130",
        "32.7.0": "230.50",
        "14.7.0": "49.980",
        "1.7.0": "0.0000",
        "2.7.0": "0.9510",
        "16.7.0": "-0.9510",
        "13.7.0": "0.9100",
        "1.8.0": "1842.500",
        "96.5.0": "0",
    }


def test_what_is_not_implemented_has_no_value() -> None:
    assert values(meter_203({105: 0xFFFF, 106: 0xFFFF})) == {}
    assert values(meter_203({105: 0x8000})) == {}
    assert values(meter_213({})) == {"96.5.0": 0}
    # An accumulator of 0 and one that is not there look the same.
    assert "2.8.0" not in values(meter_203({38: 0, 39: 0, 54: 0, 46: 0, 47: 1}))
    infinite = values(meter_213({28: float("inf"), 4: float("-inf"), 68: float("nan")}))
    assert infinite == {"96.5.0": 0}


@pytest.mark.parametrize("factor", [11, -11, 100, 0x7FFF, 0x8000, 0x8001])
def test_a_scale_factor_beyond_ten_gives_no_value(factor: int) -> None:
    assert "32.7.0" not in values(meter_203({8: 2305, 15: factor}))


@given(st.integers(-0x7FFF, 0x7FFF).filter(bool), st.integers(-10, 10), st.integers(1, 0xFFFFFFFF))
def test_values_are_exact_at_every_scale_factor(power: int, factor: int, energy: int) -> None:
    told = values(
        meter_203({18: power, 22: factor, 46: energy >> 16, 47: energy & 0xFFFF, 54: factor})
    )
    scale = Fraction(10) ** factor / 1000
    for code, expected in (("16.7.0", power * scale), ("1.8.0", energy * scale)):
        value = told[code]
        assert isinstance(value, int | Decimal)
        assert Fraction(value) == expected
    assert isinstance(told["1.8.0"], int) == (factor >= 3)


@given(st.binary(min_size=4, max_size=4))
def test_any_bits_of_a_float_are_a_value_or_none(bits: bytes) -> None:
    number = struct.unpack(">f", bits)[0]
    words = list(meter_213({}))
    words[26:28] = struct.unpack(">2H", bits)
    told = values(words)
    if number - number == 0:
        value = told["14.7.0"]
        assert isinstance(value, Decimal)
        assert abs(Fraction(value) - Fraction(number)) <= Fraction(1, 2000)
    else:
        assert "14.7.0" not in told


def test_where_export_is_positive_both_directions_turn() -> None:
    words = meter_203({18: 951, 19: 500, 22: 0, 28: -120, 32: 0, 46: 0, 47: 5, 54: 0})
    told = values(words, Discovery(export_is_positive=True))
    assert str(told["1.7.0"]) == "0.000"
    assert str(told["2.7.0"]) == "0.951"
    assert str(told["21.7.0"]) == "-0.500"
    assert str(told["3.7.0"]) == "0.120"
    assert str(told["1.8.0"]) == "0.005"


@pytest.mark.parametrize("number", METERS)
def test_a_model_of_any_length_is_read_no_further_than_it_goes(number: int) -> None:
    everything = {info.obis for info in Discovery(model=number).registers}
    before: set[Obis] = set()
    for length in [*range(5, 131), 1000]:
        found = layout(chain(Link(number, _METER_AT, length)), Discovery())
        assert max(field.end for field in found.fields) <= _METER_AT + 2 + length
        assert min(field.address for field in found.fields) == _METER_AT
        assert before <= set(found.registers)
        before = set(found.registers)
        assert (before == everything) == (length >= shipped_model(number).length)


def test_a_model_too_short_for_any_value_is_refused() -> None:
    with pytest.raises(ChainError, match="model 203 has 4 registers, too few for any value"):
        layout(chain(Link(203, _METER_AT, 4)), Discovery())


@pytest.mark.parametrize("number", METERS)
def test_each_group_is_read_in_two_blocks_at_most(number: int) -> None:
    found = layout(chain(Link(number, _METER_AT, shipped_model(number).length)), Discovery())
    for group in PollGroup:
        fields = {r.field for r in found.registers.values() if r.info.group is group}
        blocks = plan(
            frozenset(fields | set(found.witnesses)), known=found.fields, limits=found.limits
        )
        assert blocks is not None
        assert len(blocks) <= 2
        for register in found.registers.values():
            if register.field in fields:
                assert any(block.covers(register.field) for block in blocks)


def test_the_first_meter_model_is_read_or_the_one_that_is_asked_for() -> None:
    both = chain(Link(103, 40_070, 50), Link(213, 40_122, 124), Link(203, 40_248, 105))
    assert layout(both, Discovery()).model == "Model (SunSpec 213)"
    (header,) = layout(both, Discovery(model=203)).witnesses
    assert header.address == 40_248
    with pytest.raises(ChainError, match="models 1, 103, 213, 203, and none is 201"):
        layout(both, Discovery(model=201))
    with pytest.raises(ChainError, match="models 1, 103, and none is a meter's"):
        layout(chain(Link(103, 40_070, 50)), Discovery())
