"""What machines ask the head-end: health, readiness, metrics, and who may have which."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import HTTPConnection
from tests.gateway.clock_double import ClockDouble
from tests.headend.decisions import FEEDER, METER, NOON, accepted, rejected
from tests.headend.new_store import new_store
from tests.headend.test_ledger import a_command
from tests.headend.web import village
from tests.headend.web.browser import Hand

from openami.headend.accounts import Means, Principal, Role
from openami.headend.audit import Entry
from openami.headend.feeder_losses import FeederLosses
from openami.headend.ingest import Decision
from openami.headend.metrics import HeadendMetrics, Look
from openami.headend.readiness import (
    CERTIFICATE_SOON,
    DISK_FREE_BYTES_MIN,
    DISK_LOW_BYTES,
    Facts,
    checks,
)
from openami.headend.standing import Standing
from openami.headend.statistics import Statistics
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.web import operations
from openami.headend.web.app import build_app
from openami.headend.web.site import BrokerLink, Site
from openami.headend.worker_life import Roster, Slice, Worker
from openami.profile import shipped_catalogue

VIEWER = Principal("grafana", Role.VIEWER, Means.TOKEN)
HERE = {"client": "127.0.0.1", "host": "localhost:8080"}
ELSEWHERE = {"client": "192.0.2.7", "host": "hes.village:8080"}


@dataclass
class Door:
    """Knows one caller, or nobody."""

    caller: Principal | None = None

    async def principal(self, request: HTTPConnection) -> Principal | None:
        return self.caller


def a_site(store: HeadEndStore, caller: Principal | None = None, **changed: object) -> Site:
    told: dict[str, object] = {
        "link": lambda: BrokerLink(heard=True, since=NOON),
        "store_free_bytes": lambda: 20 * DISK_LOW_BYTES,
        **changed,
    }
    return Site(
        store=store,
        clock=ClockDouble(NOON + timedelta(minutes=1)),
        catalogue=shipped_catalogue(),
        doorkeeper=Door(caller),
        can_command=False,
        **told,  # type: ignore[arg-type]
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[HeadEndStore]:
    async with open_store(new_store(tmp_path / "headend.db")) as opened:
        yield opened


@asynccontextmanager
async def asking(
    site: Site, *, client: str = "127.0.0.1", host: str = "localhost:8080"
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_app(site), client=(client, 40_000))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as asked:
        yield asked


def samples(exposition: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


# --- metrics -------------------------------------------------------------------------------------


async def test_metrics_tell_what_the_stream_and_the_store_know(store: HeadEndStore) -> None:
    metrics = HeadendMetrics(refused_documents=lambda: 4)
    late = NOON + timedelta(hours=2)
    refused = rejected()
    batch: list[Decision] = [accepted(seq=1), accepted(seq=3, received_at=late), refused]
    metrics.statistics.committed(batch, await store.commit(batch))
    await store.request_command(a_command(requested_at=NOON, not_after=late), NOON)
    site = a_site(store, metrics=metrics, link=lambda: BrokerLink(heard=False, since=NOON))
    async with asking(site) as get:
        told = samples((await get.get("/metrics")).text)
    name = "openami_headend_"
    feeder = f"feeder={FEEDER}"
    assert told[f"{name}messages_total",] == 3
    assert told[f"{name}messages_rejected_total", f"rule={refused.errors[0].code}"] == 1
    assert told[f"{name}ingest_lag_seconds_bucket", "le=5.0"] == 1
    assert told[f"{name}ingest_lag_seconds_count",] == 2
    assert told[f"{name}ingest_lag_seconds_sum",] == 7200 + 2
    assert told[f"{name}meters", feeder, "state=reporting"] == 1
    assert told[f"{name}meters", feeder, "state=meter_silent"] == 0
    assert told[f"{name}gateways", feeder, "state=reporting"] == 1
    assert told[f"{name}commands", "state=issued", "type=relay.disconnect"] == 1
    assert told[f"{name}refused_documents_total",] == 4
    assert told[f"{name}broker_connected",] == 0
    assert told[f"{name}store_up",] == 1
    assert told[f"{name}store_free_bytes",] == 20 * DISK_LOW_BYTES
    assert math.isnan(told[f"{name}readings_kept_since_timestamp_seconds",])
    assert (f"{name}reading_partitions",) not in told


async def test_metrics_tell_how_long_readings_stay(postgres_url: str) -> None:
    since = datetime(2026, 3, 1, tzinfo=UTC)
    metrics = HeadendMetrics(Statistics(readings_removed=17))
    async with open_store(postgres_url) as store:
        await store.commit([accepted()])
        await store.keep_since(since, Entry(who="asha", what="kept"), NOON)
        async with asking(a_site(store, metrics=metrics)) as get:
            told = samples((await get.get("/metrics")).text)
    name = "openami_headend_reading"
    assert told[f"{name}s_removed_total",] == 17
    assert told[f"{name}s_kept_since_timestamp_seconds",] == since.timestamp()
    assert told[f"{name}_partitions",] == 1
    assert told[f"{name}_partitions_bytes",] > 0


async def test_no_label_has_a_meters_serial(store: HeadEndStore) -> None:
    await store.commit([accepted(seq=1)])
    async with asking(a_site(store)) as get:
        await get.get(f"/meters/{METER}")
        exposition = (await get.get("/metrics")).text
    assert METER not in exposition
    assert "openami_headend_meters{" in exposition


async def test_metrics_are_negotiated(store: HeadEndStore) -> None:
    async with asking(a_site(store)) as get:
        wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
        answer = await get.get("/metrics", headers=wanted)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_requests_are_counted_by_route_and_not_by_path(store: HeadEndStore) -> None:
    async with asking(a_site(store)) as get:
        for path in ("/version", "/no/such/page", "/nor/this"):
            await get.get(path)
        await get.request("BREW", "/version")
        told = samples((await get.get("/metrics")).text)
    name = "openami_headend_web_requests_total"
    assert told[name, "method=GET", "route=/version", "status=200"] == 1
    assert told[name, "method=GET", "route=none", "status=404"] == 2
    assert told[name, "method=other", "route=/version", "status=405"] == 1
    assert told["openami_headend_web_request_seconds_count", "route=/version"] == 2
    assert told["openami_headend_web_requests_in_progress",] == 1


WHO_MAY_SCRAPE = {
    "a program here": (None, HERE, {}, 200),
    "one here by IPv6": (None, {"client": "::1", "host": "[::1]:8080"}, {}, 200),
    "a stranger": (None, ELSEWHERE, {}, 401),
    "a stranger through a proxy here": (None, HERE, {"X-Forwarded-For": "192.0.2.7"}, 401),
    "one through another proxy": (None, HERE, {"Forwarded": "for=192.0.2.7"}, 401),
    "a page whose name was rebound": (None, {**HERE, "host": "hes.village"}, {}, 401),
    "a viewer's token": (VIEWER, ELSEWHERE, {}, 200),
}


async def test_who_may_scrape(store: HeadEndStore) -> None:
    for who, (caller, place, headers, status) in WHO_MAY_SCRAPE.items():
        async with asking(a_site(store, caller), **place) as get:
            answer = await get.get("/metrics", headers=headers)
        assert answer.status_code == status, who
        if status == 401:
            assert answer.json()["code"] == "not-signed-in"
            assert "openami_headend_messages" not in answer.text


async def test_where_a_proxy_speaks_for_people_nobody_is_from_here(store: HeadEndStore) -> None:
    async with asking(a_site(store, behind_proxy=True), **HERE) as get:
        assert (await get.get("/metrics")).status_code == 401


async def test_a_token_for_one_feeder_sees_the_counts_of_that_feeder(store: HeadEndStore) -> None:
    await store.commit([accepted(seq=1), accepted(seq=1, feeder="feeder-2", meter="M-2")])
    scoped = Principal("grafana", Role.VIEWER, Means.TOKEN, feeders=frozenset({"feeder-2"}))
    async with asking(a_site(store, scoped), **ELSEWHERE) as get:
        exposition = (await get.get("/metrics")).text
    assert "feeder-2" in exposition
    assert FEEDER not in exposition


async def test_metrics_of_a_store_that_does_not_answer_say_so(store: HeadEndStore) -> None:
    async with asking(a_site(Broken(store))) as get:  # type: ignore[arg-type]
        told = samples((await get.get("/metrics")).text)
    assert told["openami_headend_store_up",] == 0
    assert not any(name == "openami_headend_meters" for name, *_ in told)


async def test_losses_are_told_once_they_are_reckoned_and_no_scrape_waits_for_it(
    village_store: HeadEndStore,
) -> None:
    """The village loses 5.5 % of what its houses use. Some are silent, so it is a range."""
    losses = FeederLosses(village_store, Hand(village.NOW))
    assert losses.look() == {}
    async with asyncio.timeout(20):
        while not losses.look():
            await asyncio.sleep(0.01)
    loss = losses.look()[village.FEEDER]
    assert 0 < loss.low <= 0.055 / 1.055 <= loss.high < 0.3
    assert 0.5 < loss.coverage < 1
    metrics = HeadendMetrics()
    look = Look(broker_heard=True, broker_since=NOON, survey=None, losses={"f": loss})
    told = samples(metrics.rendered(look, "")[0].decode())
    assert told["openami_headend_feeder_loss_ratio", "bound=low", "feeder=f"] == loss.low
    assert told["openami_headend_feeder_loss_ratio", "bound=high", "feeder=f"] == loss.high
    assert told["openami_headend_feeder_coverage_ratio", "feeder=f"] == loss.coverage


# --- readiness -----------------------------------------------------------------------------------


class Broken:
    """A store whose database is gone."""

    def __init__(self, real: HeadEndStore) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        async def fails(*_: object, **__: object) -> None:
            raise StoreError("/var/lib/headend.db: the disk is full", remedy="make room")

        return fails


async def test_a_head_end_that_works_is_ready(store: HeadEndStore) -> None:
    async with asking(a_site(store)) as get:
        answer = await get.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert {check["name"] for check in answer.json()["checks"]} == {"database", "broker", "disk"}


async def test_one_that_cannot_write_is_not_and_tells_the_reason_to_its_own_machine_only(
    store: HeadEndStore,
) -> None:
    site = a_site(Broken(store))  # type: ignore[arg-type]
    async with asking(site) as get:
        answer = await get.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][0] == {
        "name": "database",
        "status": "fail",
        "detail": "/var/lib/headend.db: the disk is full; make room",
    }
    async with asking(site, **ELSEWHERE) as get:
        answer = await get.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][0] == {"name": "database", "status": "fail"}


async def test_one_whose_ingest_is_left_on_a_dead_server_is_not_until_it_has_written(
    store: HeadEndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web's own connection may have found the new primary long before (decision 0072)."""
    monkeypatch.setattr(operations, "WRITE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(operations, "READINESS_AGE_S_MAX", 0.0)
    frozen, asked = asyncio.Event(), 0

    async def prove() -> None:
        nonlocal asked
        asked += 1
        await frozen.wait()

    async with asking(a_site(store, prove_ingest=prove)) as get:
        for _ in range(2):
            answer = await get.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["checks"][0]["name"] == "database"
            assert answer.json()["checks"][0]["detail"].startswith("the ingest: a write was not")
        assert asked == 1, "one look is under way, and nobody breaks it off"
        frozen.set()
        assert (await get.get("/readyz")).status_code == 200


async def test_one_without_its_broker_is_not_ready(store: HeadEndStore) -> None:
    link = BrokerLink(heard=False, since=NOON, reason="connection refused")
    async with asking(a_site(store, link=lambda: link)) as get:
        answer = await get.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][0]["detail"] == "connection refused"


