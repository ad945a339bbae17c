"""Our client against meters that others have written: over TCP, over HDLC, and over a serial line."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.drivers.strange_meters import (
    AUTHENTICATION_KEY,
    CLIENTS,
    ENCRYPTION_KEY,
    PASSWORD,
    gurux_arguments,
    on_serial_line,
    pydlms_arguments,
    strange_meter,
)

from openami.gateway.driver import (
    EventLog,
    Line,
    LineSettings,
    LoggedEvent,
    MeterRefused,
    MeterSettings,
    RelayControl,
    RelayPosition,
)
from openami.gateway.drivers.dlms import DlmsDriver
from openami.gateway.drivers.dlms.driver import DlmsMeter
from openami.profile import MeterSerial, Obis

_SERIAL = MeterSerial("M-1")
# What the pydlms simulator's example meter holds.
_PYDLMS = {
    "1.8.0": Decimal("12345.678"),
    "2.8.0": Decimal("4.321"),
    "1.7.0": Decimal("1.520"),
    "32.7.0": Decimal("230.1"),
    "31.7.0": Decimal("5.23"),
    "96.1.0": "PYD0000000001",
    "1.0.0": "2024-05-01T10:00:00+00:00",
    "96.3.10": "connected",
    "96.11.1": "connected",
}
# What tests/drivers/gurux_meter.py holds.
_GURUX = {
    "1.8.0": Decimal("98765.432"),
    "32.7.0": Decimal("229.8"),
    "31.7.0": Decimal("1.7"),
    "96.1.0": "GRX0000000001",
    "1.0.0": "2026-06-15T10:00:00+00:00",
    "96.3.10": "connected",
    "96.11.1": "connected",
}
TRANSPORTS = ("tcp", "hdlc-over-tcp", "hdlc")


def write_keys(place: Path, access: str) -> str:
    """Write the key file of one kind of access; return its name."""
    directory = place / "keys"
    directory.mkdir(mode=0o700)
    text = f'password = "{PASSWORD}"\n'
    if access == "hls":
        text = (
            f'encryption_key = "{ENCRYPTION_KEY}"\nauthentication_key = "{AUTHENTICATION_KEY}"\n'
            'system_title = "4f50454e00000001"\n'
        )
    for name, content in (("meter.toml", text), ("meter.counter", "0\n")):
        file = directory / name
        file.touch(mode=0o600)
        file.write_text(content)
    return "keys/meter.toml"


@asynccontextmanager
async def pydlms_line(
    transport: str, access: str, place: Path, **meter: object
) -> AsyncIterator[Line]:
    """A line with one meter of pydlms-client on it, read by our driver."""
    async with strange_meter(pydlms_arguments(access, hdlc=transport != "tcp")) as port:
        options: dict[str, object] = {"client": CLIENTS[access], "identity": "PYD0000000001"}
        if access != "none":
            options["keys"] = write_keys(place, access)
        async with _line(transport, port, place, {**options, **meter}) as line:
            yield line


@asynccontextmanager
async def _line(
    transport: str, port: int, place: Path, meter: dict[str, object]
) -> AsyncIterator[Line]:
    line: dict[str, object] = {"transport": transport, "timeout_s": 5.0, "silence_s": 0.05}
    if transport == "hdlc":
        async with on_serial_line(port, place) as device:
            line.update(device=str(device), baudrate=115200)
            async with _opened(line, meter, place) as opened:
                yield opened
    else:
        line.update(host="127.0.0.1", port=port)
        async with _opened(line, meter, place) as opened:
            yield opened


@asynccontextmanager
async def _opened(
    line: dict[str, object], meter: dict[str, object], place: Path
) -> AsyncIterator[Line]:
    meters = [MeterSettings(_SERIAL, meter)]
    async with DlmsDriver.open(LineSettings("strange", meters, line, place)) as opened:
        yield opened


async def _read(line: Line, codes: Sequence[str]) -> dict[str, object]:
    readings = await line.meters[_SERIAL].read([Obis.parse(code) for code in codes])
    return {str(reading.obis): reading.value for reading in readings}


@pytest.mark.parametrize("access", list(CLIENTS))
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_meter_of_pydlms_is_read(transport: str, access: str, tmp_path: Path) -> None:
    """Twice: what the first read has found out is used by the second."""
    async with pydlms_line(transport, access, tmp_path) as line:
        everything = [str(info.obis) for info in line.meters[_SERIAL].registers]
        assert await _read(line, everything) == _PYDLMS
        assert await _read(line, everything) == _PYDLMS


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_relay_of_a_meter_of_pydlms_is_told_as_it_stands(
    transport: str, tmp_path: Path
) -> None:
    """Its output opens and does not close again: what is reported is what is there, not what was ordered."""
    async with pydlms_line(transport, "hls", tmp_path) as line:
        meter = line.meters[_SERIAL]
        assert isinstance(meter, RelayControl)
        assert await meter.relay_position() is RelayPosition.CONNECTED
        await meter.set_relay(RelayPosition.DISCONNECTED)
        assert await meter.relay_position() is RelayPosition.DISCONNECTED


@pytest.mark.parametrize("access", ["none", "lls"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_meter_of_gurux_is_read_and_switched(
    transport: str, access: str, tmp_path: Path
) -> None:
    async with strange_meter(gurux_arguments(access, hdlc=transport != "tcp")) as port:
        options: dict[str, object] = {"client": CLIENTS[access], "identity": "GRX0000000001"}
        if access != "none":
            options["keys"] = write_keys(tmp_path, access)
        async with _line(transport, port, tmp_path, options) as line:
            meter = line.meters[_SERIAL]
            assert await _read(line, [str(info.obis) for info in meter.registers]) == _GURUX
            assert isinstance(meter, RelayControl)
            for position in (RelayPosition.DISCONNECTED, RelayPosition.CONNECTED):
                await meter.set_relay(position)
                assert await meter.relay_position() is position


async def test_a_wrong_password_is_refused_and_not_tried_for_ever(tmp_path: Path) -> None:
    async with strange_meter(pydlms_arguments("lls", hdlc=False)) as port:
        keys = write_keys(tmp_path, "lls")
        (tmp_path / keys).write_text('password = "87654321"\n')
        async with _line("tcp", port, tmp_path, {"client": 32, "keys": keys}) as line:
            for _ in range(2):
                with pytest.raises(MeterRefused, match="authentication failure") as refused:
                    await _read(line, ["1.8.0"])
                assert "87654321" not in str(refused.value)
            with pytest.raises(MeterRefused, match="it is asked again in"):
                await _read(line, ["1.8.0"])


async def test_keys_that_are_not_the_meters_are_refused(tmp_path: Path) -> None:
    async with strange_meter(pydlms_arguments("hls", hdlc=False)) as port:
        keys = write_keys(tmp_path, "hls")
        text = (tmp_path / keys).read_text()
        (tmp_path / keys).write_text(text.replace(AUTHENTICATION_KEY, "00" * 16))
        async with _line("tcp", port, tmp_path, {"client": 1, "keys": keys}) as line:
            with pytest.raises(MeterRefused) as refused:
                await _read(line, ["1.8.0"])
    assert ENCRYPTION_KEY not in str(refused.value).lower()


async def test_a_counter_behind_the_meters_is_refused_with_its_remedy(tmp_path: Path) -> None:
    """A second client that starts its counter anew: the meter has seen higher values under these keys."""
    async with strange_meter(pydlms_arguments("hls", hdlc=False)) as port:
        keys = write_keys(tmp_path, "hls")
        meter: dict[str, object] = {"client": 1, "keys": keys}
        async with _line("tcp", port, tmp_path, meter) as line:
            await _read(line, ["1.8.0"])
        async with _line("tcp", port, tmp_path, meter) as line:
            assert await _read(line, ["1.8.0"])  # a restart is no such case
        (tmp_path / "keys" / "meter.counter").write_text("0\n")
        async with _line("tcp", port, tmp_path, meter) as line:
            with pytest.raises(MeterRefused, match="counter file"):
                await _read(line, ["1.8.0"])


async def test_five_objects_are_read_within_300_ms(tmp_path: Path) -> None:
    """The bound of a DLMS read over loopback, with keys: association, identity and scalers apart."""
    five = ["1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0"]
    async with pydlms_line("tcp", "hls", tmp_path) as line:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await _read(line, five)
        first_s = loop.time() - began_at
        took_s = []
        for _ in range(5):
            began_at = loop.time()
            assert len(await _read(line, five)) == 5
            took_s.append(loop.time() - began_at)
    print(f"first read {first_s * 1000:.1f} ms, then {[round(s * 1000, 1) for s in took_s]} ms")
    assert min(took_s) < 0.3


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_gap_is_read_again_from_the_load_profile(transport: str, tmp_path: Path) -> None:
    """96 rows in blocks and segments, ciphered; of them the hour that was asked for, with their own times."""
    first = datetime(2024, 5, 1, 10, tzinfo=UTC)
    async with pydlms_line(transport, "hls", tmp_path) as line:
        meter = line.meters[_SERIAL]
        assert isinstance(meter, DlmsMeter)
        readings = await meter.read_profile(first, first + timedelta(minutes=45))
    assert [(str(reading.obis), reading.value, reading.unit) for reading in readings] == [
        ("1.8.0", Decimal(1000 + 7 * row) / 1000, "kWh") for row in range(40, 44)
    ]
    assert [reading.meter_time for reading in readings] == [
        first + timedelta(minutes=15 * row) for row in range(4)
    ]


async def test_a_clock_is_set_and_read_back(tmp_path: Path) -> None:
    now = datetime(2026, 11, 27, 14, 30, 15, tzinfo=UTC)
    async with pydlms_line("tcp", "hls", tmp_path, utc_offset_minutes=330) as line:
        meter = line.meters[_SERIAL]
        assert isinstance(meter, DlmsMeter)
        await meter.set_clock(now)
        told = (await _read(line, ["1.0.0"]))["1.0.0"]
    assert isinstance(told, str)
    assert timedelta() <= datetime.fromisoformat(told) - now < timedelta(seconds=5), (
        "what it took is added"
    )


@pytest.mark.parametrize("transport", ["tcp", "hdlc"])
async def test_an_event_log_of_gurux_is_read_by_the_hour(transport: str, tmp_path: Path) -> None:
    """Four entries from 8 o'clock UTC, in local time, and all are given; taken are the two that were asked for."""
    eight = datetime(2026, 6, 15, 8, tzinfo=UTC)
    async with strange_meter(gurux_arguments("none", hdlc=transport != "tcp")) as port:
        options: dict[str, object] = {"client": CLIENTS["none"], "code_system": "idis"}
        async with _line(transport, port, tmp_path, options) as line:
            meter = line.meters[_SERIAL]
            assert isinstance(meter, EventLog)
            entries = await meter.read_events(
                eight + timedelta(hours=1), eight + timedelta(hours=2)
            )
    assert entries == [
        LoggedEvent(eight + timedelta(hours=hour), True, "0-0:99.98.1", 40 + hour, "idis")
        for hour in (1, 2)
    ]
