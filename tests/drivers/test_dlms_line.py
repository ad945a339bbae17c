"""What a DLMS line does beyond the contract: associations kept, refusals borne, relays told as they stand."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from tests.drivers.dlms_bench import TRANSPORTS, DlmsBench, dlms_bench
from tests.drivers.dlms_double import number, scaler

from openami.gateway.driver import (
    EventLog,
    IdentityMismatch,
    Line,
    LoggedEvent,
    MeterClock,
    MeterRefused,
    MeterSilent,
    RelayControl,
    RelayPosition,
)
from openami.gateway.drivers.dlms import data
from openami.gateway.drivers.dlms.driver import DlmsDriver
from openami.gateway.drivers.dlms.profile_generic import CLOCK
from openami.gateway.drivers.dlms.times import Zone, read_time, write_time
from openami.profile import MeterSerial, Obis

_SERIAL = MeterSerial("DS1000-1")
_CODES = [Obis.parse(code) for code in ("1.8.0", "32.7.0")]
_ENERGY = bytes((1, 0, 1, 8, 0, 255))
_VOLTAGE = bytes((1, 0, 32, 7, 0, 255))


@asynccontextmanager
async def _opened(bench: DlmsBench) -> AsyncIterator[Line]:
    async with bench.driver.open(bench.settings) as line:
        yield line


async def _read(line: Line, codes: list[Obis] | None = None) -> dict[str, object]:
    readings = await line.meters[_SERIAL].read(_CODES if codes is None else codes)
    return {str(reading.obis): reading.value for reading in readings}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_association_is_kept_and_scalers_are_asked_once(
    transport: str, tmp_path: Path
) -> None:
    async with dlms_bench(transport, tmp_path) as bench, _opened(bench) as line:
        await _read(line)
        asked = bench.meter(_SERIAL).asked
        assert asked == 1 + 2 * 2  # the serial number; scaler and value of each
        await _read(line)
        assert bench.meter(_SERIAL).asked == asked + 2
        assert len(bench.meter(_SERIAL).associated) == 1
    assert not bench.meter(_SERIAL).associated, "it was not released"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_meter_that_forgets_the_association_is_associated_with_again(
    transport: str, tmp_path: Path
) -> None:
    async with dlms_bench(transport, tmp_path) as bench, _opened(bench) as line:
        values = await _read(line)
        bench.meter(_SERIAL).forget()
        assert await _read(line) == values


async def test_a_link_that_the_meter_has_closed_is_no_failure(tmp_path: Path) -> None:
    """Polled each quarter hour, a meter has always closed it: that must cost no retry, and none is left here."""
    async with dlms_bench("hdlc", tmp_path) as bench:
        assert isinstance(bench.settings.options, dict)
        bench.settings.options["retries"] = 0
        async with _opened(bench) as line:
            values = await _read(line)
            for _ in range(3):
                bench.bus.close_links()
                assert await _read(line) == values


async def test_what_a_meter_does_not_have_is_left_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        everything = [info.obis for info in line.meters[_SERIAL].registers]
        first = await _read(line, everything)
        assert set(first) == {"1.8.0", "32.7.0", "96.1.0", "96.3.10", "96.11.1"}
        asked = bench.meter(_SERIAL).asked
        assert await _read(line, everything) == first
        # three values, and two attributes of the one relay that two codes mean
        assert bench.meter(_SERIAL).asked == asked + 5
        missing = [record for record in caplog.records if "does not give" in record.message]
        assert len(missing) == len(everything) - len(first)


async def test_nothing_but_refusals_is_refused(tmp_path: Path) -> None:
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        with pytest.raises(MeterRefused, match="object-undefined"):
            await _read(line, [Obis.parse("14.7.0")])
        assert await _read(line)
        bench.meter(_SERIAL).exception = True
        with pytest.raises(MeterRefused, match="service-not-allowed"):
            await _read(line)
        bench.meter(_SERIAL).exception = False
        assert await _read(line)


async def test_a_value_in_another_unit_is_not_given_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        bench.meter(_SERIAL).objects[3, _ENERGY, 3] = lambda _: scaler(0, 31)
        for _ in range(2):
            assert await _read(line) == {"32.7.0": Decimal("230.1")}
    (record,) = (record for record in caplog.records if "does not give" in record.message)
    assert "tells kVAh, its map says kWh" in str(vars(record)["reason"])


async def test_another_scaler_after_a_new_association_is_believed(tmp_path: Path) -> None:
    """A meter configured anew, or exchanged: its association goes, and what was known of it goes too."""
    async with dlms_bench("hdlc", tmp_path) as bench, _opened(bench) as line:
        await _read(line)
        meter = bench.meter(_SERIAL)
        meter.objects[3, _VOLTAGE, 3] = lambda _: scaler(-2, 35)
        meter.objects[3, _VOLTAGE, 2] = lambda _: number(23010)
        meter.forget()
        assert (await _read(line))["32.7.0"] == Decimal("230.10")


async def test_a_remote_reconnection_that_only_arms_is_told_so(tmp_path: Path) -> None:
    """Class 70 in the modes where the customer has to press the button."""
    async with dlms_bench("hdlc", tmp_path) as bench, _opened(bench) as line:
        meter = line.meters[_SERIAL]
        assert isinstance(meter, RelayControl)
        bench.meter(_SERIAL).arm_only()
        await meter.set_relay(RelayPosition.DISCONNECTED)
        await meter.set_relay(RelayPosition.CONNECTED)
        assert await meter.relay_position() is RelayPosition.READY_FOR_RECONNECTION
        told = await _read(line, [Obis.parse("96.3.10")])
        assert told == {"96.3.10": "ready_for_reconnection"}
        with pytest.raises(MeterRefused, match="only the meter itself"):
            await meter.set_relay(RelayPosition.READY_FOR_RECONNECTION)


async def test_an_order_answered_with_nonsense_is_of_unknown_outcome(tmp_path: Path) -> None:
    """It may have been obeyed, so it is silence and no refusal, and it is not repeated."""
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        meter = line.meters[_SERIAL]
        assert isinstance(meter, RelayControl)
        bench.meter(_SERIAL).garbles_orders = True
        with pytest.raises(MeterSilent):
            await meter.set_relay(RelayPosition.DISCONNECTED)
        assert bench.orders(_SERIAL) == 1
        assert await meter.relay_position() is RelayPosition.DISCONNECTED


async def test_event_logs_are_read_with_their_log_and_cut_to_what_was_asked(tmp_path: Path) -> None:
    """The fraud log alone, of a meter that has no other and gives all its rows whatever is asked."""
    at = datetime(2026, 6, 1, tzinfo=UTC)
    rows = [(at + timedelta(hours=hour), 40 + hour) for hour in range(4)]
    buffer = data.array(
        *(
            data.structure(data.octet_string(write_time(when, Zone(), 0)), data.uint8(code))
            for when, code in rows
        )
    )
    columns = data.array(
        *(
            data.structure(
                data.uint16(class_id), data.octet_string(name), data.int8(2), data.uint16(0)
            )
            for class_id, name in ((8, CLOCK), (1, bytes((0, 0, 96, 11, 1, 255))))
        )
    )
    log = bytes((0, 0, 99, 98, 1, 255))
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        meter = line.meters[_SERIAL]
        assert isinstance(meter, EventLog)
        with pytest.raises(MeterRefused, match="object-undefined"):
            await meter.read_events(at, at + timedelta(days=1))
        for index, told in ((2, buffer), (3, columns), (4, data.uint32(0))):
            bench.meter(_SERIAL).objects[7, log, index] = partial(_always, told)
        events = await meter.read_events(at + timedelta(hours=1), at + timedelta(hours=2))
    assert events == [
        LoggedEvent(at + timedelta(hours=hour), True, "0-0:99.98.1", 40 + hour, "maker")
        for hour in (1, 2)
    ]


@pytest.mark.parametrize("minutes", [0, 60, 330, -240])
async def test_a_clock_is_set_in_the_local_time_it_keeps(minutes: int, tmp_path: Path) -> None:
    """And its season stays as it is: the deviation is the one the meter has told."""
    now = datetime(2026, 7, 1, 12, 0, 20, tzinfo=UTC)
    clock = (8, CLOCK, 2)
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        shown = write_time(now - timedelta(seconds=90), Zone(), minutes)
        bench.meter(_SERIAL).objects[clock] = partial(_always, data.octet_string(shown))
        meter = line.meters[_SERIAL]
        assert isinstance(meter, MeterClock)
        await meter.set_clock(now)
        written = bench.meter(_SERIAL).written[clock][2:]
        found = read_time(written, Zone())
    assert found is not None
    assert timedelta() <= found.at - now < timedelta(seconds=5)
    assert written[9:11] == shown[9:11]


async def test_a_clock_of_another_meter_is_not_set(tmp_path: Path) -> None:
    async with dlms_bench("tcp", tmp_path) as bench, _opened(bench) as line:
        await _read(line)
        await bench.exchange(_SERIAL)
        meter = line.meters[_SERIAL]
        assert isinstance(meter, MeterClock)
        with pytest.raises(IdentityMismatch):
            await meter.set_clock(datetime(2026, 7, 1, tzinfo=UTC))
        assert not bench.meter(_SERIAL).written


async def test_a_meter_whose_map_names_no_logs_keeps_none(tmp_path: Path) -> None:
    maps = files("openami.gateway.drivers.dlms").joinpath("maps")
    shipped = maps.joinpath("single-phase-prepaid.toml").read_text("utf-8")
    without = re.sub(r"\[\[event_log\]\][^\[]*", "", shipped)
    (tmp_path / "no-logs.toml").write_text(without)
    (tmp_path / "no-relay.toml").write_text(re.sub(r"\[relay\][^\[]*", "", shipped))
    async with dlms_bench("tcp", tmp_path) as bench:
        kinds = {}
        for name in ("no-logs.toml", "no-relay.toml"):
            meters = [
                replace(meter, options={**meter.options, "map": name, "code_system": "idis"})
                for meter in bench.settings.meters
            ]
            async with DlmsDriver.open(replace(bench.settings, meters=meters)) as line:
                meter = line.meters[_SERIAL]
                kinds[name] = isinstance(meter, EventLog), isinstance(meter, RelayControl)
    assert kinds == {"no-logs.toml": (False, True), "no-relay.toml": (True, False)}


def _always(octets: bytes, _: int) -> bytes:
    return octets
