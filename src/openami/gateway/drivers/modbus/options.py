"""The options of a Modbus line and its meters, converted strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openami.gateway.breaker import SILENT_SHARE
from openami.gateway.driver import KeyPath, LineSettings, MeterSettings, OptionsError, RegisterInfo
from openami.gateway.drivers.modbus.map_files import load_map, shipped_maps
from openami.gateway.drivers.modbus.register_map import Ratio, RegisterMap, SerialDefaults
from openami.gateway.drivers.modbus.sunspec.chain import BASE_MAX, BASES
from openami.gateway.drivers.modbus.sunspec.layout import NAME as SUNSPEC
from openami.gateway.drivers.modbus.sunspec.layout import Discovery, undiscovered
from openami.gateway.line_options import check_endpoint, converted
from openami.gateway.map_files import MapError
from openami.gateway.strict import did_you_mean
from openami.profile import MeterSerial

# Modbus over TCP names a device without a bus behind it 255.
_TCP_DEVICE_UNIT: Final = 255
_SERIAL_UNIT_MAX: Final = 247
# A current transformer of 10,000 A to 1 A, a voltage transformer of 400 kV to 100 V: far inside. Values are
# computed exactly, so a ratio of 1e999999999 would not end.
RATIO_MIN: Final = Decimal("0.001")
RATIO_MAX: Final = Decimal(1_000_000)
# SunSpec has three; each that is not there costs a question when a meter is found out.
BASES_MAX: Final = 8


class Transport(StrEnum):
    """How the line is reached."""

    TCP = "tcp"
    """Modbus TCP: a meter with a network port, or a gateway that speaks MBAP."""
    RTU = "rtu"
    """A serial port of this machine, 8 data bits."""
    RTU_OVER_TCP = "rtu-over-tcp"
    """A serial device server that passes RTU frames through."""


_Seconds = Annotated[float, Meta(ge=0.005, le=3600)]
_Waits = Annotated[float, Meta(ge=0.005, le=30)]
_Base = Annotated[int, Meta(ge=0, le=BASE_MAX)]
_Baudrate = Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200]


class LineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a line's table."""

    transport: Transport
    host: Annotated[str, Meta(min_length=1)] | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] = 502
    device: Annotated[str, Meta(min_length=1)] | None = None
    baudrate: _Baudrate | None = None
    parity: Literal["N", "E", "O"] | None = None
    stopbits: Literal[1, 2] | None = None
    timeout_s: _Waits = 1.0
    """How long a meter may think; the time its bytes take on the line is added."""
    retries: Annotated[int, Meta(ge=0, le=5)] = 1
    silence_s: _Waits | None = None
    """How long a line must be silent after a fault before it is trusted; 0.4 s, on TCP 0.1 s."""
    late_reply_s: _Seconds = 120.0
    """How long an unanswered question may still be answered: two cycles."""
    silent_share: Annotated[float, Meta(ge=0.001, le=1)] = SILENT_SHARE
    """The share of a cycle that a dead meter may cost."""


class MeterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a meter's table."""

    unit: Annotated[int, Meta(ge=1, le=_TCP_DEVICE_UNIT)]
    map: Annotated[str, Meta(min_length=1)]
    identity: str | int | None = None
    """The serial number the meter itself tells; compared before any value is given out."""
    ct_ratio: Decimal | None = None
    pt_ratio: Decimal | None = None
    bases: Annotated[tuple[_Base, ...], Meta(min_length=1, max_length=BASES_MAX)] | None = None
    """Where a SunSpec meter's marker may stand."""
    model: Literal[201, 202, 203, 204, 211, 212, 213, 214] | None = None
    """Which of several SunSpec meter models is read."""
    positive_power: Literal["import", "export"] | None = None
    """Which way a SunSpec meter's positive power flows."""


