"""The two engines as fixtures: every test of the store's contract runs on both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.headend.new_store import new_store
from tests.postgres import Postgres

from openami.headend.audit import GENESIS
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store

ENGINES = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def store_database(postgres: Postgres) -> Iterator[str]:
    """One database for all tests of this process: making one syncs the whole disk."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def empty_database(postgres: Postgres, store_database: str) -> str:
    """A database whose store, if it has one, holds nothing: making the tables costs more than a test."""
    postgres.sql(_EMPTY, database=store_database.rsplit("/", 1)[1])
    return store_database


_TABLES = (
    *("unit", "series", "reading", "conflict", "latest", "meter", "gateway", "event"),
    "latest_kept",
    *("finding", "rejected", "tally", "numbering", "gap", "expected_interval"),
    *("energy_day", "energy_due", "closed", "closed_arrivals", "closing_due"),
    *("keyring", "delivery", "session", "session_nonce", "command", "signing", "approval"),
    *("alarm", "traffic", "bandwidth_budget", "bulk", "bulk_meter"),
    *("account", "sign_in", "api_token", "first_link", "sign_in_attempt"),
    *("worker", "slice", "slice_feeder"),
    *("asset_feeder", "asset_pole", "asset_meter", "asset_customer", "asset_tariff"),
)
_EMPTY = (
    "DO $$ BEGIN IF to_regclass('openami.tally') IS NOT NULL THEN "
    + "".join(f"DELETE FROM openami.{table};" for table in _TABLES)
    + "INSERT INTO openami.tally DEFAULT VALUES; TRUNCATE openami.audit; "
    + "UPDATE openami.alarm_look SET looked_to = 0; UPDATE openami.closing SET through = NULL; "
    + f"UPDATE openami.audit_end SET number = 0, hash = '{GENESIS}'; END IF; END $$"
)


@pytest.fixture(params=ENGINES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store nobody has used, once for each engine."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("empty_database")
        return url
    return new_store(tmp_path / "store.db")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[HeadEndStore]:
    """An open store, owned, once for each engine."""
    async with open_store(store_url) as opened:
        yield opened
