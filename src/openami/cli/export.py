"""``openami export``: readings, payments and everything as files; ``openami import``: everything back."""

import contextlib
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from openami.cli.command_rows import who_asks
from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.storage import with_store
from openami.clock import SystemClock
from openami.headend.store import Access
from openami.profile import Obis, ProfileError

if TYPE_CHECKING:
    from openami.headend.exports.archive import Manifest
    from openami.headend.exports.neutral import TableRow
    from openami.headend.exports.pseudonyms import Pseudonyms
    from openami.headend.exports.restoring import Restored
    from openami.headend.exports.selection import Selection
    from openami.headend.store.commands import HeadEndStore

_Command = TypeVar("_Command", bound=Callable[..., Any])
# Longer is a picture, not a key.
_KEY_BYTES_MAX = 4096

_out_option = click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; without it, to stdout.",
)
_pseudonym_option = click.option(
    "--pseudonym-key",
    "key_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A secret that names customers the same in every export; without it, new names each time.",
)
_selection_options = (
    click.option("--feeder", "feeders", metavar="F", multiple=True, help="Only this (repeatable)."),
    click.option("--meter", metavar="S", help="Only this meter."),
    click.option("--since", metavar="T", callback=as_moment, help="From: 7d ago, or a date."),
    click.option("--until", metavar="T", callback=as_moment, help="Up to, not included."),
)


def _selecting(command: _Command) -> _Command:
    for option in reversed(_selection_options):
        command = option(command)
    return command


@click.group()
def export() -> None:
    """Files for those who analyse, verify and pay; and everything, to move or to keep."""


# --- everything ----------------------------------------------------------------------------------


@export.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@store_option
def everything(file: Path, store: str) -> None:
    """Write all the head-end holds into one archive that says what it is.

    A zip: readings as Parquet by month, assets as GeoJSON, the rest as JSON Lines, hashes of all of it in its
    manifest. Works beside a running head-end. It holds customers' names; passwords, tokens and keys are not in it.
    """
    if file.exists():
        fail(f"{file} is there already", Exit.USAGE, "name another file")
    with _needs_parquet():
        from openami.headend.exports.archive import write_archive

    async def run(opened: "HeadEndStore") -> "Manifest":
        return await write_archive(opened, file, now=SystemClock().now(), tell=say)

    try:
        manifest = with_store(store, run)
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.FAILED, "is there room on the disk?")
    say(f"wrote {file}: {len(manifest.members)} members, {file.stat().st_size} bytes")


@click.command("import")
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--check", is_flag=True, help="Prove that it is whole; store nothing.")
@store_option
def import_archive(file: Path, check: bool, store: str) -> None:
    """Let in an archive that `openami export everything` wrote.

    Readings, events, assets and budgets come back; commands, sessions and the audit log stay in the file as
    evidence. It is proven whole first. The head-end has to be stopped; the same archive again changes nothing.
    Exit code 1: it is damaged, and where.
    """
    with _needs_parquet():
        from openami.headend.exports.restoring import ArchiveFault, prove, restore

    async def run(opened: "HeadEndStore") -> "Restored":
        return await restore(
            file, manifest, opened, who=who_asks(), now=SystemClock().now(), tell=say
        )

    try:
        manifest = prove(file)
        if check:
            say(f"{file} is whole: {len(manifest.members)} members, written {manifest.created_at}")
            return
        restored = with_store(store, run, Access.OWN)
    except ArchiveFault as fault:
        fail(f"{file}: {fault}", Exit.FAILED, fault.remedy)
    tally = restored.tally
    print_json(
        {
            "stored": tally.stored,
            "duplicates": tally.duplicates,
            "conflicts": tally.conflicts,
            "events": tally.events,
            "eventsUnreadable": restored.events_unreadable,
            "assetsChanged": restored.assets_changed,
            "budgetsSet": restored.budgets_set,
        }
    )


# --- tables --------------------------------------------------------------------------------------


@export.command()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
)
@click.option("--obis", metavar="O", help="Only this register, e.g. 1.8.0.")
@_selecting
@_pseudonym_option
@_out_option
@store_option
def readings(
    kind: str,
    obis: str | None,
    feeders: tuple[str, ...],
    meter: str | None,
    since: datetime | None,
    until: datetime | None,
    key_file: Path | None,
    out: Path | None,
    store: str,
) -> None:
    """Write readings, one row a register value; customers stand under a pseudonym."""
    from openami.headend.exports import neutral, sheets
    from openami.headend.exports.selection import selected_readings

    selection = _selection(feeders, meter, since, until, obis)
    names = _pseudonyms(key_file)

    def rows(opened: "HeadEndStore") -> "AsyncIterator[TableRow]":
        chosen = selected_readings(opened, selection)
        return neutral.neutral_rows(chosen, neutral.Places(opened), names)

    def lines(opened: "HeadEndStore") -> "AsyncIterator[str]":
        if kind == "csv":
            return sheets.csv_lines(rows(opened), tuple(neutral.COLUMNS))
        return sheets.json_lines(rows(opened))

    if kind == "parquet":
        if out is None:
            raise click.UsageError("Parquet is a file: say --out FILE")
        with _needs_parquet():
            from openami.headend.exports.parquet import write_neutral

        _write_whole(out, store, lambda opened, path: write_neutral(rows(opened), path))
        return
    with _opened(out) as file:
        with_store(store, lambda opened: sheets.write_lines(lines(opened), file))


