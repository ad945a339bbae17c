"""The HTML report in a real Chromium: readable by all, on any screen, and deaf to what it quotes."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from tests.conformance.report.hostile import TEXTS, hostile
from tests.conformance.report.sample import judgement, sealed

from openami.conformance.report.document import Sealed
from openami.conformance.report.html import html_report

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None and "OPENAMI_REQUIRE_TOOLS" not in os.environ,
        reason="chromium is not installed: apt install chromium",
    ),
]

WIDTHS = {"wide": 1280, "phone": 360}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Shown:
    """A page, and whatever it complained of or asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self.asked.append(request.url))


def show(
    chromium: Browser,
    report: Sealed,
    folder: Path,
    *,
    width: int = 1280,
    scheme: str = "light",
    script: bool = True,
) -> Shown:
    file = folder / "report.html"
    file.write_bytes(html_report(report))
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=script,
    )
    shown = Shown(context.new_page())
    shown.page.goto(file.as_uri())
    return shown


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_accessible(chromium: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    shown = show(chromium, sealed(), tmp_path, width=width, scheme=scheme)
    for summary in shown.page.locator("summary").all():
        summary.click()
    found = Axe().run(shown.page)
    assert found.violations_count == 0, found.generate_report()
    shown.page.context.close()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_never_wider_than_the_screen(
    chromium: Browser, tmp_path: Path, width: int
) -> None:
    """Not with names of 5,000 letters either; a wide table scrolls in its own frame."""
    for report in (sealed(), hostile()):
        shown = show(chromium, report, tmp_path, width=width)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        shown.page.context.close()


def test_everything_is_in_the_one_file(chromium: Browser, tmp_path: Path) -> None:
    shown = show(chromium, sealed(), tmp_path)
    assert [url for url in shown.asked if not url.endswith("/report.html")] == []
    assert shown.complaints == []
    assert shown.page.locator("script").count() == 0
    shown.page.context.close()


def test_it_says_what_the_judgement_says(chromium: Browser, tmp_path: Path) -> None:
    report = sealed()
    page = show(chromium, report, tmp_path, script=False).page
    assert "Does not conform" in page.locator(".said").inner_text()
    failed = page.locator("#OA-QOS-001").inner_text()
    for words in (
        "profile 0.1",
        "broken on 12 of 40",
        "meter/DS1000-88422/telemetry",
        "Set the QoS of telemetry",
    ):
        assert words in failed
    assert "/registers/2/unit" in page.locator("#OA-REG-007").inner_text()
    assert "Connect a meter with a relay" in page.locator("#OA-SES-002").inner_text()
    page.locator("#OA-TOP-001 summary").click()
    assert page.locator("#OA-TOP-001").get_by_text("By the topic of every message.").is_visible()
    assert report.digest in page.locator("footer").inner_text()
    assert report.kid in page.locator("footer").inner_text()
    page.context.close()


def test_what_is_folded_is_printed(chromium: Browser, tmp_path: Path) -> None:
    page = show(chromium, sealed(), tmp_path).page
    hidden = page.locator("#OA-TOP-001").get_by_text("By the topic of every message.")
    assert not hidden.is_visible()
    page.emulate_media(media="print")
    assert hidden.is_visible()
    page.context.close()


def test_hostile_texts_are_shown_and_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    shown = show(chromium, hostile(), tmp_path)
    page = shown.page
    assert shown.complaints == []
    assert [url for url in shown.asked if not url.endswith("/report.html")] == []
    assert page.title().startswith("Conformance report: gateway <script>")
    for tag in ("script", "img", "svg", "font", "h1 h1", "b > font"):
        assert page.locator(tag).count() == 0, tag
    assert page.locator("h1").count() == 1
    said = page.locator("main").inner_text()
    assert TEXTS[0] in said
    assert "{{ 7*7 }}" in said
    assert "\\x1b[2J" in said
    # A text that would turn its neighbours round is shown as what it is made of.
    assert "\\u202edessap" in said
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08]", page.content())
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()


def test_a_judgement_of_nothing_is_a_page_too(chromium: Browser, tmp_path: Path) -> None:
    shown = show(chromium, sealed(judgement((), conforms=False)), tmp_path)
    assert "Not shown to conform" in shown.page.locator(".said").inner_text()
    assert Axe().run(shown.page).violations_count == 0
    shown.page.context.close()
