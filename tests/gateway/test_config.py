"""One TOML file; every fault in it one readable line."""

from datetime import time
from pathlib import Path

import pytest
from tests.gateway.scripted_driver import Bench

from openami.gateway.config import (
    CONFIG_BYTES_MAX,
    METERS_MAX,
    ConfigError,
    GatewayConfig,
    load_config,
)
from openami.gateway.driver import PollGroup
from openami.gateway.event_limits import Rule
from openami.gateway.on_change import Deadband
from openami.profile import MeterSerial, Obis

GOOD = """\
feeder_id = "feeder-north-paravur-01"
gateway_id = "pole-ems-0042"
data_dir = "data"

[mqtt]
url = "mqtts://broker.village:8883"
ca_file = "ca.pem"

[schedule]
fast_s = 30
daily_at = 00:10:00

[status]
listen = "127.0.0.1:8080"

[[line]]
driver = "scripted"
name = "bus1"
device = "/dev/ttyUSB0"

[[line.meter]]
serial = "DS1000-88421"
unit = 1

[[line.meter]]
serial = "DS1000-88422"
unit = 2
"""


@pytest.fixture(autouse=True)
def certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not looked into here")


def loaded(directory: Path, text: str, environ: dict[str, str] | None = None) -> GatewayConfig:
    file = directory / "gateway.toml"
    file.write_text(text)
    return load_config(file, {"scripted": Bench().driver()}, environ or {})


