"""The status page in a real Chromium: it renews itself and moves nothing, can be stopped, and axe finds nothing."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect
from tests.gateway.test_status import meter, snapshot

from openami.gateway.metrics import GatewayMetrics
from openami.gateway.reachability import Reachability
from openami.gateway.snapshot import LineView, Snapshot
from openami.gateway.status import serve, status_app

CHROMIUM = shutil.which("chromium")
PHONE = {"width": 360, "height": 740}
HALF_A_MINUTE_MS = 30_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None and "OPENAMI_REQUIRE_TOOLS" not in os.environ,
        reason="chromium is not installed: apt install chromium",
    ),
]


@dataclass
class Shown:
    """What the gateway would show, and where."""

    url: str
    snapshot: Snapshot = field(default_factory=snapshot)

    async def take(self) -> Snapshot:
        return self.snapshot


@pytest.fixture
async def shown() -> AsyncIterator[Shown]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Shown(f"http://127.0.0.1:{listener.getsockname()[1]}")

        serving = asyncio.create_task(serve(status_app(made.take, GatewayMetrics()), listener))
        yield made
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def opened(chromium: Browser, shown: Shown, **more: object) -> Page:
    context = await chromium.new_context(base_url=shown.url, viewport=PHONE, **more)  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    page = await context.new_page()
    await page.clock.install()
    await page.goto("/")
    return page


async def test_it_renews_what_it_shows_and_moves_nothing(chromium: Browser, shown: Shown) -> None:
    page = await opened(chromium, shown)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.focus("text=Look again")
    shown.snapshot = snapshot(
        records=[meter("M-2")], now=shown.snapshot.now + timedelta(seconds=30)
    )
    await page.clock.run_for(HALF_A_MINUTE_MS)
    await expect(page.locator("main")).to_contain_text("M-2")
    await expect(page.locator("#seen")).to_contain_text("14:30:30")
    assert await page.evaluate("document.activeElement.textContent") == "Look again"
    assert complaints == [], "its own policy lets it"

    await page.get_by_label("look again every").uncheck()
    shown.snapshot = snapshot(records=[meter("M-3")])
    await page.clock.run_for(3 * HALF_A_MINUTE_MS)
    await expect(page.locator("main")).to_contain_text("M-2")
    await page.get_by_label("look again every").check()
    await page.clock.run_for(HALF_A_MINUTE_MS)
    await expect(page.locator("main")).to_contain_text("M-3")

    await page.route("**/*", lambda route: route.abort())
    await page.clock.run_for(HALF_A_MINUTE_MS)
    await expect(page.get_by_role("status")).to_have_text(
        "The gateway does not answer: this is how it was."
    )


async def test_everybody_can_read_it_with_a_script_or_without(
    chromium: Browser, shown: Shown
) -> None:
    lost = meter("M-2", reach=Reachability(lost=True), fault="no answer within 1 s")
    shown.snapshot = snapshot(records=[meter("M-1"), lost], lines=[LineView("bus1", load=2.0)])
    for scheme in ("light", "dark"):
        page = await opened(chromium, shown, color_scheme=scheme)
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        kinds = (found.response[kind] for kind in ("passes", "inapplicable"))
        assert "meta-refresh" in {rule["id"] for kind in kinds for rule in kind}

    page = await opened(chromium, shown, java_script_enabled=False)
    shown.snapshot = snapshot(records=[meter("M-9")])
    await page.click("text=Look again")
    await expect(page.locator("main")).to_contain_text("M-9")
