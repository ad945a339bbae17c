"""``openami driver test``: a register map, or a driver, put to the test."""

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.meter_line import Place, endpoint
from openami.cli.report import Exit, fail, print_json, print_table, say

if TYPE_CHECKING:
    from openami.gateway.driver_kit.contract_run import Outcome
    from openami.gateway.driver_kit.map_checks import Check

_MODBUS_PORT = 502


@click.command()
@click.argument("name", metavar="[MAP|DRIVER]", required=False)
@click.option(
    "--driver",
    "driver_name",
    type=click.Choice(["modbus", "dlms", "iec62056-21"]),
    default="modbus",
    show_default=True,
    help="Whose map it is.",
)
@click.option("--against", metavar="PLACE", help="Read a meter too: HOST:PORT or a serial device.")
@click.option(
    "--rtu", is_flag=True, help="Behind HOST:PORT is a device server that passes RTU frames."
)
@click.option(
    "--unit", type=click.IntRange(1, 255), default=1, show_default=True, help="Its address."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check.")
def test(
    name: str | None, driver_name: str, against: str | None, rtu: bool, unit: int, as_json: bool
) -> None:
    """Test a register map (a file, or a shipped one), or an installed driver on its own bench.

    A map is read strictly, held against the register list, planned into reads and run over its golden frames. A
    driver runs the contract of `openami.gateway.driver_contract`. Without a name, both are listed.
    Exit code 1: something is wrong.
    """
    from openami.gateway.driver_kit.contract_run import benches
    from openami.gateway.installed_drivers import InstalledDrivers

    if name is None:
        _list(as_json)
    elif name in benches():
        _run_contract(name, as_json)
    elif name in InstalledDrivers():
        remedy = "a package names it by an entry point of openami.driver_benches (docs/drivers.md)"
        fail(f"the driver {name!r} brings no bench", Exit.USAGE, remedy)
    else:
        _test_map(name, driver_name, against, rtu, unit, as_json)


def _list(as_json: bool) -> None:
    from openami.gateway.driver_kit.contract_run import benches
    from openami.gateway.drivers.dlms import map_files as dlms
    from openami.gateway.drivers.iec62056 import map_files as iec62056
    from openami.gateway.drivers.modbus import map_files as modbus

    rows = [("modbus map", name) for name in modbus.shipped_maps()]
    rows += [("dlms map", name) for name in dlms.shipped_maps()]
    rows += [("iec62056-21 map", name) for name in iec62056.shipped_maps()]
    rows += [("driver", name) for name in benches()]
    if as_json:
        for kind, name in rows:
            print_json({"kind": kind, "name": name})
    else:
        print_table(["kind", "name"], [list(row) for row in rows])


# --- a map ---------------------------------------------------------------------------------------


def _test_map(
    name: str, driver_name: str, against: str | None, rtu: bool, unit: int, as_json: bool
) -> None:
    checks = (
        _modbus_checks(name) if driver_name == "modbus" else _meter_map_checks(name, driver_name)
    )
    wrong = _tell(checks, as_json)
    if against is not None:
        if driver_name != "modbus":
            fail(
                "--against reads Modbus meters",
                Exit.USAGE,
                f"`openami driver probe --driver {driver_name}`",
            )
        _read(name, _place(against, rtu), unit, as_json)
    if wrong:
        fail(f"{name}: {wrong} check{'s' * (wrong != 1)} failed", Exit.FAILED)


def _modbus_checks(name: str) -> "Iterable[Check]":
    from openami.gateway.driver_kit.map_checks import check_map
    from openami.gateway.drivers.modbus.map_files import load_map
    from openami.gateway.map_files import MapError
    from openami.profile import shipped_catalogue

    try:
        register_map = load_map(name)
    except MapError as error:
        fail(str(error), Exit.FAILED, _not_found(name))
    return check_map(register_map, shipped_catalogue())


def _meter_map_checks(name: str, driver_name: str) -> "Iterable[Check]":
    from openami.gateway.driver_kit.map_checks import check_registers
    from openami.gateway.drivers.dlms import map_files as dlms
    from openami.gateway.drivers.iec62056 import map_files as iec62056
    from openami.gateway.map_files import MapError
    from openami.profile import shipped_catalogue

    try:
        if driver_name == "dlms":
            infos = [register.info for register in dlms.load_map(name).registers.values()]
        else:
            infos = [register.info for register in iec62056.load_map(name).registers.values()]
    except MapError as error:
        fail(str(error), Exit.FAILED, _not_found(name))
    return check_registers(infos, shipped_catalogue())


def _not_found(name: str) -> str:
    if name.endswith(".toml"):
        return "" if Path(name).exists() else f"`openami driver new {Path(name).stem}` begins one"
    return "`openami driver test` lists maps and drivers"


def _tell(checks: "Iterable[Check]", as_json: bool) -> int:
    """Print the checks; return how many went wrong."""
    from openami.gateway.driver_kit.map_checks import Mark

    told = list(checks)
    if as_json:
        for check in told:
            print_json({"mark": check.mark, "what": check.what, "found": check.found})
    else:
        print_table(
            ["", "check", "found"], [[check.mark, check.what, check.found] for check in told]
        )
    return sum(check.mark is Mark.WRONG for check in told)


def _place(against: str, rtu: bool) -> Place:
    if against.startswith("/"):
        return Place(against, None, 0, rtu, {})
    host, port = endpoint(against, _MODBUS_PORT)
    return Place(None, host, port, rtu, {})


def _read(name: str, place: Place, unit: int, as_json: bool) -> None:
    from openami.cli.driver_probe import read_modbus, show

    rows = read_modbus(name, place, unit)
    show(rows, None, as_json)
    wrong = [str(row.info.obis) for row in rows if row.verdict.plausible is False]
    if wrong:
        fail(f"look at {', '.join(wrong)}", Exit.FAILED)


# --- a driver ------------------------------------------------------------------------------------


def _run_contract(name: str, as_json: bool) -> None:
    from openami.gateway.driver_kit.contract_run import run

    failed = 0

    def tell(outcome: "Outcome") -> None:
        nonlocal failed
        failed += outcome.broken is not None
        if as_json:
            print_json({"check": outcome.check, "broken": outcome.broken})
        else:
            mark = "ok   " if outcome.broken is None else "wrong"
            click.echo(
                f"{mark}  {outcome.check}" + (f": {outcome.broken}" if outcome.broken else "")
            )

    with tempfile.TemporaryDirectory() as directory:
        count = asyncio.run(run(name, Path(directory), tell))
    if failed:
        fail(f"{name} breaks {failed} of {count} checks of the driver contract", Exit.FAILED)
    say(f"{name} keeps the driver contract: {count} checks")