def facts(**changed: object) -> Facts:
    told: dict[str, object] = {
        "store_fault": "",
        "broker_heard": True,
        "disk_free_bytes": DISK_LOW_BYTES,
        "certificate_until": NOON + CERTIFICATE_SOON,
        "now": NOON,
        **changed,
    }
    return Facts(**told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "worst"),
    [
        ({}, ("database", "ok")),
        ({"disk_free_bytes": DISK_LOW_BYTES - 1}, ("disk", "degraded")),
        ({"disk_free_bytes": DISK_FREE_BYTES_MIN}, ("disk", "degraded")),
        ({"disk_free_bytes": DISK_FREE_BYTES_MIN - 1}, ("disk", "fail")),
        (
            {"certificate_until": NOON + CERTIFICATE_SOON - timedelta(seconds=1)},
            ("certificate", "degraded"),
        ),
        ({"certificate_until": NOON}, ("certificate", "degraded")),
        ({"store_fault": "x", "disk_free_bytes": DISK_LOW_BYTES - 1}, ("database", "fail")),
        ({"broker_heard": False}, ("broker", "fail")),
    ],
)
def test_the_worst_check_comes_first(changed: dict[str, object], worst: tuple[str, str]) -> None:
    found = checks(facts(**changed))
    assert (found[0].name, found[0].state) == worst


