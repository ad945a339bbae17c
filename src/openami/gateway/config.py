"""GatewayConfig: one TOML file, every fault in it one readable line.

    gateway.toml:14: line[0].meter[2].untt: unknown key; did you mean 'unit'?

Values are converted strictly: ``"60"`` is no number. Variables ``OPENAMI_GATEWAY__SECTION__KEY`` (or
``OPENAMI_GATEWAY__KEY``) lie over the file, for containers; nothing else reads the environment. Secrets
never stand in the file: it names files (``…_file``) that hold them, and those must be readable.

Relative file names count from the folder of the configuration file.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from openami.gateway.driver import (
    Driver,
    KeyPath,
    LineSettings,
    MeterSettings,
    OptionsError,
    PollGroup,
)
from openami.gateway.event_limits import EventLimits
from openami.gateway.on_change import (
    DAILY_HEARTBEAT_S_MAX,
    FAST_HEARTBEAT_S_MAX,
    GroupReport,
)
from openami.gateway.room import OutboxLimits
from openami.gateway.schedule import Schedule
from openami.gateway.timekeeping import ClockSource
from openami.gateway.toml_lines import KeyLines
from openami.gateway.uplink import UplinkSettings
from openami.mqtt.settings import BrokerSettings
from openami.profile import (
    CatalogueError,
    FeederId,
    GatewayId,
    MeterSerial,
    ProfileError,
    RegisterCatalogue,
    check_gateway_name,
    is_id,
    one_line,
    shipped_catalogue,
)
from openami.service_manager import ServiceSettings
from openami.toml_text import TomlError, read_toml

ENVIRONMENT_PREFIX = "OPENAMI_GATEWAY__"
DATABASE_FILE = "gateway.db"
# 500 meters with ten lines each are 150 kB; a megabyte is another file.
CONFIG_BYTES_MAX = 1024 * 1024
# A gateway of one feeder serves at most this many; the bounds of its outbox are reckoned for it.
METERS_MAX = 1000
# By how much a meter's clock may be set at once, unless it is said: two minutes are months of a crystal's drift.
CLOCK_STEP_S_MAX = 120.0
_DAY_S = 24 * 60 * 60
_HEARTBEATS_S_MAX: Mapping[PollGroup, int] = {
    PollGroup.FAST: FAST_HEARTBEAT_S_MAX,
    PollGroup.DAILY: DAILY_HEARTBEAT_S_MAX,
}
# Keys of a line or a meter that are the gateway's, whatever the driver.
_CLOCK_KEYS: Mapping[str, Any] = {
    "set_clock": bool,
    "clock_step_s_max": Annotated[float, Meta(ge=10, le=600)],
}

_Section = TypeVar("_Section", bound=msgspec.Struct)


class ConfigError(Exception):
    """The configuration cannot be used: which file and line, which key, what is wrong, what to do."""

    def __init__(self, place: str, key: str, fault: str, remedy: str = "") -> None:
        super().__init__(
            f"{place}: {key + ': ' if key else ''}{fault}" + (f"; {remedy}" * bool(remedy))
        )
        self.place = place
        self.key = key
        self.fault = fault
        self.remedy = remedy


class ScheduleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[schedule]``: how often the registers of each group are read (decision 0019)."""

    fast_s: Annotated[int, Meta(ge=1, le=3600)] = 60
    billing_s: Annotated[int, Meta(ge=1, le=_DAY_S)] = 900
    daily_at: time = time(0)
    """The time of day, in UTC."""
    comms_lost_after_misses: Annotated[int, Meta(ge=1, le=100)] = 3
    """How many polls in a row must fail before a meter is told lost: one can be a disturbance."""

    def __post_init__(self) -> None:
        for name, seconds in (("fast_s", self.fast_s), ("billing_s", self.billing_s)):
            if _DAY_S % seconds:
                raise ValueError(
                    f"{name} = {seconds} does not divide a day, so instants would not be aligned; "
                    f"{_nearest_divisor(seconds)} does"
                )
        if self.billing_s % self.fast_s:
            raise ValueError(
                f"billing_s = {self.billing_s} is no multiple of fast_s = {self.fast_s}, so the two "
                "would not be read at one moment"
            )

    @property
    def schedule(self) -> Schedule:
        """The same as the scheduler wants it."""
        return Schedule(fast_s=self.fast_s, billing_s=self.billing_s, daily_at=self.daily_at)


class StatusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[status]``: the page, the health checks and the metrics; an empty ``listen`` turns them off."""

    listen: str = "0.0.0.0:8080"

    def __post_init__(self) -> None:
        self.address  # noqa: B018 – raises what is wrong with it

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None when turned off."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"listen = {self.listen!r} is no address; write HOST:PORT")
        return host.removeprefix("[").removesuffix("]"), int(port)


class CommandSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[commands]``: sessions and commands are off unless both files are named (docs/sip.md)."""

    key_file: str = ""
    """The gateway's own signing key, for its owner's eyes only."""
    roots_file: str = ""
    """The operator's root keys, pinned at enrolment."""
    lock_out: str = "lock-out"
    """While a file of this name is there, no command runs: somebody works on the line. Below ``data_dir``
    unless it is a full path."""

    def __post_init__(self) -> None:
        if bool(self.key_file) != bool(self.roots_file):
            missing = "roots_file" if self.key_file else "key_file"
            raise ValueError(f"{missing} is missing; commands need both key_file and roots_file")

    @property
    def enabled(self) -> bool:
        """Whether this gateway takes commands."""
        return bool(self.key_file)


class EnrolmentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[enrolment]``: where the certificate to the broker is renewed; off without ``url``."""

    url: str = ""
    """The enrolment server, ``https://HOST:PORT``."""
    directory: str = ""
    """The gateway's directory of keys, as `openami gateway enroll` made it."""

    def __post_init__(self) -> None:
        if bool(self.url) != bool(self.directory):
            missing = "directory" if self.url else "url"
            raise ValueError(f"{missing} is missing; renewal needs both url and directory")
        if self.url and not self.url.startswith("https://"):
            raise ValueError(f"url = {self.url!r} is no https:// address; write https://HOST:PORT")


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One ``[[line]]``: which driver opens it, and what the driver is given."""

    driver: str
    settings: LineSettings
    limits: Mapping[MeterSerial, EventLimits] = dataclasses.field(default_factory=dict)
    """From where on a meter's values are events."""
    clock_steps_s_max: Mapping[MeterSerial, float] = dataclasses.field(default_factory=dict)
    """The meters whose clock may be set, and by how much at most (decision 0059)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything the gateway is told."""

    file: Path
    feeder_id: FeederId
    gateway_id: GatewayId
    data_dir: Path
    catalogue: RegisterCatalogue
    mqtt: BrokerSettings
    schedule: ScheduleSettings
    reports: Mapping[PollGroup, GroupReport]
    """The groups that are told on change."""
    outbox: OutboxLimits
    uplink: UplinkSettings
    clock: ClockSource
    status: StatusSettings
    commands: CommandSettings
    enrolment: EnrolmentSettings
    service: ServiceSettings
    lines: tuple[LineConfig, ...]

    @property
    def database(self) -> Path:
        """The file that holds all the gateway must not forget."""
        return self.data_dir / DATABASE_FILE

    @property
    def lock_out(self) -> Path:
        """The file that locks out every command while it is there."""
        return self.data_dir / self.commands.lock_out

    @property
    def keys_directory(self) -> Path | None:
        """The gateway's directory of keys, where its certificate is to be renewed."""
        directory = self.enrolment.directory
        return self.file.resolve().parent / directory if directory else None

    @property
    def tickets(self) -> Path:
        """The folder into which emergency tickets are dropped."""
        return self.data_dir / "tickets"

    @property
    def serials(self) -> Iterator[MeterSerial]:
        """The configured meters."""
        return (meter.serial for line in self.lines for meter in line.settings.meters)


def load_config(
    file: Path, drivers: Mapping[str, type[Driver]], environ: Mapping[str, str] | None = None
) -> GatewayConfig:
    """Read a configuration and check everything that can be checked without touching a wire.

    ``drivers`` are those installed, by name; ``environ`` is the process's own unless given.
    Raises ConfigError.
    """
    reader = _Reader(file, _text(file))
    reader.overlay(os.environ if environ is None else environ)
    return reader.config(drivers)


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), "", f"cannot be read: {error.strerror}") from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError(str(file), "", f"has {len(content)} bytes", "is it the right file?")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), "", f"byte {error.start} is not UTF-8") from None


