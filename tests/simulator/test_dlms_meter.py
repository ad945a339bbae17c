"""The simulated DLMS meter, read by other people's client and by our driver: it says what the village has."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.simulator.dlms_village import (
    AUTHENTICATION_KEY,
    CLIENTS,
    ENCRYPTION_KEY,
    PASSWORD,
    PERIOD,
    SERIAL_NUMBER,
    START,
    House,
    house,
)

from openami.gateway.driver import (
    EventLog,
    IdentityMismatch,
    Line,
    LineSettings,
    LoadProfile,
    MeterClock,
    MeterRefused,
    MeterSettings,
    MeterSilent,
    RelayControl,
    RelayPosition,
)
from openami.gateway.drivers.dlms import DlmsDriver
from openami.profile import MeterSerial, Obis
from openami.simulator.dlms.lines import DlmsLine, on_serial_line, on_tcp
from openami.simulator.dlms.meter import Event, number_shown
from openami.simulator.dlms.objects import ControlMode
from openami.simulator.faults import Readdressed, Silent
from openami.simulator.village import Measured

TRANSPORTS = ("tcp", "hdlc")
_SERIAL = MeterSerial("VM-0001")
_PYDLMS_S = 30.0  # a few hundred modules on a busy machine
_IDENTITY = {
    "none": [],
    "lls": ["--auth", "lls", "--password", PASSWORD],
    "hls": [
        *("--auth", "gmac", "--key", ENCRYPTION_KEY, "--auth-key", AUTHENTICATION_KEY),
        *("--system-title", "4f50454e00000001", "--invocation-counter", "7"),
    ],
}


def _measured(home: House) -> Measured:
    return home.village.measured(home.village.plan.customers[0].serial)


# --- other people's client -----------------------------------------------------------------------


async def _pydlms(
    what: str, endpoint: str, access: str, *arguments: str
) -> list[dict[str, object]]:
    """Run pydlms-client (GPL-3.0) as the process it is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pydlms.cli", "--json", what, endpoint),
        *("--client", str(CLIENTS[access]), *_IDENTITY[access], *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_PYDLMS_S):
        told, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found: list[dict[str, object]] = json.loads(told)
    return found


@asynccontextmanager
async def _endpoint(line: DlmsLine, transport: str, place: Path) -> AsyncIterator[Sequence[str]]:
    if transport == "tcp":
        async with on_tcp(line) as port:
            yield (f"tcp://127.0.0.1:{port}",)
    else:
        async with on_serial_line(line, place / "tty") as port_:
            yield (f"serial://{port_.path}", "--physical", "17")


@pytest.mark.parametrize(
    ("transport", "access"), [("tcp", "none"), ("tcp", "hls"), ("hdlc", "lls"), ("hdlc", "hls")]
)
async def test_pydlms_reads_what_the_village_has(
    transport: str, access: str, tmp_path: Path
) -> None:
    home = house()
    home.live(START + timedelta(hours=1))
    async with _endpoint(home.line(hdlc=transport == "hdlc"), transport, tmp_path) as endpoint:
        [told] = await _pydlms(
            "read", endpoint[0], access, *endpoint[1:], "--obis", "1.0.1.8.0.255", "--register"
        )
    assert told["unit"] == "Wh"
    assert told["value"] == number_shown(_measured(home), "1.8.0") / 10 > 0


async def test_pydlms_reads_a_load_profile_in_blocks(tmp_path: Path) -> None:
    """More rows than an answer holds, on a line whose frames hold less than a block."""
    home = house()
    captured = {}
    for quarter in range(1, 41):
        at = datetime(2026, 6, 1, 13, 15, tzinfo=UTC) + quarter * PERIOD
        home.live(at)
        captured[at] = number_shown(_measured(home), "1.8.0")
    async with _endpoint(home.line(hdlc=True), "hdlc", tmp_path) as endpoint:
        rows = await _pydlms(
            "profile", endpoint[0], "hls", *endpoint[1:], "--obis", "1.0.99.1.0.255", "--typed"
        )
    told = {
        datetime.strptime(str(row["0.0.1.0.0.255/2"]), "%Y-%m-%d %H:%M:%S.00 %z"): row[
            "1.0.1.8.0.255/2"
        ]
        for row in rows
    }
    assert told == captured
    assert len(set(captured.values())) > 10