# --- of several head-ends ------------------------------------------------------------------------


def standing(*holders: str | None) -> Standing:
    """Return where the worker `a` stands among `a` and `b`."""
    slices = [Slice(number, holder, 7, NOON) for number, holder in enumerate(holders)]
    both = [Worker(each, each, 0, NOON, NOON) for each in "ab"]
    roster = Roster(both, slices)
    return Standing("a", roster.held_by("a"), roster)


@pytest.mark.parametrize(
    ("where", "state", "detail"),
    [
        (standing("a", "b", "a"), "ok", "a holds the rest, 2 of 3, 2 workers"),
        (standing("b", "b", "b"), "ok", "a holds no slice of 3, 2 workers"),
        (
            standing("a", None, "b"),
            "degraded",
            "a holds the rest of 3, 2 workers; held by nobody: 1",
        ),
    ],
)
def test_which_slices_are_ours_is_a_check_and_standing_by_is_ready(
    where: Standing, state: str, detail: str
) -> None:
    found = checks(Facts(store_fault="", broker_heard=True, standing=where, now=NOON))
    [slices] = [check for check in found if check.name == "slices"]
    assert (slices.state, slices.detail) == (state, detail)


def test_the_slices_a_worker_holds_are_told_with_their_terms() -> None:
    metrics = HeadendMetrics()
    metrics.statistics.left_to_slices = 5
    look = Look(
        broker_heard=True, broker_since=NOON, survey=None, standing=standing("a", None, "a")
    )
    told = samples(metrics.rendered(look, "")[0].decode())
    assert told["openami_headend_slice_term", "slice=0"] == 7
    assert told["openami_headend_slice_term", "slice=2"] == 7
    assert told["openami_headend_slices_free",] == 1
    assert told["openami_headend_workers",] == 2
    assert told["openami_headend_messages_left_to_slices_total",] == 5
    alone = Look(broker_heard=True, broker_since=NOON, survey=None)
    assert "slice" not in metrics.rendered(alone, "")[0].decode()
