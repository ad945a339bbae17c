"""The options of a DLMS line and its meters, converted strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openami.gateway.breaker import SILENT_SHARE
from openami.gateway.driver import KeyPath, LineSettings, MeterSettings, OptionsError
from openami.gateway.drivers.dlms import hdlc
from openami.gateway.drivers.dlms.key_file import KeySet, Password, read_key_file
from openami.gateway.drivers.dlms.map_files import load_map, shipped_maps
from openami.gateway.drivers.dlms.meter_map import MeterMap
from openami.gateway.drivers.dlms.times import DeviationSign, Zone
from openami.gateway.line_options import check_endpoint, converted
from openami.gateway.map_files import MapError
from openami.gateway.strict import did_you_mean
from openami.private_files import KeyFileError
from openami.profile import MeterSerial
from openami.profile.event import EVENT_NAME_PATTERN


class Transport(StrEnum):
    """How the line is reached."""

    TCP = "tcp"
    """The wrapper on TCP: a meter or a concentrator with a network port."""
    HDLC = "hdlc"
    """HDLC on a serial port of this machine, 8 data bits."""
    HDLC_OVER_TCP = "hdlc-over-tcp"
    """A serial device server that passes HDLC frames through."""


_Waits = Annotated[float, Meta(ge=0.005, le=30)]
_Name = Annotated[str, Meta(min_length=1)]
_Baudrate = Literal[300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_CodeSystem = Annotated[str, Meta(pattern=f"^{EVENT_NAME_PATTERN}$")]


class LineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a line's table."""

    transport: Transport
    host: _Name | None = None
    port: _Port = 4059
    device: _Name | None = None
    baudrate: _Baudrate = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    timeout_s: _Waits = 2.0
    """How long a meter may think; the time its bytes take on the line is added."""
    retries: Annotated[int, Meta(ge=0, le=5)] = 1
    silence_s: _Waits = 0.4
    """How long a serial line must be silent after a fault before it is trusted."""
    silent_share: Annotated[float, Meta(ge=0.001, le=1)] = SILENT_SHARE
    """The share of a cycle that a dead meter may cost."""


class MeterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a meter's table."""

    client: _Port = 16
    server: _Port = 1
    physical: Annotated[int, Meta(ge=0, le=0x3FFF)] | None = None
    address_bytes: Literal[1, 2, 4] | None = None
    map: _Name = "single-phase-prepaid"
    keys: _Name | None = None
    """The meter's key file; without one we come as the public client, with no password."""
    identity: str | int | None = None
    """The serial number the meter itself tells; compared before any value is given out."""
    code_system: _CodeSystem | None = None
    """Whose numbering the codes of its event logs are of, where it is not the map's."""
    deviation: DeviationSign = DeviationSign.STANDARD
    utc_offset_minutes: Annotated[int, Meta(ge=-720, le=840)] | None = None


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """One meter, its options understood."""

    serial: MeterSerial
    client: int
    server: int
    client_address: bytes
    """On an HDLC line; empty on the wrapper, as is the server's."""
    server_address: bytes
    map: MeterMap
    access: Password | KeySet | None
    identity: str | None
    zone: Zone


@dataclass(frozen=True, slots=True)
class LinePlan:
    """One line, its options understood."""

    name: str
    options: LineOptions
    cycle_s: float
    meters: tuple[MeterPlan, ...]

    @property
    def place(self) -> str:
        """Name the line as its operator knows it, for messages."""
        if self.options.transport is Transport.HDLC:
            return f"line {self.name!r} ({self.options.device})"
        return f"line {self.name!r} ({self.options.host}:{self.options.port})"

    def airtime_s(self, octets: int) -> float:
        """Return how long so many bytes and the longest frame in answer occupy a serial line."""
        if self.options.transport is Transport.TCP:
            return 0.0
        return (octets + _ANSWER_BYTES) * _BITS_PER_CHARACTER / self.options.baudrate


_ANSWER_BYTES: Final = 270  # the largest information we propose, with its frame
_BITS_PER_CHARACTER: Final = 11  # start, 8 data, parity or second stop, stop: the longest there is

