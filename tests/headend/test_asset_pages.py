"""The asset pages as a browser without JavaScript uses them, over a real store."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.requests import HTTPConnection
from tests.headend.decisions import NOON, accepted
from tests.headend.new_store import new_store
from tests.headend.test_asset_import import FLAT
from tests.headend.test_assets import NOW
from tests.headend.web.lent_app import lent_app

from openami.headend.accounts import Means, Principal, Role
from openami.headend.assets.files import read_assets
from openami.headend.broker_link import BrokerLink
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.web.site import Site
from openami.profile import shipped_catalogue

ENGINEER = Principal("asha", Role.ENGINEER, Means.SIGN_IN)


class Noon:
    def now(self) -> datetime:
        return NOW

    def boottime(self) -> float:
        return 0.0

    def synchronised(self) -> bool:
        return True


@dataclass
class Door:
    who: Principal | None = ENGINEER

    async def principal(self, request: HTTPConnection) -> Principal | None:
        return self.who


@dataclass
class Browser:
    client: httpx.AsyncClient
    store: HeadEndStore
    door: Door

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def post(self, path: str, **fields: str) -> httpx.Response:
        return await self.client.post(path, data=fields)

    async def upload(self, content: str | bytes, **fields: str) -> httpx.Response:
        files = {"sheet": ("village.csv", content, "text/csv")}
        return await self.client.post("/assets/import", files=files, data=fields)

    async def said(self) -> list[str]:
        return [link.entry.what for link in await self.store.audit_links()]


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with open_store(new_store(tmp_path / "store.db")) as store:
        door = Door()
        site = Site(
            store=store,
            clock=Noon(),
            catalogue=shipped_catalogue(),
            doorkeeper=door,
            link=lambda: BrokerLink(heard=True, since=NOW),
            can_command=True,
        )
        with lent_app(site) as app:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://hes.lan",
                headers={"Origin": "http://hes.lan"},
            ) as client:
                yield Browser(client, store, door)


async def test_a_sheet_is_checked_let_in_and_shown(browser: Browser) -> None:
    await browser.store.commit([accepted(feeder="f", meter="VM-7")])
    checked = await browser.upload(FLAT, only_check="yes")
    assert checked.status_code == 200
    assert "It would make" in checked.text
    assert not await browser.said()
    told = await browser.upload(FLAT)
    assert "Let in:" in told.text
    shown = (await browser.get("/assets/f")).text
    for word in ("Anitha B.", "VM-2", "p-2", "protected", "1 meter speaks", "VM-7"):
        assert word in shown, word
    listed = await browser.get("/assets")
    assert "North" in listed.text
    assert "nothing changes" in (await browser.upload(FLAT, feeder="f")).text


async def test_a_fault_stands_beside_its_row(browser: Browser) -> None:
    bad = FLAT + "f,,,p-9,,,,,VM-3,,<b>,c-3,Meena & Co,\n"
    refused = await browser.upload(bad)
    assert refused.status_code == 422
    assert "1 row has a fault: nothing was let in" in refused.text
    assert "row 5" in refused.text
    # What the cell says is shown as text, whatever it is.
    assert "<mark>&lt;b&gt;</mark>" in refused.text
    assert "Meena &amp; Co" in refused.text
    assert not await browser.said()
    partly = await browser.upload(bad, skip_bad_rows="yes")
    assert partly.status_code == 200
    assert "1 row was left out" in partly.text
    assert len((await browser.store.assets("f")).meters) == 3


async def test_a_file_that_is_no_sheet_is_refused_in_words(browser: Browser) -> None:
    refused = await browser.upload(b"PK\x03\x04")
    assert refused.status_code == 422
    assert "no workbook" in refused.text


async def test_a_meter_is_swapped_with_both_registers(browser: Browser) -> None:
    await browser.upload(FLAT)
    page = "/assets/f/meters/VM-2"
    assert "Enter the swap" in (await browser.get(page)).text
    wrong = await browser.post(f"{page}/swap", new="VM-9", closing="1,5", opening="0")
    assert wrong.status_code == 422
    assert "write with a point" in wrong.text
    # Half past four in the afternoon of North Paravur is an hour ago.
    done = await browser.post(
        f"{page}/swap", new="VM-9", closing="12.5", opening="0", at="2026-06-22T16:30"
    )
    assert (done.status_code, done.headers["location"]) == (303, "/assets/f/meters/VM-9")
    shown = (await browser.get("/assets/f/meters/VM-9")).text
    assert "VM-2" in shown
    assert "12.5" in shown
    old = next(m for m in (await browser.store.assets("f")).meters if m.serial == "VM-2")
    assert old.valid_to == NOW.replace(hour=11)
    assert "Taken down" in (await browser.get("/assets/f")).text


async def test_protection_settings_and_price(browser: Browser) -> None:
    await browser.upload(FLAT)
    page = "/assets/f/meters/VM-1"
    assert (await browser.post(f"{page}/protect", on="no")).status_code == 422
    assert (await browser.post(f"{page}/protect", on="no", reason="moved")).status_code == 303
    priced = await browser.post(
        "/assets/f/price", tariff="home", price_per_kwh="14.5", currency="inr", begins="2026-01-01"
    )
    assert priced.status_code == 303
    foreign = await browser.post(
        "/assets/f/price", tariff="home", price_per_kwh="1", currency="KES"
    )
    assert foreign.status_code == 422
    settings = {"name": "North", "time_zone": "Asia/Kolkata", "billing_day": "5", "tariff": "home"}
    assert (await browser.post("/assets/f/settings", **settings)).status_code == 303
    assert "14.5 INR" in (await browser.get("/assets/f")).text
    for wrong in ({"billing_day": "31"}, {"time_zone": "Mars"}, {"tariff": "nobody"}, {"name": ""}):
        assert (
            await browser.post("/assets/f/settings", **{**settings, **wrong})
        ).status_code == 422
    assert (await browser.store.assets("f")).feeder.billing_day == 5
    assert len(await browser.said()) == 4


async def test_who_is_no_engineer_looks_and_changes_nothing(browser: Browser) -> None:
    await browser.upload(FLAT)
    browser.door.who = replace(ENGINEER, role=Role.OPERATOR)
    for path in ("/assets", "/assets/f", "/assets/f/meters/VM-1"):
        found = await browser.get(path)
        assert found.status_code == 200
        assert "<form class" not in found.text
    assert (await browser.upload(FLAT)).status_code == 403
    for path in ("meters/VM-1/swap", "meters/VM-1/protect", "settings", "price"):
        assert (await browser.post(f"/assets/f/{path}")).status_code == 403


async def test_a_feeder_out_of_scope_is_not_there(browser: Browser) -> None:
    await browser.upload(FLAT)
    browser.door.who = replace(ENGINEER, feeders=frozenset({"g"}))
    assert "North" not in (await browser.get("/assets")).text
    for path in ("/assets/f", "/assets/f/meters/VM-1", "/assets/f/assets.geojson"):
        assert (await browser.get(path)).status_code == 404
    assert (await browser.post("/assets/f/settings")).status_code == 404
    # A sheet may not reach over the fence either, whatever feeder the form names.
    foreign = await browser.upload(FLAT, feeder="g")
    assert "about f" in foreign.text
    assert len(await browser.said()) == 1


async def test_what_is_taken_away_as_a_file_is_let_in_again(browser: Browser) -> None:
    await browser.upload(FLAT)
    taken = await browser.get("/assets/f/assets.geojson")
    assert "attachment" in taken.headers["content-disposition"]
    assert "nothing changes" in (await browser.upload(taken.content)).text
    template = await browser.get("/assets/template.xlsx")
    assert read_assets(template.content, "template") == ([], [])


# --- exports -------------------------------------------------------------------------------------


async def test_exports_are_fetched_by_feeder_and_time(browser: Browser) -> None:
    await browser.upload(FLAT)
    for hour in range(3):
        at = NOON + timedelta(hours=hour)
        await browser.store.commit([accepted(feeder="f", meter="VM-1", ts=at)])
    assert "North" in (await browser.get("/exports")).text
    whole = await browser.get("/exports/readings?feeder=f")
    assert whole.headers["content-type"].startswith("text/csv")
    assert "attachment" in whole.headers["content-disposition"]
    assert len(whole.text.splitlines()) == 4
    # Half past six in the evening of North Paravur is one o'clock by UTC.
    part = await browser.get("/exports/readings?feeder=f&kind=jsonl&since=2026-06-22T18:30")
    assert [line["event_time_utc"][11:13] for line in map(json.loads, part.text.splitlines())] == [
        *("13", "14")
    ]
    assert "Anitha" not in whole.text + part.text
    for path in ("prospect?feeder=f&table=meters_ts", "verification?feeder=f", "payments?feeder=f"):
        assert (await browser.get(f"/exports/{path}")).status_code == 200, path
    wrong = await browser.get("/exports/readings?feeder=f&since=yesterday")
    assert wrong.status_code == 422
    assert "is no date" in wrong.text


async def test_exports_end_at_the_fence(browser: Browser) -> None:
    await browser.upload(FLAT)
    browser.door.who = replace(ENGINEER, role=Role.VIEWER, feeders=frozenset({"g"}))
    assert "North" not in (await browser.get("/exports")).text
    for path in ("readings", "prospect", "verification", "payments"):
        assert (await browser.get(f"/exports/{path}?feeder=f")).status_code == 404
    browser.door.who = None
    assert (await browser.get("/exports/readings?feeder=f")).status_code in (303, 401)
