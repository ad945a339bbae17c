"""An operator's morning in a real Chromium, before a real head-end, gateway, broker and meters with relays."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, async_playwright, expect
from tests.conftest import StartMosquitto
from tests.e2e.commanded import (
    DEADLINE_S,
    FEEDER_ID,
    GATEWAY_ID,
    System,
    commanded_village,
)
from tests.headend.messages import payload, register
from tests.tools import free_port

from openami.clock import SystemClock
from openami.headend.accounts import Role
from openami.headend.accounts.passwords import Argon2Hasher
from openami.headend.accounts.users import User
from openami.headend.audit import Entry
from openami.headend.ingest import Message, ingest
from openami.headend.states import METER_SILENT_AFTER_MINUTES
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.profile import shipped_catalogue, utc_text

CHROMIUM = shutil.which("chromium")
PASSWORD = "correct horse battery"
SILENT = "M-SILENT"
AHEAD = "M-AHEAD"

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None and "OPENAMI_REQUIRE_TOOLS" not in os.environ,
        reason="chromium is not installed: apt install chromium",
    ),
]


async def test_an_operators_morning(mosquitto: StartMosquitto, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with commanded_village(
        mosquitto, tmp_path, meters=4, headend_more=f'\n[web]\nlisten = "{listen}"\n'
    ) as system:
        await something_has_happened(system)
        async with browsing(f"http://{listen}") as page:
            await signs_in(page)
            await finds_the_silent_meter_and_sees_why(page)
            await disconnects_and_reconnects_a_house(page, system)
            await replays_a_rejected_message(page)
            await imports_a_sheet_with_errors(page)
        await system.run("audit", "verify")
        system.assert_sound()


async def something_has_happened(system: System) -> None:
    """An account; a meter that fell silent; and a message that a wrong clock dated ahead, rejected then."""
    now = SystemClock().now()
    long_ago = now - timedelta(minutes=METER_SILENT_AFTER_MINUTES + 5)
    before = now - timedelta(minutes=20)
    lost = {"eventId": "lost-1", "type": "comms_lost", "state": "raised", "severity": "major",
            "occurredAt": utc_text(long_ago), "source": "gateway",
            "detail": "no answer to three polls"}  # fmt: skip
    async with open_store(system.store_url, Access.EDIT) as store:
        user = User(
            name="asha",
            role=Role.ENGINEER,
            password=Argon2Hasher().hash(PASSWORD),
            created_at=now,
            created_by="test",
        )
        await store.add_user(user, Entry(who="test", what="user asha added"))
        told = [
            (SILENT, "telemetry", long_ago, long_ago, {}),
            (SILENT, "event", long_ago, long_ago, {"event": lost}),
            (AHEAD, "telemetry", now - timedelta(minutes=1), before, {}),
        ]
        for serial, leaf, measured, received, more in told:
            body = payload(
                ts=utc_text(measured), feederId=FEEDER_ID, gatewayId=GATEWAY_ID,
                meterSerial=serial, registers=[register()], **more,
            )  # fmt: skip
            topic = f"openami/v1/{FEEDER_ID}/{GATEWAY_ID}/meter/{serial}/{leaf}"
            message = Message(topic, body, received)
            await store.commit([ingest(message, catalogue=shipped_catalogue(), now=received)])
        assert len(await store.rejects()) == 1


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(base_url=url, locale="en-GB")
        context.set_default_timeout(DEADLINE_S * 1000)
        page = await context.new_page()
        yield page
        await browser.close()


async def signs_in(page: Page) -> None:
    await page.goto("/")
    await page.fill("#name", "asha")
    await page.fill("#password", PASSWORD)
    await page.click("main button[type=submit]")
    await expect(page.locator("header .who")).to_contain_text("asha")


async def finds_the_silent_meter_and_sees_why(page: Page) -> None:
    await page.goto(f"/gateways/{FEEDER_ID}/{GATEWAY_ID}")
    row = page.locator("tr", has_text=SILENT)
    await expect(row).to_contain_text("Meter silent")
    await row.locator("a").click()
    await expect(page.locator("h1")).to_contain_text(SILENT)
    await expect(page.locator("main")).to_contain_text("Meter silent")
    await page.goto(f"/events?feeder={FEEDER_ID}&meter={SILENT}")
    await expect(page.locator("tbody")).to_contain_text("Meter does not answer")
    await expect(page.locator("tbody")).to_contain_text("no answer to three polls")


async def disconnects_and_reconnects_a_house(page: Page, system: System) -> None:
    house = max(system.serials, key=system.power_w)
    assert system.power_w(house) > 0
    await page.goto(f"/meters/{FEEDER_ID}/{house}/relay")
    await expect(page.locator("main")).to_contain_text("Reporting")
    await no_barrier(page)
    await page.select_option("#reason-disconnect", "no credit")
    await page.fill("#note-disconnect", "third reminder")
    await page.click("text=Go on to disconnect…")
    await page.fill("#serial_end", "9999")
    await page.click("text=Disconnect this house")
    await expect(page.locator("main")).to_contain_text("not this meter's")
    assert system.orders() == {}, "nothing has moved"
    await page.fill("#serial_end", house[-4:])
    await page.click("text=Disconnect this house")
    await expect(page.locator("#progress h2")).to_have_text("● Confirmed")
    assert system.power_w(house) == 0
    assert system.orders() == {house: 1}
    await expect(page.locator("#progress")).to_contain_text("Relay read back as ordered")
    await no_barrier(page)

    await page.click("text=Receipt")
    receipt = page.locator("article")
    await expect(receipt).to_contain_text("no credit: third reminder")
    await expect(receipt).to_contain_text("Relay state")
    await expect(receipt.locator("tr", has_text="96.11.1")).to_contain_text("Disconnected")
    command_id = page.url.split("/")[-2]
    shown = json.loads(await system.run("command", "show", command_id, "--json"))
    for proof in (command_id, shown["sessionId"], shown["digest"]):
        await expect(receipt).to_contain_text(proof)
    report = await page.request.get(f"/commands/{command_id}/report")
    assert b'"signature"' in await report.body()

    await page.goto(f"/meters/{FEEDER_ID}/{house}/relay")
    await page.select_option("#reason-reconnect", "paid")
    await page.click("text=Go on to reconnect…")
    assert await page.locator("#serial_end").count() == 0
    await page.click("text=Reconnect this house")
    await expect(page.locator("#progress h2")).to_have_text("● Confirmed")
    assert system.power_w(house) > 0
    assert system.orders() == {house: 2}


async def replays_a_rejected_message(page: Page) -> None:
    await page.goto("/rejected")
    await page.click("tbody tr td:nth-child(5) a")
    await expect(page.locator("mark").first).to_contain_text('"ts"')
    await expect(page.locator("main")).to_contain_text("What the vendor should change")
    await no_barrier(page)
    await page.get_by_role("button", name="Replay", exact=True).click()
    await expect(page.locator("main")).to_contain_text("Replayed")
    await page.goto(f"/meters/{FEEDER_ID}/{AHEAD}")
    await expect(page.locator("main")).to_contain_text("1,842.5")


async def imports_a_sheet_with_errors(page: Page) -> None:
    await page.goto("/assets")
    sheet = f"feeder,serial,pole,customer\n{FEEDER_ID},{AHEAD},p-1,c-1\n{FEEDER_ID},bad serial!,p-1,c-2\n"
    await page.set_input_files(
        "input[type=file]",
        {"name": "village.csv", "mimeType": "text/csv", "buffer": sheet.encode()},
    )
    await page.locator("form:has(input[type=file]) button").first.click()
    await expect(page.locator("main")).to_contain_text("nothing was let in")
    await expect(page.locator("mark", has_text="bad serial!")).to_be_visible()


async def no_barrier(page: Page) -> None:
    """What axe knows of accessibility finds nothing."""
    found = (await Axe().run(page)).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
