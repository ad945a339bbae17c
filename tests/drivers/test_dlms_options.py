"""A DLMS line's and a meter's options, and meter maps: right ones understood, wrong ones named with their place."""

from pathlib import Path

import pytest

from openami.gateway.driver import LineSettings, MeterSettings, OptionsError
from openami.gateway.drivers.dlms import DlmsDriver
from openami.gateway.drivers.dlms.apdu import Attribute
from openami.gateway.drivers.dlms.map_files import load_map, shipped_maps
from openami.gateway.drivers.dlms.meter_map import read_map
from openami.gateway.drivers.dlms.options import line_plan
from openami.gateway.drivers.dlms.times import DeviationSign, Zone
from openami.gateway.map_files import MapError
from openami.profile import MeterSerial, Obis, shipped_catalogue

_TCP: dict[str, object] = {"transport": "tcp", "host": "10.0.0.7"}
_HDLC: dict[str, object] = {"transport": "hdlc", "device": "/dev/ttyUSB0"}


def _settings(line: dict[str, object], *meters: dict[str, object]) -> LineSettings:
    return LineSettings(
        name="north",
        meters=[
            MeterSettings(MeterSerial(f"M{at}"), options)
            for at, options in enumerate(meters or ({},))
        ],
        options=line,
        directory=Path(),
    )