def complaint(directory: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{directory}/")


_FAST = "[report.fast]\nheartbeat_s = 900\n[report.fast.deadband]\n"


def _with(section: str) -> str:
    """Return the good file with another section before its status page's."""
    return GOOD.replace("[status]", f"{section}\n[status]")


def test_a_good_file_is_read(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    assert (config.feeder_id, config.gateway_id) == ("feeder-north-paravur-01", "pole-ems-0042")
    assert config.data_dir == tmp_path / "data"
    assert config.mqtt.ca_file == str(tmp_path / "ca.pem")
    assert (config.schedule.fast_s, config.schedule.billing_s) == (30, 900)
    assert config.schedule.schedule.daily_at == time(0, 10)
    assert config.status.address == ("127.0.0.1", 8080)
    (line,) = config.lines
    assert (line.driver, line.settings.name) == ("scripted", "bus1")
    assert line.settings.options == {"device": "/dev/ttyUSB0"}
    assert line.settings.directory == tmp_path
    assert line.settings.cycle_s == config.schedule.fast_s
    assert [dict(meter.options) for meter in line.settings.meters] == [{"unit": 1}, {"unit": 2}]
    assert list(config.serials) == ["DS1000-88421", "DS1000-88422"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("fast_s", "fst_s", "10: schedule.fst_s: unknown key; did you mean 'fast_s'?"),
        ("[schedule]", "[shedule]", "9: shedule: unknown key; did you mean 'schedule'?"),
        ("unit = 2", "untt = 2", "27: line[0].meter[1].untt: unknown key; did you mean 'unit'?"),
        ("device =", "devise =", "19: line[0].devise: unknown key; did you mean 'device'?"),
        ('"scripted"', '"scribted"', "did you mean 'scripted'?"),
        ('"scripted"', '"dlms"', "17: line[0].driver: no driver 'dlms' is installed; known are"),
        ("= 30", '= "30"', "10: schedule.fast_s: expected a whole number, got a text ('30')"),
        ("= 30", "= 0", "10: schedule.fast_s: expected a whole number >= 1 ('0')"),
        ("= 30", "= 3601", "10: schedule.fast_s: expected a whole number <= 3600 ('3601')"),
        ("= 30", "= 59", "10: schedule.fast_s: fast_s = 59 does not divide a day, so instants"),
        ("= 30", "= 59", "would not be aligned; 60 does"),
        ("= 30", "= 30\nbilling_s = 1000", "11: schedule.billing_s: billing_s = 1000 does not"),
        ("= 30", "= 60\nbilling_s = 90", "11: schedule.billing_s: billing_s = 90 is no multiple"),
        ("00:10:00", '"noon"', "11: schedule.daily_at: "),
        ("01", "01/x", "1: feeder_id: 'feeder-north-paravur-01/x' is not an id; write 1 to 64"),
        ('"feeder-north-paravur-01"', "7", "1: feeder_id: expected a text, got a whole number"),
        ("pole-ems-0042", "p" * 41, "2: gateway_id: feederId and gatewayId together have 64"),
        ("gateway_id", "# gateway_id", "1: gateway_id: is missing"),
        ("data_dir", "datadir", "3: datadir: unknown key; did you mean 'data_dir'?"),
        ("DS1000-88422", "DS1000-88421", "26: line[0].meter[1].serial: 'DS1000-88421' stands in"),
        ("DS1000-88422", "DS1000-88421", "stands in line 22 already"),
        ("DS1000-88422", "pole-ems-0042", "26: line[0].meter[1].serial: 'pole-ems-0042' is the"),
        ("DS1000-88422", "DS1000 88422", "26: line[0].meter[1].serial: 'DS1000 88422' is not an"),
        ('serial = "DS1000-88422"', "", "25: line[0].meter[1].serial: is missing"),
        ("unit = 2", "unit = 1", "27: line[0].meter[1].unit: unit 1 is that of DS1000-88421 too"),
        ('name = "bus1"', "", "16: line[0].name: is missing"),
        ("ca.pem", "ca.crt", "7: mqtt.ca_file: 'ca.crt' cannot be read: No such file"),
        ("mqtts", "mqtt", "7: mqtt.ca_file: ca_file is for mqtts:// but the broker's url is"),
        ("mqtts", "https", "6: mqtt.url: the broker url 'https://broker.village:8883' must begin"),
        (
            'url = "mqtts://broker.village:8883"',
            'urls = ["mqtts://a", "mqtts://a"]',
            "6: mqtt.urls: urls names",
        ),
        ("ca_file", 'urls = ["mqtts://a"]\nca_file', "mqtt.url: url and urls are both given"),
        ("127.0.0.1:8080", "8080", "14: status.listen: listen = '8080' is no address; write"),
        ("127.0.0.1:8080", "h:99999", "14: status.listen: listen = 'h:99999' is no address"),
        ("[status]", "[status", "is not TOML: Expected ']'"),
        ("[status]", "[status", "(at line 13, column 8)"),
        ("[[line]]", "[line]", "16: line: is not a list of tables; write [[line]]"),
        ("data_dir", "mqtt = 1\ndata_dir", "is not TOML: "),
        ("[status]", "[x]\ny = 1\n[status]", "13: x: unknown key"),
        ("data_dir", 'registers_file = "r.json"\ndata_dir', "3: registers_file: 'r.json' cannot"),
    ],
)
def test_a_fault_is_named_with_its_line_and_what_to_do(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    text = _replace_last(GOOD, old, new)
    said = complaint(tmp_path, text)
    assert said.startswith("gateway.toml")
    assert expected in said


def _replace_last(text: str, old: str, new: str) -> str:
    """Replace the place meant: the only one, or the last."""
    before, found, after = text.rpartition(old)
    assert found
    return before + new + after


def test_the_shortest_file(tmp_path: Path) -> None:
    text = """
        feeder_id = "f"
        gateway_id = "g"
        data_dir = "/var/lib/openami"
        [[line]]
        driver = "scripted"
        name = "bus"
        [[line.meter]]
        serial = "A"
    """
    config = loaded(tmp_path, text)
    assert config.data_dir == Path("/var/lib/openami")
    assert (config.schedule.fast_s, config.status.address) == (60, ("0.0.0.0", 8080))


def test_a_section_is_no_value(tmp_path: Path) -> None:
    text = GOOD.replace("[status]\nlisten", "#").replace("data_dir", "status = 1\ndata_dir")
    assert ":3: status: is a value; write a section [status]" in complaint(tmp_path, text)


def test_names_that_just_fit_a_certificate(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD.replace("pole-ems-0042", "p" * 40))
    assert len(config.feeder_id) + len(config.gateway_id) == 63


def test_a_gateway_without_meters_has_nothing_to_do(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[[line.meter]]")]
    assert "line: no meter is configured; write a [[line.meter]]" in complaint(tmp_path, text)


def test_more_meters_than_a_gateway_is_made_for(tmp_path: Path) -> None:
    meters = "".join(f'[[line.meter]]\nserial = "M{n}"\n' for n in range(METERS_MAX - 2))
    assert len(list(loaded(tmp_path, GOOD + meters).serials)) == METERS_MAX
    one_more = f'{GOOD}{meters}[[line.meter]]\nserial = "one-more"\n'
    assert "1001 meters, at most 1000" in complaint(tmp_path, one_more)


def test_two_lines_of_one_name(tmp_path: Path) -> None:
    second = '[[line]]\ndriver = "scripted"\nname = "bus1"\n'
    assert "30: line[1].name: 'bus1' is the name of another" in complaint(tmp_path, GOOD + second)


def test_a_serial_on_two_lines(tmp_path: Path) -> None:
    second = '[[line]]\ndriver = "scripted"\nname = "b"\n[[line.meter]]\nserial = "DS1000-88422"\n'
    assert "32: line[1].meter[0].serial: 'DS1000-88422' stands in line 26 already" in complaint(
        tmp_path, GOOD + second
    )


def test_another_register_list(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(
        '{"registers": [{"obis": "1.8.0", "name": "x", "unit": "MWh", "certainty": "A"}]}'
    )
    text = f'registers_file = "r.json"\n{GOOD}'
    entry = loaded(tmp_path, text).catalogue.get(Obis.parse("1.8.0"))
    assert entry is not None
    assert entry.unit == "MWh"
    (tmp_path / "r.json").write_text("[]")
    assert "1: registers_file: 'r.json': the register file is not" in complaint(tmp_path, text)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    for content, expected in (
        (b"\xff", "byte 0 is not UTF-8"),
        (b"#" * (CONFIG_BYTES_MAX + 1), "is it the right file?"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=expected):
            load_config(file, {}, {})
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file or directory"):
        load_config(tmp_path / "none.toml", {}, {})


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        GOOD,
        {
            "OPENAMI_GATEWAY__GATEWAY_ID": "0042",
            "OPENAMI_GATEWAY__SCHEDULE__FAST_S": "15",
            "OPENAMI_GATEWAY__SCHEDULE__DAILY_AT": "02:00:00",
            "OPENAMI_GATEWAY__MQTT__URL": "mqtts://elsewhere",
            "OPENAMI_STORE": "not ours",
        },
    )
    assert config.gateway_id == "0042"
    assert (config.schedule.fast_s, config.schedule.daily_at) == (15, time(2))
    assert config.mqtt.url == "mqtts://elsewhere"


def test_a_cluster_has_several_addresses(tmp_path: Path) -> None:
    urls = 'urls = ["mqtts://a.village:8883", "mqtts://b.village:8883"]'
    config = loaded(tmp_path, GOOD.replace('url = "mqtts://broker.village:8883"', urls))
    assert config.mqtt.addresses == ("mqtts://a.village:8883", "mqtts://b.village:8883")
    assert config.mqtt.client_id == "feeder-north-paravur-01/pole-ems-0042"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SCHEDULE__FAST_S", "soon", "SCHEDULE__FAST_S: expected a whole number, got a text"),
        ("SCHEDULE__FAST_S", "59", "SCHEDULE__FAST_S: fast_s = 59 does not divide a day"),
        ("SCHEDULE__FST_S", "60", "SCHEDULE__FST_S: unknown key; did you mean 'fast_s'?"),
        ("SHEDULE__FAST_S", "60", "SHEDULE__FAST_S: unknown key; did you mean 'schedule'?"),
        ("LINE__NAME", "x", "LINE__NAME: no such setting; write OPENAMI_GATEWAY__SECTION__KEY"),
        ("A__B__C", "x", "A__B__C: no such setting"),
        ("DATA_DIR__X", "x", "DATA_DIR__X: data_dir is not a section"),
        ("FEEDER_ID", "a/b", "FEEDER_ID: 'a/b' is not an id"),
    ],
)
def test_a_fault_in_the_environment_is_named_by_its_variable(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    said = complaint(tmp_path, GOOD, {f"OPENAMI_GATEWAY__{name}": value})
    assert said.startswith(f"environment: OPENAMI_GATEWAY__{expected}")


# --- from where on a value is an event -----------------------------------------------------------

OWN = """
[line.meter.events]
exports = true
off = ["relay"]
"""


def test_a_meters_own_limits_lie_over_the_gateways(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"{GOOD}{OWN}[events]\nnominal_v = 120\npolls = 5\n")
    limits = config.lines[0].limits
    common, own = limits[MeterSerial("DS1000-88421")], limits[MeterSerial("DS1000-88422")]
    assert (common.nominal_v, common.polls, common.exports, common.off) == (120, 5, False, ())
    assert (own.nominal_v, own.polls, own.exports, own.off) == (120, 5, True, (Rule.RELAY,))
    assert "events" not in config.lines[0].settings.meters[1].options, (
        "the driver knows nothing of it"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[events]\nnominal = 230\n", "events.nominal: unknown key; did you mean 'nominal_v'?"),
        ("[events]\nnominal_v = 20\n", "events.nominal_v"),
        ('[events]\npolls = "3"\n', "events.polls: expected a whole number"),
        ("[events]\nmissing_percent = 90\n", "events.missing_percent"),
        ('[events]\noff = ["voltage"]\n', "events.off"),
        (OWN.replace("exports = true", "export = true"), "line[0].meter[1].events.export: unknown"),
        (
            OWN.replace("exports = true", "over_voltage_percent = 80"),
            "meter[1].events.over_voltage",
        ),
    ],
)
def test_a_wrong_limit_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert said in complaint(tmp_path, GOOD + text)


# --- telling on change ---------------------------------------------------------------------------


def test_groups_that_are_told_on_change_are_named(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD).reports == {}
    text = """
[report.daily]
heartbeat_s = 604800

[report.fast]
heartbeat_s = 900
deadband = { "32.7.0" = 2, "1-0:1.7.0" = "5 %" }
"""
    reports = loaded(tmp_path, _with(text)).reports
    assert set(reports) == {PollGroup.FAST, PollGroup.DAILY}
    assert reports[PollGroup.FAST].heartbeat_s == 900
    assert reports[PollGroup.FAST].deadbands == {
        Obis.parse("32.7.0"): Deadband(2.0),
        Obis.parse("1.7.0"): Deadband(0.05, relative=True),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[report.billing]\nheartbeat_s = 900", "13: report.billing: billing registers are always"),
        ("[report.billing]\nheartbeat_s = 900", "raise schedule.billing_s"),
        ("[report.fats]\nheartbeat_s = 900", "13: report.fats: unknown key; did you mean 'fast'?"),
        ("[report.fast]", "13: report.fast.heartbeat_s: is missing"),
        ("[report.fast]\nheartbeat_s = 100", "14: report.fast.heartbeat_s: 100 is no multiple of"),
        ("[report.fast]\nheartbeat_s = 100", "the group's 30 s up to 3600; write 450"),
        ("[report.fast]\nheartbeat_s = 3630", "14: report.fast.heartbeat_s: 3630 is no multiple"),
        ("[report.fast]\nheartbeat_s = 0", "14: report.fast.heartbeat_s: 0 is no multiple"),
        ("[report.daily]\nheartbeat_s = 3600", "14: report.daily.heartbeat_s: 3600 is no"),
        (_FAST + "'x' = 1", "15: report.fast.deadband: deadband: 'x' is no OBIS code"),
        (_FAST + "'32.7.0' = -1", "15: report.fast.deadband: deadband: -1.0 of 32.7.0 is no width"),
        (_FAST + "'32.7.0' = '2'", "deadband: '2' of 32.7.0 is no width; write a number in the"),
        (_FAST + "'32.7.0' = 'x%'", "deadband: 'x%' of 32.7.0 is no width"),
        (_FAST + "'32.7.0' = 'nan%'", "deadband: 'nan%' of 32.7.0 is no width"),
        (_FAST + "'32.7.0' = true", "report.fast.deadband: expected"),
    ],
)
def test_a_wrong_word_about_telling_is_named_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in complaint(tmp_path, _with(text))


# --- clocks of meters ----------------------------------------------------------------------------


def steps(directory: Path, line: str, *meters: str) -> dict[str, float]:
    text = GOOD.replace('device = "/dev/ttyUSB0"', f'device = "/dev/ttyUSB0"\n{line}')
    for unit, meter in enumerate(meters, 1):
        text = text.replace(f"unit = {unit}\n", f"unit = {unit}\n{meter}\n")
    (found,) = loaded(directory, text).lines
    assert all(meter.options.keys() == {"unit"} for meter in found.settings.meters)
    return {str(serial)[-1]: step for serial, step in found.clock_steps_s_max.items()}


def test_no_meters_clock_is_set_unless_it_is_said(tmp_path: Path) -> None:
    assert steps(tmp_path, "") == {}
    assert steps(tmp_path, "clock_step_s_max = 60") == {}


def test_a_meters_own_word_about_its_clock_goes_before_its_lines(tmp_path: Path) -> None:
    assert steps(tmp_path, "set_clock = true") == {"1": 120, "2": 120}
    assert steps(tmp_path, "set_clock = true", "set_clock = false") == {"2": 120}
    assert steps(tmp_path, "clock_step_s_max = 60", "set_clock = true") == {"1": 60}
    own = steps(tmp_path, "set_clock = true\nclock_step_s_max = 60", "clock_step_s_max = 300")
    assert own == {"1": 300, "2": 60}


@pytest.mark.parametrize(
    ("said", "key", "fault"),
    [
        ("set_clock = 1", "set_clock", "true or false"),
        ("clock_step_s_max = 9", "clock_step_s_max", ">= 10"),
        ("clock_step_s_max = 601", "clock_step_s_max", "<= 600"),
    ],
)
def test_a_wrong_word_about_clocks_is_named_by_its_line(
    tmp_path: Path, said: str, key: str, fault: str
) -> None:
    text = GOOD.replace("unit = 2\n", f"unit = 2\n{said}\n")
    told = complaint(tmp_path, text)
    assert f"line[0].meter[1].{key}" in told
    assert fault in told