_ENDPOINT_KEYS: Final = {
    Transport.TCP: ("host", "port"),
    Transport.HDLC: ("device", "baudrate", "parity", "stopbits"),
    # The far side's bit rate tells how long its frames take.
    Transport.HDLC_OVER_TCP: ("host", "port", "baudrate"),
}
_HDLC_CLIENT_MAX: Final = 0x7F  # one byte on the line, seven bits of it


def line_plan(settings: LineSettings) -> LinePlan:
    """Understand a line's options, load its meters' maps and keys. Raises OptionsError."""
    options = _convert_line(settings.options)
    meters = tuple(
        _meter_plan(meter, ("meter", at), options, settings.directory)
        for at, meter in enumerate(settings.meters)
    )
    _check_addresses(meters)
    return LinePlan(settings.name, options, settings.cycle_s, meters)


def _convert_line(table: Mapping[str, object]) -> LineOptions:
    options = converted(table, LineOptions)
    check_endpoint(table, options.transport, _ENDPOINT_KEYS)
    return options


def _meter_plan(
    settings: MeterSettings, path: KeyPath, line: LineOptions, directory: Path
) -> MeterPlan:
    options = converted(settings.options, MeterOptions, path)
    meter_map = _load(options.map, directory, (*path, "map"))
    if options.code_system is not None:
        meter_map = meter_map.numbered_by(options.code_system)
    client_address, server_address = _addresses(options, line, path)
    return MeterPlan(
        serial=settings.serial,
        client=options.client,
        server=options.server,
        client_address=client_address,
        server_address=server_address,
        map=meter_map,
        access=_access(options, directory, path),
        identity=_identity(options, meter_map, path),
        zone=Zone(options.deviation, options.utc_offset_minutes),
    )


def _addresses(options: MeterOptions, line: LineOptions, path: KeyPath) -> tuple[bytes, bytes]:
    """Return client and server address as on an HDLC line; on the wrapper there are none."""
    if line.transport is Transport.TCP:
        for key in ("physical", "address_bytes"):
            if getattr(options, key) is not None:
                raise OptionsError(
                    f"{key!r} is of HDLC lines; on tcp, `server` alone names the meter",
                    path=(*path, key),
                )
        return b"", b""
    if options.client > _HDLC_CLIENT_MAX:
        raise OptionsError(
            f"on an HDLC line a client is 1 to {_HDLC_CLIENT_MAX}", path=(*path, "client")
        )
    try:
        server = hdlc.server_address(options.server, options.physical, size=options.address_bytes)
    except ValueError as error:
        raise OptionsError(str(error), path=(*path, "server")) from None
    return hdlc.client_address(options.client), server


def _load(name: str, directory: Path, path: KeyPath) -> MeterMap:
    try:
        return load_map(name, directory)
    except MapError as error:
        known = shipped_maps()
        raise OptionsError(
            f"{error}{did_you_mean((name,), known)}", path=path, known=known
        ) from None


def _access(options: MeterOptions, directory: Path, path: KeyPath) -> Password | KeySet | None:
    if options.keys is None:
        return None
    try:
        return read_key_file(directory / options.keys)
    except KeyFileError as error:
        raise OptionsError(f"{error}; {error.remedy}", path=(*path, "keys")) from None


def _identity(options: MeterOptions, meter_map: MeterMap, path: KeyPath) -> str | None:
    if options.identity is None:
        return None
    if meter_map.identify is None:
        raise OptionsError(
            f"the map {meter_map.id!r} does not say where this meter tells its serial number: "
            "leave `identity` out, or add [identify] to the map",
            path=(*path, "identity"),
        )
    return str(options.identity).strip()


def _check_addresses(meters: tuple[MeterPlan, ...]) -> None:
    seen: dict[tuple[int, bytes], MeterSerial] = {}
    for at, meter in enumerate(meters):
        key = (meter.server if not meter.server_address else 0, meter.server_address)
        if key in seen:
            raise OptionsError(
                f"this address is {seen[key]}'s already: each meter on a line has its own",
                path=("meter", at, "server"),
            )
        seen[key] = meter.serial
