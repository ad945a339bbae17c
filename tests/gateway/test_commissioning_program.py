"""The walk on a phone: the gateway as the program it is, meters on a line, a real Chromium without a script."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect
from tests.gateway.houses import House, configuration
from tests.tools import free_port

from openami.simulator.modbus_server import ModbusLine, serving

CHROMIUM = shutil.which("chromium")
START_S = 60.0  # a test machine may do many things at once
PHONE = {"width": 360, "height": 740}
# M-1 and M-2 are wired to each other's houses, M-3 is right, another meter than M-4's answers at its address.
METERS = (("M-1", 1, 1001), ("M-2", 2, 1002), ("M-3", 3, 1003), ("M-4", 4, 9999))

in_a_browser = pytest.mark.skipif(
    CHROMIUM is None and "OPENAMI_REQUIRE_TOOLS" not in os.environ,
    reason="chromium is not installed: apt install chromium",
)


@dataclass
class Pole:
    """A gateway that runs, its file, its page, its houses."""

    file: Path
    url: str
    houses: Mapping[int, House]

    async def commission(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Run ``openami gateway commission``: its exit code, what it printed as JSON, what it said."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "openami", "gateway", "commission", arguments[0]),
            *("-c", str(self.file), *arguments[1:]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        rows = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
        assert process.returncode is not None
        return process.returncode, rows, err.decode()

    async def pin(self) -> str:
        code, rows, said = await self.commission("start", "--json")
        assert code == 0, said
        return str(rows[0]["pin"])


@asynccontextmanager
async def running_pole(directory: Path) -> AsyncIterator[Pole]:
    houses = {unit: House(1000 + unit) for _, unit, _ in METERS}
    status_port = free_port()
    async with serving(ModbusLine(houses)) as modbus_port:
        file = configuration(
            directory, modbus_port=modbus_port, meters=METERS, status_port=status_port
        )
        with (directory / "gateway.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 – it starts at once
                [sys.executable, "-m", "openami", "gateway", "run", "-c", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        pole = Pole(file, f"http://127.0.0.1:{status_port}", houses)
        try:
            async with asyncio.timeout(START_S), httpx.AsyncClient() as client:
                while True:
                    assert process.poll() is None, (directory / "gateway.log").read_text()
                    with suppress(httpx.TransportError):
                        shown = await client.get(f"{pole.url}/walk")
                        if shown.text.count("reporting") == 3 and "clash" in shown.text:
                            break
                    await asyncio.sleep(0.05)
            yield pole
        finally:
            process.kill()
            process.wait(20)


@pytest.fixture
async def pole(tmp_path: Path) -> AsyncIterator[Pole]:
    async with running_pole(tmp_path) as running:
        yield running


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@in_a_browser
@pytest.mark.slow
@pytest.mark.xdist_group("browser")
async def test_an_integrator_walks_a_feeder_and_finds_two_swapped_meters(pole: Pole) -> None:
    async with chromium() as browser:
        context = await browser.new_context(
            base_url=pole.url,
            viewport=PHONE,  # type: ignore[arg-type]  # two numbers
            java_script_enabled=False,
        )
        context.set_default_timeout(15_000)
        page = await context.new_page()
        await signs_in(page, pole)
        await sees_the_lamp_of_a_right_house(page, pole)
        await finds_the_lamp_at(page, pole, lamp_in=2, meter="M-1", rises_at="M-2")
        await finds_the_lamp_at(page, pole, lamp_in=1, meter="M-2", rises_at="M-1")
        await page.goto("/walk")
        await expect(page.locator(".said")).to_contain_text(
            "M-1 and M-2: each showed the other's load"
        )
        await cannot_tick_a_meter_that_is_another(page)
        await expect(page.locator(".count")).to_contain_text("1 of 4 meters right, 2 problems")
        await begins_the_hour(page, pole)
        await anybody_can_read_it(browser, pole, await context.storage_state())
    assert all(house.orders == [] for house in pole.houses.values())


async def signs_in(page: Page, pole: Pole) -> None:
    await page.goto("/walk")
    await expect(page.locator("button")).to_have_count(0)
    await page.click("text=Sign in to tick")
    pin = await pole.pin()
    wrong = f"{(int(pin) + 1) % 10**6:06}"
    await page.fill("[name=pin]", wrong)
    await page.fill("[name=by]", "Asha, Solar Works")
    await page.click("main button")
    await expect(page.locator(".said")).to_contain_text("That is not the PIN.")
    await page.fill("[name=pin]", f"{pin[:3]} {pin[3:]}")
    await page.fill("[name=by]", "Asha, Solar Works")
    await page.click("main button")
    await expect(page.locator("footer")).to_contain_text("Asha, Solar Works")


async def sees_the_lamp_of_a_right_house(page: Page, pole: Pole) -> None:
    await page.click("text=M-3")
    await expect(page.locator("main")).to_contain_text("Serial it tells")
    await expect(page.locator("main")).to_contain_text("1003")
    await page.click("text=It is right")
    await expect(page.locator(".said")).to_contain_text("No load was seen at this meter")
    await switches_the_lamp_on(page, pole.houses[3])
    await expect(page.locator("main")).to_contain_text("its power rose: 40 W before, 100 W with")
    await page.click("text=It is right")
    await expect(page.locator(".said")).to_contain_text("M-3: noted.")


async def switches_the_lamp_on(page: Page, house: House) -> None:
    await page.fill("[name=load_w]", "60")
    await page.click("text=It is off")
    await expect(page.locator("main")).to_contain_text("Now switch the load of 60 W on")
    house.watts += 60
    await page.click("text=It is on")


async def finds_the_lamp_at(
    page: Page, pole: Pole, *, lamp_in: int, meter: str, rises_at: str
) -> None:
    await page.goto(f"/walk-meter?meter={meter}")
    await switches_the_lamp_on(page, pole.houses[lamp_in])
    async with asyncio.timeout(20):
        while "are the two swapped?" not in await page.content():
            await page.reload()
    await expect(page.locator("main")).to_contain_text(f"It rose at {rises_at}")
    await page.fill("[name=note]", "wires of two houses crossed <at the pole>")
    await page.click("text=Leave it as a problem")
    await expect(page.locator("main")).to_contain_text("crossed <at the pole>")


async def cannot_tick_a_meter_that_is_another(page: Page) -> None:
    await page.click("text=M-4")
    await expect(page.locator("main")).to_contain_text("Another meter answers at this address")
    await page.click("text=Ask it now")
    await expect(page.locator(".said")).to_contain_text("says it is '1004'")
    await page.fill("[name=note]", "it looked right to me")
    await page.check("[name=nameplate]")
    await page.click("text=It is right")
    await expect(page.locator(".said")).to_contain_text("It does not answer now")
    await page.goto("/walk")


async def begins_the_hour(page: Page, pole: Pole) -> None:
    await page.click("text=First hour")
    await expect(page.locator("main")).to_contain_text("swap M-1: it and M-2 are wired")
    await page.click("text=bench: no line was scanned")
    form = page.locator("form", has=page.locator("[value=bench]"))
    await form.locator("[name=reason]").fill("scanned in the workshop, on paper")
    await form.locator("button").click()
    await expect(page.locator("main")).not_to_contain_text("bench: no line was scanned")
    await page.click("text=Begin the hour")
    await expect(page.locator("main")).to_contain_text("Under way since")
    code, _, said = await pole.commission("accept")
    assert code == 5
    assert "60 min still" in said


async def anybody_can_read_it(browser: Browser, pole: Pole, signed_in: Any) -> None:
    asked: list[str] = []
    shown = {"light": ("walk", "walk-hour", "walk-sign-in"), "dark": ("walk-meter?meter=M-1",)}
    for scheme, paths in shown.items():
        context = await browser.new_context(
            base_url=pole.url,
            viewport=PHONE,  # type: ignore[arg-type]  # two numbers
            storage_state=signed_in,
            color_scheme=scheme,  # type: ignore[arg-type]  # a literal
        )
        page = await context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for path in paths:
            await page.goto(f"/{path}")
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            heights = await page.evaluate(
                "[...document.querySelectorAll('button, input:not([type=hidden],[type=checkbox])')]"
                ".filter(e => e.checkVisibility()).map(e => e.offsetHeight)"
            )
            assert all(height >= 44 for height in heights), (path, heights)
            found = await Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
        await context.close()
    assert all(url.startswith(pole.url) for url in asked), asked
