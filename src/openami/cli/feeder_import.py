"""``openami feeder import`` and ``template``: what stands in the village, from a sheet."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.command_rows import who_asks
from openami.cli.files import A_FILE
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import Row, printable
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.store import Access

if TYPE_CHECKING:
    from openami.headend.assets.importing import Changed, ImportPlan
    from openami.headend.assets.tables import RowFault
    from openami.headend.store.commands import HeadEndStore

# What a person corrects in one sitting; the file is read again anyway.
FAULTS_SHOWN_MAX = 200


@click.command("import")
@click.argument("file", metavar="FILE", type=A_FILE)
@click.option("--feeder", "feeder_id", metavar="F", help="The feeder of rows that name none.")
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option("--skip-bad-rows", is_flag=True, help="Let the sound rows in, leave the others out.")
@store_option
@json_option
def import_assets(
    file: Path, feeder_id: str | None, dry_run: bool, skip_bad_rows: bool, store: str, as_json: bool
) -> None:
    """Tell the head-end of poles, meters, customers and tariffs: from XLSX, CSV or GeoJSON.

    Nothing is let in while a row has a fault, unless --skip-bad-rows. The same file again changes nothing; an empty
    cell leaves what is known, a dash takes it away. Exit code 1: there are rows with faults.
    """
    from openami.headend import asset_changes
    from openami.headend.assets.changes import AssetsRefused
    from openami.headend.assets.spreadsheet import FILE_BYTES_MAX, FileRefused

    with file.open("rb") as opened:
        # One byte more than may be: then it is refused, whatever its size.
        data = opened.read(FILE_BYTES_MAX + 1)
    given = asset_changes.AssetFile(file.name, data, feeder_id)

    async def run(open_store: "HeadEndStore") -> "ImportPlan":
        return await asset_changes.import_assets(
            open_store,
            given,
            who=who_asks(),
            now=SystemClock().now(),
            skip_bad_rows=skip_bad_rows,
            dry_run=dry_run,
        )

    try:
        plan = with_store(store, run, Access.READ if dry_run else Access.EDIT)
    except (FileRefused, AssetsRefused) as error:
        fail(f"{file}: {error}", Exit.FAILED, error.remedy)
    _print(plan, file.name, as_json=as_json, dry_run=dry_run, skip_bad_rows=skip_bad_rows)
    if plan.faults:
        sys.exit(Exit.FAILED)


def _print(
    plan: "ImportPlan", file: str, *, as_json: bool, dry_run: bool, skip_bad_rows: bool
) -> None:
    if as_json:
        for each in plan.changes:
            print_json(_change_row(each))
        for fault in plan.faults:
            print_json({**_fault_row(fault), "file": file})
        return
    if plan.changes:
        print_table(
            ["", "WHAT", "ID", "FEEDER", ""],
            [
                [
                    "new" if each.is_new else "changed",
                    str(each.thing),
                    each.id or each.feeder_id,
                    each.feeder_id,
                    printable(", ".join(each.details)),
                ]
                for each in plan.changes
            ],
        )
    for fault in plan.faults[:FAULTS_SHOWN_MAX]:
        where = "" if fault.sheet == file else f"{file}: "  # a workbook has several sheets
        say(printable(f"{where}{fault}"))
    if len(plan.faults) > FAULTS_SHOWN_MAX:
        say(f"… and {len(plan.faults) - FAULTS_SHOWN_MAX} more")
    new = sum(each.is_new for each in plan.changes)
    bad = len({(fault.sheet, fault.row) for fault in plan.faults})
    if bad and not skip_bad_rows:
        say(f"{bad} rows have faults: nothing was let in (--skip-bad-rows lets in the others)")
    else:
        would = "would be " if dry_run else ""
        left_out = f", {bad} rows left out" if bad else ""
        say(f"{new} {would}new, {len(plan.changes) - new} {would}changed{left_out}")


def _change_row(each: "Changed") -> Row:
    return {
        "row": "change",
        "thing": str(each.thing),
        "feederId": each.feeder_id,
        "id": each.id,
        "new": each.is_new,
        "details": list(each.details),
    }


def _fault_row(fault: "RowFault") -> Row:
    return {
        "row": "fault",
        "sheet": fault.sheet,
        "number": fault.row,
        "column": fault.column,
        "what": fault.what,
        "remedy": fault.remedy,
    }


@click.command()
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it: .xlsx for a workbook. Without it, headings of a flat CSV file to stdout.",
)
def template(out: Path | None) -> None:
    """Write an empty sheet to fill in for `openami feeder import`."""
    from openami.headend.assets.spreadsheet import template_csv, template_xlsx

    if out is None:
        click.echo(template_csv(), nl=False)
        return
    if out.exists():
        fail(f"{out} is there already", Exit.USAGE, "name another file")
    if out.suffix.lower() == ".xlsx":
        out.write_bytes(template_xlsx())
    else:
        out.write_text(template_csv(), encoding="utf-8")
    say(f"wrote {out}")
