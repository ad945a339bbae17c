"""Encoding is decoding the other way round: for every map, and for every bit pattern a field can hold."""

import dataclasses
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.gateway.drivers.modbus.frames import rtu_pdu
from openami.gateway.drivers.modbus.map_files import load_map, shipped_maps
from openami.gateway.drivers.modbus.readings import decode_exchange, readings_of
from openami.gateway.drivers.modbus.register_map import Golden, NumberType, Ratio, RegisterMap
from openami.profile import Obis, shipped_catalogue
from openami.simulator.display import Quantity, quantities
from openami.simulator.encode import CannotShow, by_address, identity_words, words_of
from openami.simulator.lines import map_name
from openami.simulator.plan import PREPAID_MODEL, UJ_PER_KWH, plan_village
from openami.simulator.village import Measured, Village

EVENING = datetime(2026, 6, 22, 13, 30, tzinfo=UTC)
ALL_MAPS = [*shipped_maps(), PREPAID_MODEL]
# As a meter without transformers is configured.
NO_TRANSFORMERS = {Ratio.CT: Decimal(1), Ratio.PT: Decimal(1)}


def the_map(name: str) -> RegisterMap:
    return load_map(map_name(name))


def read_back(register_map: RegisterMap, shown: Mapping[Obis, Quantity]) -> dict[Obis, object]:
    words = words_of(register_map, shown)
    registers = list(register_map.registers.values())
    return {r.obis: r.value for r in readings_of(registers, words, NO_TRANSFORMERS)}


def measured(name: str, seed: int, hours: float) -> Measured:
    """What a meter of this type knows in some village: the feeder's where the type has three phases."""
    plan = plan_village(meters=8, seed=seed, start=EVENING)
    village = Village(plan)
    village.advance(village.now_ms + round(hours * 3_600_000))
    three_phase = Obis.parse("52.7.0") in the_map(name).registers
    prepaid = next(c for c in plan.customers if c.prepaid)
    return village.measured(plan.head_serial if three_phase else prepaid.serial)


def tolerance(register_map: RegisterMap, obis: Obis, shown: Decimal) -> Fraction:
    """Half a unit of what is published, and half a unit of what the field can hold."""
    register = register_map.registers[obis]
    holds = Fraction(register.scale) / 2
    if register.field.type is NumberType.FLOAT32:
        holds = abs(Fraction(shown)) / 2**24
    return holds + Fraction(1, 2 * 10**register.decimals)


@pytest.mark.parametrize("name", ALL_MAPS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), hours=st.floats(0, 5))
def test_the_gateway_reads_what_the_meter_shows(name: str, seed: int, hours: float) -> None:
    register_map = the_map(name)
    shown = quantities(measured(name, seed, hours))
    read = read_back(register_map, shown)
    assert set(read) == set(register_map.registers)
    for obis, value in read.items():
        meant = shown[obis]
        if isinstance(meant, str):
            assert value == meant
        else:
            assert isinstance(value, int | Decimal)
            off = abs(Fraction(value) - Fraction(meant))
            assert off <= tolerance(register_map, obis, meant), (obis, value, meant)


@pytest.mark.parametrize("name", ALL_MAPS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_what_was_read_encodes_to_the_same_reading(name: str, data: st.DataObject) -> None:
    """Any value that can be read at all: encoded and read again it is itself."""
    register_map = the_map(name)
    words = {
        field: data.draw(st.lists(st.integers(0, 0xFFFF), min_size=n, max_size=n))
        for field in register_map.fields
        if (n := field.count)
    }
    registers = list(register_map.registers.values())
    first = {r.obis: r.value for r in readings_of(registers, words, NO_TRANSFORMERS)}
    for register in registers:
        if register.info.obis not in first or register.info.rollover is not None:
            continue
        whole = [r for r in registers if r.field == register.field]
        if any(r.info.obis not in first or r.four_quadrant for r in whole):
            continue
        if register.values and first[register.info.obis] not in register.values.values():
            continue  # the gateway passes an undefined code on; no meter of ours sends one
        one = dataclasses.replace(
            register_map, registers={r.info.obis: r for r in whole}, fields=(register.field,)
        )
        shown = {r.info.obis: _quantity(first[r.info.obis]) for r in whole}
        assert read_back(one, shown) == {r.info.obis: first[r.info.obis] for r in whole}


def _quantity(value: object) -> Quantity:
    return value if isinstance(value, str) else Decimal(value)  # type: ignore[arg-type]  # number


@pytest.mark.parametrize("name", ALL_MAPS)
def test_quantities_are_in_the_list_s_units(name: str) -> None:
    """The village shows kW and kWh; a map that published W would make it a thousand times wrong."""
    for register in the_map(name).registers.values():
        listed = shipped_catalogue().get(register.info.obis)
        assert listed is not None
        assert register.info.unit == listed.unit


def test_a_counter_rolls_over() -> None:
    """Six digits: after 999,999.999 kWh the meter begins again at zero."""
    register_map = the_map(PREPAID_MODEL)
    one = measured(PREPAID_MODEL, 1, 0)
    energy = Obis.parse("1.8.0")
    for counted_wh, shown in (
        (999_999_999, "999999.999"),
        (1_000_000_000, "0.000"),
        (10**9 + 5, "0.005"),
    ):
        at = dataclasses.replace(one, import_uj=counted_wh * UJ_PER_KWH // 1000)
        assert read_back(register_map, quantities(at))[energy] == Decimal(shown)


def test_what_does_not_fit_is_an_error() -> None:
    register_map = the_map(PREPAID_MODEL)
    shown = dict(quantities(measured(PREPAID_MODEL, 1, 0)))
    volts = Obis.parse("32.7.0")
    shown[volts] = Decimal("6553.5")
    assert read_back(register_map, shown)[volts] == Decimal("6553.5")
    shown[volts] = Decimal("6553.6")
    with pytest.raises(CannotShow, match="does not fit"):
        words_of(register_map, shown)


def test_a_register_without_quantity_is_an_error() -> None:
    shown = dict(quantities(measured(PREPAID_MODEL, 1, 0)))
    del shown[Obis.parse("96.8.0")]
    with pytest.raises(CannotShow, match=r"nothing to show for 96\.8\.0"):
        words_of(the_map(PREPAID_MODEL), shown)


def test_gaps_a_reader_may_read_along_are_there_and_others_are_not() -> None:
    register_map = the_map("sdm120")
    words = words_of(register_map, quantities(measured("sdm120", 1, 0)))
    for area, registers in by_address(words, gap=register_map.limits.max_gap).items():
        places = [f for f in register_map.fields if f.area is area]
        for before, after in itertools.pairwise(places):
            between = range(before.end, after.address)
            expected = len(between) <= register_map.limits.max_gap
            assert all((place in registers) is expected for place in between)


def test_a_meter_tells_its_makers_number() -> None:
    identify = the_map(PREPAID_MODEL).identify
    assert identify is not None
    assert list(identity_words(identify, 0x0001_0002)) == [1, 2]


GOLDEN = the_map(PREPAID_MODEL).golden


@pytest.mark.parametrize("golden", GOLDEN, ids=[each.name for each in GOLDEN])
def test_the_simulator_s_own_map_keeps_its_golden_frames(golden: Golden) -> None:
    _, request = rtu_pdu(bytes.fromhex(golden.request))
    _, response = rtu_pdu(bytes.fromhex(golden.response))
    readings = decode_exchange(the_map(PREPAID_MODEL), request, response)
    assert {str(r.obis): str(r.value) for r in readings} == golden.expect
