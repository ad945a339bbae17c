"""What PostgreSQL's errors mean to a person, and whether waiting helps."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from openami.headend.store import StoreError

# SQLSTATE, or its class of two characters: remedy, and whether waiting is in vain.
_REMEDIES: Final = {
    "28": ("look at user and password in the URL, and at the server's pg_hba.conf", True),
    "3D": ("make the database: createdb NAME", True),
    "42501": ("give the user the right: GRANT CREATE ON DATABASE name TO user", True),
    "25P03": ("this program was stopped within a transaction; it is tried again", False),
    "25006": ("the server is a standby or read-only: name the primary in the URL", False),
    "53": ("look at the server's disk, memory and max_connections", False),
    "57": ("the server stops or starts; the head-end goes on when it is back", False),
    "08": ("look whether the server runs; the head-end goes on when it is back", False),
    "40": ("two writers met; the transaction is tried again", False),
    "55": ("another session holds a lock; the transaction is tried again", False),
    "58": ("the server's disk failed: look at its log", False),
    "XX": ("the server reports damaged data: look at its log, restore a backup", True),
    "22": ("a value the server does not take: please report this", True),
}
_UNREACHABLE: Final = "look whether the server runs, and at host and port in the URL"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what the world did into a StoreError; our own bugs pass as they are."""
    try:
        yield
    except asyncpg.PostgresError as error:
        found = _remedy(error.sqlstate)
        if found is None:
            raise
        remedy, permanent = found
        raise StoreError(f"{where(url)}: {error}", remedy=remedy, permanent=permanent) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        remedy, permanent = _REMEDIES["25006"]
        raise StoreError(
            f"{where(url)} is a standby, or not the kind of server that is asked for",
            remedy=remedy,
            permanent=permanent,
        ) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # Also what asyncpg says of a connection that closed under it.
        raise StoreError(f"{where(url)}: {error}", remedy=_UNREACHABLE) from error
    except ssl.SSLError as error:
        raise StoreError(
            f"{where(url)}: TLS failed: {error}",
            remedy="look at sslmode and sslrootcert in the URL",
            permanent=True,
        ) from error
    except TimeoutError as error:
        raise StoreError(f"{where(url)} does not answer", remedy=_UNREACHABLE) from error
    except OSError as error:
        raise StoreError(
            f"{where(url)} cannot be reached: {error.strerror or error}", remedy=_UNREACHABLE
        ) from error


def _remedy(sqlstate: str | None) -> tuple[str, bool] | None:
    code = sqlstate or ""
    return _REMEDIES.get(code) or _REMEDIES.get(code[:2])


def where(url: str) -> str:
    """Name the database without its password: ``PostgreSQL at db.example/openami``."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or "the local socket"
    return f"PostgreSQL at {host}{parts.path}"


def no_primary(url: str, failures: Sequence[StoreError]) -> StoreError:
    """Return the error where no server of several is the one that is looked for: what each of them said."""
    permanent = all(failure.permanent for failure in failures)
    return StoreError(
        f"no primary at {where(url)}: {'; '.join(map(str, failures))}",
        remedy=failures[0].remedy
        if permanent
        else "wait for an election, or look at patronictl list; the head-end goes on when there is a primary",
        permanent=permanent,
    )


def not_replicated(url: str, warning: str) -> StoreError:
    """Return the error for a commit whose wait for the standby somebody ended: one machine has it, not two."""
    return StoreError(
        f"{where(url)} committed without its standby: {warning}",
        remedy="nobody may cancel a COMMIT that waits: bring a standby back, or set synchronous_standby_names",
    )


def wrong_url(error: ValueError) -> StoreError:
    """Return the error for a URL that cannot be read."""
    return StoreError(
        f"the store's URL is wrong: {error}",
        remedy="give postgresql://user:password@host:port/database",
        permanent=True,
    )
