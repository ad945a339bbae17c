"""``openami driver probe``: read a meter once, and show what stood on the line and what was made of it."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openami.cli.files import A_PATH
from openami.cli.meter_line import Place, pairs, place_of, place_options
from openami.cli.report import Exit, fail, print_json, print_table, say

if TYPE_CHECKING:
    from openami.gateway.driver import Driver, LineSettings
    from openami.gateway.driver_kit.probing import Probed

_SERIAL = "probed"
# A meter is asked as often as in a cycle of a minute: what its silence may cost is a share of it.
_CYCLE_S = 60.0


@click.command()
@click.argument("map_name", metavar="[MAP]", required=False)
@place_options
@click.option(
    "--unit", type=click.IntRange(1, 255), default=1, show_default=True, help="Its address."
)
@click.option("-c", "--config", "file", type=A_PATH, help="A gateway's TOML file instead.")
@click.option("--serial", "serial", metavar="SERIAL", help="Which meter of it; all without.")
@click.option(
    "--driver", "driver_name", default="modbus", show_default=True, help="Another driver …"
)
@click.option("--line", "line", multiple=True, metavar="KEY=VALUE", help="… its line's keys …")
@click.option("--meter", "meter", multiple=True, metavar="KEY=VALUE", help="… and its meter's.")
@click.option(
    "--golden", is_flag=True, help="Print [[golden]] tables for the map instead (Modbus)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a register.")
def probe(
    map_name: str | None,
    unit: int,
    file: Path | None,
    serial: str | None,
    driver_name: str,
    line: tuple[str, ...],
    meter: tuple[str, ...],
    golden: bool,
    as_json: bool,
    **place: Any,
) -> None:
    """Read a meter once: with MAP over options, or as a configuration names it.

    MAP is a shipped map or a file. Shows each register with the bytes behind it, its value and whether its range
    allows it. Nothing is written, stored or published. Exit code 1: a register was not read, or a value is
    outside its range; 3: the line or the meter does not answer.
    """
    if file is not None:
        _probe_configured(file, serial, as_json)
        return
    if driver_name == "modbus" and not line:
        if map_name is None:
            remedy = "name a shipped one (`openami driver test` lists them) or a file"
            fail("which map?", Exit.USAGE, remedy)
        rows = read_modbus(map_name, place_of(**place), unit, pairs(meter, "--meter"))
    else:
        named = {} if map_name is None else {"map": map_name}
        rows = _read_once(
            _driver(driver_name), pairs(line, "--line"), named | pairs(meter, "--meter")
        )
    if golden:
        _print_golden(driver_name, map_name, rows, unit)
    else:
        show(rows, None, as_json)
    _end(rows)


def read_modbus(
    map_name: str, place: Place, unit: int, more: Mapping[str, object] | None = None
) -> "list[Probed]":
    """Read a Modbus meter once; end the command when it does not answer."""
    options = {"unit": unit, "map": map_name, **(more or {})}
    return _read_once(_driver("modbus"), place.line_options, options)


def _read_once(
    driver: "type[Driver]", line: Mapping[str, object], meter: Mapping[str, object]
) -> "list[Probed]":
    from openami.gateway.driver import LineSettings, MeterSettings
    from openami.profile import MeterSerial

    meters = [MeterSettings(MeterSerial(_SERIAL), meter)]
    return _probed(driver, LineSettings("probe", meters, line, Path.cwd(), _CYCLE_S), _SERIAL)


def _probe_configured(file: Path, serial: str | None, as_json: bool) -> None:
    from openami.cli.gateway_config import loaded

    config = loaded(file)
    known = list(config.serials)
    if serial is not None and serial not in known:
        fail(f"{file} has no meter {serial!r}", Exit.USAGE, f"it has {', '.join(known)}")
    shown = [
        (each, meter.serial)
        for each in config.lines
        for meter in each.settings.meters
        if serial in (None, meter.serial)
    ]
    rows: list[Probed] = []
    silent: list[str] = []
    for each, meter_serial in shown:
        told = _answered(_driver(each.driver), each.settings, meter_serial)
        if isinstance(told, str):
            say(f"{meter_serial}: {told}")
            silent.append(meter_serial)
        else:
            show(told, meter_serial, as_json)
            rows += told
    if silent:
        fail(f"no answer from {', '.join(silent)}", Exit.CANNOT_CONNECT)
    _end(rows)


def _driver(name: str) -> "type[Driver]":
    from openami.gateway.installed_drivers import InstalledDrivers

    drivers = InstalledDrivers()
    if name not in drivers:
        fail(
            f"no driver is called {name!r}",
            Exit.USAGE,
            f"installed are {', '.join(sorted(drivers))}",
        )
    return drivers[name]


def _probed(driver: "type[Driver]", settings: "LineSettings", serial: str) -> "list[Probed]":
    told = _answered(driver, settings, serial)
    if isinstance(told, str):
        remedy = "`openami doctor meter` looks at the line" if driver.name == "modbus" else ""
        fail(told, Exit.CANNOT_CONNECT, remedy)
    return told


def _answered(
    driver: "type[Driver]", settings: "LineSettings", serial: str
) -> "list[Probed] | str":
    """Return what a meter holds, or why it does not tell."""
    from openami.gateway.driver import DriverError, OptionsError
    from openami.gateway.driver_kit import probing
    from openami.gateway.strict import dotted
    from openami.profile import MeterSerial

    try:
        return list(asyncio.run(probing.probe(driver, settings, MeterSerial(serial))))
    except OptionsError as error:
        fail(f"{dotted(error.path)}: {error}", Exit.USAGE)
    except DriverError as error:
        return str(error)


def show(rows: "Sequence[Probed]", serial: str | None, as_json: bool) -> None:
    """Print what was read, a register a line."""
    if as_json:
        for row in rows:
            print_json(_row(row) if serial is None else {"meterSerial": serial, **_row(row)})
        return
    if serial is not None:
        say(f"{serial}:")
    headings = ["register", "where", "raw", "value", "unit", ""]
    print_table(headings, [_cells(row) for row in rows])


def _row(row: "Probed") -> dict[str, object]:
    value = None if row.reading is None else row.reading.value
    return {
        "obis": str(row.info.obis),
        "where": row.where or None,
        "raw": row.raw.hex() or None,
        "value": value if value is None or isinstance(value, str | bool) else str(value),
        "unit": row.info.unit,
        "plausible": row.verdict.plausible,
        "reason": row.verdict.reason,
    }


_MARKS = {True: "ok", False: "WRONG", None: ""}


def _cells(row: "Probed") -> list[str]:
    from openami.cli.rows import printable

    mark = _MARKS[row.verdict.plausible]
    value = "–" if row.reading is None else printable(str(row.reading.value))
    return [
        str(row.info.obis),
        row.where or "–",
        row.raw.hex(" ") or "–",
        value,
        row.info.unit,
        ": ".join(filter(None, (mark, row.verdict.reason))),
    ]


def _print_golden(driver_name: str, map_name: str | None, rows: "list[Probed]", unit: int) -> None:
    if driver_name != "modbus" or map_name is None:
        fail("golden frames are Modbus maps'", Exit.USAGE)
    from openami.gateway.driver_kit.golden import golden_text
    from openami.gateway.drivers.modbus.map_files import load_map

    register_map = load_map(map_name)
    click.echo(golden_text(register_map, rows, unit=unit, name="what a meter answered"), nl=False)
    say("compare each value with the meter's display before you add these lines to the map")


def _end(rows: "Sequence[Probed]") -> None:
    wrong = [str(row.info.obis) for row in rows if row.verdict.plausible is False]
    if wrong:
        remedy = "`openami doctor meter` shows the bytes in every type and order"
        fail(f"look at {', '.join(wrong)}", Exit.FAILED, remedy)
