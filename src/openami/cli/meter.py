"""``openami meter``: the meters the head-end has heard of, and their readings."""

import csv
import sys
from datetime import datetime
from typing import Any

import click

from openami.cli.meter_assets import protect, swap, unprotect
from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import (
    Row,
    cells,
    conflict_row,
    event_row,
    finding_row,
    meter_row,
    print_rows,
    reading_row,
)
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.states import meter_state, states_of
from openami.headend.store import MeterRow, Store
from openami.profile import Obis, ProfileError

_LIST = ("meterSerial", "state", "feederId", "gatewayId", "lastTs", "lastSeen")
_READING = ("ts", "obis", "value", "unit", "quality", "receivedAt")
# Wide enough for what is usual, so that rows can be printed as they come from the store.
_READING_WIDTHS = (24, 9, 14, 8, 10, 0)
_READING_CSV = ("feederId", "meterSerial", *_READING)
# What `show` prints of each kind; `--json` and the store have the rest.
_SHOWN_MAX = 20


@click.group()
def meter() -> None:
    """Meters and their readings, as the head-end has stored them."""


@meter.command("list")
@click.option("--feeder", metavar="F", help="Only this feeder's meters.")
@store_option
@json_option
def list_meters(feeder: str | None, store: str, as_json: bool) -> None:
    """List the meters and their states."""
    now = SystemClock().now()

    async def read(open_store: Store) -> list[Row]:
        meters = await open_store.meters(feeder_id=feeder)
        gateways = await open_store.gateways(feeder)
        return [meter_row(row, state) for row, state in states_of(meters, gateways, now=now)]

    rows = with_store(store, read)
    headings = ["METER", "STATE", "FEEDER", "GATEWAY", "MEASURED", "RECEIVED"]
    print_rows(rows, _LIST, as_json=as_json, headings=headings)


@meter.command()
@click.argument("serial")
@click.option("--feeder", metavar="F", help="Its feeder, where two have a meter of this serial.")
@store_option
@json_option
def show(serial: str, feeder: str | None, store: str, as_json: bool) -> None:
    """Show a meter: its state, its latest registers, what to look at."""
    now = SystemClock().now()

    async def read(open_store: Store) -> Row:
        found = await _the_meter(open_store, serial, feeder)
        here = {"feeder_id": found.feeder_id, "meter_serial": found.meter_serial}
        gateways = await open_store.gateways(found.feeder_id)
        gateway = next((g for g in gateways if g.gateway_id == found.gateway_id), None)
        latest = await open_store.latest(found.feeder_id, found.meter_serial)
        events = await open_store.events(**here, at_most=_SHOWN_MAX)
        findings = await open_store.findings(**here, at_most=_SHOWN_MAX)
        conflicts = await open_store.conflicts(found.feeder_id, found.meter_serial)
        return {
            **meter_row(found, meter_state(found, gateway, now=now)),
            "latest": [reading_row(reading) for reading in latest],
            "findings": [finding_row(finding) for finding in findings],
            "events": [event_row(event) for event in events],
            "conflicts": [conflict_row(conflict) for conflict in conflicts[:_SHOWN_MAX]],
        }

    row = with_store(store, read)
    if as_json:
        print_json(row)
    else:
        _print_meter(row)


def _print_meter(row: Row) -> None:
    click.echo(f"{row['meterSerial']}  {row['state']}")
    click.echo(f"feeder {row['feederId']} · gateway {row['gatewayId']}")
    click.echo(f"last measured {row['lastTs']} · received {row['lastSeen']}\n")
    print_table([name.upper() for name in _READING], [cells(r, _READING) for r in row["latest"]])
    sections: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("findings", ("lastSeen", "code", "obis", "count", "detail")),
        ("events", ("occurredAt", "type", "state", "severity")),
    )
    for name, columns in sections:
        if row[name]:
            click.echo()
            print_table(
                [name.upper(), *("" for _ in columns[1:])], [cells(r, columns) for r in row[name]]
            )
    for conflict in row["conflicts"]:
        kept, other = conflict["kept"], conflict["other"]
        click.echo(
            f"\nconflict at {kept['ts']} in {kept['obis']}: {kept['value']} {kept['unit']} is in "
            f"force, {other['value']} {other['unit']} came later ({other['receivedAt']})"
        )


@meter.command()
@click.argument("serial")
@click.option("--feeder", metavar="F", help="Its feeder, where two have a meter of this serial.")
@click.option("--obis", metavar="O", help="Only this register, e.g. 1.8.0.")
@click.option("--since", callback=as_moment, help="From: 90m, 12h, 7d, 4w ago, or a date or time.")
@click.option("--until", callback=as_moment, help="Up to, not included.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a line of headings.")
@store_option
@json_option
def readings(
    serial: str,
    feeder: str | None,
    obis: str | None,
    since: datetime | None,
    until: datetime | None,
    as_csv: bool,
    store: str,
    as_json: bool,
) -> None:
    """Print a meter's readings by measured time; all of them, unless --since or --until say less."""
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    try:
        code = None if obis is None else Obis.parse(obis)
    except ProfileError as error:
        raise click.UsageError(f"--obis: {error.detail}") from None
    show_row = _csv_printer() if as_csv else print_json if as_json else _row_printer()

    async def read(open_store: Store) -> int:
        found = await _the_meter(open_store, serial, feeder)
        count = 0
        async for reading in open_store.readings(
            found.feeder_id, found.meter_serial, obis=code, since=since, until=until
        ):
            show_row(reading_row(reading))
            count += 1
        return count

    if not with_store(store, read):
        say("no readings in this time" if since or until or obis else "no readings")


meter.add_command(swap)
meter.add_command(protect)
meter.add_command(unprotect)


def _row_printer() -> Any:
    def show_row(values: list[str]) -> None:
        widths = zip(values, _READING_WIDTHS, strict=True)
        click.echo("  ".join(value.ljust(width) for value, width in widths).rstrip())

    show_row([name.upper() for name in _READING])
    return lambda row: show_row(cells(row, _READING))


def _csv_printer() -> Any:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_READING_CSV)
    return lambda row: writer.writerow([_csv_cell(row[name]) for name in _READING_CSV])


def _csv_cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


async def _the_meter(store: Store, serial: str, feeder: str | None) -> MeterRow:
    """Return the one meter that is meant; end the command where there is none, or more than one."""
    found = await store.meters(feeder_id=feeder, meter_serial=serial)
    if not found:
        where = "" if feeder is None else f" on feeder {feeder}"
        fail(
            f"no meter {serial!r} was ever heard of{where}",
            Exit.FAILED,
            "`openami meter list` names those that were",
        )
    if len(found) > 1:
        feeders = ", ".join(sorted(row.feeder_id for row in found))
        fail(
            f"meter {serial!r} exists on more than one feeder: {feeders}",
            Exit.USAGE,
            "say which with --feeder",
        )
    return found[0]
