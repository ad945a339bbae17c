"""The bench scan: every configured line searched, or, where no search knows the protocol, asked by its driver."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from openami.gateway.commissioning.bench import ScannedLine, configured_place
from openami.gateway.config import LineConfig
from openami.gateway.driver import Driver, DriverError, IdentityMismatch, Meter
from openami.gateway.scan import PortSetting, Protocol, ScanResult
from openami.gateway.scan.ports import NetworkPort, Port, SerialPort
from openami.gateway.scan.scanning import Progress, run
from openami.gateway.scan.search import (
    SETTINGS,
    Search,
    Wanted,
    network_search,
    serial_search,
)
from openami.sip.commissioning import WORDS_CHARS_MAX, BenchFinding, BenchVerdict

# A driver has its own deadlines; this one is for a driver that does not, on a line of slow meters.
METER_TIMEOUT_S: Final = 20.0
# Where a line does not name its port: Modbus TCP's own, and that of the DLMS wrapper.
_PORTS: Final = {"modbus": 502, "dlms": 4059}
# By driver and transport: what is not configured would cost minutes of waiting for answers that cannot come.
_PROTOCOLS: Final = {
    ("modbus", "rtu"): Protocol.MODBUS_RTU,
    ("modbus", "rtu-over-tcp"): Protocol.MODBUS_RTU,
    ("modbus", "tcp"): Protocol.MODBUS_TCP,
    ("dlms", "hdlc"): Protocol.DLMS_HDLC,
    ("dlms", "hdlc-over-tcp"): Protocol.DLMS_HDLC,
    ("dlms", "tcp"): Protocol.DLMS_TCP,
}


def is_searchable(line: LineConfig) -> bool:
    """Whether a search knows the line's protocol."""
    return _protocol(line) is not None


def _protocol(line: LineConfig) -> Protocol | None:
    return _PROTOCOLS.get((line.driver, str(line.settings.options.get("transport"))))


async def search_line(
    line: LineConfig,
    *,
    within_s: float,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ScannedLine:
    """Search a line; its own setting first. Raises LineDown where the port cannot be had."""
    setting = configured_setting(line)
    port, search = _port_and_search(line, setting)
    result: ScanResult = await run(search, port, within_s=within_s, on_progress=on_progress)
    return ScannedLine(line, result, setting)


def configured_setting(line: LineConfig) -> PortSetting | None:
    """Return how a serial line is configured; None where its table leaves it to the maps."""
    options = line.settings.options
    baudrate = options.get("baudrate")
    if "device" not in options or not isinstance(baudrate, int):
        return None
    parity, stopbits = options.get("parity", "N"), options.get("stopbits", 1)
    return PortSetting(baudrate, parity, cast(int, stopbits))  # type: ignore[arg-type]  # its driver has checked it


def _port_and_search(line: LineConfig, setting: PortSetting | None) -> tuple[Port, Search]:
    options, protocol = line.settings.options, _protocol(line)
    assert protocol is not None, "only what is searchable is searched"
    physical = tuple(
        number
        for meter in line.settings.meters
        if isinstance(number := meter.options.get("physical"), int)
    )
    settings = SETTINGS if setting is None else (setting, *(s for s in SETTINGS if s != setting))
    wanted = Wanted(
        protocols=frozenset({protocol}),
        settings=settings,
        physical=physical,
    )
    if "device" in options:
        return SerialPort(str(options["device"])), serial_search(wanted)
    port = options.get("port", _PORTS.get(line.driver, 0))
    assert isinstance(port, int)
    return NetworkPort(str(options["host"]), port), network_search(wanted, port)


async def ask_line(line: LineConfig, driver: type[Driver]) -> list[BenchFinding]:
    """Ask each configured meter through its driver: what else is on the line is not seen. Raises DriverError."""
    found = []
    async with driver.open(line.settings) as opened:
        for settings in line.settings.meters:
            verdict, told, words, remedy = await _asked(opened.meters[settings.serial])
            found.append(
                BenchFinding(
                    line=line.settings.name,
                    address=configured_place(settings),
                    verdict=verdict,
                    meter=settings.serial,
                    told=told,
                    words=words,
                    remedy=remedy,
                )
            )
    return found


async def _asked(meter: Meter) -> tuple[BenchVerdict, str | None, str, str]:
    try:
        async with asyncio.timeout(METER_TIMEOUT_S):
            await meter.read([info.obis for info in meter.registers])
    except IdentityMismatch as error:
        return (
            BenchVerdict.WRONG_SERIAL,
            error.found,
            f"it says it is {error.found}, configured is {error.expected}",
            "correct `identity`, or put the right meter there",
        )
    except (DriverError, TimeoutError) as error:
        words = str(error) or f"no answer within {METER_TIMEOUT_S:g} s"
        return (
            BenchVerdict.NOT_FOUND,
            None,
            words[:WORDS_CHARS_MAX],
            "is it powered, and set as configured?",
        )
    return BenchVerdict.FOUND, None, "read through its driver", ""
