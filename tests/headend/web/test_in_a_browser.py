"""The overview and a meter's page in a real Chromium, over a real server with a village of 200 houses."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.headend.web.village import FEEDER, MANY, NOW, fill, houses, reading

from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.headend.web.console.feeders import ROWS_PER_PAGE_MAX

CHROMIUM = shutil.which("chromium")
BEAT_S = 0.8
AS_OF = re.compile(r"^As of 1[45]:\d\d$")
TRIES = 400
"""Of 50 ms each: how long a machine with much to do may take to start it."""
OVERVIEW = f"/feeders/{FEEDER}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None and "OPENAMI_REQUIRE_TOOLS" not in os.environ,
        reason="chromium is not installed: apt install chromium",
    ),
]


class Village:
    """A head-end's web as a process, which can be frozen, killed and started again."""

    def __init__(self, home: Path) -> None:
        self.store = home / "village.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (home / "server.log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = (str(self.store), str(self.port), str(BEAT_S))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.headend.web.serving_village", *arguments],
            stdout=self.log,
            stderr=self.log,
        )
        for _ in range(TRIES):
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(Path(self.log.name).read_text())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        self._process.wait(10)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def hears(self, serial: str, *, credit: float) -> None:
        """Let a message of a meter come, by the same store."""
        house = next(house for house in houses(MANY) if house.serial == serial)
        house.last, house.credit, house.kwh = NOW, credit, house.kwh + 40
        message = reading(house, NOW + timedelta(seconds=20))

        async def commit() -> None:
            async with open_store(f"sqlite:///{self.store}", Access.EDIT) as store:
                await store.commit([message])

        apart(commit)


def apart(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something asynchronous on another thread: this one's loop is Playwright's."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(work())).result()


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    made = Village(tmp_path_factory.mktemp("village"))

    async def filled() -> None:
        async with open_store(f"sqlite:///{made.store}") as store:
            await fill(store, MANY)

    apart(filled)
    made.start()
    yield made
    made.stop()
    made.log.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, village: Village) -> Iterator[BrowserContext]:
    made = chromium.new_context(base_url=village.url, locale="en-GB")
    made.set_default_timeout(10_000)
    yield made
    made.close()


@contextmanager
def counted(page: Page) -> Iterator[dict[str, float]]:
    """Count what comes over the wire, headers and all, by kind of resource."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    kinds: dict[str, str] = {}
    came: dict[str, float] = {}

    def named(event: dict[str, str]) -> None:
        kinds[event["requestId"]] = event["type"]

    def finished(event: dict[str, float | str]) -> None:
        kind = kinds.get(str(event["requestId"]), "Other")
        came[kind] = came.get(kind, 0) + float(event["encodedDataLength"])

    devtools.on("Network.responseReceived", named)
    devtools.on("Network.loadingFinished", finished)
    yield came
    devtools.detach()


def test_the_overview_keeps_its_budgets(context: BrowserContext) -> None:
    page = context.new_page()
    with counted(page) as first:
        page.goto(OVERVIEW)
        expect(page.locator("#live")).to_have_text("Live")
    assert sum(first.values()) <= 30 * 1024, first
    assert first["Script"] <= 20 * 1024
    assert first["Stylesheet"] <= 6 * 1024
    again = context.new_page()
    with counted(again) as repeated:
        again.goto(OVERVIEW)
        expect(again.locator("#live")).to_have_text("Live")
    assert sum(repeated.values()) <= 10 * 1024, repeated


def test_the_stream_starts_each_time_and_changes_what_has_changed(
    context: BrowserContext, village: Village
) -> None:
    """Seven loads: with two scripts instead of one bundle it failed to start in one load of seven."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for _ in range(7):
        page.goto(OVERVIEW)
        expect(page.locator("#live")).to_have_text("Live")
    silent = next(house for house in houses(MANY) if house.last < NOW)
    row = page.locator(f"#m-{silent.serial}")
    expect(row).to_contain_text("Meter silent")
    before = int(page.locator("#n-silent").inner_text())
    marks = page.locator("#line svg a").count()
    village.hears(silent.serial, credit=17.3)
    expect(row).to_contain_text("Reporting")
    expect(row).to_contain_text("17.3")
    assert row.get_attribute("class") is None
    expect(page.locator("#n-silent")).to_have_text(str(before - 1))
    assert page.locator("#line svg a").count() == marks - 1
    assert complaints == []


