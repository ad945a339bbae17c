"""Every shipped map over its own golden frames, and against the register list."""

import re
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest

from openami.gateway.driver import PollGroup
from openami.gateway.drivers.modbus.frames import FrameError, block_of, rtu_pdu
from openami.gateway.drivers.modbus.map_files import load_map, shipped_maps
from openami.gateway.drivers.modbus.plan import plan
from openami.gateway.drivers.modbus.readings import decode_exchange
from openami.gateway.drivers.modbus.register_map import Golden, Ratio, RegisterMap, read_map
from openami.gateway.map_files import MapError
from openami.profile import Obis, shipped_catalogue

_NAMES = shipped_maps()
_FRAMES = [
    pytest.param(name, golden, id=f"{name}-{golden.name}")
    for name in _NAMES
    for golden in load_map(name).golden
]


def _decoded(register_map: RegisterMap, golden: Golden) -> dict[str, str]:
    unit, request = rtu_pdu(bytes.fromhex(golden.request))
    answering, response = rtu_pdu(bytes.fromhex(golden.response))
    assert answering == unit
    ratios = {Ratio(name): value for name, value in golden.options.items()}
    readings = decode_exchange(register_map, request, response, ratios)
    return {str(reading.obis): str(reading.value) for reading in readings}


def test_the_meters_of_villages_are_there() -> None:
    assert set(_NAMES) >= {
        "sdm120",
        "sdm230",
        "sdm630",
        "ddsu666",
        "dtsu666",
        "dds238",
        "em111",
        "em340",
        "iem3155",
        "adw300",
        "adl3000",
    }


@pytest.mark.parametrize(("name", "golden"), _FRAMES)
def test_a_golden_frame_means_what_its_map_says(name: str, golden: Golden) -> None:
    register_map = load_map(name)
    expected = {obis: value for obis, value in golden.expect.items() if value}
    assert _decoded(register_map, golden) == expected
    # What is expected to have no value is in the frame all the same.
    _, request = rtu_pdu(bytes.fromhex(golden.request))
    for obis in golden.expect:
        assert block_of(request).covers(register_map.registers[Obis.parse(obis)].field)


@pytest.mark.parametrize("name", _NAMES)
def test_golden_frames_reach_every_register(name: str) -> None:
    register_map = load_map(name)
    shown = {Obis.parse(obis) for golden in register_map.golden for obis in golden.expect}
    # The Eastron pair shares its frames' addresses with the SDM630, where they are shown.
    assert len(register_map.golden) >= 3
    assert shown == set(register_map.registers)


@pytest.mark.parametrize("name", _NAMES)
def test_codes_and_units_are_those_of_the_register_list(name: str) -> None:
    for obis, register in load_map(name).registers.items():
        listed = shipped_catalogue().get(obis)
        assert listed is not None, f"{obis} is not in the register list"
        assert register.info.unit == listed.unit, obis
        assert register.info.monotonic == listed.monotonic, obis


@pytest.mark.parametrize("name", _NAMES)
def test_what_a_household_is_billed_by_is_there(name: str) -> None:
    registers = load_map(name).registers
    assert {Obis.parse(obis) for obis in ("1.8.0", "1.7.0", "32.7.0", "31.7.0")} <= set(registers)
    energy = registers[Obis.parse("1.8.0")].info
    assert energy.group is PollGroup.BILLING
    assert energy.monotonic
    assert energy.minimum == 0


@pytest.mark.parametrize("name", _NAMES)
def test_a_map_says_where_it_is_from(name: str) -> None:
    register_map = load_map(name)
    assert register_map.id == name
    assert all(len(source) > 10 for source in register_map.source)


@pytest.mark.parametrize("name", _NAMES)
def test_each_group_is_read_in_few_blocks(name: str) -> None:
    register_map = load_map(name)
    for group in PollGroup:
        fields = frozenset(
            r.field for r in register_map.registers.values() if r.info.group is group
        )
        blocks = plan(fields, known=register_map.fields, limits=register_map.limits)
        assert blocks is not None
        assert len(blocks) <= 7


def test_only_the_relay_of_the_dds238_is_known_and_it_is_written_with_function_16() -> None:
    assert [name for name in _NAMES if load_map(name).relay] == ["dds238"]
    relay = load_map("dds238").relay
    assert relay is not None
    assert (relay.address, relay.write_function) == (0x1A, 16)
    assert (relay.connected, relay.disconnected) == (1, 0)


def test_a_damaged_golden_frame_is_noticed() -> None:
    golden = load_map("dds238").golden[0]
    frame = bytearray.fromhex(golden.response)
    frame[4] ^= 1
    with pytest.raises(FrameError, match="CRC"):
        rtu_pdu(bytes(frame))


# --- reading a map strictly ----------------------------------------------------------------------