async def test_pydlms_finds_its_objects_and_its_time(tmp_path: Path) -> None:
    home = house(error=timedelta(minutes=-10))
    async with _endpoint(home.line(hdlc=False), "tcp", tmp_path) as endpoint:
        objects = await _pydlms("list", endpoint[0], "none")
        [clock] = await _pydlms("clock", endpoint[0], "none")
    assert {"0.0.96.3.10.255", "1.0.99.1.0.255", "0.0.99.98.1.255"} <= {
        each["obis"] for each in objects
    }
    assert clock["clock"] == "2026-06-01 18:49:58.00 +05:30"


# --- our driver ----------------------------------------------------------------------------------


def _keys(place: Path, access: str) -> dict[str, object]:
    if access == "none":
        return {}
    directory = place / "keys"
    directory.mkdir(mode=0o700)
    text = f'password = "{PASSWORD}"\n'
    if access == "hls":
        text = (
            f'encryption_key = "{ENCRYPTION_KEY}"\nauthentication_key = "{AUTHENTICATION_KEY}"\n'
            'system_title = "4f50454e00000001"\n'
        )
    for name, content in (("meter.toml", text), ("meter.counter", "0\n")):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(content)
    return {"keys": "keys/meter.toml"}


@asynccontextmanager
async def _read_by_us(
    line: DlmsLine, transport: str, access: str, place: Path, **meter: object
) -> AsyncIterator[Line]:
    options: dict[str, object] = {"transport": transport, "timeout_s": 0.5, "silence_s": 0.02}
    options["retries"] = 0
    settings: dict[str, object] = {"client": CLIENTS[access], "identity": SERIAL_NUMBER}
    settings |= _keys(place, access) | ({} if transport == "tcp" else {"physical": 17}) | meter
    meters = [MeterSettings(_SERIAL, settings)]
    if transport == "tcp":
        async with on_tcp(line) as port:
            options |= {"host": "127.0.0.1", "port": port}
            async with DlmsDriver.open(LineSettings("tcp", meters, options, place)) as opened:
                yield opened
    else:
        async with on_serial_line(line, place / "tty") as port_:
            options |= {"device": str(port_.path), "baudrate": 115200}
            async with DlmsDriver.open(LineSettings("tty", meters, options, place)) as opened:
                yield opened


@pytest.mark.parametrize("access", list(CLIENTS))
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_our_driver_reads_what_the_village_has(
    transport: str, access: str, tmp_path: Path
) -> None:
    home = house()
    home.live(START + timedelta(hours=1))
    line = home.line(hdlc=transport == "hdlc")
    async with _read_by_us(line, transport, access, tmp_path) as opened:
        meter = opened.meters[_SERIAL]
        readings = await meter.read([info.obis for info in meter.registers])
    told = {str(reading.obis): reading.value for reading in readings}
    assert set(told) == {str(info.obis) for info in meter.registers} - {"91.7.0"}
    shown = _measured(home)
    assert told["1.8.0"] == Decimal(number_shown(shown, "1.8.0")) / 10_000
    assert told["32.7.0"] == Decimal(number_shown(shown, "32.7.0")) / 10
    assert told["1.7.0"] == Decimal(number_shown(shown, "1.7.0")) / 1000
    assert told["96.1.0"] == SERIAL_NUMBER
    assert told["1.0.0"] == home.now.isoformat()
    assert told["96.3.10"] == "connected"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_reconnection_waits_for_the_button_in_that_mode(
    transport: str, tmp_path: Path
) -> None:
    home = house(mode=ControlMode.BUTTON)
    async with _read_by_us(
        home.line(hdlc=transport == "hdlc"), transport, "hls", tmp_path
    ) as opened:
        meter = opened.meters[_SERIAL]
        assert isinstance(meter, RelayControl)
        assert isinstance(meter, EventLog)
        assert not home.meter.press_button(), "there is nothing to be pressed for"
        await meter.set_relay(RelayPosition.DISCONNECTED)
        assert await meter.relay_position() is RelayPosition.DISCONNECTED
        assert _measured(home).relay is RelayPosition.DISCONNECTED
        await meter.set_relay(RelayPosition.CONNECTED)
        assert await meter.relay_position() is RelayPosition.READY_FOR_RECONNECTION
        assert _measured(home).relay is RelayPosition.DISCONNECTED, "only the button closes it"
        assert home.meter.ready_for_reconnection
        assert home.meter.press_button()
        assert await meter.relay_position() is RelayPosition.CONNECTED
        assert _measured(home).relay is RelayPosition.CONNECTED


async def test_a_reconnection_closes_at_once_in_the_direct_mode(tmp_path: Path) -> None:
    home = house()
    async with _read_by_us(home.line(hdlc=False), "tcp", "lls", tmp_path) as opened:
        meter = opened.meters[_SERIAL]
        assert isinstance(meter, RelayControl)
        for position in (RelayPosition.DISCONNECTED, RelayPosition.CONNECTED):
            await meter.set_relay(position)
            assert await meter.relay_position() is position


