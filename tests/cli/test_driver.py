"""``openami driver new``, ``probe`` and ``test``, and ``openami doctor meter``, on a meter behind an endpoint."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.drivers.dlms_bench import bench_meter
from tests.drivers.dlms_double import DlmsBus
from tests.drivers.line_double import on_port
from tests.gateway.scan_line import GoldenBank, RtuMeter
from tests.gateway.scan_pty import paced_pty

from openami.cli import main
from openami.gateway.drivers.modbus.map_files import load_map, shipped_maps
from openami.gateway.scan.findings import PortSetting
from openami.simulator.modbus_server import ModbusLine, serving


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


async def beside(*arguments: str) -> Result:
    """Run a command while the test's loop serves the meter."""
    return await asyncio.to_thread(run, *arguments)


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    """An SDM120 as unit 1 and a DDS238 as unit 2 behind a Modbus TCP gateway."""
    line = ModbusLine({1: GoldenBank("sdm120", serial=17_000_001), 2: GoldenBank("dds238")})
    async with serving(line) as port:
        yield f"127.0.0.1:{port}"


# --- new -----------------------------------------------------------------------------------------


def test_a_new_map_loads_and_has_nothing_wrong(tmp_path: Path) -> None:
    made = run("driver", "new", "sm-1", "--directory", str(tmp_path))
    assert made.exit_code == 0
    tested = run("driver", "test", str(tmp_path / "sm-1.toml"), "--json")
    marks = {json.loads(line)["mark"] for line in tested.stdout.splitlines()}
    assert tested.exit_code == 0
    assert marks == {"ok", "look"}


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "sm-1.toml").write_text("mine")
    again = run("driver", "new", "sm-1", "--directory", str(tmp_path))
    assert again.exit_code == 1
    assert "exists" in again.stderr
    assert (tmp_path / "sm-1.toml").read_text() == "mine"


@pytest.mark.parametrize("name", ["SM1", "../etc", "a b", "", "-x", "x" * 41])
def test_a_name_that_can_be_no_package_is_refused(name: str, tmp_path: Path) -> None:
    refused = run("driver", "new", "--python", "--directory", str(tmp_path), "--", name)
    assert refused.exit_code == 2
    assert list(tmp_path.iterdir()) == []


# --- test ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_maps())
def test_every_shipped_map_passes(name: str) -> None:
    tested = run("driver", "test", name)
    assert tested.exit_code == 0, tested.stdout + tested.stderr


def test_the_shipped_dlms_map_passes() -> None:
    assert run("driver", "test", "single-phase-prepaid", "--driver", "dlms").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('unit = "V"', 'unit = "mV"', "32.7.0 is in 'mV', the register list says 'V'"),
        ('obis = "32.7.0"', 'obis = "32.7.99"', "32.7.99 is not in the register list"),
        ("monotonic = true", "", "1.8.0: add monotonic = true"),
        ('scale = "0.1"', 'scale = "0.01"', "32.7.0 is 23.04, expected 230.4"),
        ("09 00", "09 01", "the CRC is"),
        ('type = "u16"', 'tpye = "u16"', "did you mean 'type'?"),
    ],
)
def test_what_is_wrong_in_a_map_is_said(old: str, new: str, said: str, tmp_path: Path) -> None:
    run("driver", "new", "sm-1", "--directory", str(tmp_path))
    file = tmp_path / "sm-1.toml"
    golden = """
[[golden]]
name = "a voltage"
request = "01 03 00 00 00 01 84 0a"
response = "01 03 02 09 00 be 14"
[golden.expect]
"32.7.0" = "230.4"
"""
    text = file.read_text() + golden
    assert old in text
    file.write_text(text.replace(old, new, 1))
    tested = run("driver", "test", str(file))
    assert tested.exit_code == 1
    assert said in tested.stdout + tested.stderr
    file.write_text(text)
    assert run("driver", "test", str(file)).exit_code == 0


async def test_a_map_is_tested_against_a_meter(endpoint: str) -> None:
    good = await beside("driver", "test", "sdm120", "--against", endpoint)
    assert good.exit_code == 0, good.stderr
    assert "230.20" in good.stdout
    wrong = await beside("driver", "test", "ddsu666", "--against", endpoint)
    assert wrong.exit_code == 3


def test_a_map_nobody_has_is_said_with_what_to_do() -> None:
    missing = run("driver", "test", "sm-9.toml")
    assert missing.exit_code == 1
    assert "`openami driver new sm-9` begins one" in missing.stderr


def test_a_driver_without_a_bench_is_told_from_a_map_nobody_has() -> None:
    told = run("driver", "test", "dlms")
    assert (told.exit_code, "brings no bench" in told.stderr) == (2, True)
    assert "lists maps and drivers" in run("driver", "test", "sdm12").stderr


# --- probe ---------------------------------------------------------------------------------------


async def test_a_probe_shows_bytes_value_unit_and_verdict(endpoint: str) -> None:
    probed = await beside("driver", "probe", "sdm120", "--connect", endpoint, "--json")
    rows = {row["obis"]: row for row in map(json.loads, probed.stdout.splitlines())}
    assert probed.exit_code == 0, probed.stderr
    assert rows["32.7.0"] == {
        "obis": "32.7.0",
        "where": "input 0x0000 x2",
        "raw": "43663334",
        "value": "230.20",
        "unit": "V",
        "plausible": True,
        "reason": "within 0 to 300",
    }
    assert set(rows) == {str(code) for code in load_map("sdm120").registers}