def _dds238(pattern: str, replacement: str) -> str:
    text = (
        files("openami.gateway.drivers.modbus").joinpath("maps", "dds238.toml").read_text("utf-8")
    )
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    return changed


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (
            "scale = ",
            "scael = ",
            r"register\[0\]\.scael: unknown key 'scael'; did you mean 'scale'",
        ),
        ("max_gap = ", "max_gaps = ", r"limits\.max_gaps: unknown key .* did you mean 'max_gap'"),
        ('type = "u32"', 'type = "u23"', r"register\[0\]\.type: Invalid enum value 'u23'"),
        ("address = 0x0008", "address = 65535", r"register\[0\]\.address: it ends beyond"),
        ("address = 0x0008", "address = 65536", r"register\[0\]\.address: Expected `int` <= 65535"),
        ("address = 0x0008", 'address = "8"', r"register\[0\]\.address: Expected `int`, got `str`"),
        ('obis = "2.8.0"', 'obis = "2.8"', r"register\[0\]\.obis: '2.8' is not an OBIS code"),
        ('obis = "2.8.0"', 'obis = "1.8.0"', r"register\[1\]: 1.8.0 stands twice"),
        ('scale = "0.01"', 'scale = "0"', r"register\[0\]\.scale: the scale is a number other"),
        ('scale = "0.01"', 'scale = "NaN"', r"register\[0\]\.scale: the scale is a number other"),
        ('type = "u32"', 'type = "float32"', r"register\[0\]\.decimals: a float32 needs"),
        ('type = "u32"', 'type = "u32"\nsplit_sign = "16.7.0"', "u32 has no sign to split"),
        ('type = "u32"', 'type = "u32"\nnet = "16.7.0"', "net goes with split_sign"),
        ('type = "u32"', 'type = "u32"\nwords = 2', "words goes with ascii"),
        ("max_read_registers = 24", "max_read_registers = 126", "Expected `int` <= 125"),
        ("max_read_registers = 24", "max_read_registers = 1", "longer than one read may be"),
        ('id = "dds238"', "", "'id' is missing"),
        ("word_order", "word order", "is not TOML"),
    ],
)
def test_a_mistake_in_a_map_is_named_with_its_place(
    pattern: str, replacement: str, message: str
) -> None:
    with pytest.raises(MapError, match=message):
        read_map(_dds238(pattern, replacement))


def test_a_map_too_large_to_be_one_is_refused() -> None:
    with pytest.raises(MapError, match="at most"):
        read_map("#" * (256 * 1024 + 1))
    with pytest.raises(MapError, match="missing"):
        read_map("#" * (256 * 1024))


def test_a_scale_is_exact_with_or_without_quotes() -> None:
    register = read_map(_dds238('scale = "0.01"', "scale = 0.01")).registers[Obis.parse("2.8.0")]
    assert register.scale == Decimal("0.01")
    assert register.decimals == 2


@pytest.mark.parametrize(
    ("sound", "spoilt"), [("1e-9", "1e-10"), ("1e9", "1e10"), ("1.5", "1e-999999999")]
)
def test_a_scale_has_a_bound(sound: str, spoilt: str) -> None:
    """Values are computed exactly: a scale without one would take all memory at the first poll."""
    assert read_map(_dds238('scale = "0.01"', f'scale = "{sound}"'))
    with pytest.raises(MapError, match="at most 9 decimals and 10 digits"):
        read_map(_dds238('scale = "0.01"', f'scale = "{spoilt}"'))


def test_a_map_of_the_operators_own_is_read_from_his_folder(tmp_path: Path) -> None:
    shipped = files("openami.gateway.drivers.modbus").joinpath("maps", "dds238.toml")
    (tmp_path / "mine.toml").write_text(shipped.read_text("utf-8"))
    assert load_map("mine.toml", tmp_path) == load_map("dds238")
    with pytest.raises(MapError, match="No such file"):
        load_map("other.toml", tmp_path)
    with pytest.raises(MapError, match="no map is called"):
        load_map("../maps/dds238", tmp_path)


_RELAY_STATE = """
[[register]]
obis = "96.11.1"
address = 0x1A
type = "u16"
unit = "enum"
values = { 0 = "disconnected", 1 = "connected" }
"""


def _with_relay_state(**changes: str) -> str:
    text = _RELAY_STATE
    for old, new in changes.items():
        text = text.replace(old, new)
    return _dds238(r"\n\[\[golden\]\]", text + "\n[[golden]]")


def test_an_enumeration_gives_its_words() -> None:
    register_map = read_map(_with_relay_state())
    for code, word in ((0, "disconnected"), (1, "connected"), (7, "7")):
        request, response = bytes([3, 0, 0x1A, 0, 1]), bytes([3, 2, 0, code])
        (reading,) = decode_exchange(register_map, request, response)
        assert (str(reading.obis), reading.value, reading.unit) == ("96.11.1", word, "enum")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u16": "i16"}, "values go with u16"),
        ({'unit = "enum"': 'unit = "enum"\nscale = "0.1"'}, "an enumeration is not scaled"),
        ({"0 =": "00 ="}, "'00' is no code"),
        ({"0 =": '"0x0" ='}, "'0x0' is no code"),
        ({"0 =": f'"{"1" * 21}" ='}, "is no code"),
    ],
)
def test_an_enumeration_that_is_none_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(MapError, match=message):
        read_map(_with_relay_state(**changes))
