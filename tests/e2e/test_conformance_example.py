"""The example gateway in C under the kit, form by form, as docs/conformance-example.md tells it."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.tools import require_tool

import openami
from openami.conformance.judgement import Finding
from openami.conformance.report.document import open_report
from openami.profile import requirements

ROOT = Path(openami.__file__).parents[2]
EXAMPLE = ROOT / "examples/gateway-c"
STORY = (ROOT / "docs/conformance-example.md").read_text()
TITLES = ("The first run", "The second run", "The third run")
PATCHES = ("1-tls.patch", "2-messages.patch", "3-course.patch")

# What takes a link away and looks two minutes for what did not come; the rest takes seconds.
JUDGED_S_MAX = 240.0

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Run:
    """One form under the kit: how it ended, and what was found."""

    code: int
    findings: Mapping[str, Finding]

    def broken(self) -> dict[str, str]:
        return {
            number: finding.verdict
            for number, finding in self.findings.items()
            if finding.verdict in ("failed", "warning")
        }


def forms(directory: Path) -> list[Path]:
    """Compile the first form and what each patch makes of it."""
    require_tool("gcc")
    require_tool("patch")
    if not Path("/usr/include/mosquitto.h").exists():
        reason = "libmosquitto-dev is not installed: .ci/run installs what the tests need"
        if os.environ.get("OPENAMI_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    source = directory / "gateway.c"
    shutil.copy(EXAMPLE / "first.c", source)
    compiled = []
    for number, patch in enumerate((None, *PATCHES)):
        if patch is not None:
            subprocess.run(["patch", "-s", source, EXAMPLE / patch], check=True, timeout=30)
        program = directory / f"form{number}"
        flags = ("-O1", "-Wall", "-Wextra", "-Werror")
        subprocess.run(
            ["gcc", *flags, "-o", program, source, "-lmosquitto"], check=True, timeout=60
        )
        compiled.append(program)
    assert source.read_text() == (EXAMPLE / "gateway.c").read_text()
    return compiled


def bench(directory: Path) -> Path:
    """Make two meters that answer."""
    meters = directory / "meters"
    meters.mkdir(parents=True)
    (meters / "DS1000-88421").write_text("1842500 12400 1\n")
    (meters / "DS1000-88422").write_text("990200 3100 1\n")
    return meters


async def put_under_the_kit(form: Path, directory: Path, *arguments: str, tls: bool = True) -> Run:
    """Start the kit, then the gateway as the kit says; return what came of it when the kit has ended."""
    meters, kit = bench(directory), directory / "kit"
    said = directory / "kit.log"
    serve = [sys.executable, "-m", "openami", "conformance", "serve"]
    serve += ["--host", "localhost", "--port", "0", "--plain-port", "0", "--page", ""]
    serve += ["--directory", str(kit), "--hook", f"{EXAMPLE / 'hook.sh'} {meters}", "--json"]
    with said.open("w") as out:
        judge = await asyncio.create_subprocess_exec(*serve, *arguments, stdout=out)
    try:
        async with asyncio.timeout(JUDGED_S_MAX):
            while not said.read_text().partition("\n")[1]:
                await asyncio.sleep(0.05)
            ready = json.loads(said.read_text().partition("\n")[0])
            port = ready["port"] if tls else ready["plainPort"]
            process = await asyncio.create_subprocess_exec(
                form, "localhost", str(port), "feeder-kit", "gateway-kit", kit, meters, "1"
            )
            try:
                code = await judge.wait()
            finally:
                process.kill()
                await process.wait()
    finally:
        if judge.returncode is None:
            judge.kill()
            await judge.wait()
    judgement = open_report((kit / "report.json").read_bytes()).report.judgement
    return Run(code, {finding.requirement: finding for finding in judgement.findings})


# A gateway that takes no commands and numbers nothing has nothing to show there.
WITHOUT = ("gateway-restarted", "command-without-session", "session-offered")


def skipping(*acts: str) -> list[str]:
    return [word for act in (*WITHOUT, *acts) for word in ("--skip", act)]


async def test_each_form_fails_where_the_story_says_and_the_last_one_passes(tmp_path: Path) -> None:
    require_tool("mosquitto")
    first, encrypted, readable, mended = forms(tmp_path)
    runs = await asyncio.gather(
        put_under_the_kit(first, tmp_path / "0", "--for", "5s", tls=False),
        # With QoS 0 there is no acknowledgement to keep back.
        put_under_the_kit(
            encrypted,
            tmp_path / "1",
            "--once",
            *skipping("acknowledgement-withheld", "network-lost"),
        ),
        put_under_the_kit(readable, tmp_path / "2", "--once", *skipping()),
        put_under_the_kit(mended, tmp_path / "3", "--once", *skipping()),
    )
    plain, bad, forgetful, good = runs
    assert plain.broken() == told("The first run")
    assert bad.broken() == told("The second run")
    assert forgetful.broken() == told("The third run")
    assert [run.code for run in runs] == [1, 1, 0, 0]
    assert good.broken() == {}
    for title, run in zip(TITLES, runs, strict=False):
        for number, _, detail, _ in rows(title):
            heard = [each.detail for each in run.findings[number].evidence]
            assert without_figures(detail) in map(without_figures, heard)
    exercised = {n for n, f in good.findings.items() if f.verdict == "passed"}
    assert exercised >= told("The second run").keys() | told("The third run").keys()
    assert exercised >= told("The first run").keys()


# --- the story -----------------------------------------------------------------------------------


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}.*?\n(.*?)(?=^## |\Z)", STORY, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def rows(title: str) -> list[tuple[str, str, str, str]]:
    return re.findall(r"^\| (OA-\S+) \| (\w+) \| (.*) \| (.*) \|$", section(title), re.MULTILINE)


def without_figures(detail: str) -> str:
    """Return a sentence of the kit without its figures, and without the place the story adds."""
    return re.sub(r"[0-9]+", "#", detail.partition("; at `")[0])


def told(title: str) -> dict[str, str]:
    return {number: verdict for number, verdict, _, _ in rows(title)}


def test_the_remedies_of_the_story_are_the_kits() -> None:
    assert all(rows(title) for title in TITLES)
    for number, _, _, remedy in (row for title in TITLES for row in rows(title)):
        assert remedy == requirements()[number].remedy.replace("|", "\\|")


@pytest.mark.parametrize(
    ("title", "patch"),
    list(zip(TITLES, PATCHES, strict=True)),
)
def test_the_diffs_of_the_story_are_the_patches(title: str, patch: str) -> None:
    (diff,) = re.findall(r"^```diff\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    assert diff == (EXAMPLE / patch).read_text()
