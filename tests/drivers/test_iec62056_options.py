"""A mode C line's and a meter's options, and meter maps: understood, or named with their place."""

from pathlib import Path

import pytest

from openami.gateway.driver import LineSettings, MeterSettings, OptionsError
from openami.gateway.drivers.iec62056 import Iec62056Driver
from openami.gateway.drivers.iec62056.characters import Parity
from openami.gateway.drivers.iec62056.dialogue import Manner
from openami.gateway.drivers.iec62056.map_files import load_map, shipped_maps
from openami.gateway.drivers.iec62056.meter_map import Kind, read_map
from openami.gateway.drivers.iec62056.options import line_plan
from openami.gateway.drivers.iec62056.times import Zone
from openami.gateway.map_files import MapError
from openami.profile import MeterSerial, Obis, shipped_catalogue

_TCP: dict[str, object] = {"transport": "tcp", "host": "10.0.0.7", "port": 4001}
_SERIAL: dict[str, object] = {"transport": "serial", "device": "/dev/ttyUSB0"}
_METER: dict[str, object] = {"map": "generic-single-phase"}


def _settings(line: dict[str, object], *meters: dict[str, object]) -> LineSettings:
    return LineSettings(
        name="north",
        meters=[
            MeterSettings(MeterSerial(f"M{at}"), options)
            for at, options in enumerate(meters or (_METER,))
        ],
        options=line,
        directory=Path(),
    )


@pytest.mark.parametrize(
    ("line", "meter", "path", "message"),
    [
        ({**_TCP, "hots": "x"}, {}, ("hots",), "did you mean 'host'"),
        ({"host": "x"}, {}, (), "'transport' is missing"),
        ({**_TCP, "transport": "rtu"}, {}, ("transport",), "Invalid enum value 'rtu'"),
        ({"transport": "tcp", "port": 1}, {}, ("host",), "transport 'tcp' needs 'host'"),
        ({"transport": "tcp", "host": "x"}, {}, ("port",), "transport 'tcp' needs 'port'"),
        ({"transport": "serial"}, {}, ("device",), "transport 'serial' needs 'device'"),
        ({**_TCP, "device": "x"}, {}, ("device",), "does not go with transport 'tcp'"),
        ({**_TCP, "baudrate_max": 9600}, {}, ("baudrate_max",), "does not go with transport"),
        ({**_SERIAL, "port": 1}, {}, ("port",), "does not go with transport 'serial'"),
        ({**_SERIAL, "baudrate": 38400}, {}, ("baudrate",), "Invalid enum value 38400"),
        ({**_SERIAL, "baudrate": 9600, "baudrate_max": 300}, {}, ("baudrate_max",), "at 9600 Bd"),
        ({**_SERIAL, "parity": "O"}, {}, ("parity",), "Invalid enum value 'O'"),
        ({**_SERIAL, "retries": 6}, {}, ("retries",), "Expected `int` <= 5"),
        ({**_SERIAL, "reaction_s": 1.6}, {}, ("reaction_s",), "<= 1.5"),
        (_TCP, {"adress": 1}, ("meter", 0, "adress"), "did you mean 'address'"),
        (_TCP, {"address": "1!2"}, ("meter", 0, "address"), "Expected `str` matching"),
        (_TCP, {"address": "1" * 33}, ("meter", 0, "address"), "length <= 32"),
        (_TCP, {"address": -1}, ("meter", 0, "address"), ">= 0"),
        (_TCP, {"map": "generic"}, ("meter", 0, "map"), "no map is called 'generic'"),
        (_TCP, {"map": "gone.toml"}, ("meter", 0, "map"), "gone.toml"),
        (_TCP, {"utc_offset_minutes": 841}, ("meter", 0, "utc_offset_minutes"), "<= 840"),
    ],
)
def test_a_wrong_option_is_named_with_its_place(
    line: dict[str, object], meter: dict[str, object], path: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(OptionsError) as refused:
        Iec62056Driver.open(_settings(line, {**_METER, **meter}))
    assert refused.value.path == path
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("meter", "key", "message"),
    [
        ({"identity": 2}, "address", "all would answer"),
        ({"address": "000", "identity": 2}, "address", "all would answer"),
        ({"address": "0017", "identity": 2}, "address", "M0's already"),
        ({"address": 18}, "identity", "late answer"),
    ],
)
@pytest.mark.parametrize("line", [_TCP, _SERIAL])
def test_meters_on_one_line_have_to_be_told_apart(
    line: dict[str, object], meter: dict[str, object], key: str, message: str
) -> None:
    first = {**_METER, "address": 17, "identity": 1}
    with pytest.raises(OptionsError, match=message) as refused:
        line_plan(_settings(line, first, {**_METER, **meter}))
    assert refused.value.path == ("meter", 1, key)


def test_a_meter_alone_needs_neither_address_nor_identity() -> None:
    (meter,) = line_plan(_settings(_SERIAL)).meters
    assert (meter.address, meter.identity, meter.zone) == ("", None, Zone(None))