@pytest.mark.parametrize(
    ("line", "meter", "path", "message"),
    [
        ({**_TCP, "hots": "x"}, {}, ("hots",), "did you mean 'host'"),
        ({"host": "x"}, {}, (), "'transport' is missing"),
        ({**_TCP, "transport": "udp"}, {}, ("transport",), "Invalid enum value 'udp'"),
        ({"transport": "tcp"}, {}, ("host",), "transport 'tcp' needs 'host'"),
        ({"transport": "hdlc"}, {}, ("device",), "transport 'hdlc' needs 'device'"),
        ({**_TCP, "device": "x"}, {}, ("device",), "does not go with transport 'tcp'"),
        ({**_TCP, "baudrate": 9600}, {}, ("baudrate",), "does not go with transport 'tcp'"),
        ({**_HDLC, "baudrate": 9601}, {}, ("baudrate",), "Invalid enum value 9601"),
        ({**_TCP, "retries": 6}, {}, ("retries",), "Expected `int` <= 5"),
        (_TCP, {"sever": 1}, ("meter", 0, "sever"), "did you mean 'server'"),
        (_TCP, {"server": 0}, ("meter", 0, "server"), "Expected `int` >= 1"),
        (_TCP, {"physical": 17}, ("meter", 0, "physical"), "is of HDLC lines"),
        (_TCP, {"address_bytes": 2}, ("meter", 0, "address_bytes"), "is of HDLC lines"),
        (_HDLC, {"client": 128}, ("meter", 0, "client"), "1 to 127"),
        (_HDLC, {"server": 128}, ("meter", 0, "server"), "1 to 127"),
        (_HDLC, {"physical": 200, "address_bytes": 2}, ("meter", 0, "server"), "up to 127"),
        (_HDLC, {"address_bytes": 3}, ("meter", 0, "address_bytes"), "Invalid enum value 3"),
        (_TCP, {"map": "prepaid"}, ("meter", 0, "map"), "no map is called 'prepaid'"),
        (_TCP, {"map": "gone.toml"}, ("meter", 0, "map"), "gone.toml"),
        (_TCP, {"deviation": "west"}, ("meter", 0, "deviation"), "Invalid enum value"),
        (_TCP, {"utc_offset_minutes": 841}, ("meter", 0, "utc_offset_minutes"), "<= 840"),
    ],
)
def test_a_wrong_option_is_named_with_its_place(
    line: dict[str, object], meter: dict[str, object], path: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(OptionsError) as refused:
        DlmsDriver.open(_settings(line, meter))
    assert refused.value.path == path
    assert message in str(refused.value)


@pytest.mark.parametrize("line", [_TCP, _HDLC])
def test_two_meters_with_one_address_are_refused(line: dict[str, object]) -> None:
    with pytest.raises(OptionsError, match="M0's already"):
        line_plan(_settings(line, {}, {"client": 32}))


def test_right_options_are_understood() -> None:
    plan = line_plan(
        _settings(
            _HDLC,
            {"physical": 17, "deviation": "inverted", "utc_offset_minutes": 330, "identity": 7},
        )
    )
    (meter,) = plan.meters
    assert (meter.client_address, meter.server_address) == (b"\x21", b"\x02\x23")
    assert meter.zone == Zone(DeviationSign.INVERTED, 330)
    assert meter.identity == "7"
    assert plan.place == "line 'north' (/dev/ttyUSB0)"


def test_a_long_frame_has_its_time_on_a_slow_line() -> None:
    slow = line_plan(_settings({**_HDLC, "baudrate": 300}))
    assert 10 < slow.airtime_s(20) < 12
    assert line_plan(_settings(_TCP)).airtime_s(20) == 0


# --- maps ----------------------------------------------------------------------------------------

_MAP = """
id = "m"
vendor = "v"
model = "m"
source = ["s"]
certainty = "unverified"
"""
_REGISTER = '[[register]]\nobis = "1.8.0"\nclass = 3\nunit = "kWh"\n'


@pytest.mark.parametrize("name", shipped_maps())
def test_a_shipped_map_speaks_the_register_list(name: str) -> None:
    """Codes and units are the list's, except where the profile's example has its own (decision 0015)."""
    listed = shipped_catalogue()
    shipped = load_map(name)
    assert shipped.source
    for obis, register in shipped.registers.items():
        entry = listed.get(obis)
        assert entry is not None, f"{obis} is not in the register list"
        assert entry.unit == register.info.unit
    assert Obis.parse("96.8.0") not in shipped.registers, "a meter's own 96.8.0 is no credit"


def test_a_map_says_where_a_register_is() -> None:
    read = read_map(
        _MAP + _REGISTER + '[[register]]\nobis = "19.10.0"\nobject = "0-0:19.10.1"\nclass = 112\n'
        'unit = "kWh"\nscale = "0.01"\n[identify]\nobject = "0-0:42.0.0"\n'
    )
    energy, credit = read.registers.values()
    assert energy.attribute == Attribute(3, bytes((1, 0, 1, 8, 0, 255)), 2)
    assert energy.scaler.index == 3
    assert credit.attribute == Attribute(112, bytes((0, 0, 19, 10, 1, 255)), 2)
    assert read.identify == Attribute(1, bytes((0, 0, 42, 0, 0, 255)), 2)
    assert read.relay is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "is not TOML"),
        (_MAP, "'register' is missing"),
        (_MAP.replace('["s"]', "[]") + _REGISTER, "names its sources"),
        (_MAP + _REGISTER * 2, "stands twice"),
        (_MAP + _REGISTER.replace('"1.8.0"', "18"), "register[0].obis: an OBIS code is a text"),
        (_MAP + _REGISTER.replace("class", "clas"), "did you mean 'class'"),
        (_MAP + _REGISTER.replace("= 3", "= 2"), "Invalid enum value 2"),
        (_MAP + _REGISTER.replace("= 3", "= 7"), "a profile is no register"),
        (_MAP + _REGISTER + "text = true\n", "what class 1 may hold"),
        (_MAP + _REGISTER + "scale = 0.1\n", "tells this class's scale itself"),
        (_MAP + _REGISTER.replace("= 3", "= 1") + 'scale = "1e-999999999"\n', "at most 9"),
        (_MAP + _REGISTER.replace("= 3", "= 1") + 'scale = "nan"\n', "the scale"),
        (_MAP + _REGISTER.replace("1.8.0", "99.99.0"), "named by all its groups"),
        (_MAP + _REGISTER + 'object = "x"\n', "is not an OBIS code"),
        (_MAP + _REGISTER + '[relay]\nobject = "96.300.1"\n', "is not an OBIS code"),
        (_MAP + _REGISTER + "#" * 300_000, "characters, at most"),
    ],
)
def test_a_wrong_map_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(MapError) as refused:
        read_map(text)
    assert message in str(refused.value)
