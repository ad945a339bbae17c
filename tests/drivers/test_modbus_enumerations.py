"""A register map may say what the codes of an enumeration mean: a relay's position, a tariff."""

from decimal import Decimal

import pytest

from openami.gateway.drivers.modbus.decode import value_of
from openami.gateway.drivers.modbus.register_map import RegisterMap, read_map
from openami.gateway.map_files import MapError
from openami.profile import Obis

RELAY = Obis.parse("96.11.1")


def a_map(lines: str) -> RegisterMap:
    return read_map(f"""
id = "relay"
vendor = "Nobody"
model = "Relay"
source = ["this test"]
certainty = "manual"
[[golden]]
name = "closed"
request = "01 03 00 09 00 01 54 08"
response = "01 03 02 00 01 79 84"
expect = {{ "96.11.1" = "connected" }}
[[register]]
obis = "96.11.1"
address = 9
unit = "enum"
{lines}
""")


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        (0, "disconnected"),
        (1, "connected"),
        pytest.param(2, "2", id="a code the map does not know"),
    ],
)
def test_a_code_is_read_as_what_it_means(word: int, meaning: str) -> None:
    registers = a_map('type = "u16"\nvalues = { 0 = "disconnected", 1 = "connected" }').registers
    assert value_of(registers[RELAY], [word], {}) == meaning
    assert registers[RELAY].info.decimals is None


def test_a_sentinel_goes_before_a_meaning() -> None:
    registers = a_map('type = "u16"\nsentinels = [1]\nvalues = { 1 = "connected" }').registers
    assert value_of(registers[RELAY], [1], {}) is None


def test_long_codes_have_a_word_order() -> None:
    registers = a_map('type = "u32"\nword_order = "little"\nvalues = { 65536 = "on" }').registers
    assert value_of(registers[RELAY], [0, 1], {}) == "on"


def test_without_meanings_it_is_a_number() -> None:
    registers = a_map('type = "u16"').registers
    assert value_of(registers[RELAY], [1], {}) == Decimal(1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('type = "i16"\nvalues = { 1 = "on" }', "values go with u16"),
        ('type = "float32"\ndecimals = 0\nvalues = { 1 = "on" }', "values go with u16"),
        ('type = "ascii"\nwords = 1\nvalues = { 1 = "on" }', "values go with u16"),
        ('type = "u16"\nscale = "0.1"\nvalues = { 1 = "on" }', "not scaled"),
        ('type = "u16"\ndecimals = 0\nvalues = { 1 = "on" }', "not scaled"),
        ('type = "u16"\nvalues = { 0x1 = "on" }', "'0x1' is no code"),
        ('type = "u16"\nvalues = { 01 = "on" }', "'01' is no code"),
        ('type = "u16"\nvalues = { "-1" = "on" }', "'-1' is no code"),
        ('type = "u16"\nvalues = { on = "on" }', "'on' is no code"),
        ('type = "u16"\nvalues = { 1 = 2 }', "values"),
    ],
)
def test_what_is_no_enumeration_is_refused(lines: str, said: str) -> None:
    with pytest.raises(MapError, match=said):
        a_map(lines)