async def test_who_comes_without_a_secret_moves_nothing(tmp_path: Path) -> None:
    home = house()
    async with _read_by_us(home.line(hdlc=False), "tcp", "none", tmp_path) as opened:
        meter = opened.meters[_SERIAL]
        assert isinstance(meter, RelayControl)
        assert isinstance(meter, MeterClock)
        with pytest.raises(MeterRefused, match="read-write-denied"):
            await meter.set_relay(RelayPosition.DISCONNECTED)
        with pytest.raises(MeterRefused, match="read-write-denied"):
            await meter.set_clock(START)
    assert _measured(home).relay is RelayPosition.CONNECTED


async def test_a_slow_clock_is_told_and_can_be_set(tmp_path: Path) -> None:
    home = house(error=timedelta(minutes=-10), drift_ppm=-100)
    home.live(START + timedelta(hours=1))
    async with _read_by_us(home.line(hdlc=True), "hdlc", "hls", tmp_path) as opened:
        meter = opened.meters[_SERIAL]
        assert isinstance(meter, MeterClock)
        assert isinstance(meter, EventLog)
        slow = START + timedelta(minutes=50) - timedelta(seconds=0.36)
        [told] = await meter.read([Obis.parse("1.0.0")])
        assert told.value == slow.isoformat()
        await meter.set_clock(home.now)
        [told] = await meter.read([Obis.parse("1.0.0")])
        # The driver adds what setting it takes of the real time, which does not pass here.
        ahead = datetime.fromisoformat(str(told.value)) - home.now
        assert timedelta() <= ahead < timedelta(seconds=1)
        home.live(START + timedelta(hours=2))
        drifted = home.meter.time.now() - home.now
        assert abs(drifted - ahead + timedelta(seconds=0.36)) < timedelta(seconds=0.02)


async def test_the_rows_asked_for_are_given_with_their_own_times(tmp_path: Path) -> None:
    home = house()
    home.live(START + timedelta(hours=3))
    first = datetime(2026, 6, 1, 14, 0, tzinfo=UTC)
    async with _read_by_us(home.line(hdlc=True), "hdlc", "hls", tmp_path) as opened:
        meter = opened.meters[_SERIAL]
        assert isinstance(meter, LoadProfile)
        readings = await meter.read_profile(first, first + timedelta(minutes=30))
    energy = [each for each in readings if str(each.obis) == "1.8.0"]
    assert [each.meter_time for each in energy] == [first + n * PERIOD for n in range(3)]
    again = house()
    for each in energy:
        assert each.meter_time is not None
        again.live(each.meter_time)
        assert each.value == Decimal(number_shown(_measured(again), "1.8.0")) / 10_000


async def test_what_happened_to_it_is_in_its_logs(tmp_path: Path) -> None:
    home = house()
    home.meter.open_cover()
    home.live(START + timedelta(minutes=1))
    home.meter.lose_power()
    home.live(START + timedelta(minutes=2))
    home.meter.regain_power()
    async with _read_by_us(home.line(hdlc=False), "tcp", "lls", tmp_path) as opened:
        meter = opened.meters[_SERIAL]
        assert isinstance(meter, EventLog)
        events = await meter.read_events(START, home.now)
        [count] = await meter.read([Obis.parse("96.7.21")])
    assert {event.code for event in events} == {
        Event.POWER_DOWN,
        Event.POWER_UP,
        Event.METER_COVER_REMOVED,
    }
    assert count.value == 1


async def test_a_dead_meter_is_silent_and_one_at_a_wrong_address_is_found_out(
    tmp_path: Path,
) -> None:
    home, other = house(), house()
    line = DlmsLine(
        {1: home.meter.device, 2: other.meter.device}, lambda address: bytes((0, address))
    )
    async with _read_by_us(line, "tcp", "none", tmp_path, identity="99000002") as opened:
        with pytest.raises(IdentityMismatch):
            await opened.meters[_SERIAL].read([Obis.parse("1.8.0")])
        line.set_fault(1, Readdressed(3))
        with pytest.raises(MeterSilent):
            await opened.meters[_SERIAL].read([Obis.parse("1.8.0")])
        line.set_fault(1, Silent())
        line.set_fault(2, Readdressed(1))
        with pytest.raises(IdentityMismatch):
            await opened.meters[_SERIAL].read([Obis.parse("1.8.0")])
