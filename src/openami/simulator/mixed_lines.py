"""The lines of a mixed village: its meters as they answer, and as the gateway is told of them.

DLMS meters on the network are let in by keys (HLS-GMAC), those on the serial line by a password. Keys and counters
lie in files of the gateway's, as an operator would put them there, and are gone with the demo.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from openami.clock import Clock
from openami.gateway.drivers.iec62056.map_files import load_map
from openami.keyfiles import write_private
from openami.profile import MeterSerial
from openami.simulator.config_files import LinePlace, MeterPlace, Options
from openami.simulator.dlms.ciphering import Keys
from openami.simulator.dlms.lines import DlmsLine, hdlc_station, on_serial_line, on_tcp, wport
from openami.simulator.dlms.meter import DlmsMeter, MeterTime, new_challenge
from openami.simulator.dlms.objects import ControlMode
from openami.simulator.dlms.server import Access, Ciphered, Password, Public
from openami.simulator.faults import Fault, Readdressed, Silent
from openami.simulator.iec_line import IecLine
from openami.simulator.iec_meter import IecMeter
from openami.simulator.iec_server import serving_pty
from openami.simulator.lines import (
    Installed,
    VillageLine,
    head_meter,
    installed,
    live_on,
    measured_now,
    modbus_line,
    order_now,
)
from openami.simulator.mixed_plan import (
    CAPTURE_PERIOD,
    CLOCK_ERROR,
    SLOW_CLOCKS_PERIOD,
    LineName,
    MixedVillage,
)
from openami.simulator.serial_port import SerialPort
from openami.simulator.village import Village

_PUBLIC, _READER, _MANAGEMENT = 16, 32, 1  # clients, as meters commonly number them
_KEY_BYTES: Final = 16  # of AES-128
_PASSWORD_BYTES: Final = 6  # eight letters of base64, which is what meters commonly take
_PHYSICAL_FIRST: Final = 17  # physical devices count from 16 on, the first of which is reserved
_IEC_MAP: Final = "generic-single-phase"
# On RS-485 they stay at one speed. An optical head begins at 300 Bd, and both ends change it within 20 ms: of
# processes on a busy machine that is too much to ask.
_IEC_BAUDRATE: Final = 9600
# Simulated meters answer at once, unless the machine is busy; a serial line is drained before it is believed again.
_TIMEOUT_S: Final = 1.0
_SILENCE_S: Final = 0.1


@dataclass(slots=True)
class DlmsVillageLine:
    """DLMS meters behind a TCP port, or on a serial line when ``device`` says where."""

    name: str
    meters: Mapping[MeterSerial, DlmsMeter]
    places: Sequence[MeterPlace]
    device: Path | None = None
    port: SerialPort | None = None
    """While it is served on a serial line."""
    line: DlmsLine = field(init=False)

    def __post_init__(self) -> None:
        devices = {at: meter.device for at, meter in enumerate(self.meters.values(), 1)}
        self.line = DlmsLine(devices, wport if self.device is None else _on_the_line)

    @property
    def serials(self) -> Sequence[MeterSerial]:
        return list(self.meters)

    def address(self, serial: MeterSerial) -> int:
        """Return a meter's rightful place on the line."""
        return self.serials.index(serial) + 1

    def set_fault(self, serial: MeterSerial, fault: Fault | None) -> None:
        """See `openami.simulator.lines.VillageLine.set_fault`."""
        self.line.set_fault(self.address(serial), fault)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LinePlace]:
        """See `openami.simulator.lines.VillageLine.serving`."""
        if self.device is None:
            async with on_tcp(self.line) as port:
                yield self._place(transport="tcp", host="127.0.0.1", port=port)
        else:
            async with on_serial_line(self.line, self.device) as self.port:
                yield self._place(
                    transport="hdlc",
                    device=str(self.device),
                    baudrate=115200,
                    silence_s=_SILENCE_S,
                )

    def _place(self, **options: str | int | float | bool) -> LinePlace:
        return LinePlace(self.name, "dlms", {**options, "timeout_s": _TIMEOUT_S}, self.places)