_SUNSPEC_KEYS: Final = ("bases", "model", "positive_power")


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """One meter, its options understood."""

    serial: MeterSerial
    unit: int
    map: RegisterMap
    """What is known of its registers; of a SunSpec meter nothing, until it is asked."""
    identity: str | None
    ratios: Mapping[Ratio, Decimal]
    discovery: Discovery | None = None
    """How a SunSpec meter's registers are found."""

    @property
    def registers(self) -> tuple[RegisterInfo, ...]:
        """What the meter can be asked for."""
        if self.discovery is not None:
            return self.discovery.registers
        return tuple(register.info for register in self.map.registers.values())


@dataclass(frozen=True, slots=True)
class LinePlan:
    """One line, its options understood."""

    name: str
    options: LineOptions
    serial: SerialDefaults
    silence_s: float
    cycle_s: float
    meters: tuple[MeterPlan, ...]

    @property
    def place(self) -> str:
        """Name the line as its operator knows it, for messages."""
        if self.options.transport is Transport.RTU:
            return f"line {self.name!r} ({self.options.device})"
        return f"line {self.name!r} ({self.options.host}:{self.options.port})"

    def airtime_s(self, registers: int) -> float:
        """Return how long a read of so many registers occupies a serial line, both ways."""
        if self.options.transport is Transport.TCP:
            return 0.0
        characters = _REQUEST_BYTES + _ANSWER_BYTES_BESIDE_DATA + 2 * registers
        return characters * _BITS_PER_CHARACTER / self.serial.baudrate


_REQUEST_BYTES = 8  # unit, function, address, count, CRC
_ANSWER_BYTES_BESIDE_DATA = 5
_BITS_PER_CHARACTER = 11  # start, 8 data, parity or second stop, stop: the longest there is

# On a line, longer than the slowest answer seen; on TCP only a gateway behind it can be late.
_SILENCE_S: Final = {Transport.TCP: 0.1, Transport.RTU: 0.4, Transport.RTU_OVER_TCP: 0.4}
_ENDPOINT_KEYS: Final = {
    Transport.TCP: ("host", "port"),
    Transport.RTU: ("device", "baudrate", "parity", "stopbits"),
    # The far side's bit rate tells how long its frames take.
    Transport.RTU_OVER_TCP: ("host", "port", "baudrate"),
}


def line_plan(settings: LineSettings) -> LinePlan:
    """Understand a line's options and load its meters' maps. Raises OptionsError."""
    options = _convert_line(settings.options)
    meters = tuple(
        _meter_plan(meter, ("meter", at), options, settings.directory)
        for at, meter in enumerate(settings.meters)
    )
    _check_units(meters)
    silence_s = _SILENCE_S[options.transport] if options.silence_s is None else options.silence_s
    return LinePlan(
        name=settings.name,
        options=options,
        serial=_serial(options, meters),
        silence_s=silence_s,
        cycle_s=settings.cycle_s,
        meters=meters,
    )


def _convert_line(table: Mapping[str, object]) -> LineOptions:
    options = converted(table, LineOptions)
    check_endpoint(table, options.transport, _ENDPOINT_KEYS)
    return options


def _meter_plan(
    settings: MeterSettings, path: KeyPath, line: LineOptions, directory: Path
) -> MeterPlan:
    options = converted(_exact(settings.options), MeterOptions, path)
    if options.unit > _SERIAL_UNIT_MAX and not (
        line.transport is Transport.TCP and options.unit == _TCP_DEVICE_UNIT
    ):
        raise OptionsError(
            f"unit {options.unit} is no address of a meter: 1 to {_SERIAL_UNIT_MAX}, "
            f"on TCP also {_TCP_DEVICE_UNIT}",
            path=(*path, "unit"),
        )
    discovery = _discovery(options, path)
    register_map = (
        _load(options.map, directory, (*path, "map"))
        if discovery is None
        else undiscovered(discovery.bases[0])
    )
    return MeterPlan(
        serial=settings.serial,
        unit=options.unit,
        map=register_map,
        identity=_identity(options, register_map, path),
        ratios=_ratios(options, register_map, path),
        discovery=discovery,
    )


