"""The options of an IEC 62056-21 line and its meters, converted strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openami.gateway.breaker import SILENT_SHARE
from openami.gateway.driver import KeyPath, LineSettings, MeterSettings, OptionsError
from openami.gateway.drivers.iec62056.characters import Parity
from openami.gateway.drivers.iec62056.dialogue import Manner
from openami.gateway.drivers.iec62056.map_files import load_map, shipped_maps
from openami.gateway.drivers.iec62056.messages import ADDRESS_CHARS_MAX, REACTION_S_MAX
from openami.gateway.drivers.iec62056.meter_map import MeterMap
from openami.gateway.drivers.iec62056.times import (
    UTC_OFFSET_MINUTES_MAX,
    UTC_OFFSET_MINUTES_MIN,
    Zone,
)
from openami.gateway.line_options import check_endpoint, converted
from openami.gateway.map_files import MapError
from openami.gateway.strict import did_you_mean
from openami.profile import MeterSerial


class Transport(StrEnum):
    """How the line is reached."""

    SERIAL = "serial"
    """A serial port of this machine: an optical head, RS-485 or a current loop."""
    TCP = "tcp"
    """A serial device server, which stays at one speed."""


_Waits = Annotated[float, Meta(ge=0.005, le=30)]
_Name = Annotated[str, Meta(min_length=1)]
_Baudrate = Literal[300, 600, 1200, 2400, 4800, 9600, 19200]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Address = Annotated[str, Meta(max_length=ADDRESS_CHARS_MAX, pattern=r"^[0-9A-Za-z ]*$")]


class LineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a line's table."""

    transport: Transport
    host: _Name | None = None
    port: _Port | None = None
    device: _Name | None = None
    baudrate: _Baudrate | None = None
    """At which a dialogue begins: 300, on TCP 9600."""
    baudrate_max: _Baudrate | None = None
    """To which a meter may change it; on TCP it stays as it is."""
    parity: Parity = Parity.EVEN
    timeout_s: _Waits = 2.0
    """How long a meter may be silent, before it speaks and while it does: 1.5 s, and half a second for adapters."""
    reaction_s: Annotated[float, Meta(ge=0.001, le=REACTION_S_MAX)] | None = None
    """How long a meter is left in peace before it is answered; as the standard has it."""
    retries: Annotated[int, Meta(ge=0, le=5)] = 1
    silence_s: _Waits = 2.0
    """How long a line must be silent after a fault: a meter that waits for us speaks again within 1.5 s."""
    silent_share: Annotated[float, Meta(ge=0.001, le=1)] = SILENT_SHARE
    """The share of a cycle that a dead meter may cost."""


class MeterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a meter's table."""

    map: _Name
    address: _Address | Annotated[int, Meta(ge=0)] = ""
    """The device address; none for the one meter of an optical head."""
    identity: str | int | None = None
    """The serial number the meter itself tells; compared before any value is given out."""
    utc_offset_minutes: (
        Annotated[int, Meta(ge=UTC_OFFSET_MINUTES_MIN, le=UTC_OFFSET_MINUTES_MAX)] | None
    ) = None


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """One meter, its options understood."""

    serial: MeterSerial
    address: str
    map: MeterMap
    identity: str | None
    zone: Zone


@dataclass(frozen=True, slots=True)
class LinePlan:
    """One line, its options understood."""

    name: str
    options: LineOptions
    manner: Manner
    cycle_s: float
    meters: tuple[MeterPlan, ...]

    @property
    def place(self) -> str:
        """Name the line as its operator knows it, for messages."""
        if self.options.transport is Transport.SERIAL:
            return f"line {self.name!r} ({self.options.device})"
        return f"line {self.name!r} ({self.options.host}:{self.options.port})"


_ENDPOINT_KEYS: Final = {
    Transport.SERIAL: ("device", "baudrate", "baudrate_max"),
    # The far side's speed tells how long its characters take, and what a meter is to be told.
    Transport.TCP: ("host", "port", "baudrate"),
}
_BAUDRATE: Final[Mapping[Transport, int]] = {Transport.SERIAL: 300, Transport.TCP: 9600}
_BAUDRATE_MAX: Final = 19200  # the last that an identification can name


def line_plan(settings: LineSettings) -> LinePlan:
    """Understand a line's options and load its meters' maps. Raises OptionsError."""
    options = converted(settings.options, LineOptions)
    check_endpoint(settings.options, options.transport, _ENDPOINT_KEYS)
    if options.transport is Transport.TCP and options.port is None:
        raise OptionsError("transport 'tcp' needs 'port'", path=("port",))
    meters = tuple(
        _meter_plan(meter, ("meter", at), settings.directory)
        for at, meter in enumerate(settings.meters)
    )
    _check_told_apart(meters)
    return LinePlan(settings.name, options, _manner(options), settings.cycle_s, meters)


def _manner(options: LineOptions) -> Manner:
    baudrate = options.baudrate or _BAUDRATE[options.transport]
    fastest = baudrate if options.transport is Transport.TCP else _BAUDRATE_MAX
    baudrate_max = options.baudrate_max or fastest
    if baudrate_max < baudrate:
        raise OptionsError(
            f"a dialogue begins at {baudrate} Bd and cannot end at {baudrate_max}",
            path=("baudrate_max",),
        )
    return Manner(
        baudrate=baudrate,
        baudrate_max=baudrate_max,
        parity=options.parity,
        reaction_s=options.reaction_s,
    )


def _meter_plan(settings: MeterSettings, path: KeyPath, directory: Path) -> MeterPlan:
    options = converted(settings.options, MeterOptions, path)
    meter_map = _load(options.map, directory, (*path, "map"))
    return MeterPlan(
        serial=settings.serial,
        address=str(options.address),
        map=meter_map,
        identity=_identity(options, meter_map, path),
        zone=Zone(options.utc_offset_minutes),
    )


def _load(name: str, directory: Path, path: KeyPath) -> MeterMap:
    try:
        return load_map(name, directory)
    except MapError as error:
        known = shipped_maps()
        raise OptionsError(
            f"{error}{did_you_mean((name,), known)}", path=path, known=known
        ) from None


def _identity(options: MeterOptions, meter_map: MeterMap, path: KeyPath) -> str | None:
    if options.identity is None:
        return None
    if not meter_map.identify:
        raise OptionsError(
            f"the map {meter_map.id!r} does not say where this meter tells its serial number: "
            "leave `identity` out, or add [identify] to the map",
            path=(*path, "identity"),
        )
    return str(options.identity).strip()


def _check_told_apart(meters: tuple[MeterPlan, ...]) -> None:
    """Where several meters share a line, each has an address and an identity of its own (decision 0054)."""
    if len(meters) == 1:
        return
    seen: dict[str, MeterSerial] = {}
    for at, meter in enumerate(meters):
        key = meter.address.lstrip("0")  # they need not be sent (6.3.1)
        if not key:
            raise OptionsError(
                "each meter of a line with several has an `address`: without one all would answer",
                path=("meter", at, "address"),
            )
        if key in seen:
            raise OptionsError(
                f"this address is {seen[key]}'s already: each meter on a line has its own",
                path=("meter", at, "address"),
            )
        seen[key] = meter.serial
        if meter.identity is None:
            raise OptionsError(
                "each meter of a line with several has an `identity`, the serial number it tells itself: "
                "data name no address, and a late answer would be taken for its neighbour's",
                path=("meter", at, "identity"),
            )
