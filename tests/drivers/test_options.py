"""A line's and a meter's options: right ones understood, wrong ones named with their place."""

from decimal import Decimal
from pathlib import Path

import pytest

from openami.gateway.driver import LineSettings, MeterSettings, OptionsError
from openami.gateway.drivers.modbus import ModbusDriver
from openami.gateway.drivers.modbus.options import line_plan
from openami.gateway.drivers.modbus.register_map import Ratio
from openami.gateway.drivers.modbus.sunspec.layout import Discovery
from openami.profile import MeterSerial, Obis

_TCP: dict[str, object] = {"transport": "tcp", "host": "10.0.0.7"}
_RTU: dict[str, object] = {"transport": "rtu", "device": "/dev/ttyUSB0"}
_METER: dict[str, object] = {"unit": 1, "map": "sdm120"}
_SUNSPEC: dict[str, object] = {"unit": 1, "map": "sunspec"}


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
        ({**_TCP, "hots": "x"}, _METER, ("hots",), "unknown key 'hots'; did you mean 'host'"),
        ({"host": "x"}, _METER, (), "'transport' is missing"),
        ({**_TCP, "transport": "udp"}, _METER, ("transport",), "Invalid enum value 'udp'"),
        ({"transport": "tcp"}, _METER, ("host",), "transport 'tcp' needs 'host'"),
        ({"transport": "rtu"}, _METER, ("device",), "transport 'rtu' needs 'device'"),
        ({**_TCP, "device": "x"}, _METER, ("device",), "'device' does not go with transport 'tcp'"),
        ({**_RTU, "port": 502}, _METER, ("port",), "'port' does not go with transport 'rtu'"),
        ({**_TCP, "port": 0}, _METER, ("port",), "Expected `int` >= 1"),
        ({**_TCP, "port": 65536}, _METER, ("port",), "Expected `int` <= 65535"),
        ({**_TCP, "port": "502"}, _METER, ("port",), "Expected `int`, got `str`"),
        ({**_RTU, "baudrate": 9601}, _METER, ("baudrate",), "Invalid enum value 9601"),
        ({**_RTU, "parity": "X"}, _METER, ("parity",), "Invalid enum value 'X'"),
        ({**_RTU, "stopbits": 3}, _METER, ("stopbits",), "Invalid enum value 3"),
        ({**_TCP, "timeout_s": 0}, _METER, ("timeout_s",), "Expected `float` >= 0.005"),
        ({**_TCP, "retries": 6}, _METER, ("retries",), "Expected `int` <= 5"),
        ({**_TCP, "silent_share": 1.1}, _METER, ("silent_share",), "Expected `float` <= 1.0"),
        (_TCP, {"unit": 1}, ("meter", 0), "'map' is missing"),
        (_TCP, {**_METER, "nuit": 1}, ("meter", 0, "nuit"), "did you mean 'unit'"),
        (_TCP, {**_METER, "unit": 0}, ("meter", 0, "unit"), "Expected `int` >= 1"),
        (_TCP, {**_METER, "unit": 248}, ("meter", 0, "unit"), "unit 248 is no address"),
        (_RTU, {**_METER, "unit": 255}, ("meter", 0, "unit"), "unit 255 is no address"),
        (_TCP, {**_METER, "unit": True}, ("meter", 0, "unit"), "Expected `int`, got `bool`"),
        (_TCP, {**_METER, "map": "sdm12"}, ("meter", 0, "map"), "did you mean 'sdm120'"),
        (_TCP, {**_METER, "map": "gone.toml"}, ("meter", 0, "map"), "gone.toml"),
        (_TCP, {**_METER, "ct_ratio": 5}, ("meter", 0, "ct_ratio"), "nothing to multiply"),
        (_TCP, {**_METER, "bases": [0]}, ("meter", 0, "bases"), "goes with map 'sunspec' alone"),
        (_TCP, {**_METER, "model": 203}, ("meter", 0, "model"), "goes with map 'sunspec' alone"),
        (_TCP, {**_METER, "map": "sunspce"}, ("meter", 0, "map"), "did you mean 'sunspec'"),
        (_TCP, {**_SUNSPEC, "model": 103}, ("meter", 0, "model"), "Invalid enum value 103"),
        (_TCP, {**_SUNSPEC, "bases": []}, ("meter", 0, "bases"), "length >= 1"),
        (_TCP, {**_SUNSPEC, "bases": [0] * 9}, ("meter", 0, "bases"), "length <= 8"),
        (_TCP, {**_SUNSPEC, "bases": [65_467]}, ("meter", 0, "bases"), "<= 65466"),
        (_TCP, {**_SUNSPEC, "positive_power": "out"}, ("meter", 0, "positive_power"), "'out'"),
        (_TCP, {**_SUNSPEC, "pt_ratio": 2}, ("meter", 0, "pt_ratio"), "nothing to multiply"),
        (
            _TCP,
            {"unit": 1, "map": "adl3000", "ct_ratio": 40},
            ("meter", 0, "pt_ratio"),
            "needs pt_ratio",
        ),
        (
            _TCP,
            {"unit": 1, "map": "adl3000", "ct_ratio": 0, "pt_ratio": 1},
            ("meter", 0, "ct_ratio"),
            "from 0.001 to 1000000, not 0",
        ),
        (
            _TCP,
            {"unit": 1, "map": "adl3000", "ct_ratio": 1_000_001, "pt_ratio": 1},
            ("meter", 0, "ct_ratio"),
            "from 0.001 to 1000000, not 1000001",
        ),
        (
            _TCP,
            {"unit": 1, "map": "dds238", "identity": "5"},
            ("meter", 0, "identity"),
            "does not say where",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_place(
    line: dict[str, object],
    meter: dict[str, object],
    path: tuple[str | int, ...],
    message: str,
) -> None:
    with pytest.raises(OptionsError) as caught:
        ModbusDriver.open(_settings(line, meter))
    assert message in str(caught.value)
    assert caught.value.path == path


def test_an_unknown_key_tells_the_known_ones() -> None:
    with pytest.raises(OptionsError) as caught:
        ModbusDriver.open(_settings({**_TCP, "hots": "x"}))
    assert {"host", "port", "transport", "timeout_s"} <= set(caught.value.known)


def test_two_meters_with_one_address_are_refused() -> None:
    with pytest.raises(OptionsError, match="unit 1 is M0's already") as caught:
        ModbusDriver.open(_settings(_TCP, _METER, {**_METER, "map": "dds238"}))
    assert caught.value.path == ("meter", 1, "unit")


def test_what_is_left_out_has_its_documented_value() -> None:
    plan = line_plan(_settings(_TCP))
    options = plan.options
    assert (options.port, options.timeout_s, options.retries) == (502, 1.0, 1)
    assert (options.late_reply_s, options.silent_share) == (120.0, 0.05)
    assert plan.cycle_s == 60.0
    assert plan.silence_s == 0.1
    assert line_plan(_settings(_RTU)).silence_s == 0.4


def test_a_meter_behind_no_bus_may_be_255_on_tcp() -> None:
    assert line_plan(_settings(_TCP, {**_METER, "unit": 255})).meters[0].unit == 255


def test_the_port_is_set_as_the_maps_say_unless_configured() -> None:
    plan = line_plan(_settings(_RTU, {"unit": 1, "map": "iem3155"}))
    assert (plan.serial.baudrate, plan.serial.parity, plan.serial.stopbits) == (19200, "E", 1)
    plan = line_plan(_settings({**_RTU, "baudrate": 2400}, {"unit": 1, "map": "iem3155"}))
    assert (plan.serial.baudrate, plan.serial.parity) == (2400, "E")


def test_maps_that_disagree_about_the_port_are_refused_until_it_is_said() -> None:
    meters = ({"unit": 1, "map": "ddsu666"}, {"unit": 2, "map": "dds238"})
    with pytest.raises(OptionsError, match="differ in stopbits") as caught:
        line_plan(_settings(_RTU, *meters))
    assert caught.value.path == ("stopbits",)
    assert line_plan(_settings({**_RTU, "stopbits": 2}, *meters)).serial.stopbits == 2


def test_a_ratio_is_exact() -> None:
    meter = {"unit": 1, "map": "adl3000", "ct_ratio": 0.1, "pt_ratio": "26.6667"}
    ratios = line_plan(_settings(_TCP, meter)).meters[0].ratios
    assert ratios == {Ratio.CT: Decimal("0.1"), Ratio.PT: Decimal("26.6667")}


def test_the_time_on_the_line_is_counted_in_characters() -> None:
    plan = line_plan(_settings({**_RTU, "baudrate": 9600}))
    assert plan.airtime_s(18) == pytest.approx((8 + 5 + 36) * 11 / 9600)
    assert line_plan(_settings(_TCP)).airtime_s(125) == 0.0


def test_a_sunspec_meters_options_say_how_it_is_found() -> None:
    options = {**_SUNSPEC, "identity": "A-1", "bases": [100], "model": 203}
    (plan,) = line_plan(_settings(_TCP, {**options, "positive_power": "export"})).meters
    assert plan.discovery == Discovery((100,), 203, export_is_positive=True)
    assert plan.identity == "A-1"
    assert plan.registers == Discovery(model=203).registers
    (bare,) = line_plan(_settings(_TCP, _SUNSPEC)).meters
    assert bare.discovery == Discovery()
    # Any of the eight models, three phases included: which it is, the meter says.
    assert Obis.parse("72.7.0") in {info.obis for info in bare.registers}
