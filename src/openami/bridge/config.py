"""BridgeConfig: one TOML file; see docs/bridge.md. Every fault in it is one line that says where and what to do.

data_dir = "/var/lib/openami-bridge"     # what waits for the broker is kept here

[south]                                  # the broker the firmware publishes to
url = "mqtt://127.0.0.1:1883"

[north]                                  # the operator's broker
url = "mqtts://broker.example:8883"
ca_file = "ca.pem"

[[pole]]
topic = "StreetPoleEMS_37EAB0"           # the firmware's name for itself: openami/THIS/…
feeder = "feeder-a"
gateway = "pole-7"
panel = "PANEL-7"                        # without it only the meters are published
[pole.meters]
meter_0 = "DDS-1001"                     # the serial on the meter
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openami.bridge.firmware import is_meter, is_pole
from openami.bridge.meshems import PoleMap
from openami.bridge.stream import Patience
from openami.config_file import ConfigError as ConfigError
from openami.config_file import beside, meant, read_bytes, unknown_key, wrong_value
from openami.mqtt.settings import BrokerSettings
from openami.profile import (
    FeederId,
    GatewayId,
    MeterSerial,
    ProfileError,
    check_gateway_name,
    check_id,
    one_line,
)
from openami.toml_text import read_toml

DEFAULT_CLIENT_ID: Final = "openami-bridge-meshems"
# A village has a pole for ten houses; five hundred poles are ten villages, and a bridge for each is wiser.
POLES_MAX: Final = 500
# The firmware speaks of six, and of eight relays.
METERS_OF_POLE_MAX: Final = 16
# A pole's six meters send 1.5 MB a day: half a year of one pole, or three days of fifty.
SPOOL_MEGABYTES: Final = 256
# A pole that has missed three rounds is silent; with a little for a slow link.
_ROUNDS_UNTIL_SILENT: Final = 3.5


class PoleTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[pole]]``: one pole, and which meter on it has which serial."""

    topic: str
    feeder: str
    gateway: str
    panel: str | None = None
    interval_s: Annotated[float, Meta(ge=10, le=86_400)] = 300.0
    """How often the firmware publishes: 300 s as it is delivered, 30 s in its debug build."""
    meters: dict[str, str]


class BridgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bridge has to know to run."""

    data_dir: str
    south: BrokerSettings
    north: BrokerSettings
    pole: tuple[PoleTable, ...]
    clock: Literal["network", "host"] = "network"
    """``network``: right while the kernel follows a time source; ``host``: somebody vouches for it."""
    metrics: str = ""
    """``HOST:PORT`` to be scraped at; empty for none."""
    spool_megabytes_max: Annotated[int, Meta(ge=1, le=1_000_000)] = SPOOL_MEGABYTES
    doubt_after_s: Annotated[float, Meta(ge=10)] = 900.0
    """Values that are all the same for so long are suspect: three rounds of five minutes."""
    lost_after_s: Annotated[float, Meta(ge=10)] = 3600.0
    """… and for so long, lost: a night without load keeps its currents, and not its voltage, that still."""

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port to be scraped at. Raises ConfigError."""
        if not self.metrics:
            return None
        host, _, port = self.metrics.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"metrics = {self.metrics!r} is no address; write HOST:PORT")
        return host.removeprefix("[").removesuffix("]"), int(port)

    def poles(self) -> dict[str, PoleMap]:
        """Return the poles by the firmware's name."""
        return {table.topic: self._pole(table) for table in self.pole}

    def _pole(self, table: PoleTable) -> PoleMap:
        return PoleMap(
            topic=table.topic,
            feeder_id=FeederId(table.feeder),
            gateway_id=GatewayId(table.gateway),
            meters={name: MeterSerial(serial) for name, serial in table.meters.items()},
            panel=None if table.panel is None else MeterSerial(table.panel),
            patience=Patience(
                doubt_after=timedelta(seconds=self.doubt_after_s),
                lost_after=timedelta(seconds=self.lost_after_s),
                silent_after=timedelta(seconds=table.interval_s * _ROUNDS_UNTIL_SILENT),
            ),
        )


