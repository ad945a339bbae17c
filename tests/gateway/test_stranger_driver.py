"""A driver that is none of ours: the example package, found by its entry points, tried, and read by the gateway."""

import asyncio
import gzip
import importlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.gateway.pole import GatewayProgram, openami

import openami as package
from openami.cli import main
from openami.gateway.driver_contract import CHECKS

EXAMPLE = Path(package.__file__).parents[2] / "examples/driver-python"
_WAIT_S = 60.0  # a test machine may do many things at once


def install(source: Path, site: Path) -> None:
    """Lay a package down as an installer does: its modules, and what its pyproject.toml says of entry points."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    for module in (source / "src").iterdir():
        shutil.copytree(module, site / module.name, ignore=shutil.ignore_patterns("__pycache__"))
    told = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (told / "entry_points.txt").write_text("\n".join(groups))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def generated(name: str, directory: Path) -> Path:
    made = run("driver", "new", "--python", name, "--directory", str(directory))
    assert made.exit_code == 0, made.stderr
    return directory / f"openami-{name}"


def test_a_new_driver_keeps_the_contract_before_a_line_of_it_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(generated("water-box", tmp_path), tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    tried = run("driver", "test", "water-box")
    assert tried.exit_code == 0, tried.stdout + tried.stderr
    assert tried.stdout.splitlines() == [f"ok     {check.__name__}" for check in CHECKS]
    assert '{"kind":"driver","name":"water-box"}' in run("driver", "test", "--json").stdout


def test_a_driver_that_believes_any_meter_is_convicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = generated("credulous", tmp_path)
    driver = source / "src/openami_credulous/driver.py"
    believing = driver.read_text().replace("answer.label != expected", "False")
    assert believing != driver.read_text()
    driver.write_text(believing)
    install(source, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    tried = run("driver", "test", "credulous")
    assert tried.exit_code == 1
    assert [line for line in tried.stdout.splitlines() if line.startswith("wrong")] == [
        line for line in tried.stdout.splitlines() if "refuses_another_meter" in line
    ]
    assert "breaks 1 of 9 checks" in tried.stderr


def test_the_examples_own_tests_pass() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            "pyproject.toml",
            "--rootdir",
            ".",
            "tests",
            "-p",
            "no:cacheprovider",
        ],
        cwd=EXAMPLE,
        env={"PYTHONPATH": "src", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
        check=False,
    )
    assert told.returncode == 0, told.stdout


async def test_the_gateway_reads_a_meter_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    install(EXAMPLE, site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    simulated: Any = importlib.import_module("openami_pulse_counter.simulated")
    box = simulated.Box({2: simulated.Channel("SN-4711", 184_251)})
    await box.listen()
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1:9"}, modbus_port=0)
    gateway.configure(meters=1, billing_s=1)
    gateway.file.write_text(
        gateway.file.read_text().partition("[[line]]")[0]
        + f'[[line]]\ndriver = "pulse-counter"\nname = "shed"\nhost = "127.0.0.1"\nport = {box.port}\n'
        '[[line.meter]]\nserial = "SN-4711"\nchannel = 2\npulses_per_kwh = 1000\nidentity = "SN-4711"\n'
    )
    gateway.start()
    try:
        out = tmp_path / "backlog"
        async with asyncio.timeout(_WAIT_S):
            await gateway.ready()
            while not gateway.figures().level.entries:
                await asyncio.sleep(0.05)
        told = await asyncio.to_thread(
            openami, "gateway", "export", "-c", str(gateway.file), str(out), "--unsigned"
        )
        assert told.returncode == 0, told.stderr
    finally:
        gateway.kill()
        await box.cut()
    assert ("1.8.0", 184.251, "kWh", "good") in _registers(out)


def _registers(backlog: Path) -> set[tuple[str, object, str, str]]:
    """Return what the messages of a backlog hold; each line is a topic and its payload."""
    with gzip.open(backlog, "rt") as lines:
        next(lines)  # who wrote it
        envelopes = [json.loads(line.partition(" ")[2] or "{}") for line in lines]
    return {
        (each["obis"], each["value"], each["unit"], each["quality"])
        for envelope in envelopes
        for each in envelope.get("registers", ())
    }


def test_a_wrong_option_of_a_strangers_driver_is_named_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(EXAMPLE, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1:9"}, modbus_port=0)
    gateway.configure(meters=1)
    gateway.file.write_text(
        gateway.file.read_text().partition("[[line]]")[0]
        + '[[line]]\ndriver = "pulse-counter"\nname = "shed"\nhost = "192.0.2.7"\n'
        '[[line.meter]]\nserial = "SN-4711"\nchanel = 2\npulses_per_kwh = 1000\n'
    )
    checked = run("gateway", "check", "-c", str(gateway.file))
    assert checked.exit_code == 2
    assert "unknown key 'chanel'; did you mean 'channel'?" in checked.stderr