class _Reader:
    """One file being read: its tables, its lines, and what lies over them."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        try:
            self._root: dict[str, Any] = read_toml(text)
        except TomlError as error:
            raise ConfigError(str(file), "", str(error)) from None
        self._lines = KeyLines(text)
        self._from_environment: dict[KeyPath, str] = {}
        self._service = ServiceSettings()

    def overlay(self, environ: Mapping[str, str]) -> None:
        """Lay the environment's values over the file's."""
        self._service = ServiceSettings.of(environ)
        for name in sorted(environ):
            if not name.startswith(ENVIRONMENT_PREFIX):
                continue
            parts = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
            self._from_environment[parts] = name
            if len(parts) > 2 or not all(parts) or parts[0] == "line":
                self._fail(parts, "no such setting", f"write {ENVIRONMENT_PREFIX}SECTION__KEY")
            table = self._root
            for part in parts[:-1]:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    self._fail(parts, f"{part} is not a section")
            table[parts[-1]] = environ[name]

    def config(self, drivers: Mapping[str, type[Driver]]) -> GatewayConfig:
        self._known(
            self._root,
            (),
            (
                *("feeder_id", "gateway_id", "data_dir", "registers_file", "clock", "line"),
                *("mqtt", "schedule", "report", "outbox", "uplink", "status", "commands"),
                *("enrolment", "events"),
            ),
        )
        feeder_id, gateway_id = self._id("feeder_id"), self._id("gateway_id")
        try:
            check_gateway_name(feeder_id, gateway_id, path="")
        except ProfileError as error:
            self._fail(("gateway_id",), error.detail)
        schedule = self._section("schedule", ScheduleSettings)
        config = GatewayConfig(
            file=self._file,
            feeder_id=FeederId(feeder_id),
            gateway_id=GatewayId(gateway_id),
            data_dir=self._directory() / self._value(self._root, ("data_dir",), str),
            catalogue=self._catalogue(),
            mqtt=self._broker(feeder_id, gateway_id),
            schedule=schedule,
            reports=dict(self._reports(schedule.schedule)),
            outbox=self._section("outbox", OutboxLimits),
            uplink=self._section("uplink", UplinkSettings),
            clock=self._clock_source(),
            status=self._section("status", StatusSettings),
            commands=self._section("commands", CommandSettings),
            enrolment=self._section("enrolment", EnrolmentSettings),
            service=self._service,
            lines=tuple(self._line_configs(schedule.fast_s)),
        )
        self._check_meters(config)
        self._check_drivers(config, drivers)
        return config

    # --- the sections ----------------------------------------------------------------------------

    def _section(self, name: str, kind: type[_Section]) -> _Section:
        """Return a section as its type."""
        return self._converted(self._table(self._root, (name,)), (name,), kind)

    def _converted(
        self,
        table: Mapping[str, Any],
        path: KeyPath,
        kind: type[_Section],
        beneath: Mapping[str, Any] | None = None,
    ) -> _Section:
        """Return a table as its type, over what lies beneath. Each key is converted by itself, to name it."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        self._known(table, path, fields)
        values: dict[str, Any] = dict(beneath or {})
        for key, field in fields.items():
            if key in table:
                value = self._value(table, (*path, key), field.type)
                values[field.name] = self._file_name(path, key, value)
            elif field.required:
                self._fail((*path, key), "is missing")
        try:
            return kind(**values)
        except ValueError as error:
            fault, _, remedy = str(error).partition("; ")
            self._fail((*path, *self._named_in(fault, fields)), fault, remedy)

    def _file_name(self, path: KeyPath, key: str, value: object) -> object:
        """Return a named file's full name, once it has been seen to be readable."""
        if not key.endswith("_file") or not isinstance(value, str):
            return value
        full = self._directory() / value
        try:
            full.open("rb").close()
        except OSError as error:
            self._fail((*path, key), f"{value!r} cannot be read: {error.strerror}")
        return str(full)

    @staticmethod
    def _named_in(fault: str, fields: Iterable[str]) -> tuple[str, ...]:
        """Return the key a section's own complaint is about: the one it names first."""
        named = [
            (found.start(), key) for key in fields if (found := re.search(rf"\b{key}\b", fault))
        ]
        return (min(named)[1],) if named else ()

    def _id(self, key: str) -> str:
        text: str = self._value(self._root, (key,), str)
        if not is_id(text):
            self._fail(
                (key,),
                f"{text[:80]!r} is not an id",
                "write 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit",
            )
        return text

    def _broker(self, feeder_id: str, gateway_id: str) -> BrokerSettings:
        """Return ``[mqtt]``. The broker keeps our session under a name no other gateway has."""
        settings = self._section("mqtt", BrokerSettings)
        if settings.client_id:
            return settings
        return msgspec.structs.replace(settings, client_id=f"{feeder_id}/{gateway_id}")

    def _reports(self, schedule: Schedule) -> Iterator[tuple[PollGroup, GroupReport]]:
        """Yield the groups that are told on change."""
        table = self._table(self._root, ("report",))
        if PollGroup.BILLING in table:
            remedy = "raise schedule.billing_s, or take this section out"
            self._fail(("report", "billing"), "billing registers are always told", remedy)
        self._known(table, ("report",), [group.value for group in _HEARTBEATS_S_MAX])
        for name in table:
            path = ("report", name)
            group, most = PollGroup(name), _HEARTBEATS_S_MAX[PollGroup(name)]
            report = self._converted(self._table(table, path), path, GroupReport)
            interval_s = schedule.interval_s(group)
            if report.heartbeat_s % interval_s or not interval_s <= report.heartbeat_s <= most:
                self._fail(
                    (*path, "heartbeat_s"),
                    f"{report.heartbeat_s} is no multiple of the group's {interval_s} s up to {most}",
                    f"write {min(most, 15 * interval_s) // interval_s * interval_s}",
                )
            yield group, report

    def _clock_source(self) -> ClockSource:
        if "clock" not in self._root:
            return ClockSource.AUTO
        text: str = self._value(self._root, ("clock",), str)
        if text not in list(ClockSource):
            self._fail(("clock",), f"{text!r} is no clock source", _did_you_mean(text, ClockSource))
        return ClockSource(text)

    def _catalogue(self) -> RegisterCatalogue:
        if "registers_file" not in self._root:
            return shipped_catalogue()
        name: str = self._value(self._root, ("registers_file",), str)
        try:
            return RegisterCatalogue.decode((self._directory() / name).read_bytes())
        except OSError as error:
            self._fail(("registers_file",), f"{name!r} cannot be read: {error.strerror}")
        except CatalogueError as error:
            self._fail(("registers_file",), f"{name!r}: {error}")

    # --- the lines and their meters --------------------------------------------------------------

    def _line_configs(self, cycle_s: float) -> Iterator[LineConfig]:
        beneath = msgspec.structs.asdict(self._section("events", EventLimits))
        for index, table in enumerate(self._tables(self._root, ("line",))):
            path: KeyPath = ("line", index)
            known = ("driver", "name", "meter", *_CLOCK_KEYS)
            driver: str = self._value(table, (*path, "driver"), str)
            meters = [
                self._meter(meter, (*path, "meter", number))
                for number, meter in enumerate(self._tables(table, (*path, "meter")))
            ]
            settings = LineSettings(
                name=self._value(table, (*path, "name"), str),
                meters=meters,
                options={key: value for key, value in table.items() if key not in known},
                cycle_s=cycle_s,
                directory=self._directory(),
            )
            yield LineConfig(
                driver,
                settings,
                dict(self._limits(table, path, beneath)),
                dict(self._clock_steps(table, path)),
            )

    def _limits(
        self, line: dict[str, Any], path: KeyPath, beneath: Mapping[str, Any]
    ) -> Iterator[tuple[MeterSerial, EventLimits]]:
        """Yield each meter's limits: its own table over the gateway's."""
        for number, meter in enumerate(self._tables(line, (*path, "meter"))):
            place = (*path, "meter", number, "events")
            own = self._table(meter, place)
            yield MeterSerial(meter["serial"]), self._converted(own, place, EventLimits, beneath)

    def _clock_steps(
        self, line: dict[str, Any], path: KeyPath
    ) -> Iterator[tuple[MeterSerial, float]]:
        """Yield the meters whose clock may be set; a meter's own keys go before its line's."""
        for number, meter in enumerate(self._tables(line, (*path, "meter"))):
            said: dict[str, Any] = {"set_clock": False, "clock_step_s_max": CLOCK_STEP_S_MAX}
            for table, where in ((line, path), (meter, (*path, "meter", number))):
                for key, kind in _CLOCK_KEYS.items():
                    if key in table:
                        said[key] = self._value(table, (*where, key), kind)
            if said["set_clock"]:
                yield MeterSerial(meter["serial"]), said["clock_step_s_max"]

    def _meter(self, table: dict[str, Any], path: KeyPath) -> MeterSettings:
        serial: str = self._value(table, (*path, "serial"), str)
        if not is_id(serial):
            self._fail(
                (*path, "serial"),
                f"{serial[:80]!r} is not an id",
                "write 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit",
            )
        known = ("serial", "events", *_CLOCK_KEYS)
        options = {key: value for key, value in table.items() if key not in known}
        return MeterSettings(MeterSerial(serial), options)

    def _check_meters(self, config: GatewayConfig) -> None:
        names: dict[str, int] = {}
        serials: dict[str, KeyPath] = {}
        for index, line in enumerate(config.lines):
            name = line.settings.name
            if name in names:
                self._fail(("line", index, "name"), f"{name!r} is the name of another line too")
            names[name] = index
            for number, meter in enumerate(line.settings.meters):
                path = ("line", index, "meter", number, "serial")
                if meter.serial in serials:
                    first = self._lines[serials[meter.serial]]
                    self._fail(path, f"{meter.serial!r} stands in line {first} already")
                if str(meter.serial) == config.gateway_id:
                    # Events of the gateway itself carry its id as meterSerial (decision 0009).
                    self._fail(path, f"{meter.serial!r} is the gateway's own id")
                serials[meter.serial] = path
        if not serials:
            self._fail(("line",), "no meter is configured", "write a [[line.meter]] with a serial")
        if len(serials) > METERS_MAX:
            self._fail(("line",), f"{len(serials)} meters, at most {METERS_MAX} on one gateway")

    def _check_drivers(self, config: GatewayConfig, drivers: Mapping[str, type[Driver]]) -> None:
        for index, line in enumerate(config.lines):
            path: KeyPath = ("line", index)
            if line.driver not in drivers:
                remedy = _did_you_mean(line.driver, drivers) or "installed: " + ", ".join(drivers)
                self._fail((*path, "driver"), f"no driver {line.driver!r} is installed", remedy)
            try:
                drivers[line.driver].open(line.settings)
            except OptionsError as error:
                key = str(error.path[-1]) if error.path else ""
                said = "did you mean" in str(error)
                remedy = "" if said else _did_you_mean(key, error.known)
                self._fail((*path, *error.path), str(error), remedy)

    # --- tables and values -----------------------------------------------------------------------

    def _table(self, parent: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        table = parent.get(str(path[-1]), {})
        if not isinstance(table, dict):
            self._fail(path, "is a value", f"write a section [{_key(path)}]")
        return table

    def _tables(self, parent: dict[str, Any], path: KeyPath) -> Sequence[dict[str, Any]]:
        tables = parent.get(str(path[-1]), [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            name = ".".join(part for part in path if isinstance(part, str))
            self._fail(path, "is not a list of tables", f"write [[{name}]]")
        return tables

    def _value(self, table: Mapping[str, Any], path: KeyPath, kind: Any) -> Any:
        key = str(path[-1])
        if key not in table:
            self._fail(path, "is missing")
        try:
            if path in self._from_environment:
                return _from_text(table[key], kind)
            return msgspec.convert(table[key], kind)
        except msgspec.ValidationError as error:
            self._fail(path, _in_words(str(error), table[key]))

    def _known(self, table: Mapping[str, Any], path: KeyPath, known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                self._fail((*path, key), "unknown key", _did_you_mean(key, known))

    def _directory(self) -> Path:
        return self._file.parent

    def _fail(self, path: KeyPath, fault: str, remedy: str = "") -> NoReturn:
        if name := self._variable(path):
            raise ConfigError("environment", name, fault, remedy)
        raise ConfigError(f"{self._file}:{self._lines[path]}", _key(path), fault, remedy)

    def _variable(self, path: KeyPath) -> str | None:
        """Return the variable a value came from, or a section that is only in the environment."""
        for given, name in self._from_environment.items():
            if given == path or (given[: len(path)] == path and path not in self._lines):
                return name
        return None


def _key(path: KeyPath) -> str:
    """Print a path: ``line[0].meter[2].unit``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return one_line(text.removeprefix("."))


def _from_text(text: str, kind: Any) -> Any:
    """Convert a variable's text; a list is written as in TOML."""
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        try:
            value = read_toml(f"value = {text}")["value"]
        except TomlError:
            value = text
        return msgspec.convert(value, kind)


def _in_words(complaint: str, value: object) -> str:
    names = {"int": "a whole number", "str": "a text", "float": "a number", "bool": "true or false"}
    for name, words in names.items():
        complaint = complaint.replace(f"`{name}`", words)
    return f"{complaint[0].lower()}{complaint[1:]} ({str(value)[:80]!r})"


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(known)}" if known else ""


def _nearest_divisor(seconds: int) -> int:
    divisors = (n for n in range(1, _DAY_S + 1) if _DAY_S % n == 0)
    return min(divisors, key=lambda n: abs(n - seconds))
