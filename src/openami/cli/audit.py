"""``openami audit``: who did what to sessions and commands, and whether the log still says so."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import click

from openami.cli.command_rows import audit_row
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import print_rows
from openami.cli.storage import json_option, with_store
from openami.headend.audit import (
    AuditFileError,
    Break,
    Link,
    first_break,
    print_link,
    read_links,
)
from openami.headend.store import ROWS_MAX
from openami.headend.store.commands import AUDIT_PAGE_MAX, HeadEndStore

_LIST = ("number", "at", "who", "what", "why", "result", "command_id", "session_id")
_LISTED_BY_DEFAULT = 100
# Names of people and customers' meters: for who exported it, as the store itself.
_FILE_MODE = 0o600


@click.group()
def audit() -> None:
    """The audit log: append-only, each entry chained to the one before it."""


@audit.command("list")
@click.option("--command", "command_id", metavar="ID", help="Only what is about this command.")
@click.option("--session", "session_id", metavar="ID", help="Only what is about this session.")
@click.option(
    "--limit", type=click.IntRange(1, ROWS_MAX), default=_LISTED_BY_DEFAULT, show_default=True
)
@store_option
@json_option
def list_entries(
    command_id: str | None, session_id: str | None, limit: int, store: str, as_json: bool
) -> None:
    """List the last entries, oldest first."""

    async def read(open_store: HeadEndStore) -> list[Link]:
        if command_id is None and session_id is None:
            number, _ = await open_store.audit_end()
            after = max(0, number - limit)
            return [link async for link in _all(open_store, after=after)]
        return list(
            await open_store.audit_links(
                command_id=command_id, session_id=session_id, at_most=limit
            )
        )

    rows = [audit_row(link) for link in with_store(store, read)]
    print_rows(rows, _LIST, as_json=as_json)


async def _all(store: HeadEndStore, after: int = 0) -> AsyncIterator[Link]:
    """Read the log page by page."""
    while page := await store.audit_links(after=after, at_most=AUDIT_PAGE_MAX):
        for link in page:
            yield link
        after = page[-1].number


@audit.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@store_option
def export(file: Path, store: str) -> None:
    """Write the whole log to a new file, one entry a line: to be kept elsewhere, and verified there."""

    async def run(open_store: HeadEndStore) -> Link | None:
        last = None
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        except OSError as error:
            fail(f"{file}: {error.strerror}", Exit.USAGE, "name a file that is not there yet")
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            async for last in _all(open_store):
                output.write(print_link(last) + "\n")
        return last

    _say_end(with_store(store, run))


@audit.command()
@click.argument(
    "file", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option(
    "--end",
    metavar="HASH",
    help="The last entry's hash as it was noted elsewhere: has the log's end been cut off?",
)
@store_option
@json_option
def verify(file: Path | None, end: str | None, store: str, as_json: bool) -> None:
    """Check an exported log, or the store's own without FILE; needs neither key nor network.

    Exit code 1 with the first entry that is not to be believed. Note the number and hash it prints: with them,
    a log that was cut off or written anew is found out, too.
    """
    links = _read_file(file) if file is not None else with_store(store, _read_store)
    broken = first_break(links)
    if broken is None and end is not None and end not in {link.hash for link in links}:
        broken = Break(len(links) + 1, f"no entry has the hash {end}: the end was cut off")
    last = links[-1] if links else None
    if as_json:
        print_json(
            {
                "entries": len(links),
                "end": None if last is None else last.hash,
                "brokenAt": None if broken is None else broken.number,
                "why": None if broken is None else broken.why,
            }
        )
    if broken is not None:
        fail(
            f"the audit log is broken at entry {broken.number}: {broken.why}",
            Exit.FAILED,
            "what stands before it holds; compare with an export from before",
        )
    if not as_json:
        _say_end(last)


def _read_file(file: Path) -> list[Link]:
    try:
        with file.open(encoding="utf-8") as lines:
            return list(read_links(lines))
    except AuditFileError as error:
        fail(f"{file}: {error}", Exit.FAILED, "compare with an export from before")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: {error}", Exit.USAGE)


async def _read_store(store: HeadEndStore) -> list[Link]:
    links = [link async for link in _all(store)]
    number, hash_ = await store.audit_end()
    if number > len(links) or (links and links[number - 1].hash != hash_):
        fail(
            f"the audit log is broken at entry {len(links) + 1}: {number} were written, "
            f"{len(links)} are there",
            Exit.FAILED,
            "compare with an export from before",
        )
    return links


def _say_end(last: Link | None) -> None:
    if last is None:
        say("the audit log is empty")
    else:
        say(f"{last.number} entries, sound; the last one's hash: {last.hash}")