def read_config(path: Path) -> BridgeConfig:
    """Read a configuration file. Raises ConfigError."""
    content = read_bytes(path)
    try:
        document = read_toml(content.decode())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    for name in ("south", "north"):
        table = document.get(name)
        if isinstance(table, dict):
            table.setdefault("client_id", DEFAULT_CLIENT_ID)
            # The firmware's broker keeps nothing for us (QoS 0), the operator's has nothing for us to miss.
            table.setdefault("session_expiry_days", 0)
    try:
        config = msgspec.convert(document, BridgeConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explained(one_line(str(error)))}") from None
    for fault in _faults(config):
        raise ConfigError(f"{path}: {one_line(fault)}")
    try:
        config.metrics_address  # noqa: B018 – raises what is wrong with it
    except ConfigError as error:
        raise ConfigError(f"{path}: {one_line(str(error))}") from None
    return msgspec.structs.replace(
        config,
        data_dir=str(path.parent / config.data_dir),
        south=_beside(path, config.south),
        north=_beside(path, config.north),
    )


def _beside(path: Path, broker: BrokerSettings) -> BrokerSettings:
    """Return the settings with the files they name looked for beside the configuration file."""
    return beside(path, broker, "ca_file", "cert_file", "key_file", "password_file")


def _explained(error: str) -> str:
    """Turn the validator's words into a key, and a guess at what was meant."""
    if unknown := unknown_key(error):
        at, key = unknown
        kinds: dict[str, type[msgspec.Struct]] = {
            "pole": PoleTable,
            "south": BrokerSettings,
            "north": BrokerSettings,
        }
        hint = meant(key, kinds.get(at.partition("[")[0], BridgeConfig))
        return f"{at + '.' if at else ''}{key}: unknown key; {hint}"
    if wrong := wrong_value(error):
        at, why = wrong
        return f"{at}: {why}"
    return error


def _faults(config: BridgeConfig) -> Iterator[str]:
    """Yield what is wrong with the map of poles and meters."""
    if not config.pole:
        yield "pole: no pole is named; write [[pole]]"
    if len(config.pole) > POLES_MAX:
        yield f"pole: {len(config.pole)} poles, at most {POLES_MAX} on one bridge"
    if config.lost_after_s <= config.doubt_after_s:
        yield "lost_after_s: it must be longer than doubt_after_s"
    shared = set(config.south.addresses) & set(config.north.addresses)
    if shared and config.south.client_id == config.north.client_id:
        yield "south.client_id: one broker throws out the first of two clients of one name; name another"
    poles: set[str] = set()
    serials: dict[str, str] = {}
    for index, table in enumerate(config.pole):
        at = f"pole[{index}]"
        if not is_pole(table.topic):
            yield f"{at}.topic: {table.topic[:40]!r} is no name of a pole, e.g. StreetPoleEMS_37EAB0"
        if table.topic in poles:
            yield f"{at}.topic: {table.topic} stands there already"
        poles.add(table.topic)
        yield from _faults_of_ids(at, table)
        if not table.meters and table.panel is None:
            yield f"{at}.meters: neither a meter nor a panel is named"
        if len(table.meters) > METERS_OF_POLE_MAX:
            yield f"{at}.meters: {len(table.meters)} meters, at most {METERS_OF_POLE_MAX} on a pole"
        named = [("panel", table.panel)] if table.panel is not None else []
        for name, serial in [*table.meters.items(), *named]:
            if serial in serials:
                yield f"{at}.{name}: {serial!r} is {serials[serial]}'s already"
            if serial == table.gateway:
                yield f"{at}.{name}: {serial!r} is the gateway's own id"
            serials[serial] = f"{at}.{name}"


def _faults_of_ids(at: str, table: PoleTable) -> Iterator[str]:
    ids = [("feeder", table.feeder), ("gateway", table.gateway)]
    ids += [(f"meters.{name}", serial) for name, serial in table.meters.items()]
    if table.panel is not None:
        ids.append(("panel", table.panel))
    for name, text in ids:
        try:
            check_id(text, "")
        except ProfileError as error:
            yield f"{at}.{name}: {error.detail}"
    try:
        check_gateway_name(table.feeder, table.gateway, "")
    except ProfileError as error:
        yield f"{at}.gateway: {error.detail}"
    for name in table.meters:
        if not is_meter(name):
            yield f"{at}.meters.{name}: the firmware's meters are called meter_0, meter_1 …"
