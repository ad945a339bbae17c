"""A store for a trial: a file or a database that nobody used before and that is gone afterwards."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from openami.headend.store import StoreError
from openami.headend.store.open import POSTGRES, file_of, unknown_kind

DATABASE_PREFIX: Final = "openami_capacity_"
# Dropping waits for a checkpoint on a slow disk, and no longer.
_STATEMENT_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class TrialStore:
    """Where it is, and how its size is asked for, in bytes."""

    url: str
    size: Callable[[], Awaitable[int]]


@asynccontextmanager
async def trial_store(url: str, directory: Path) -> AsyncIterator[TrialStore]:
    """Make room for a store of the kind a URL names: a file in the directory, or a database on the server.

    The store that the URL itself names is not touched. Raises StoreError.
    """
    if file_of(url) is not None:
        yield _trial_file(directory / "trial.db")
        return
    if not url.startswith(POSTGRES):
        raise unknown_kind(url)
    try:
        import asyncpg

        from openami.headend.store.postgres_errors import explained, where
        from openami.headend.store.postgres_servers import connect
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreError(
            "PostgreSQL needs the package asyncpg, which is not installed",
            remedy="pip install 'openami[postgres]'",
            permanent=True,
        ) from None
    # Who leaves it behind (kill -9) is found by the name.
    name = f"{DATABASE_PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
    connection = await connect(url, command_timeout=_STATEMENT_TIMEOUT_S)
    try:
        try:
            with explained(url):
                await connection.execute(f'CREATE DATABASE "{name}"')
        except StoreError as error:
            if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
                raise StoreError(
                    f"{where(url)}: the user may not make a database to measure with",
                    remedy="ALTER ROLE user CREATEDB, or name a user who may, and take it back afterwards",
                    permanent=True,
                ) from error
            raise
        yield TrialStore(
            _with_database(url, name),
            lambda: connection.fetchval("SELECT pg_database_size($1::text)", name),
        )
    finally:
        try:
            with explained(url):
                # Also when it is not known whether it was made: somebody may have ended us meanwhile.
                await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)  # urlunsplit would lose the slashes of a URL without a host
    return f"{parts.scheme}://{parts.netloc}/{name}" + (f"?{parts.query}" if parts.query else "")


def _trial_file(path: Path) -> TrialStore:
    async def size() -> int:
        return _size(path)

    return TrialStore(f"sqlite:///{path}", size)


def _size(path: Path) -> int:
    return path.stat().st_size
