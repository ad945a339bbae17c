"""From a URL to an open store; the engine's own library is imported only when it is asked for."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Literal

from openami.headend.store import REJECTED_KEPT_BYTES_MAX, Access, StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.marks import Mark
from openami.headend.worker_life import Fence

_SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")


@asynccontextmanager
async def open_store(
    url: str,
    access: Access = Access.OWN,
    *,
    rejected_bytes_max: int = REJECTED_KEPT_BYTES_MAX,
    despite: Collection[Mark] = (),
    fence: Fence | None = None,
) -> AsyncIterator[HeadEndStore]:
    """Open the store a URL names: ``sqlite:///path`` or ``postgresql://…``.

    ``sqlite:///openami.db`` is a file in the working directory, ``sqlite:////var/lib/openami.db`` an
    absolute path. ``despite``: marks that are no obstacle. ``fence``: as which slice's holder it is written
    to, in PostgreSQL. Raises StoreError with its remedy when the store cannot be opened with this access.
    """
    if engine_of(url) == "sqlite":
        assert fence is None, "one file has one head-end"
        from openami.headend.store.sqlite import open_sqlite

        async with open_sqlite(
            path_of(url), access, rejected_bytes_max=rejected_bytes_max, despite=despite
        ) as sqlite:
            yield sqlite
    else:
        from openami.headend.store.postgres import open_postgres

        async with open_postgres(
            url, access, rejected_bytes_max=rejected_bytes_max, despite=despite, fence=fence
        ) as postgres:
            yield postgres


def unknown_kind(url: str) -> StoreError:
    """Return the error for a URL that names no kind of store."""
    return StoreError(
        f"{url.partition(':')[0]!r} is no kind of store this program knows",
        remedy="give sqlite:///path/to/file.db or postgresql://user@host/database",
        permanent=True,
    )


def engine_of(url: str) -> Literal["sqlite", "postgres"]:
    """Return which engine a URL asks for. Raises StoreError if there is none here."""
    if url.startswith(_SQLITE):
        return "sqlite"
    if not url.startswith(POSTGRES):
        raise unknown_kind(url)
    try:
        import_module("asyncpg")
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreError(
            "the PostgreSQL store needs the package asyncpg, which is not installed",
            remedy="pip install 'openami[postgres]'",
            permanent=True,
        ) from None
    return "postgres"


def file_of(url: str) -> str | None:
    """Return the file a URL names, as far as it names one; None for a database server."""
    return url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else None


def path_of(url: str) -> str:
    """Return the path of a SQLite store's URL. Raises StoreError when it names no file."""
    path = url.removeprefix(_SQLITE)
    if not path or path == ":memory:" or path.endswith("/"):
        raise StoreError(
            f"{url} names no file",
            remedy="give sqlite:///path/to/file.db; a store in memory would lose what it acknowledged",
            permanent=True,
        )
    return path
