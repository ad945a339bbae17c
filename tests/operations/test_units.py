"""The systemd units: well-formed, as tight as is said, and the programs run under what they forbid."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.gateway.pole import GatewayProgram, modbus_meters
from tests.headend.messages import TOPIC, payload
from tests.headend.program import Program, openami_json, publish, wait_for
from tests.operations.sandboxed import allowed, settings
from tests.tools import free_port, require_tool

from openami.gateway.collector import ALIVE_WITHIN_S
from openami.headend.liveness import STUCK_AFTER_S
from openami.headend.store.postgres import ROLLBACK_TIMEOUT_S, WRITE_TIMEOUT_S
from openami.headend.store.postgres_servers import CONNECT_TIMEOUT_S

UNITS = Path(__file__).parents[2] / "packaging/systemd"
HEADEND, GATEWAY = (UNITS / f"openami-{name}.service" for name in ("headend", "gateway"))
# On systemd's own scale, 0 to 10. The gateway has serial ports and asks for the clock.
EXPOSURE_MAX = {HEADEND: 1.3, GATEWAY: 2.2}
NO_SANDBOX = pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers of x86-64")


@pytest.mark.parametrize("unit", EXPOSURE_MAX, ids=lambda unit: unit.stem)
def test_a_unit_is_well_formed_and_as_tight_as_is_said(unit: Path, tmp_path: Path) -> None:
    analyze = str(require_tool("systemd-analyze"))
    # The program is installed elsewhere than here.
    (tmp_path / "openami").symlink_to(sys.executable)
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/usr/bin/openami", str(tmp_path / "openami")))
    verified = subprocess.run(
        [analyze, "verify", here], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr.strip()) == (0, "")
    told = subprocess.run(
        [analyze, "security", "--offline=yes", unit], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"exposure level for \S+: ([0-9.]+)", told)
    assert found is not None
    assert float(found[1]) <= EXPOSURE_MAX[unit]


def test_the_watchdog_is_more_patient_than_what_ends_by_itself() -> None:
    [headend] = settings(HEADEND, "WatchdogSec")
    [gateway] = settings(GATEWAY, "WatchdogSec")
    of_a_write_s = CONNECT_TIMEOUT_S + WRITE_TIMEOUT_S + ROLLBACK_TIMEOUT_S
    assert float(headend) == STUCK_AFTER_S > of_a_write_s
    assert float(gateway) > ALIVE_WITHIN_S


def test_only_the_gateway_has_devices_and_only_serial_ports() -> None:
    assert settings(HEADEND, "PrivateDevices") == ["yes"]
    assert settings(HEADEND, "DeviceAllow") == []
    assert settings(GATEWAY, "DevicePolicy") == ["closed"]
    for device in settings(GATEWAY, "DeviceAllow"):
        assert re.fullmatch(r"char-tty(S|AMA|USB|ACM) rw", device)


def test_the_clock_can_be_asked_by_the_gateway_and_by_it_alone() -> None:
    require_tool("systemd-analyze")
    assert {"adjtimex", "clock_adjtime"} <= allowed(GATEWAY)
    assert settings(GATEWAY, "ProtectClock") == []
    assert not {"clock_settime", "settimeofday"} & allowed(GATEWAY)
    assert not {"adjtimex", "clock_adjtime", "clock_settime"} & allowed(HEADEND)


def under(unit: Path) -> tuple[str, ...]:
    require_tool("systemd-analyze")
    return (sys.executable, "-m", "tests.operations.sandboxed", str(unit))


@NO_SANDBOX
def test_a_forbidden_call_is_refused() -> None:
    """The proof that the sandbox of this test is one."""
    probe = "import os; os.sched_setaffinity(0, {0})"
    run = subprocess.run(
        [*under(HEADEND), sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in run.stderr
    ask = "import ctypes; print(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(208)))"
    told = [
        subprocess.run(
            [*under(unit), sys.executable, "-c", ask], capture_output=True, text=True, check=True
        ).stdout.strip()
        for unit in (GATEWAY, HEADEND)
    ]
    assert told[0] != "-1"  # the gateway is told how it stands with the clock
    assert told[1] == "-1"


@NO_SANDBOX
@pytest.mark.broker
def test_the_head_end_works_within_its_unit(mosquitto: StartMosquitto, tmp_path: Path) -> None:
    broker, store = mosquitto(), f"sqlite:///{tmp_path}/headend.db"
    at = f"127.0.0.1:{free_port()}"
    program = Program(
        tmp_path / "log", "--broker", broker.url, "--store", store, "--listen", at,
        within=under(HEADEND),
    )  # fmt: skip
    try:
        program.wait_until_ready()
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: bool(openami_json("meter", "list", "--store", store)))
        assert program.stop() == 0
    finally:
        if program.process.poll() is None:
            program.kill()
    assert "Traceback" not in program.log()


@NO_SANDBOX
@pytest.mark.broker
async def test_the_gateway_works_within_its_unit(mosquitto: StartMosquitto, tmp_path: Path) -> None:
    async with modbus_meters(1) as port:
        gateway = GatewayProgram(tmp_path, mqtt={"url": mosquitto().url}, modbus_port=port)
        gateway.configure(meters=1)
        gateway.start(within=under(GATEWAY))
        try:
            await gateway.ready()
            assert "DS1000-00001" in (await gateway.get("/")).text
            assert gateway.end() == 0
        finally:
            gateway.kill()
    assert "Traceback" not in gateway.log()
