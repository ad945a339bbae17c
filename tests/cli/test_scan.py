"""``openami scan`` on real ports: a pty whose speed the meters mind, and TCP endpoints."""

import asyncio
import json
import tomllib
from pathlib import Path

from click.testing import CliRunner, Result
from tests.drivers.dlms_bench import bench_meter
from tests.drivers.dlms_double import DlmsBus
from tests.drivers.line_double import on_port
from tests.gateway.scan_line import GoldenBank, RtuMeter
from tests.gateway.scan_pty import paced_pty

from openami.cli import main
from openami.gateway.driver import LineSettings, MeterSettings
from openami.gateway.drivers.modbus import ModbusDriver
from openami.gateway.scan.findings import PortSetting
from openami.profile import MeterSerial
from openami.simulator.modbus_server import ModbusLine, serving


async def scanned(*arguments: str) -> Result:
    """Run the command beside the meters."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["scan", *arguments])


def configured(result: Result, directory: Path) -> list[dict[str, object]]:
    """Check that what was printed is a configuration the Modbus driver takes."""
    lines = tomllib.loads(result.stdout)["line"]
    for line in lines:
        meters = [
            MeterSettings(MeterSerial(meter.pop("serial")), meter) for meter in line.pop("meter")
        ]
        assert line.pop("driver") == "modbus"
        ModbusDriver.open(LineSettings(line.pop("name"), meters, line, directory))
    assert isinstance(lines, list)
    return lines


async def test_a_serial_line_is_found_at_its_speed_and_its_configuration_is_taken(
    tmp_path: Path,
) -> None:
    device, slow = str(tmp_path / "ttyUSB0"), PortSetting(2400)
    async with paced_pty(
        device,
        RtuMeter(1, GoldenBank("sdm120", serial=17_000_001), slow, thinks_s=0.01),
        RtuMeter(2, GoldenBank("dds238"), slow, thinks_s=0.01),
    ):
        result = await scanned(
            *("--device", device, "--protocol", "modbus"), *("--baudrate", "2400", "--unit", "1-2")
        )
    assert result.exit_code == 0, result.stderr
    (line,) = configured(result, tmp_path)
    assert (line["baudrate"], line["device"]) == (2400, device)
    assert "found  modbus-rtu at 2400 8N1, unit 1: serial number 17000001" in result.stderr


async def test_two_meters_at_one_address_get_an_address_that_is_free(tmp_path: Path) -> None:
    device = str(tmp_path / "ttyUSB0")
    async with paced_pty(
        device,
        RtuMeter(1, GoldenBank("dds238"), thinks_s=0.01),
        RtuMeter(1, GoldenBank("dds238"), thinks_s=0.08),
    ):
        result = await scanned(
            *("--device", device, "--protocol", "modbus", "--baudrate", "9600"),
            *("--parity", "N", "--stopbits", "1", "--unit", "1", "--taken", "2,3"),
        )
    assert result.exit_code == 1
    assert "CLASH  modbus-rtu at 9600 8N1, unit 1: two answers" in result.stderr
    assert "set it to 4 at the meter" in result.stderr
    assert result.stdout == ""


async def test_units_behind_an_endpoint_are_found(tmp_path: Path) -> None:
    bank = GoldenBank("sdm630", serial=20_123_456)
    async with serving(ModbusLine({1: bank, 2: GoldenBank("dds238")})) as port:
        result = await scanned(
            "--connect", f"127.0.0.1:{port}", "--protocol", "modbus", "--unit", "1-2", "--json"
        )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    found = [row for row in rows if row["finding"] == "found"]
    assert [(row["address"]["unit"], row["serial"]) for row in found] == [
        (1, "20123456"),
        (2, None),
    ]
    assert {row["protocol"] for row in found} == {"modbus-tcp"}
    assert rows[-1]["meters"] == 2


async def test_a_dlms_meter_behind_the_wrapper_is_found() -> None:
    async with on_port(DlmsBus({bytes((0, 1)): bench_meter("KS-001")}, hdlc=False)) as port:
        result = await scanned(
            "--connect", f"127.0.0.1:{port.number}", "--protocol", "dlms", "--within", "2s"
        )
    assert tomllib.loads(result.stdout)["line"] == [
        {
            "driver": "dlms",
            "name": "127.0.0.1",
            "transport": "tcp",
            "host": "127.0.0.1",
            "port": port.number,
            "meter": [{"serial": "KS-001", "server": 1, "identity": "KS-001"}],
        }
    ]


def test_a_port_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["scan", "--device", str(tmp_path / "ttyUSB9")])
    assert result.exit_code == 3
    assert "there is no such device" in result.stderr
