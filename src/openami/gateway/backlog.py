"""What a gateway's outbox holds, seen from outside: while the gateway runs, or after it has stopped."""

from pathlib import Path

from openami.gateway.database import read_only
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
    with read_only(database) as connection:
        return books.figures(connection)
