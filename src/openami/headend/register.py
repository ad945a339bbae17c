"""The register: one-time tokens, enrolled gateways and every certificate that was signed.

SQLite, because a server that enrols and a person who makes tokens use it at once: that a token is used once is
the work of one transaction. Tokens are stored as hashes.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509

from openami.keyfiles import check_private, ensure_private_directory, write_new_private
from openami.pki.certificates import common_name_of, print_certificate
from openami.sqlite_transaction import transaction

# Another program holds the register for milliseconds; a second is a program that hangs.
BUSY_TIMEOUT_S: Final = 5.0
# A village has tens of gateways. What is older than its expiry is cleared, so this bounds a mistake.
TOKENS_MAX: Final = 1_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS token (
    hash       BLOB PRIMARY KEY,
    gateway    TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    request    TEXT              -- the digest of the request it was used for
) STRICT;
CREATE TABLE IF NOT EXISTS gateway (
    name        TEXT PRIMARY KEY,
    sip_key     BLOB NOT NULL,
    request     TEXT NOT NULL,   -- the digest of the last request that was answered
    answer      BLOB NOT NULL,
    enrolled_at INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS certificate (
    serial     TEXT PRIMARY KEY, -- hexadecimal: SQLite's integers end at 64 bits
    name       TEXT NOT NULL,
    not_after  INTEGER NOT NULL,
    pem        BLOB NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS certificate_by_name ON certificate (name);
CREATE TABLE IF NOT EXISTS list_number (id INTEGER PRIMARY KEY CHECK (id = 1), last INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed."""

    serial: int
    name: str
    not_after: datetime
    pem: bytes
    revoked_at: datetime | None = None

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "Issued":
        """Return the entry for a certificate."""
        return cls(
            certificate.serial_number,
            common_name_of(certificate),
            certificate.not_valid_after_utc,
            print_certificate(certificate),
        )


@dataclass(frozen=True, slots=True)
class EnrolledGateway:
    """A gateway that was enrolled."""

    name: str
    sip_key: bytes
    request: str
    answer: bytes
    enrolled_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    """A one-time token, by its hash."""

    gateway: str
    expires_at: datetime
    request: str | None


class Register:
    """An open register; leave its context to close it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Hold the register alone; commit at the end, or nothing if an error leaves the block."""
        return transaction(self._db)

    def add_token(self, hash_: bytes, gateway: str, *, expires_at: datetime, now: datetime) -> None:
        """Remember a token; forget those that have expired. Raises OverflowError when there are too many."""
        with self.transaction():
            self._db.execute("DELETE FROM token WHERE expires_at < ?", (_seconds(now),))
            (count,) = self._db.execute("SELECT count(*) FROM token").fetchone()
            if count >= TOKENS_MAX:
                raise OverflowError(f"{count} tokens are waiting to be used")
            self._db.execute(
                "INSERT INTO token VALUES (?, ?, ?, NULL)", (hash_, gateway, _seconds(expires_at))
            )

    def token(self, hash_: bytes) -> Token | None:
        """Return a token."""
        row = self._db.execute(
            "SELECT gateway, expires_at, request FROM token WHERE hash = ?", (hash_,)
        ).fetchone()
        return None if row is None else Token(row[0], _moment(row[1]), row[2])

    def use_token(self, hash_: bytes, request: str) -> None:
        """Mark a token as used for a request; inside a transaction that looked at it."""
        assert self._db.in_transaction
        self._db.execute("UPDATE token SET request = ? WHERE hash = ?", (request, hash_))

    def gateway(self, name: str) -> EnrolledGateway | None:
        """Return an enrolled gateway."""
        row = self._db.execute("SELECT * FROM gateway WHERE name = ?", (name,)).fetchone()
        return None if row is None else _gateway(row)

    def gateways(self) -> list[EnrolledGateway]:
        """Return all enrolled gateways, by name."""
        rows = self._db.execute("SELECT * FROM gateway ORDER BY name").fetchall()
        return [_gateway(row) for row in rows]

    def enrol(self, gateway: EnrolledGateway) -> None:
        """Enter a gateway, in place of what it was."""
        self._db.execute(
            "REPLACE INTO gateway VALUES (?, ?, ?, ?, ?, NULL)",
            (
                gateway.name,
                gateway.sip_key,
                gateway.request,
                gateway.answer,
                _seconds(gateway.enrolled_at),
            ),
        )

    def enter(self, issued: Issued) -> None:
        """Enter a certificate."""
        self._db.execute(
            "INSERT INTO certificate VALUES (?, ?, ?, ?, NULL)",
            (f"{issued.serial:x}", issued.name, _seconds(issued.not_after), issued.pem),
        )

    def certificates(self, name: str | None = None) -> list[Issued]:
        """Return the certificates of a name, or all; those that end last come first."""
        rows = self._db.execute(
            "SELECT serial, name, not_after, pem, revoked_at FROM certificate"
            " WHERE ?1 IS NULL OR name = ?1 ORDER BY name, not_after DESC",
            (name,),
        ).fetchall()
        return [
            Issued(int(serial, 16), name_, _moment(end), pem, _moment_or_none(revoked))
            for serial, name_, end, pem, revoked in rows
        ]

    def revoke(self, name: str, *, now: datetime) -> int:
        """Revoke all certificates of a name, and the gateway of that name; return how many certificates."""
        with self.transaction():
            changed = self._db.execute(
                "UPDATE certificate SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL",
                (_seconds(now), name),
            ).rowcount
            self._db.execute(
                "UPDATE gateway SET revoked_at = ? WHERE name = ?", (_seconds(now), name)
            )
            self._db.execute("DELETE FROM token WHERE gateway = ?", (name,))
        return changed

    def revoked(self) -> Mapping[int, datetime]:
        """Return the revoked serial numbers, and since when."""
        rows = self._db.execute(
            "SELECT serial, revoked_at FROM certificate WHERE revoked_at IS NOT NULL"
        ).fetchall()
        return {int(serial, 16): _moment(at) for serial, at in rows}

    def next_list_number(self) -> int:
        """Return a number higher than that of any list before."""
        (number,) = self._db.execute(
            "INSERT INTO list_number VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET last = last + 1"
            " RETURNING last"
        ).fetchone()
        return int(number)


def opened_register(file: Path) -> Register:
    """Open the register, making it where it is not. Raises KeyFileError."""
    ensure_private_directory(file.parent)
    if not file.exists():
        # SQLite would make it with the rights of the umask.
        write_new_private(file, b"")
    check_private(file)
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    return Register(connection)


def _gateway(row: tuple[str, bytes, str, bytes, int, int | None]) -> EnrolledGateway:
    name, sip_key, request, answer, enrolled_at, revoked_at = row
    return EnrolledGateway(
        name, sip_key, request, answer, _moment(enrolled_at), _moment_or_none(revoked_at)
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment_or_none(seconds: int | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)
