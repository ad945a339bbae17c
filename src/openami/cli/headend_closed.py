"""``openami headend close`` and ``closed``: months as Parquet, by hand."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.logs import configure_logs
from openami.cli.options import store_option
from openami.cli.report import Exit, print_json, print_table, say
from openami.cli.rows import Row
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.closing import AFTER_DAYS, Closing
from openami.headend.store import Access
from openami.headend.store.closed import AFTER_DAYS_MIN, ClosedDamaged
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.headend.closing import ClosingSeen
    from openami.headend.store.closed import ClosedFile
    from openami.headend.store.commands import HeadEndStore


@click.command()
@click.option(
    "--after-days",
    type=click.IntRange(min=AFTER_DAYS_MIN),
    default=AFTER_DAYS,
    show_default=True,
    help="Close months that ended so many days ago.",
)
@click.option("--dry-run", is_flag=True, help="Say which months these are; close none.")
@store_option
@json_option
def close(after_days: int, dry_run: bool, store: str, as_json: bool) -> None:
    """Close old months now: their readings become Parquet in the store, two bytes each, and are read as before.

    The head-end does it by itself; this works beside it. Interrupted at any moment, it goes on with the next time.
    Exit code 1: a closed month is damaged, and what came late for it waits.
    """
    if dry_run:
        before = SystemClock().now() - timedelta(days=after_days)
        months = with_store(store, lambda open_store: open_store.months_to_close(before))
        if as_json:
            for month in months:
                print_json({"month": month})
        else:
            print_table(["month"], [[month] for month in months])
        say(f"{len(months)} months would be closed" if months else "nothing is to be closed")
        return

    configure_logs()

    async def pass_over(open_store: "HeadEndStore") -> "ClosingSeen":
        return await Closing(open_store, SystemClock(), after_days=after_days).pass_over()

    seen = with_store(store, pass_over, Access.EDIT)
    totals = seen.totals
    row: Row = {
        "files": totals.files,
        "readings": totals.readings,
        "bytes": totals.bytes,
        "due": totals.due,
        "damaged": list(seen.damaged),
    }
    if as_json:
        print_json(row)
    else:
        print_table(
            ["closed", "readings", "bytes"],
            [[str(totals.files), str(totals.readings), str(totals.bytes)]],
        )
    _end(seen.damaged)


@click.command()
@click.option("--feeder", metavar="ID", help="Of this feeder only.")
@click.option("--meter", metavar="SERIAL", help="Of this meter only.")
@click.option("--verify", is_flag=True, help="Read every file, and prove it by its hash.")
@click.option(
    "--files",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write them there, as FEEDER/METER/2026-06-….parquet; what is there already is left alone.",
)
@store_option
@json_option
def closed(
    feeder: str | None,
    meter: str | None,
    verify: bool,
    directory: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """List closed months, a file each; prove them, or write them out for whoever reads Parquet.

    Exit code 1: at least one is damaged. It is named, and the others are listed, proved and written all the same.
    """
    damaged: list[str] = []

    async def look(open_store: "HeadEndStore") -> "Sequence[ClosedFile]":
        files = await open_store.closed_files(feeder_id=feeder, meter_serial=meter)
        for file in files if verify or directory else ():
            try:
                content = await open_store.closed_content(file)
                if verify:
                    await open_store.prove_arrivals(file)
            except ClosedDamaged as error:
                damaged.append(f"{error} — {error.remedy}")
                continue
            if directory is not None:
                _written(directory, file, content)
        return files

    rows = [_row(file) for file in with_store(store, look)]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        headings = ["feeder", "meter", "month", "readings", "bytes", "closed"]
        print_table(headings, [[str(row[name]) for name in _SHOWN] for row in rows])
    _end(damaged)


_SHOWN = ("feederId", "meterSerial", "month", "readings", "bytes", "closedAt")


def _row(file: "ClosedFile") -> Row:
    return {
        "feederId": file.feeder_id,
        "meterSerial": file.meter_serial,
        "month": file.month,
        "readings": file.readings,
        "bytes": file.bytes,
        "closedAt": utc_text(file.closed_at),
        "sha256": file.sha256,
    }


def _written(directory: Path, file: "ClosedFile", content: bytes) -> None:
    """Write a file once; a name that is there already has the same content, for its hash is a part of it."""
    target = directory / file.feeder_id / file.meter_serial
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{file.month}-{file.sha256[:8]}.parquet"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.rename(path)


def _end(damaged: Sequence[str]) -> None:
    for sentence in damaged:
        say(f"openami: {sentence}")
    if damaged:
        raise SystemExit(Exit.FAILED)
