"""``openami feeder balance`` as a person and a program read it."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.headend.decisions import FEEDER
from tests.headend.test_balancing import BEGIN, described, hourly, meter

from openami.cli import main
from openami.headend.store.open import open_store


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """Two days of a feeder with a head meter and one customer."""
    url = f"sqlite:///{tmp_path / 'store.db'}"

    async def fill() -> None:
        async with open_store(url) as store:
            await described(store, meter("H"), meter("A", "c1"))
            await store.commit(hourly("H", 1.0, range(49)) + hourly("A", 0.9, range(49)))

    asyncio.run(fill())
    return url


def asked(store_url: str, *arguments: str) -> str:
    command = ["feeder", "balance", FEEDER, "--store", store_url, "--since", f"{BEGIN:%Y-%m-%d}"]
    result = CliRunner().invoke(main, [*command, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_person_reads_a_range_and_a_sentence(store_url: str) -> None:
    said = asked(store_url, "--until", "2026-06-22")
    assert "supplied     48.0 kWh in 48 hours" in said
    assert "sold         43.2 kWh, 1 of 1 meters heard in all of them" in said
    assert "unaccounted  4.8 kWh (10.0 to 10.0 %)" in said
    assert "Nobody is named: fewer than two weeks" in said


def test_a_program_reads_watt_hours(store_url: str) -> None:
    row = json.loads(asked(store_url, "--until", "2026-06-22", "--json"))
    assert row["suppliedWh"] == 48_000
    assert row["soldWh"] == [43_200, 43_200]
    assert row["unaccountedPercent"] == [10.0, 10.0]
    assert (row["from"], row["to"]) == ("2026-06-20T00:00:00Z", "2026-06-22T00:00:00Z")
    assert row["refusal"] == "too_short"


def test_too_long_a_time_is_refused_with_a_sentence(store_url: str) -> None:
    result = CliRunner().invoke(
        main,
        ["feeder", "balance", FEEDER, "--store", store_url, "--since", "2026-01-01", "--until", "2026-06-22"],
    )  # fmt: skip
    assert result.exit_code == 2
    assert "at most 62 days" in result.stderr
