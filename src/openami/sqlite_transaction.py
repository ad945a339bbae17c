"""One transaction of a SQLite connection that is in autocommit (``isolation_level=None``)."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done within, whole, or nothing of it; a cancellation leaves nothing half done open either.

    Synced at the end where the connection has ``synchronous=FULL``.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