def _on_the_line(address: int) -> bytes:
    return hdlc_station(1, _PHYSICAL_FIRST + address - 1)


@dataclass(slots=True)
class IecVillageLine:
    """Meters that read themselves out, on a serial line."""

    name: str
    meters: Mapping[MeterSerial, IecMeter]
    places: Sequence[MeterPlace]
    device: Path
    line: IecLine = field(init=False)

    def __post_init__(self) -> None:
        meters = {str(at): meter for at, meter in enumerate(self.meters.values(), 1)}
        self.line = IecLine(meters, baudrate=_IEC_BAUDRATE)

    @property
    def serials(self) -> Sequence[MeterSerial]:
        return list(self.meters)

    def set_fault(self, serial: MeterSerial, fault: Fault | None) -> None:
        """See `openami.simulator.lines.VillageLine.set_fault`."""
        self.line.set_fault(str(self.serials.index(serial) + 1), fault)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LinePlace]:
        """See `openami.simulator.lines.VillageLine.serving`."""
        async with serving_pty(self.line, self.device):
            options: Options = {
                "transport": "serial",
                "device": str(self.device),
                "baudrate": _IEC_BAUDRATE,
                "baudrate_max": _IEC_BAUDRATE,
            }
            yield LinePlace(self.name, "iec62056-21", options, self.places)


@dataclass(frozen=True, slots=True)
class MixedLines:
    """All lines of a mixed village, and the meters somebody has to lay hands on."""

    lines: tuple[VillageLine, ...]
    serial_line: DlmsVillageLine
    dlms_meters: Mapping[MeterSerial, DlmsMeter]

    def cut_serial_line(self) -> None:
        """Let the DLMS meters' serial port vanish, as when its adapter is pulled out."""
        assert self.serial_line.port is not None
        self.serial_line.port.unplug()

    def mend_serial_line(self) -> None:
        assert self.serial_line.port is not None
        self.serial_line.port.plug()


def mixed_lines(mixed: MixedVillage, village: Village, clock: Clock, directory: Path) -> MixedLines:
    """Put the meters up, one of them at a wrong address, and write their key files below a directory."""
    meters = {each.serial: each for each in (head_meter(mixed.plan), *installed(mixed.plan))}
    of_line = {
        name: [meters[serial] for serial in serials] for name, serials in mixed.lines.items()
    }
    keys = directory / "meter-keys"
    keys.mkdir(mode=0o700)
    putting_up = _PuttingUp(mixed, village, clock, keys, secrets.token_urlsafe(_PASSWORD_BYTES))
    modbus = (LineName.TRANSFORMER, LineName.MODBUS, LineName.SUNSPEC)
    by_keys = putting_up.dlms_line(LineName.DLMS_TCP, of_line[LineName.DLMS_TCP])
    serial_line = putting_up.dlms_line(
        LineName.DLMS_SERIAL, of_line[LineName.DLMS_SERIAL], directory / "dlms-line"
    )
    dlms_meters = {**by_keys.meters, **serial_line.meters}
    village.watch(
        CAPTURE_PERIOD // timedelta(milliseconds=1), partial(_capture, village, dlms_meters)
    )
    roles = mixed.roles
    serial_line.set_fault(roles.readdressed, Readdressed(serial_line.address(roles.neighbour)))
    by_modbus = [modbus_line(name, of_line[name], village, clock) for name in modbus]
    next(line for line in by_modbus if roles.dead in line.serials).set_fault(roles.dead, Silent())
    return MixedLines(
        (
            *by_modbus,
            by_keys,
            serial_line,
            putting_up.iec_line(of_line[LineName.IEC], directory / "iec-line"),
        ),
        serial_line,
        dlms_meters,
    )


