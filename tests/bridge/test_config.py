"""The bridge's file: every fault in it is one line that says where and what to do."""

from pathlib import Path

import pytest

from openami.bridge.config import METERS_OF_POLE_MAX, ConfigError, read_config

WHOLE = """
data_dir = "data"
[south]
url = "mqtt://127.0.0.1:1884"
[north]
url = "mqtts://broker.example:8883"
ca_file = "ca.pem"
[[pole]]
topic = "StreetPoleEMS_37EAB0"
feeder = "feeder-a"
gateway = "pole-7"
panel = "PANEL-7"
[pole.meters]
meter_0 = "DDS-1001"
meter_1 = "DDS-1002"
"""


def written(directory: Path, text: str) -> Path:
    file = directory / "bridge.toml"
    file.write_text(text)
    return file


def test_a_whole_file(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE))
    (pole,) = config.poles().values()
    assert (pole.feeder_id, pole.gateway_id, pole.panel) == ("feeder-a", "pole-7", "PANEL-7")
    assert pole.meters == {"meter_0": "DDS-1001", "meter_1": "DDS-1002"}
    assert config.north.ca_file == str(tmp_path / "ca.pem")
    assert config.data_dir == str(tmp_path / "data")
    assert config.south.session_expiry_days == 0
    assert pole.patience.silent_after.total_seconds() == 1050
    assert config.metrics_address is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('data_dir = "data"', ""), "data_dir"),
        (("[[pole]]", "[[poles]]"), "did you mean pole?"),
        (('gateway = "pole-7"', 'gatway = "pole-7"'), "did you mean gateway?"),
        (('topic = "StreetPoleEMS_37EAB0"', 'topic = "a/b"'), "pole[0].topic"),
        (('topic = "StreetPoleEMS_37EAB0"', 'topic = "v1"'), "pole[0].topic"),
        (('feeder = "feeder-a"', 'feeder = "feeder a"'), "pole[0].feeder"),
        (('feeder = "feeder-a"', f'feeder = "{"f" * 60}"'), "63"),
        (("meter_1 =", "meter1 ="), "pole[0].meters.meter1"),
        (('"DDS-1002"', '"DDS-1001"'), "already"),
        (('"DDS-1002"', '"PANEL-7"'), "already"),
        (('"DDS-1002"', '"pole-7"'), "gateway's own id"),
        (('"DDS-1002"', "7"), "str"),
        (('data_dir = "data"', 'data_dir = "data"\nmetrics = "9109"'), "HOST:PORT"),
        (('data_dir = "data"', 'data_dir = "data"\nmetrics = "h:65536"'), "HOST:PORT"),
        (('data_dir = "data"', 'data_dir = "data"\nclock = "sun"'), "clock"),
        (('data_dir = "data"', 'data_dir = "data"\nlost_after_s = 900'), "doubt_after_s"),
        (("mqtts://broker.example:8883", "broker.example"), "north"),
        (("[[pole]]", '[[pole]]\ninterval_s = 9\nfeeder2 = ""'), "pole[0]"),
        (
            (
                'url = "mqtts://broker.example:8883"\nca_file = "ca.pem"',
                'url = "mqtt://127.0.0.1:1884"',
            ),
            "south.client_id",
        ),
    ],
)
def test_a_fault_is_one_line_with_its_place(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    assert change[0] in WHOLE
    file = written(tmp_path, WHOLE.replace(*change))
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    assert said in str(raised.value)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("meters", "fits"), [(METERS_OF_POLE_MAX, True), (17, False)])
def test_so_many_meters_on_a_pole(tmp_path: Path, meters: int, fits: bool) -> None:
    more = "".join(f'meter_{n} = "M-{n}"\n' for n in range(2, meters))
    file = written(tmp_path, WHOLE + more)
    if fits:
        assert len(read_config(file).pole[0].meters) == meters
    else:
        with pytest.raises(ConfigError, match="at most 16"):
            read_config(file)


def test_two_poles_of_one_name(tmp_path: Path) -> None:
    second = WHOLE[WHOLE.index("[[pole]]") :].replace("DDS", "X").replace("PANEL", "Y")
    with pytest.raises(ConfigError, match="stands there already"):
        read_config(written(tmp_path, WHOLE + second))


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError):
            read_config(path)
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="is it the right file"):
        read_config(large)
