"""The page in a real Chromium: it fills by itself, its buttons work, a phone can read it, and axe finds nothing."""

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect, sync_playwright

from openami.conformance.acts import ACTS, ActState
from openami.conformance.bench import Standing
from openami.conformance.checklist import Checklist, checklist
from openami.conformance.judge import Judge
from openami.conformance.observation import Connected, Published
from openami.conformance.web import VIEWERS_MAX, build_app, serve

CHROMIUM = shutil.which("chromium")
NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
TOPIC = "openami/v1/f/g/meter/M-1/telemetry"
PROMPT = "Unplug the data line of meter M-1, and leave it unplugged."

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None and "OPENAMI_REQUIRE_TOOLS" not in os.environ,
    reason="chromium is not installed: apt install chromium",
)


@dataclass
class Stage:
    """A judge, one act, and the page that shows them, on a thread of its own."""

    port: int = 0
    pressed: list[str] = field(default_factory=list)
    judge: Judge = field(default_factory=lambda: Judge("gateway", began_at=NOW))
    standing: Standing = field(
        default_factory=lambda: Standing(row=next(r for r in ACTS if r.hook == "unplug"))
    )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def look(self) -> Checklist:
        return checklist(
            self.judge.judgement(NOW), [self.standing], {"old-pole came without TLS": 2}, ["pole"]
        )

    def publish(self, payload: bytes) -> None:
        self.judge.see(Connected(NOW, 1, "pole", "5", False, 60, None, "TLSv1.3", "f/g"))
        self.judge.see(Published(NOW, TOPIC, payload, 0, False, connection=1))

    def ask(self) -> None:
        self.standing.state, self.standing.prompt = ActState.ASKED, PROMPT

    def ask_where(self) -> None:
        self.standing.prompt, self.standing.asks_where = "Look: does its house have power?", True

    def press(self, word: str) -> None:
        self.pressed.append(word)
        self.standing.state, self.standing.prompt = ActState.UNDERWAY, None


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    words = ("done", "skip", "yes", "no")
    app = build_app(made.look, {word: partial(made.press, word) for word in words})
    loop = asyncio.new_event_loop()
    serving = loop.create_task(serve(app, listener))

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.gather(serving, return_exceptions=True))

    thread = threading.Thread(target=run)
    thread.start()
    yield made
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(10)
    assert not thread.is_alive()
    loop.close()
    listener.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@in_a_browser
def test_it_fills_by_itself_and_a_button_says_that_it_is_done(
    chromium: Browser, stage: Stage
) -> None:
    context = chromium.new_context(base_url=stage.url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/")
    expect(page.get_by_text("waiting for its first message")).to_be_visible()
    expect(page.locator("#state")).to_have_text("live")
    stage.publish(b'{"registers":[]}')
    expect(page.get_by_text("DOES NOT CONFORM")).to_be_visible()
    expect(page.get_by_text("Set the QoS of telemetry to 1")).to_be_visible()
    stage.ask()
    expect(page.get_by_text(PROMPT)).to_be_visible()
    page.get_by_role("button", name="It is done").click()
    expect(page.get_by_text(PROMPT)).to_have_count(0)
    stage.ask_where()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("does its house have power")).to_have_count(0)
    assert stage.pressed == ["done", "yes"]
    assert complaints == []
    assert all(url.startswith((stage.url, "data:")) for url in asked), asked
    context.close()


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_can_read_it_and_everybody_else(
    chromium: Browser, stage: Stage, scheme: str
) -> None:
    stage.publish(b'{"registers":[]}')
    stage.ask()
    context = chromium.new_context(
        base_url=stage.url,
        viewport={"width": 360, "height": 740},
        color_scheme=scheme,  # type: ignore[arg-type]  # a literal
    )
    page = context.new_page()
    page.goto("/")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()


@in_a_browser
def test_without_a_script_everything_is_there(chromium: Browser, stage: Stage) -> None:
    stage.publish(b'{"registers":[]}')
    stage.ask()
    context = chromium.new_context(base_url=stage.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    expect(page.get_by_text("Telemetry is published with QoS 1.")).to_be_visible()
    page.get_by_role("button", name="Leave it out").click()
    expect(page.get_by_text(PROMPT)).to_have_count(0)
    assert stage.pressed == ["skip"]
    context.close()


def test_another_sites_form_presses_no_button(stage: Stage) -> None:
    for origin in ("http://evil.example", "null", ""):
        answer = httpx.post(f"{stage.url}/done", headers={"origin": origin} if origin else {})
        assert answer.status_code == 403
    assert stage.pressed == []
    assert httpx.post(f"{stage.url}/reboot", headers={"origin": stage.url}).status_code == 404
    assert httpx.post(f"{stage.url}/done", headers={"origin": stage.url}).status_code == 303


def test_so_many_may_look_on_and_no_more(stage: Stage) -> None:
    streams: list[Iterator[bytes]] = []  # held: one that nobody holds is closed
    with ExitStack() as viewers:
        client = viewers.enter_context(httpx.Client(timeout=5))
        for _ in range(VIEWERS_MAX):
            answer = viewers.enter_context(client.stream("GET", f"{stage.url}/live"))
            streams.append(answer.iter_raw())
            assert next(streams[-1]).startswith(b"data: ")
        assert client.get(f"{stage.url}/live").status_code == 503


def test_its_headers_let_nothing_else_in(stage: Stage) -> None:
    answer = httpx.get(f"{stage.url}/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
