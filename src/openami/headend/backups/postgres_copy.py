"""A PostgreSQL store through the server's own tools: what `pg_dump` sees is one moment, and so is what is counted.

The password goes to the tools in the environment, where other users of the machine do not see it.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from openami.headend.backups.file_form import COPY_BYTES, BackupError, TableContent
from openami.headend.store.marks import CREATE, Mark
from openami.headend.store.migrations import APPLIED
from openami.headend.store.postgres import SCHEMA_NAME
from openami.headend.store.postgres_errors import explained, where
from openami.headend.store.postgres_servers import connect, primary_of

# A hundred million readings take a quarter of an hour; a tool that works for a day waits for somebody.
TOOL_HOURS_MAX: Final = 24
_TOOL_S: Final = TOOL_HOURS_MAX * 3600
# A tool's complaint is a few lines.
_COMPLAINT_BYTES: Final = 2000

# The same text of a row on every server, whatever its settings.
_SETTINGS: Final = {
    "search_path": SCHEMA_NAME,
    "timezone": "UTC",
    "datestyle": "ISO",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "statement_timeout": "0",
}
# A month of readings is a table, too, and is counted with `reading`.
_TABLES: Final = (
    "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) "
    "AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
)
# A sum, so that the order of the rows says nothing; 64 bits of each row's hash, so that no two changes cancel out.
_CONTENT: Final = (
    "SELECT count(*), coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric), 0)::text "
    'FROM "{}" AS t'
)


async def copy_store(url: str, to: Path) -> tuple[int, dict[str, TableContent]]:
    """Dump the store's schema as it is at one moment; return its number and what its tables hold.

    Raises BackupError, and StoreError for a server that fails.
    """
    url = await primary_of(url)  # a snapshot is known to the server that made it, and to no other
    async with _connected(url) as connection:
        with explained(url):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                content = await _content(connection, url)
                snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
                await asyncio.to_thread(
                    _run,
                    url,
                    *(
                        "pg_dump",
                        "--format=custom",
                        "--compress=1",
                        "--no-owner",
                        "--no-privileges",
                    ),
                    *(f"--schema={SCHEMA_NAME}", f"--snapshot={snapshot}", f"--file={to}"),
                )
    return content


async def refuse_live(url: str) -> None:
    """Raise BackupError where a store is already."""
    async with _connected(url) as connection:
        with explained(url):
            if await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA_NAME) is not None:
                raise BackupError(
                    f"{where(url)} holds a store already, and a store is never overwritten",
                    remedy="stop the head-end; name an empty database (createdb NAME), or rename the "
                    f"schema: ALTER SCHEMA {SCHEMA_NAME} RENAME TO …",
                )


async def bring_back(
    url: str, dump: Path, taken_at: str, expected: Mapping[str, TableContent]
) -> None:
    """Restore a dump in one transaction, marked as unsettled, and compare what came. Raises BackupError."""
    url = await primary_of(url)
    await asyncio.to_thread(_bring_back, url, dump, taken_at)
    async with _connected(url) as connection:
        with explained(url):
            _, found = await _content(connection, url)
    found.pop(Mark.UNSETTLED, None)
    if found != dict(expected):
        wrong = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        raise BackupError(
            f"what is in {where(url)} now is not what was backed up: {', '.join(wrong)} differ",
            remedy=f"drop it (DROP SCHEMA {SCHEMA_NAME} CASCADE) and take another backup",
        )


def _bring_back(url: str, dump: Path, taken_at: str) -> None:
    # The dump becomes statements, and ours follow them in the one transaction that psql commits at the end.
    with (
        tempfile.TemporaryFile() as complaints,
        _started(url, "pg_restore", "--no-owner", "--no-privileges", "--file=-", str(dump),
                 stdout=subprocess.PIPE, stderr=complaints, connects=False) as reading,
        _started(url, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "--file=-",
                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints) as writing,
    ):  # fmt: skip
        assert reading.stdout is not None
        assert writing.stdin is not None
        whole = False
        try:
            shutil.copyfileobj(reading.stdout, writing.stdin, COPY_BYTES)
            if reading.wait(_TOOL_S) == 0:
                mark = f"SET search_path = {SCHEMA_NAME}; {CREATE[Mark.UNSETTLED]}; "
                put = f"INSERT INTO unsettled VALUES ('{taken_at}')"  # noqa: S608 - our own time
                writing.stdin.write(f"{mark}{put};\n".encode())
                writing.stdin.close()
                whole = writing.wait(_TOOL_S) == 0
        except BrokenPipeError:
            pass  # psql has ended, and has said why
        finally:
            if not whole:  # before its input ends: it would commit what it has
                writing.kill()
                reading.kill()
        if not whole:
            raise _failed("restore", url, complaints)


async def _content(connection: Any, url: str) -> tuple[int, dict[str, TableContent]]:
    names = [name for (name,) in await connection.fetch(_TABLES, SCHEMA_NAME)]
    if "migration" not in names:
        raise BackupError(
            f"{where(url)} holds no head-end's store", remedy="name the head-end's own --store"
        )
    schema = await connection.fetchval(APPLIED)
    content = {}
    for name in names:
        rows, digest = await connection.fetchrow(_CONTENT.format(name))
        content[name] = TableContent(rows=rows, digest=digest)
    return schema, content


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    connection = await connect(url, server_settings=_SETTINGS)
    try:
        yield connection
    finally:
        await connection.close()


def _run(url: str, *command: str) -> None:
    with tempfile.TemporaryFile() as complaints:
        with _started(url, *command, stdout=subprocess.DEVNULL, stderr=complaints) as tool:
            try:
                code = tool.wait(_TOOL_S)
            finally:
                tool.kill()  # nothing, where it has ended
        if code != 0:
            raise _failed("back up", url, complaints)


def _started(
    url: str, program: str, *arguments: str, connects: bool = True, **streams: Any
) -> subprocess.Popen[bytes]:
    parts = urlsplit(url)
    environment = dict(os.environ)
    if parts.password is not None:
        environment["PGPASSWORD"] = unquote(parts.password)
    bare = parts._replace(netloc=_without_password(parts.netloc))
    database = (f"--dbname={urlunsplit(bare)}",) if connects else ()
    try:
        return subprocess.Popen(
            [program, *database, *arguments],
            env=environment,
            **{"stdin": subprocess.DEVNULL, **streams},
        )
    except FileNotFoundError:
        raise BackupError(
            f"{program} is not installed here",
            remedy="install PostgreSQL's client programs of the server's version "
            "(Debian: postgresql-client)",
        ) from None


def _without_password(netloc: str) -> str:
    login, at, host = netloc.rpartition("@")
    return f"{login.partition(':')[0]}{at}{host}"


def _failed(doing: str, url: str, complaints: IO[bytes]) -> BackupError:
    complaints.seek(0)
    said = " ".join(complaints.read(_COMPLAINT_BYTES).decode(errors="replace").split())
    return BackupError(
        f"PostgreSQL's tools did not {doing} {where(url)}: {said or 'they said nothing'}",
        remedy="they have to be of the server's version or newer, and the user needs its rights",
    )