def _discovery(options: MeterOptions, path: KeyPath) -> Discovery | None:
    if options.map == SUNSPEC:
        return Discovery(
            bases=options.bases or BASES,
            model=options.model,
            export_is_positive=options.positive_power == "export",
        )
    for key in _SUNSPEC_KEYS:
        if getattr(options, key) is not None:
            raise OptionsError(f"{key!r} goes with map {SUNSPEC!r} alone", path=(*path, key))
    return None


def _exact(table: Mapping[str, object]) -> Mapping[str, object]:
    # A ratio written 0.1 is meant as a tenth.
    return {
        key: Decimal(repr(value)) if isinstance(value, float) else value
        for key, value in table.items()
    }


def _load(name: str, directory: Path, path: KeyPath) -> RegisterMap:
    try:
        return load_map(name, directory)
    except MapError as error:
        known = (*shipped_maps(), SUNSPEC)
        raise OptionsError(
            f"{error}{did_you_mean((name,), known)}", path=path, known=known
        ) from None


def _identity(options: MeterOptions, register_map: RegisterMap, path: KeyPath) -> str | None:
    if options.identity is None:
        return None
    # Where a SunSpec meter tells its own, and whether, is seen when it is found out.
    if register_map.identify is None and options.map != SUNSPEC:
        raise OptionsError(
            f"the map {register_map.id!r} does not say where this meter tells its serial number: "
            "leave `identity` out, or add [identify] to the map",
            path=(*path, "identity"),
        )
    return str(options.identity).strip()


def _ratios(
    options: MeterOptions, register_map: RegisterMap, path: KeyPath
) -> Mapping[Ratio, Decimal]:
    given = {Ratio.CT: options.ct_ratio, Ratio.PT: options.pt_ratio}
    ratios: dict[Ratio, Decimal] = {}
    for ratio, value in given.items():
        if ratio not in register_map.ratios:
            if value is not None:
                raise OptionsError(
                    f"the map {register_map.id!r} has nothing to multiply by {ratio.value}",
                    path=(*path, ratio.value),
                )
        elif value is None:
            raise OptionsError(
                f"the map {register_map.id!r} needs {ratio.value}: what the meter is configured "
                "with, 1 without a transformer",
                path=(*path, ratio.value),
            )
        elif not (value.is_finite() and RATIO_MIN <= value <= RATIO_MAX):
            raise OptionsError(
                f"{ratio.value} is a number from {RATIO_MIN} to {RATIO_MAX}, not {value}",
                path=(*path, ratio.value),
            )
        else:
            ratios[ratio] = value
    return ratios


def _check_units(meters: tuple[MeterPlan, ...]) -> None:
    seen: dict[int, MeterSerial] = {}
    for at, meter in enumerate(meters):
        if meter.unit in seen:
            raise OptionsError(
                f"unit {meter.unit} is {seen[meter.unit]}'s already: each meter on a line has "
                "its own address",
                path=("meter", at, "unit"),
            )
        seen[meter.unit] = meter.serial


def _serial(options: LineOptions, meters: tuple[MeterPlan, ...]) -> SerialDefaults:
    """Return how the port is set: what is configured, else what the meters' maps agree on."""
    given = {
        key: value
        for key in ("baudrate", "parity", "stopbits")
        if (value := getattr(options, key)) is not None
    }
    defaults = {meter.map.serial for meter in meters} or {SerialDefaults()}
    for key in ("baudrate", "parity", "stopbits"):
        found = {getattr(default, key) for default in defaults}
        if key not in given and len(found) > 1 and options.transport is Transport.RTU:
            raise OptionsError(
                f"the meters' maps differ in {key} ({', '.join(map(str, sorted(found)))}): "
                "say what the line is set to",
                path=(key,),
            )
    return msgspec.structs.replace(min(defaults, key=lambda default: default.baudrate), **given)