def _capture(village: Village, meters: Mapping[MeterSerial, DlmsMeter]) -> None:
    at = datetime.fromtimestamp(village.now_ms // 1000, UTC)
    for serial, meter in meters.items():
        if (at - _EPOCH) % meter.period == timedelta():
            meter.capture(village.measured(serial), at)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _PuttingUp:
    """What every meter that is put up needs."""

    mixed: MixedVillage
    village: Village
    clock: Clock
    keys: Path
    password: str
    """Of the serial line's meters: they come with the one their maker gave them all."""

    def dlms_line(
        self, name: LineName, meters: Sequence[Installed], device: Path | None = None
    ) -> DlmsVillageLine:
        found: dict[MeterSerial, DlmsMeter] = {}
        places = []
        for at, meter in enumerate(meters):
            client, access, file = self._access(meter.serial, by_keys=device is None)
            found[meter.serial] = self._dlms_meter(meter, {_PUBLIC: Public(), client: access})
            options: dict[str, str | int | float | bool] = {
                "client": client,
                "keys": str(file),
                "identity": str(meter.maker_number),
                "code_system": "idis",
            }
            if meter.serial == self.mixed.roles.slow_clock:
                options["set_clock"] = True
            options |= {"server": at + 1} if device is None else {"physical": _PHYSICAL_FIRST + at}
            places.append(MeterPlace(meter.serial, options))
        return DlmsVillageLine(name, found, places, device)

    def _dlms_meter(self, meter: Installed, clients: Mapping[int, Access]) -> DlmsMeter:
        roles = self.mixed.roles
        slow, button = meter.serial == roles.slow_clock, meter.serial == roles.button
        return DlmsMeter(
            partial(measured_now, self.village, self.clock, meter.serial),
            partial(order_now, self.village, self.clock, meter.serial),
            MeterTime(self._now, CLOCK_ERROR if slow else timedelta()),
            serial_number=str(meter.maker_number),
            clients=clients,
            utc_offset_minutes=self.mixed.plan.utc_offset_minutes,
            period=SLOW_CLOCKS_PERIOD if slow else CAPTURE_PERIOD,
            control_mode=ControlMode.BUTTON if button else ControlMode.DIRECT,
        )

    def _now(self) -> datetime:
        # Whoever asks a meter for its time may ask for its load profile next: it has come this far.
        live_on(self.village, self.clock)
        return self.clock.now()

    def _access(self, serial: MeterSerial, *, by_keys: bool) -> tuple[int, Access, Path]:
        """Return as which client the gateway comes, how the meter knows it, and the file that says so."""
        file = self.keys / f"{serial}.toml"
        if not by_keys:
            write_private(file, f'password = "{self.password}"\n'.encode())
            return _READER, Password(self.password.encode()), file
        keys = Keys(secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_KEY_BYTES))
        text = (
            f'encryption_key = "{keys.encryption.hex()}"\n'
            f'authentication_key = "{keys.authentication.hex()}"\n'
            'system_title = "4f50454e44454d4f"\n'
        )
        write_private(file, text.encode())
        write_private(file.with_suffix(".counter"), b"0\n")
        return _MANAGEMENT, Ciphered(keys, new_challenge), file

    def iec_line(self, meters: Sequence[Installed], device: Path) -> IecVillageLine:
        meter_map = load_map(_IEC_MAP)
        offset = self.mixed.plan.utc_offset_minutes
        found = {
            meter.serial: IecMeter(
                meter_map,
                partial(measured_now, self.village, self.clock, meter.serial),
                maker_number=meter.maker_number,
                utc_offset_minutes=offset,
            )
            for meter in meters
        }
        places = [
            MeterPlace(
                meter.serial,
                {
                    "map": _IEC_MAP,
                    "address": str(at),
                    "identity": str(meter.maker_number),
                    "utc_offset_minutes": offset,
                },
            )
            for at, meter in enumerate(meters, 1)
        ]
        return IecVillageLine(LineName.IEC, found, places, device)
