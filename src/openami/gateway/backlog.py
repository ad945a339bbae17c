"""What a gateway's outbox holds, seen from outside: while the gateway runs, or after it has stopped."""

import sqlite3
from contextlib import closing
from pathlib import Path

from openami.gateway.database import DatabaseError, explained
from openami.gateway.disk_reserve import DiskReserve
from openami.gateway.outbox_books import Books, Figures
from openami.gateway.room import OutboxLimits


def read_figures(database: Path, limits: OutboxLimits) -> Figures | None:
    """Return what the outbox tells about itself, as of one moment; None if there is none yet.

    Only reads, so a running gateway is not disturbed. Raises DatabaseError.
    """
    if not database.exists():
        return None
    books = Books(limits, DiskReserve(database))
    try:
        uri = f"{database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            return books.figures(connection)
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