def test_the_page_says_when_it_is_not_live_and_recovers_by_itself(
    context: BrowserContext, village: Village
) -> None:
    page = context.new_page()
    page.goto(OVERVIEW)
    pill = page.locator("#live")
    expect(pill).to_have_text("Live")
    with village.frozen():
        expect(pill).to_contain_text("Not live: last update")
    expect(pill).to_have_text("Live")
    village.stop(signal.SIGKILL)
    expect(pill).to_contain_text("Not live: last update")
    village.start()
    expect(pill).to_have_text("Live", timeout=20_000)


def test_axe_finds_nothing(chromium: Browser, village: Village) -> None:
    """Light on a laptop and dark on a phone, every page of this part."""
    meter = f"/meters/{FEEDER}/{houses(MANY)[0].serial}"
    pages = (OVERVIEW, f"{OVERVIEW}?drawn=map&table=true&show=attention", "/feeders", "/meters")
    laptop = chromium.new_context(
        base_url=village.url, viewport={"width": 1366, "height": 900}, color_scheme="light"
    )
    phone = chromium.new_context(
        base_url=village.url, viewport={"width": 360, "height": 740}, color_scheme="dark"
    )
    for context, wide, wanted in (
        (laptop, 1366, (*pages, f"{meter}?table=true")),
        (phone, 360, (OVERVIEW, meter, f"{meter}/readings", f"{meter}/explore")),
    ):
        page = context.new_page()
        for path in wanted:
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= wide, path
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        context.close()


def test_without_a_script_everything_is_there(chromium: Browser, village: Village) -> None:
    context = chromium.new_context(base_url=village.url, java_script_enabled=False)
    context.set_default_timeout(5_000)
    page = context.new_page()
    page.goto(OVERVIEW)
    assert page.locator("#meters tbody tr").count() == ROWS_PER_PAGE_MAX
    assert page.locator("#energy svg .supplied").count() > 0
    expect(page.get_by_text(AS_OF)).to_be_visible()
    page.get_by_role("link", name="Low credit").click()
    assert 5 < page.locator("#meters tbody tr").count() < 20
    page.get_by_role("searchbox").fill("nisha")
    page.get_by_role("button", name="Find").click()
    for row in page.locator("#meters tbody tr").all():
        assert "Nisha" in row.inner_text()
    page.goto(OVERVIEW)
    page.get_by_role("link", name="Next page").click()
    page.locator("#meters tbody a").first.click()
    page.get_by_role("link", name="Show as table").click()
    expect(page.get_by_role("columnheader", name="Known")).to_be_visible()
    context.close()


def test_a_chart_to_explore_is_loaded_where_it_is_asked_for(context: BrowserContext) -> None:
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    with counted(page) as came:
        page.goto(f"/meters/{FEEDER}/{houses(MANY)[0].serial}/explore")
        expect(page.locator("#explore canvas")).to_be_visible()
    assert sum(came.values()) <= 55 * 1024
    assert complaints == []


def test_who_saves_data_is_left_alone(context: BrowserContext) -> None:
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(OVERVIEW)
    page.locator(".who summary").click()
    page.get_by_role("button", name="Turn data saver on").click()
    expect(page.get_by_role("link", name="Refresh")).to_be_visible()
    expect(page.get_by_text(AS_OF)).to_be_visible()
    asked.clear()
    page.get_by_role("link", name="Refresh").click()
    page.wait_for_load_state()
    assert not [url for url in asked if "/live/" in url]
