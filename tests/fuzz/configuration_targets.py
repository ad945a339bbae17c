"""What an operator writes: the programs' configurations and register maps. A fault in it is told, in one line."""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path

from tests.fuzz.target import Target, directory

import openami
from openami.gateway.config import ConfigError, load_config
from openami.gateway.drivers.modbus import ModbusDriver
from openami.gateway.drivers.modbus.decode import value_of
from openami.gateway.drivers.modbus.register_map import Ratio, read_map
from openami.gateway.map_files import MapError
from openami.headend.config import ConfigError as HeadendConfigError
from openami.headend.config import read_config

_DOCS = Path(openami.__file__).parents[2] / "docs"
_PEMS = ("ca.pem", "gateway.pem", "gateway.key", "hes.pem", "hes.key")


@cache
def _place() -> Path:
    place = directory("configuration")
    for name in _PEMS:
        (place / name).write_text("not looked into here")
    return place


def gateway_config(data: bytes) -> None:
    """ConfigError in one line, or a configuration with a meter."""
    file = _place() / "gateway.toml"
    file.write_bytes(data)
    try:
        config = load_config(file, {"modbus": ModbusDriver}, {})
    except ConfigError as error:
        _is_one_line(error)
        return
    assert list(config.serials)


def headend_config(data: bytes) -> None:
    """ConfigError in one line, here or when a file it names is read."""
    file = _place() / "headend.toml"
    file.write_bytes(data)
    try:
        config = read_config(file)
        config.catalogue()
        config.broker_config()
        config.keys()
    except HeadendConfigError as error:
        _is_one_line(error)


def register_map(data: bytes) -> None:
    """MapError in one line, or a map of which each register has a value or none, whatever the meter answers."""
    try:
        read = read_map(data.decode(errors="replace"))
    except MapError as error:
        _is_one_line(error)
        return
    ratios = dict.fromkeys(Ratio, Decimal(40))
    for register in read.registers.values():
        for word in (0, 0x7F7F, 0xFFFF):
            value_of(register, [word] * register.field.count, ratios)


def _is_one_line(error: Exception) -> None:
    assert "\n" not in str(error), str(error)


def _examples(page: str) -> list[bytes]:
    text = (_DOCS / page).read_text()
    found = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [example.encode() for example in found]


_WHOLE = b"""feeder_id = "f-1"
gateway_id = "g-1"
data_dir = "data"
clock = "rtc"

[mqtt]
url = "mqtts://broker.village:8883"
ca_file = "ca.pem"

[schedule]
fast_s = 30
daily_at = 00:10:00

[status]
listen = "127.0.0.1:8080"

[[line]]
driver = "modbus"
name = "bus1"
transport = "tcp"
host = "10.0.0.7"

[[line.meter]]
serial = "M-1"
unit = 1
map = "sdm630"
"""
_HEADEND = b"""store = "postgresql:///openami"
registers_file = "vmrs.json"
broker_config_file = "mosquitto.conf"
[mqtt]
url = "mqtts://broker.example"
client_id = "second"
[signing]
key_file = "hes.key"
roots_file = "roots.json"
disconnects_per_hour_max = 7
"""


def _gateways() -> Sequence[bytes]:
    return [_WHOLE, *_examples("operations.md"), *_examples("drivers.md")]


def _maps() -> Sequence[bytes]:
    shipped = files("openami.gateway.drivers.modbus").joinpath("maps")
    named = [shipped.joinpath(f"{name}.toml").read_bytes() for name in ("sdm120", "em340")]
    return [*(text for text in _examples("drivers.md") if b"[[golden]]" in text), *named]


TARGETS = (
    Target("gateway_config", gateway_config, _gateways, 120),
    Target("headend_config", headend_config, lambda: [_HEADEND, *_examples("operations.md")], 120),
    Target("register_map", register_map, _maps, 60),
)