async def test_a_value_outside_its_range_is_wrong_and_sends_to_the_doctor(
    endpoint: str, tmp_path: Path
) -> None:
    """The map of another meter: what the DDS238 keeps at the address of the voltage is none."""
    run("driver", "new", "sm-1", "--directory", str(tmp_path))
    file = tmp_path / "sm-1.toml"
    file.write_text(
        file.read_text().replace('scale = "0.1"', 'scale = "10"').replace("0x0000", "0x000C")
    )
    probed = await beside("driver", "probe", str(file), "--connect", endpoint, "--unit", "2")
    assert probed.exit_code == 1
    assert "WRONG: above 300 V" in probed.stdout
    assert "openami doctor meter" in probed.stderr


async def test_golden_frames_of_a_probe_are_the_maps_own_test(
    endpoint: str, tmp_path: Path
) -> None:
    probed = await beside(
        "driver", "probe", "dds238", "--connect", endpoint, "--unit", "2", "--golden"
    )
    shipped = Path(__file__).parents[2] / "src/openami/gateway/drivers/modbus/maps/dds238.toml"
    file = tmp_path / "mine.toml"
    without = shipped.read_text().partition("[[golden]]")[0]
    file.write_text(without + probed.stdout)
    tested = run("driver", "test", str(file))
    assert tested.exit_code == 0, tested.stdout
    assert "none shows" not in tested.stdout
    assert "golden: what a meter answered, from 0x0008  9 registers" in tested.stdout


async def test_a_silent_meter_of_a_configuration_keeps_no_other_from_being_read(
    endpoint: str, tmp_path: Path
) -> None:
    host, _, port = endpoint.partition(":")
    file = tmp_path / "gateway.toml"
    file.write_text(
        'feeder_id = "f"\ngateway_id = "g"\ndata_dir = "data"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n'
        f'[[line]]\ndriver = "modbus"\nname = "pole"\ntransport = "tcp"\nhost = "{host}"\nport = {port}\n'
        'timeout_s = 0.2\n[[line.meter]]\nserial = "DEAD"\nunit = 9\nmap = "sdm120"\n'
        '[[line.meter]]\nserial = "ALIVE"\nunit = 1\nmap = "sdm120"\nidentity = "17000001"\n'
    )
    probed = await beside("driver", "probe", "-c", str(file), "--json")
    assert probed.exit_code == 3
    assert "no answer from DEAD" in probed.stderr
    assert {json.loads(line)["meterSerial"] for line in probed.stdout.splitlines()} == {"ALIVE"}
    alone = await beside("driver", "probe", "-c", str(file), "--serial", "ALIVE")
    assert alone.exit_code == 0, alone.stderr


async def test_any_driver_is_probed_by_its_keys(tmp_path: Path) -> None:
    async with on_port(DlmsBus({bytes((0, 1)): bench_meter("KS-001")}, hdlc=False)) as port:
        probed = await beside(
            *("driver", "probe", "--driver", "dlms", "--line", "transport=tcp"),
            *("--line", "host=127.0.0.1", "--line", f"port={port.number}", "--meter", "server=1"),
        )
    assert "1842.501" in probed.stdout, probed.stderr
    assert "KS-001" in probed.stdout


async def test_a_silent_meter_is_said_with_what_to_do(endpoint: str) -> None:
    silent = await beside("driver", "probe", "sdm120", "--connect", endpoint, "--unit", "9")
    assert silent.exit_code == 3
    assert "openami doctor meter" in silent.stderr


def test_a_probe_without_a_place_or_a_map_says_what_is_missing() -> None:
    assert "which map?" in run("driver", "probe").stderr
    assert "where is the meter?" in run("driver", "probe", "sdm120").stderr
    nobody = run("driver", "probe", "--driver", "dmls", "--line", "host=x")
    assert nobody.exit_code == 2
    assert "installed are dlms, iec62056-21, modbus" in nobody.stderr


# --- doctor --------------------------------------------------------------------------------------


async def test_the_doctor_shows_a_register_in_every_order(endpoint: str) -> None:
    told = await beside("doctor", "meter", "--connect", endpoint, "--map", "sdm120")
    assert told.exit_code == 0, told.stderr
    assert "good answers: 5 of 5" in told.stderr
    assert "* float32 ABCD x 1: 230.2 V is within 0 to 300 of 32.7.0" in told.stdout


async def test_the_doctor_finds_the_speed_of_a_serial_line(tmp_path: Path) -> None:
    device = str(tmp_path / "ttyUSB0")
    meter = RtuMeter(1, GoldenBank("dds238"), PortSetting(2400), thinks_s=0.01)
    async with paced_pty(device, meter):
        told = await beside(
            "doctor",
            "meter",
            "--device",
            device,
            "--address",
            "0x0C",
            "--count",
            "1",
            "--timeout",
            "0.1",
        )
    assert told.exit_code == 1
    assert "answered at 2400 8N1" in told.stderr


def test_the_doctor_needs_no_meter_for_bytes_one_has() -> None:
    told = run("doctor", "meter", "--raw", "cf ba 00 02", "--shows", "1842.5")
    assert told.stdout.endswith('\ntype = "u32"\nword_order = "little"\nscale = "0.01"\n')
    nothing = run("doctor", "meter", "--raw", "cf ba 00 02", "--shows", "17")
    assert (nothing.exit_code, "none of these is 17" in nothing.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--raw", "zz"),
        ("--raw", "01"),
        ("--raw", "0900", "--obis", "32.7"),
        ("--raw", "0900", "--shows", "x"),
        ("--connect", "127.0.0.1:1", "--address", "0x10000"),
        ("--connect", "127.0.0.1:1", "--map", "sdm120", "--obis", "96.8.0"),
        ("--connect", "host:port"),
        ("--connect", "host", "--baudrate", "9600"),
    ],
)
def test_a_wrong_option_of_the_doctor_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert run("doctor", "meter", *arguments).exit_code == 2