@export.command()
@click.option(
    "--table",
    type=click.Choice(["installations_ts", "meters_ts"]),
    default="installations_ts",
    show_default=True,
    help="Which of the published tables.",
)
@click.option("--manufacturer", metavar="NAME", default="unknown", show_default=True)
@_selecting
@_out_option
@store_option
def prospect(
    table: str,
    manufacturer: str,
    feeders: tuple[str, ...],
    meter: str | None,
    since: datetime | None,
    until: datetime | None,
    out: Path | None,
    store: str,
) -> None:
    """Write readings as CSV in the columns Prospect and UNDP's Africa Minigrids Program publish."""
    from openami.headend.exports import sheets
    from openami.headend.exports.neutral import Places
    from openami.headend.exports.prospect import COLUMNS, ProspectTable, prospect_rows
    from openami.headend.exports.selection import selected_readings

    selection, wanted = _selection(feeders, meter, since, until), ProspectTable(table)

    async def run(opened: "HeadEndStore") -> None:
        chosen = selected_readings(opened, selection)
        rows = prospect_rows(chosen, wanted, Places(opened), manufacturer=manufacturer)
        await sheets.write_lines(sheets.csv_lines(rows, COLUMNS[wanted]), file)

    with _opened(out) as file:
        with_store(store, run)


@export.command()
@_selecting
@_pseudonym_option
@_out_option
@store_option
def verification(
    feeders: tuple[str, ...],
    meter: str | None,
    since: datetime | None,
    until: datetime | None,
    key_file: Path | None,
    out: Path | None,
    store: str,
) -> None:
    """Write a row for each meter: first and last read, days with data, kWh a day; as CSV."""
    from openami.headend.exports import sheets
    from openami.headend.exports.verification import COLUMNS, verification_rows

    selection, names = _selection(feeders, meter, since, until), _pseudonyms(key_file)

    async def run(opened: "HeadEndStore") -> None:
        rows = verification_rows(opened, selection, names)
        await sheets.write_lines(sheets.csv_lines(rows, COLUMNS), file)

    with _opened(out) as file:
        with_store(store, run)


@export.command()
@click.option("--feeder", "feeders", metavar="F", multiple=True, help="Only this (repeatable).")
@click.option("--since", metavar="T", callback=as_moment, required=True, help="From then on.")
@click.option("--until", metavar="T", callback=as_moment, help="Up to, not included; now.")
@click.option("--names", is_flag=True, help="Customers' own ids and names, not pseudonyms.")
@click.option("--positions", is_flag=True, help="Where the pole stands, to three decimals.")
@_pseudonym_option
@_out_option
@store_option
def payments(
    feeders: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    names: bool,
    positions: bool,
    key_file: Path | None,
    out: Path | None,
    store: str,
) -> None:
    """Write settled trades as JSON in the shape Odyssey's payments are pulled in."""
    from openami.headend.exports.payments import PaymentsAsked
    from openami.headend.exports.payments import payments as asked_for

    asked = PaymentsAsked(
        since=since,
        until=until or SystemClock().now(),
        feeders=frozenset(feeders) or None,
        names=names,
        positions=positions,
    )
    pseudonyms = _pseudonyms(key_file, quiet=names)
    found = with_store(store, lambda opened: asked_for(opened, asked, pseudonyms))
    with _opened(out) as file:
        json.dump(found, file, ensure_ascii=False, indent=2)
        file.write("\n")
    say(
        f"{len(found['payments'])} payments: settled trades; what a vending system took is not here"
    )


# --- what they share -----------------------------------------------------------------------------


def _selection(
    feeders: tuple[str, ...],
    meter: str | None,
    since: datetime | None,
    until: datetime | None,
    obis: str | None = None,
) -> "Selection":
    from openami.headend.exports.selection import Selection

    try:
        code = None if obis is None else Obis.parse(obis)
    except ProfileError as error:
        raise click.UsageError(f"--obis: {error.detail}") from None
    return Selection(
        feeders=frozenset(feeders) or None, meter_serial=meter, obis=code, since=since, until=until
    )


def _pseudonyms(key_file: Path | None, *, quiet: bool = False) -> "Pseudonyms":
    from openami.headend.exports.pseudonyms import KEY_BYTES_MIN, Pseudonyms

    if key_file is None:
        if not quiet:
            say("customers have new names in this file: --pseudonym-key keeps them the same")
        return Pseudonyms(secrets.token_bytes(KEY_BYTES_MIN))
    with key_file.open("rb") as file:
        key = file.read(_KEY_BYTES_MAX).strip()
    if len(key) < KEY_BYTES_MIN:
        fail(
            f"{key_file} is too short for a secret",
            Exit.USAGE,
            f"{KEY_BYTES_MIN} random bytes or more: openssl rand -hex 16",
        )
    return Pseudonyms(key)


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Open the file that is written to, which must not be there yet; a half of it does not stay."""
    if out is None:
        yield sys.stdout
        return
    if out.exists():
        fail(f"{out} is there already", Exit.USAGE, "name another file")
    partial = out.with_name(f"{out.name}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(out)
    except OSError as error:
        fail(f"{out}: {error.strerror}", Exit.FAILED, "is there room on the disk?")
    finally:
        partial.unlink(missing_ok=True)
    say(f"wrote {out}")


def _write_whole(out: Path, store: str, write: Callable[["HeadEndStore", Path], Any]) -> None:
    if out.exists():
        fail(f"{out} is there already", Exit.USAGE, "name another file")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent) as directory:
            path = Path(directory) / "part"
            count = with_store(store, lambda opened: write(opened, path))
            path.replace(out)
    except OSError as error:
        fail(f"{out}: {error.strerror}", Exit.FAILED, "is there room on the disk?")
    say(f"wrote {out}: {count} rows")


@contextlib.contextmanager
def _needs_parquet() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or not missing.name.startswith("pyarrow"):
            raise
        fail(
            "Parquet needs pyarrow, which is not installed",
            Exit.USAGE,
            "pip install 'openami[parquet]'",
        )
