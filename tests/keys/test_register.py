"""The register of tokens and certificates: a disk that is full is said as such, and mended by room."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from openami.headend.register import Register, opened_register

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)


def add(register: Register, hash_: bytes) -> None:
    register.add_token(hash_, "feeder-1/pole-1", expires_at=NOW + timedelta(days=1), now=NOW)


def fill(register: Register) -> None:
    for number in count():
        add(register, number.to_bytes(32, "big"))


def test_a_full_disk_is_named_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    file = tmp_path / "register.db"
    with opened_register(file):
        pass
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        register = Register(connection)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            fill(register)
        (before,) = connection.execute("SELECT count(*) FROM token").fetchone()
        assert not connection.in_transaction
        connection.execute(f"PRAGMA max_page_count = {pages + 100}")
        add(register, b"\xff" * 32)
        (kept,) = connection.execute("SELECT count(*) FROM token").fetchone()
    assert kept == before + 1
