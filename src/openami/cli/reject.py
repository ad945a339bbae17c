"""``openami reject``: what the head-end did not store, why, and a second look at it."""

import base64
import sys

import click

from openami.cli.command_rows import who_asks
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import Row, print_rows, printable, reject_row
from openami.cli.storage import (
    catalogue_of,
    json_option,
    registers_option,
    with_store,
)
from openami.clock import SystemClock
from openami.headend.replay import drop as drop_kept
from openami.headend.replay import faults_of
from openami.headend.replay import replay as replay_kept
from openami.headend.store import ROWS_MAX, Access, Reject, RejectStatus, Store
from openami.profile import RegisterCatalogue

_LIST = ("id", "receivedAt", "count", "status", "code", "path", "topic", "detail")
_LISTED_BY_DEFAULT = 100


@click.group()
def reject() -> None:
    """Messages that were refused, and messages of which single registers were."""


@reject.command("list")
@click.option(
    "--status",
    type=click.Choice([*(status.value for status in RejectStatus), "all"]),
    default=RejectStatus.OPEN.value,
    show_default=True,
)
@click.option(
    "--limit", type=click.IntRange(1, ROWS_MAX), default=_LISTED_BY_DEFAULT, show_default=True
)
@store_option
@json_option
def list_rejects(status: str, limit: int, store: str, as_json: bool) -> None:
    """List kept messages, newest first; identical ones are one line with their count."""
    wanted = None if status == "all" else RejectStatus(status)

    async def read(open_store: Store) -> list[Row]:
        return [reject_row(r) for r in await open_store.rejects(status=wanted, at_most=limit)]

    rows = with_store(store, read)
    print_rows(rows, _LIST, as_json=as_json)


@reject.command()
@click.argument("reject_id", metavar="ID", type=int)
@store_option
@json_option
def show(reject_id: int, store: str, as_json: bool) -> None:
    """Show a kept message: what is wrong with it, and the message itself."""

    async def read(open_store: Store) -> Reject:
        return await _kept(open_store, reject_id)

    kept = with_store(store, read)
    row = reject_row(kept)
    if as_json:
        print_json({**row, **_payload_members(kept.payload)})
        return
    for name, value in row.items():
        click.echo(f"{name:<12} {printable(str(value))}")
    click.echo()
    for line in kept.payload.decode(errors="backslashreplace").split("\n"):
        click.echo(printable(line))


def _payload_members(payload: bytes) -> Row:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payloadBase64": base64.b64encode(payload).decode()}


@reject.command()
@click.argument("reject_ids", metavar="ID…", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every open one.")
@registers_option
@store_option
@json_option
def replay(
    reject_ids: tuple[int, ...],
    everything: bool,
    registers: str | None,
    store: str,
    as_json: bool,
) -> None:
    """Judge kept messages again, by today's rules and clock, and store what is accepted.

    Exit code 1 when something is still rejected. Replaying twice stores nothing twice.
    """
    if everything == bool(reject_ids):
        raise click.UsageError("name the messages by their ids, or say --all")
    catalogue = catalogue_of(registers)

    async def run(open_store: Store) -> list[Row]:
        if everything:
            kept = await open_store.rejects(status=RejectStatus.OPEN, at_most=ROWS_MAX)
        else:
            kept = [await _kept(open_store, reject_id) for reject_id in reject_ids]
        # Oldest first, so that of two values for one identity the first that came stays in force.
        return [
            await _replayed(open_store, one, catalogue)
            for one in sorted(kept, key=lambda r: (r.received_at, r.id))
        ]

    rows = with_store(store, run, Access.EDIT)
    for row in rows:
        if as_json:
            print_json(row)
        else:
            click.echo(_verdict(row))
    if any(row["stillRejected"] for row in rows):
        sys.exit(Exit.FAILED)


async def _replayed(store: Store, kept: Reject, catalogue: RegisterCatalogue) -> Row:
    decision, tally = await replay_kept(
        store, kept, catalogue=catalogue, now=SystemClock().now(), who=who_asks()
    )
    return {
        "id": kept.id,
        "stored": tally.stored,
        "duplicates": tally.duplicates,
        "conflicts": tally.conflicts,
        "stillRejected": [
            {"code": str(fault.code), "path": fault.path, "detail": fault.detail}
            for fault in faults_of(decision)
        ],
    }


def _verdict(row: Row) -> str:
    counts = f"stored {row['stored']}, duplicates {row['duplicates']}, conflicts {row['conflicts']}"
    if not row["stillRejected"]:
        return f"{row['id']}: replayed: {counts}"
    first = row["stillRejected"][0]
    place = f" at {first['path']}" if first["path"] else ""
    return f"{row['id']}: still rejected: {first['code']}{place}: {first['detail']} ({counts})"


@reject.command()
@click.argument("reject_ids", metavar="ID…", type=int, nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
@json_option
def drop(reject_ids: tuple[int, ...], yes: bool, store: str, as_json: bool) -> None:
    """Give kept messages up: their bytes are deleted with the next prune."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("dropping deletes evidence: say --yes")
        click.confirm(f"Drop {len(reject_ids)} kept messages for good?", abort=True, err=True)

    async def run(open_store: Store) -> list[int]:
        unknown: list[int] = []
        for reject_id in reject_ids:
            kept = await open_store.reject(reject_id)
            now = SystemClock().now()
            if kept is None or not await drop_kept(open_store, kept, now=now, who=who_asks()):
                unknown.append(reject_id)
        return unknown

    unknown = with_store(store, run, Access.EDIT)
    for reject_id in reject_ids:
        if reject_id in unknown:
            say(f"openami: there is no kept message {reject_id}")
        elif as_json:
            print_json({"id": reject_id, "status": RejectStatus.DROPPED.value})
        else:
            click.echo(f"{reject_id}: dropped")
    if unknown:
        sys.exit(Exit.FAILED)


async def _kept(store: Store, reject_id: int) -> Reject:
    found = await store.reject(reject_id)
    if found is None:
        fail(
            f"there is no kept message {reject_id}",
            Exit.FAILED,
            "`openami reject list --status all` names those there are",
        )
    return found
