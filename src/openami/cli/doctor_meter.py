"""``openami doctor meter``: why a meter is not read, or is read wrongly."""

import asyncio
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openami.cli.doctor_bytes import show_bytes
from openami.cli.meter_line import Place, place_of, place_options, port_at
from openami.cli.report import Exit, fail, print_json, say

if TYPE_CHECKING:
    from openami.gateway.doctor.spellings import Expected
    from openami.gateway.doctor.symptoms import Examination
    from openami.gateway.drivers.modbus.plan import Block
    from openami.gateway.drivers.modbus.register_map import RegisterMap
    from openami.gateway.scan import PortSetting
    from openami.profile import Obis

# What says most about a word order: every meter has a voltage, and everybody knows what it should be.
_TELLING = "32.7.0"


@dataclass(frozen=True, slots=True)
class _Case:
    """What is to be looked at."""

    place: Place | None
    setting: "PortSetting | None"
    unit: int
    block: "Block"
    expected: "Expected | None"
    value: bool
    """Whether the block is one value; otherwise only the line is looked at."""


@click.command()
@place_options
@click.option(
    "--unit", type=click.IntRange(1, 255), default=1, show_default=True, help="Its address."
)
@click.option("--address", metavar="N", help="The register, from 0: 0x0000 or 0.")
@click.option(
    "--count",
    type=click.Choice(["1", "2", "4"]),
    default="2",
    show_default=True,
    help="How many registers the value takes.",
)
@click.option(
    "--area",
    type=click.Choice(["holding", "input"]),
    default="holding",
    show_default=True,
    help="Function 3 or 4.",
)
@click.option("--map", "map_name", metavar="MAP", help="A register map instead, with --obis.")
@click.option(
    "--obis", metavar="CODE", help="Which register it is, for its range; 32.7.0 of a map without."
)
@click.option("--shows", metavar="VALUE", help="What the meter's display shows.")
@click.option("--raw", metavar="HEX", help="Bytes you have already: no meter is asked.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.05, 10),
    default=1.0,
    show_default=True,
    help="Seconds the meter may think.",
)
@click.option(
    "-c", "--config", "file", type=click.Path(path_type=Path), help="A gateway's TOML file …"
)
@click.option("--serial", metavar="SERIAL", help="… and which meter of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
def meter(
    unit: int,
    address: str | None,
    count: str,
    area: str,
    map_name: str | None,
    obis: str | None,
    shows: str | None,
    raw: str | None,
    timeout_s: float,
    file: Path | None,
    serial: str | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Look at a Modbus meter: what its line does, and its bytes in every type and order.

    The register's bytes are shown as every type in the four word and byte orders; what the register's range, or
    what the display shows (--shows), makes plausible is marked and written as the lines of a map. Of the line:
    silence, echo, checksum errors, exceptions, late answers and other settings, each with what to look at. Only
    reads are sent. Exit code 1: nothing plausible, or no good answer; 3: the port is not there.
    """
    shown = None if shows is None else _number(shows, "--shows")
    if raw is not None:
        case = _case_of(None, None, unit, "0", _registers_in(raw), area, map_name, obis)
        show_bytes(_hex(raw), _with_shown(case.expected, shown), as_json)
        return
    if file is not None:
        case = _configured(file, serial, obis)
    else:
        where = place_of(**place)
        case = _case_of(
            where, _setting(where, map_name), unit, address, int(count), area, map_name, obis
        )
    examination = _examined(case, timeout_s)
    _show_symptoms(examination, as_json)
    words = _good_bytes(examination)
    if words is None:
        fail("no good answer", Exit.FAILED)
    if case.value:
        show_bytes(words, _with_shown(case.expected, shown), as_json)


# --- the case ------------------------------------------------------------------------------------


def _case_of(
    place: Place | None,
    setting: "PortSetting | None",
    unit: int,
    address: str | None,
    count: int,
    area: str,
    map_name: str | None,
    obis: str | None,
) -> _Case:
    from openami.gateway.drivers.modbus.map_files import load_map
    from openami.gateway.drivers.modbus.plan import Block
    from openami.gateway.drivers.modbus.register_map import Area
    from openami.gateway.map_files import MapError

    if map_name is not None:
        try:
            register_map = load_map(map_name)
        except MapError as error:
            fail(str(error), Exit.USAGE)
        return _mapped(place, setting, unit, register_map, obis)
    at = 0 if address is None else _address(address)
    expected = None if obis is None else _listed(_obis(obis))
    block = Block(Area(area), at, count if address is not None else 1)
    return _Case(place, setting, unit, block, expected, value=address is not None)


def _mapped(
    place: Place | None,
    setting: "PortSetting | None",
    unit: int,
    register_map: "RegisterMap",
    obis: str | None,
) -> _Case:
    from openami.gateway.doctor.spellings import Expected
    from openami.gateway.drivers.modbus.plan import block_for

    code = _obis(obis or _TELLING)
    register = register_map.registers.get(code)
    if register is None:
        known = ", ".join(map(str, register_map.registers))
        fail(f"the map {register_map.id!r} has no {code}", Exit.USAGE, f"--obis is one of {known}")
    info = register.info
    expected = Expected(
        str(code),
        info.unit,
        None if info.minimum is None else Fraction(info.minimum),
        None if info.maximum is None else Fraction(info.maximum),
        (register.scale,),
    )
    return _Case(place, setting, unit, block_for(register.field), expected, value=True)


def _listed(code: "Obis") -> "Expected":
    from openami.gateway.doctor.spellings import TYPICAL, Expected
    from openami.profile import shipped_catalogue

    entry = shipped_catalogue().get(code)
    if entry is None:
        fail(
            f"{code} is not in the register list", Exit.USAGE, "`openami spec registers` lists them"
        )
    low, high = TYPICAL.get(str(code)) or entry.range or (None, None)
    return Expected(
        str(code),
        entry.unit,
        None if low is None else Fraction(low),
        None if high is None else Fraction(high),
    )


def _configured(file: Path, serial: str | None, obis: str | None) -> _Case:
    from openami.cli.gateway_config import loaded
    from openami.gateway.drivers.modbus.options import Transport, line_plan
    from openami.gateway.scan import PortSetting

    lines = [line.settings for line in loaded(file).lines if line.driver == "modbus"]
    plans = [line_plan(settings) for settings in lines]
    meters = [
        (plan, each) for plan in plans for each in plan.meters if serial in (None, each.serial)
    ]
    if not meters:
        fail(f"{file} has no Modbus meter" + f" {serial!r}" * (serial is not None), Exit.USAGE)
    plan, chosen = meters[0]
    options, told = plan.options, plan.serial
    rtu_over_tcp = options.transport is Transport.RTU_OVER_TCP
    place = Place(options.device, options.host, options.port, rtu_over_tcp, {})
    setting = PortSetting(told.baudrate, told.parity, told.stopbits) if options.device else None
    return _mapped(place, setting, chosen.unit, chosen.map, obis)


def _setting(place: Place, map_name: str | None) -> "PortSetting | None":
    """Return how the port is to be set: as the options say, else as the map's meter leaves the factory."""
    from openami.gateway.drivers.modbus.map_files import load_map
    from openami.gateway.map_files import MapError
    from openami.gateway.scan import PortSetting

    if place.device is None:
        return None
    usual = PortSetting(9600)
    if map_name is not None:
        try:
            told = load_map(map_name).serial
        except MapError as error:
            fail(str(error), Exit.USAGE)
        usual = PortSetting(told.baudrate, told.parity, told.stopbits)
    return replace(usual, **place.serial)  # type: ignore[arg-type]  # checked by click


# --- asking --------------------------------------------------------------------------------------


def _examined(case: _Case, timeout_s: float) -> "Examination":
    from openami.gateway.doctor.examining import examine
    from openami.gateway.driver import LineDown
    from openami.gateway.scan.framing import MbapFraming, RtuFraming
    from openami.gateway.scan.ports import SettingRefused

    assert case.place is not None
    over_tcp = case.place.device is None and not case.place.rtu
    framing = MbapFraming() if over_tcp else RtuFraming()
    port = port_at(case.place)
    say(
        f"asking unit {case.unit} for {case.block.area} 0x{case.block.address:04X} x{case.block.count} …"
    )

    async def asked() -> "Examination":
        try:
            return await examine(
                port, framing, case.unit, case.block, setting=case.setting, wait_s=timeout_s
            )
        finally:
            port.close()

    try:
        return asyncio.run(asked())
    except (LineDown, SettingRefused) as error:
        fail(str(error), Exit.CANNOT_CONNECT)


def _good_bytes(examination: "Examination") -> bytes | None:
    """Return the registers of the last good answer; nothing where it is an exception."""
    for exchange in reversed(examination.exchanges):
        for answer in exchange.heard.answers:
            if answer.unit == exchange.unit and not answer.is_exception:
                return answer.pdu[2:]
    return None


# --- showing -------------------------------------------------------------------------------------


def _show_symptoms(examination: "Examination", as_json: bool) -> None:
    from openami.gateway.doctor.symptoms import symptoms

    for one in symptoms(examination):
        if as_json:
            print_json({"sign": one.sign, "evidence": one.evidence, "lookAt": one.look_at})
        else:
            say(
                f"{one.sign}: {one.evidence}"
                + (f"\n  look at: {one.look_at}" if one.look_at else "")
            )


# --- options -------------------------------------------------------------------------------------


def _with_shown(expected: "Expected | None", shown: Fraction | None) -> "Expected | None":
    from openami.gateway.doctor.spellings import Expected

    if shown is None:
        return expected
    return replace(expected or Expected("the register"), shown=shown)


def _obis(code: str) -> "Obis":
    from openami.profile import Obis, ProfileError

    try:
        return Obis.parse(code)
    except ProfileError as error:
        fail(f"--obis: {error}", Exit.USAGE)


def _address(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFF:
        fail(
            f"--address {text!r} is no register",
            Exit.USAGE,
            "write 0x0000 to 0xFFFF, or 0 to 65535",
        )
    return number


def _number(text: str, option: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        fail(f"{option} {text!r} is no number", Exit.USAGE)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        fail(f"--raw {text!r} is not hex", Exit.USAGE, "write 43 66 80 00")


def _registers_in(text: str) -> int:
    count = len(_hex(text)) // 2
    if len(_hex(text)) not in (2, 4, 8):
        fail("--raw has one, two or four registers", Exit.USAGE, "2, 4 or 8 bytes")
    return count