def test_right_options_are_understood() -> None:
    first = {**_METER, "address": "0017", "identity": 99, "utc_offset_minutes": 330}
    second = {**_METER, "address": 18, "identity": " KS-2 "}
    plan = line_plan(_settings({**_SERIAL, "parity": "N", "reaction_s": 0.5}, first, second))
    assert plan.manner == Manner(
        baudrate=300, baudrate_max=19200, parity=Parity.NONE, reaction_s=0.5
    )
    assert [meter.address for meter in plan.meters] == ["0017", "18"]
    assert [meter.identity for meter in plan.meters] == ["99", "KS-2"]
    assert plan.meters[0].zone == Zone(330)
    assert plan.place == "line 'north' (/dev/ttyUSB0)"


def test_a_device_server_stays_at_its_speed() -> None:
    assert line_plan(_settings(_TCP)).manner == Manner(baudrate=9600, baudrate_max=9600)
    slow = line_plan(_settings({**_TCP, "baudrate": 300}))
    assert slow.manner == Manner(baudrate=300, baudrate_max=300)
    assert slow.place == "line 'north' (10.0.0.7:4001)"


# --- maps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_maps())
def test_a_shipped_map_has_the_lists_codes_and_units(name: str) -> None:
    meter_map = load_map(name)
    assert (meter_map.id, bool(meter_map.source)) == (name, True)
    for obis, register in meter_map.registers.items():
        listed = shipped_catalogue().get(obis)
        if obis == Obis.parse("0-0:97.97.0"):  # the error register is in no list
            assert (register.kind, listed) == (Kind.TEXT, None)
            continue
        assert listed is not None, f"{obis} is not in the register list"
        assert register.info.unit == listed.unit, obis
        assert register.info.monotonic == listed.monotonic, obis


@pytest.mark.parametrize("name", shipped_maps())
def test_what_a_household_is_billed_by_is_there(name: str) -> None:
    registers = load_map(name).registers
    wanted = {"1.8.0", "1.7.0", "32.7.0", "31.7.0", "1.0.0", "96.1.0"}
    assert {Obis.parse(code) for code in wanted} <= set(registers)
    assert Obis.parse("96.8.0") not in registers


_HEAD = 'id = "m"\nvendor = "v"\nmodel = "m"\nsource = ["s"]\ncertainty = "field"\n'
_ENERGY = '[[register]]\nobis = "1.8.0"\nunit = "kWh"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_HEAD, "'register' is missing"),
        (_HEAD + "register = []\n", "at least one register"),
        (_HEAD + _ENERGY * 2, r"register\[1\]: 1.8.0 stands twice"),
        (_HEAD + _ENERGY + "scale = 2\n", r"register\[0\].scale: unknown key 'scale'"),
        (_HEAD + _ENERGY + 'data_set = "1.8"\n', r"register\[0\].data_set: '1.8' is not an OBIS"),
        (_HEAD + _ENERGY + 'data_set = "1.8.0*01"\n', "of a past period"),
        (_HEAD + _ENERGY + "data_set = []\n", r"register\[0\].data_set: .*length >= 1"),
        (_HEAD + _ENERGY + 'text = true\ntold_unit = "Wh"\n', "only a number has a unit"),
        (_HEAD + _ENERGY + '[identify]\ndata_set = "C.1"\n[x]\n', "unknown key 'x'"),
        (_HEAD.replace('["s"]', "[]") + _ENERGY, "names its sources"),
        (_HEAD.replace("field", "sure") + _ENERGY, "certainty: Invalid enum value 'sure'"),
        (_HEAD + _ENERGY + "obis = 1\n", "the file "),
        ("#" * (256 * 1024 + 1), "at most 262144"),
    ],
)
def test_a_mistake_in_a_map_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(MapError, match=message):
        read_map(text)


def test_a_map_of_the_operators_own_is_read_from_his_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        _HEAD + _ENERGY + 'data_set = ["1-1:1.8.0", "1.8.0"]\ntold_unit = "Wh"\n'
    )
    register = load_map("mine.toml", tmp_path).registers[Obis.parse("1.8.0")]
    assert register.told_unit == "Wh"
    assert register.codes == (Obis.parse("1-1:1.8.0"), Obis.parse("1.8.0"))
    (tmp_path / "mine.toml").write_text(_HEAD)
    with pytest.raises(MapError, match=r"mine.toml: .*missing"):
        load_map("mine.toml", tmp_path)


def test_an_identity_needs_a_map_that_says_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(_HEAD + _ENERGY)
    settings = LineSettings(
        "north",
        [MeterSettings(MeterSerial("M0"), {"map": "mine.toml", "identity": 7})],
        _TCP,
        tmp_path,
    )
    with pytest.raises(OptionsError, match=r"add .identify. to the map"):
        line_plan(settings)
