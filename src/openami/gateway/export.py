"""The outbox written to one signed file, for a head-end that no network leads to (decision 0033).

Reads through a connection of its own, so it works beside a running gateway and after it has stopped, and what it
writes is the outbox of one moment. Nothing is marked as sent: a stick gets lost. When the network is back
everything is published too, and the head-end knows what it has.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from openami.gateway.database import DatabaseError, explained
from openami.gateway.entries import State
from openami.gateway.outbox_rows import ceil_ms
from openami.private_files import sync_directory
from openami.sip.carried import Carried, Header, Scope, write_backlog
from openami.sip.keys import Signer

SUFFIX: Final = ".backlog.gz"
# Readings are people's private data; FAT ignores it.
_FILE_MODE: Final = 0o600
_ALWAYS: Final = -(2**62)  # before every measured time

# What is held waits for its time to be known, and is not said by hand either (decision 0018).
_STATES: Final = {
    Scope.PENDING: (State.PENDING, State.REFUSED),
    Scope.ALL: (State.PENDING, State.REFUSED, State.SENT),
}
_WHERE: Final = "WHERE state IN (SELECT value FROM json_each(:states)) AND ts_ms >= :since_ms"
_COUNT: Final = "SELECT count(*), min(seq), max(seq) FROM outbox_entry " + _WHERE
_MESSAGES: Final = (
    "SELECT topic, payload FROM outbox_entry NOT INDEXED JOIN outbox_payload USING (seq)"
    " JOIN outbox_topic ON id = topic_id " + _WHERE + " ORDER BY seq"
)


class ExportError(Exception):
    """The file could not be written, and is not there; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose outbox, and what of it."""

    feeder_id: str
    gateway_id: str
    scope: Scope = Scope.PENDING
    since: datetime | None = None
    """Only what was measured from here on."""


def file_name(selection: Selection, now: datetime) -> str:
    """Return a name no other gateway's file has, of characters that a stick can hold."""
    return f"{selection.feeder_id}_{selection.gateway_id}_{now:%Y%m%dT%H%M%SZ}{SUFFIX}"


def export_backlog(
    database: Path, out: Path, selection: Selection, *, signer: Signer | None, now: datetime
) -> Header:
    """Write the selection to a new file, durable when this returns; return what its first line says.

    Raises DatabaseError for the outbox, ExportError for the file. Never writes over a file: it may be the only
    copy of another gateway's.
    """
    if not database.exists():
        raise DatabaseError(
            f"{database} is not there",
            remedy="the gateway makes it when it first runs",
            permanent=True,
        )
    if out.exists():
        raise ExportError(f"{out} is there already", "name another file, or a folder")
    uri = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")  # count and messages are of the same moment
            header = _header(connection, selection, now)
            with new_file(out) as file:
                write_backlog(file, header, _messages(connection, selection), signer)
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise DatabaseError(
                f"{database} is not a gateway's outbox",
                remedy="is data_dir the right one?",
                permanent=True,
            ) from None
        raise explained(error, database) from error
    except sqlite3.Error as error:
        raise explained(error, database) from error
    return header


def _header(connection: sqlite3.Connection, selection: Selection, now: datetime) -> Header:
    count, first, last = connection.execute(_COUNT, _asked(selection)).fetchone()
    return Header(
        feeder_id=selection.feeder_id,
        gateway_id=selection.gateway_id,
        made_at=now,
        scope=selection.scope,
        messages=count,
        first_seq=first or 0,
        last_seq=last or 0,
        since=selection.since,
    )


def _messages(connection: sqlite3.Connection, selection: Selection) -> Iterator[Carried]:
    with closing(connection.execute(_MESSAGES, _asked(selection))) as rows:
        for topic, payload in rows:
            yield Carried(topic, payload)


def _asked(selection: Selection) -> dict[str, object]:
    since = selection.since
    return {
        "states": json.dumps(_STATES[selection.scope]),
        "since_ms": _ALWAYS if since is None else ceil_ms(since),
    }


@contextmanager
def new_file(out: Path) -> Iterator[BinaryIO]:
    """Write under another name; let the file appear when it is whole and on the disk. Raises ExportError."""
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(unfinished, flags, _FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(out)
        finally:
            with suppress(OSError):  # when it is whole it has its name, and this one is gone
                unfinished.unlink()
        sync_directory(out.parent)
    except OSError as error:
        raise ExportError(
            f"{out} cannot be written: {error.strerror}",
            "is there room, and is the folder writable?",
        ) from None
