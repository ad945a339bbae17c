"""docs/drivers.md takes a newcomer to a working meter: its commands are run, and say what the page says."""

import asyncio
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.gateway.scan_line import RtuMeter
from tests.gateway.scan_pty import paced_pty

import openami
from openami.cli import main
from openami.simulator.modbus_server import Area, Write, WriteRefused

PAGE = (Path(openami.__file__).parents[2] / "docs/drivers.md").read_text()
TITLE = "Your first Modbus meter"
DEVICE = "/dev/ttyUSB0"
_STEP = re.compile(r"^```(console|toml|diff)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What differs from run to run: how long the meter thought.
_figures = re.compile(r"\d+(?= ms)")


class Sm1:
    """The meter of the story: as its manual says, and the low word first, which it does not say."""

    _HOLDING: Mapping[int, int] = {
        0x0000: 2304,
        0x0001: 125,
        0x0002: 288,
        0x0003: 4998,
        0x000A: 0xCFBA,
        0x000B: 0x0002,
        0x0064: 1066,
        0x0065: 3,
    }

    def registers(self, area: Area) -> Mapping[int, int]:
        return self._HOLDING if area is Area.HOLDING else {}

    def write(self, how: Write, address: int, word: int) -> None:
        raise WriteRefused


def story() -> Iterator[tuple[str, str]]:
    """Yield the blocks of the story: their language and text."""
    (told,) = re.findall(rf"^## {TITLE}.*?\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    return (found.groups() for found in _STEP.finditer(told))  # type: ignore[misc]  # two groups


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what is shown below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def patched(text: str, diff: str) -> str:
    """Apply a diff of one hunk that needs no line numbers."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"the page changes what is not there once:\n{old}"
    return text.replace(old, new)


async def test_the_story_of_the_first_meter_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    device = str(tmp_path / "ttyUSB0")
    ran = []
    async with paced_pty(device, RtuMeter(1, Sm1(), thinks_s=0.02)):
        for language, block in story():
            if language != "console":
                _edit(language, block.replace(DEVICE, device))
            else:
                for command, output in commands(block):
                    ran.append(command.split()[1:3])
                    said = await asyncio.to_thread(_run, command.replace(DEVICE, device))
                    assert _plain(said, device) == _figures.sub("#", output).strip(), command
    assert ["driver", "new"] in ran
    assert ["doctor", "meter"] in ran
    assert ["gateway", "check"] in ran


def _edit(language: str, block: str) -> None:
    """Do in the folder what the page says is done with an editor."""
    file = Path("gateway.toml" if "feeder_id" in block else "sm-1.toml")
    file.write_text(block if language == "toml" else patched(file.read_text(), block))


def _run(command: str) -> str:
    """Run a line as a shell would; what goes to a file is not seen."""
    command, _, file = command.partition(" >> ")
    program, *arguments = shlex.split(command)
    assert program == "openami"
    result = CliRunner().invoke(main, arguments)
    if not file:
        return result.output
    with Path(file).open("a") as appended:
        appended.write(result.stdout)
    return result.stderr


def _plain(said: str, device: str) -> str:
    return _figures.sub("#", said.replace(device, DEVICE)).strip()
