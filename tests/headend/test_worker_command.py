"""``openami headend workers`` and ``certify-slices``, and who is refused a store that is shared."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.headend.new_store import new_store

from openami.cli import main
from openami.clock import SystemClock
from openami.headend.config import HeadendConfig
from openami.headend.main import run
from openami.headend.slices import REST
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.village import VillagePlan, make_village
from openami.headend.worker_life import Worker

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)


def worker(name: str) -> Worker:
    return Worker(f"worker-{name}", name, 0, NOW, NOW)


def openami(*arguments: str, code: int = 0) -> str:
    """Run a command in this process; return its stdout."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.stdout


async def shared(store: HeadEndStore) -> None:
    """Let one worker hold two of three slices, and another one stand by."""
    for name in "ab":
        await store.join_workers(worker(name), 2)
    for free in (await store.roster()).slices[:2]:
        await store.claim(free, "worker-a", NOW + timedelta(seconds=1))
    await store.put_subscribed(1, ["f-1", "f-2"], NOW)


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    url = new_store(tmp_path / "headend.db")

    async def made() -> None:
        async with open_store(url) as store:
            await shared(store)

    asyncio.run(made())
    return url


def test_it_shows_who_holds_which_slice_in_which_term(store_url: str) -> None:
    told = openami("headend", "workers", "--json", "--store", store_url)
    rest, first, second = map(json.loads, told.splitlines())
    assert rest == {
        "slice": "rest",
        "holder": "a",
        "term": 1,
        "since": "2026-06-22T14:30:01Z",
        "lastBeat": "2026-06-22T14:30:00Z",
        "feeders": None,
    }
    assert (first["slice"], first["holder"], first["feeders"]) == (1, "a", 2)
    assert (second["holder"], second["term"], second["feeders"]) == (None, 0, 0)
    table = openami("headend", "workers", "--store", store_url)
    assert table.splitlines()[0].split() == [
        "slice",
        "holder",
        "term",
        "since",
        "last",
        "beat",
        "feeders",
    ]


def test_a_single_head_end_is_refused_a_shared_store_until_the_sharing_is_ended(
    store_url: str,
) -> None:
    """What waits for the slices at the broker would wait for ever."""
    with pytest.raises(
        StoreError, match="shared in 2 slices, and this head-end is told of none"
    ) as no:
        asyncio.run(run(HeadendConfig(store=store_url), clock=SystemClock()))
    assert no.value.permanent
    assert "openami headend workers --end" in no.value.remedy
    openami("headend", "workers", "--end", "--store", store_url)
    assert openami("headend", "workers", "--store", store_url) == ""


async def test_the_sharing_is_not_ended_under_a_worker_that_lives(store_url: str) -> None:
    async with open_store(store_url) as store:

        async def beats() -> None:
            while True:
                await store.beat("worker-b", NOW)
                await asyncio.sleep(0.1)

        beating = asyncio.create_task(beats())
        await asyncio.to_thread(
            openami, "headend", "workers", "--end", "--store", store_url, code=4
        )
        beating.cancel()
        assert (await store.roster()).slices[REST].holder == "worker-a"


def test_each_slice_gets_a_certificate_beside_the_head_ends_own(tmp_path: Path) -> None:
    plan = VillagePlan(
        feeders=("f-1",),
        broker_names=("localhost",),
        port=8883,
        roots=1,
        threshold=1,
        disconnects_per_hour=10,
    )
    village = make_village(tmp_path / "operator", plan, now=SystemClock().now())
    before = village.transport_file("hes-1").read_bytes()
    told = openami("headend", "certify-slices", "--dir", str(village.directory), "--slices", "2")
    names = ["hes-1", "hes-1-slice-1", "hes-1-slice-2"]
    assert told.split() == [str(village.transport_file(name)) for name in names]
    assert village.transport_file("hes-1").read_bytes() == before
    first = village.transport_file("hes-1-slice-1").read_bytes()
    openami("headend", "certify-slices", "--dir", str(village.directory), "--slices", "3")
    assert village.transport_file("hes-1-slice-1").read_bytes() == first
    assert village.transport_file("hes-1-slice-3").exists()
