"""The programs' configurations for a demo, written as an operator would write them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId, MeterSerial

# A demo polls as fast as a person looks; more meters, slower, so that two cores do both ends of it.
_FAST_S = ((50, 2), (200, 5), (500, 10))
BILLING_POLLS = 5


# Tables of texts beside those every demo has: which keys to sign with, whom to believe.
Tables = Mapping[str, Mapping[str, str]]
_NO_TABLES: Tables = {}


Options = Mapping[str, str | int | float | bool]
"""The keys of a line's table, or of a meter's, as its driver has them."""


@dataclass(frozen=True, slots=True)
class MeterPlace:
    """A meter as the gateway finds it: where, by which map, and what it must say that it is."""

    serial: MeterSerial
    options: Options


@dataclass(frozen=True, slots=True)
class LinePlace:
    """A line as the gateway finds it, and its meters."""

    name: str
    driver: str
    options: Options
    meters: Sequence[MeterPlace]


def modbus_place(name: str, port: int, meters: Sequence[MeterPlace]) -> LinePlace:
    """Return a line of Modbus meters behind a port of this machine."""
    options: Options = {"transport": "tcp", "host": "127.0.0.1", "port": port, "timeout_s": 0.3}
    return LinePlace(name, "modbus", options, meters)


def fast_s(meters: int) -> int:
    """Return how many seconds lie between two polls in a demo of this size."""
    return next(seconds for most, seconds in _FAST_S if meters <= most)


def gateway_toml(
    *,
    feeder_id: FeederId,
    gateway_id: GatewayId,
    data_dir: Path,
    mqtt: BrokerSettings,
    lines: Sequence[LinePlace],
    tables: Tables = _NO_TABLES,
    billing_polls: int = BILLING_POLLS,
) -> str:
    """Return the configuration file's text. ``billing_polls``: how many polls lie between two billing reads."""
    poll_s = fast_s(sum(len(line.meters) for line in lines))
    settings = [
        f'feeder_id = "{feeder_id}"',
        f'gateway_id = "{gateway_id}"',
        f"data_dir = {_text(str(data_dir))}",
        # The machine the demo runs on is right enough for the demo, whether or not it has a time source.
        'clock = "rtc"',
        "",
        *_mqtt(mqtt),
        "",
        "[schedule]",
        f"fast_s = {poll_s}",
        f"billing_s = {poll_s * billing_polls}",
        "comms_lost_after_misses = 1",
        "",
        "[uplink]",
        # What is acknowledged shall show at the demo's next look; there is no card to be spared.
        "mark_interval_s = 0.2",
        "",
        "[status]",
        'listen = ""',
        *_tables(tables),
    ]
    return "\n".join([*settings, *(row for line in lines for row in _line(line))]) + "\n"


def headend_toml(*, store_url: str, mqtt: BrokerSettings, tables: Tables = _NO_TABLES) -> str:
    """Return the configuration file's text."""
    lines = [f"store = {_text(store_url)}", "", *_mqtt(mqtt), *_tables(tables)]
    return "\n".join(lines) + "\n"


def _tables(tables: Tables) -> Iterator[str]:
    for name, values in tables.items():
        yield ""
        yield f"[{name}]"
        for key, value in values.items():
            yield f"{key} = {_text(value)}"


def _mqtt(settings: BrokerSettings) -> Iterator[str]:
    yield "[mqtt]"
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            yield f"{field.name} = {_text(value) if isinstance(value, str) else value}"


def _line(line: LinePlace) -> list[str]:
    rows = ["", "[[line]]", f'driver = "{line.driver}"', f'name = "{line.name}"']
    rows += _keys(line.options)
    for meter in line.meters:
        rows += ["", "[[line.meter]]", f'serial = "{meter.serial}"', *_keys(meter.options)]
    return rows


def _keys(options: Options) -> Iterator[str]:
    for key, value in options.items():
        yield f"{key} = {_toml(value)}"


def _toml(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
