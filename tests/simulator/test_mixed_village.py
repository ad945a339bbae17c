"""A mixed village: who has which meter, what the gateway is told of them, and an audit that convicts."""

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from openami.clock import SystemClock
from openami.gateway.config import load_config
from openami.gateway.driver import RelayPosition
from openami.gateway.installed_drivers import InstalledDrivers
from openami.headend.store import Reading
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId, MeterSerial, Obis, Quality
from openami.simulator.config_files import gateway_toml
from openami.simulator.display import quantities
from openami.simulator.mixed_acts import capture_edge_near
from openami.simulator.mixed_lines import mixed_lines
from openami.simulator.mixed_plan import MIXED_METERS_MAX, MIXED_METERS_MIN, LineName, mixed_village
from openami.simulator.mixed_summary import Act, Summary
from openami.simulator.mixed_values import APART_S_MAX, Relived
from openami.simulator.plan import epoch_ms, plan_village
from openami.simulator.village import Village, serials

START = datetime(2026, 6, 22, 13, 30, tzinfo=UTC)
_ENERGY, _VOLTAGE = Obis.parse("1.8.0"), Obis.parse("32.7.0")


@pytest.mark.parametrize("seed", range(5))
def test_every_meter_is_on_one_line_and_every_role_is_another_s(seed: int) -> None:
    mixed = mixed_village(plan_village(meters=25, seed=seed, start=START))
    on_lines = [serial for of_line in mixed.lines.values() for serial in of_line]
    assert sorted(on_lines) == sorted(serials(mixed.plan))
    roles = dataclasses.asdict(mixed.roles)
    cut = roles.pop("cut")
    assert len(set(roles.values())) == len(roles)
    assert not {roles["readdressed"], roles["neighbour"]} & set(cut), "they do not answer anyway"
    assert set(cut) <= set(mixed.lines[LineName.DLMS_SERIAL])


def test_a_village_too_small_or_too_large_for_its_acts_is_refused() -> None:
    for meters in (MIXED_METERS_MIN, MIXED_METERS_MAX):
        assert mixed_village(plan_village(meters=meters, seed=1, start=START))
    for meters in (MIXED_METERS_MIN - 1, MIXED_METERS_MAX + 1):
        with pytest.raises(ValueError, match=f"{MIXED_METERS_MIN} to {MIXED_METERS_MAX} meters"):
            mixed_village(plan_village(meters=meters, seed=1, start=START))


async def test_the_gateway_reads_the_configuration_of_all_its_lines(tmp_path: Path) -> None:
    mixed = mixed_village(plan_village(meters=20, seed=1, start=SystemClock().now()))
    hung = mixed_lines(mixed, Village(mixed.plan), SystemClock(), tmp_path)
    places = []
    for line in hung.lines:
        async with line.serving() as place:
            places.append(place)
    file = tmp_path / "gateway.toml"
    file.write_text(
        gateway_toml(
            feeder_id=FeederId("feeder"),
            gateway_id=GatewayId("gateway"),
            data_dir=tmp_path / "data",
            mqtt=BrokerSettings(url="mqtts://broker.example:8883"),
            lines=places,
            billing_polls=2,
        )
    )
    config = load_config(file, InstalledDrivers(), environ={})
    assert list(config.serials) == [s for of_line in mixed.lines.values() for s in of_line]
    assert {line.driver for line in config.lines} == {"modbus", "dlms", "iec62056-21"}
    [slow] = [serial for line in config.lines for serial in line.clock_steps_s_max]
    assert slow == mixed.roles.slow_clock
    secrets = [path for path in (tmp_path / "meter-keys").iterdir() if path.suffix == ".toml"]
    assert len(secrets) == 9
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in secrets)


# --- the audit -----------------------------------------------------------------------------------


def _reading(serial: MeterSerial, obis: Obis, ts: datetime, value: float | str) -> Reading:
    return Reading("feeder", serial, obis, ts, value, "", Quality.GOOD, ts)


@dataclasses.dataclass
class _Lived:
    """A village of twenty meters that was lived for a while, and what its meters showed then."""

    relived: Relived
    serial: MeterSerial
    neighbour: MeterSerial
    at: datetime
    energy: float
    voltage: float


@pytest.fixture(scope="module")
def lived() -> _Lived:
    plan = mixed_village(plan_village(meters=20, seed=1, start=START)).plan
    serial, neighbour = plan.customers[4].serial, plan.customers[5].serial
    village = Village(plan)
    village.advance(epoch_ms(START + timedelta(seconds=20)))
    village.sag(plan.customers[4].phase, 50.0)
    village.order_relay(serial, RelayPosition.DISCONNECTED)
    at = START + timedelta(seconds=40)
    village.advance(epoch_ms(at))
    shown = quantities(village.measured(serial))
    energy, voltage = shown[_ENERGY], shown[_VOLTAGE]
    assert isinstance(energy, Decimal)
    assert isinstance(voltage, Decimal)
    relived = Relived(plan, list(village.interventions), until=at)
    return _Lived(relived, serial, neighbour, at, float(energy), float(voltage))


def _is_wrong(lived: _Lived, reading: Reading, *, captured: bool = False) -> bool:
    found = lived.relived.compare([reading], captured=lambda _: captured)
    assert found.compared == 1
    return found.wrong == (reading,)


def test_what_the_village_had_is_right_and_what_was_done_to_it_is_remembered(lived: _Lived) -> None:
    assert lived.voltage < 195, "it sagged"
    for captured in (False, True):
        for obis, value in ((_ENERGY, lived.energy), (_VOLTAGE, lived.voltage)):
            reading = _reading(lived.serial, obis, lived.at, value)
            assert not _is_wrong(lived, reading, captured=captured)


def test_another_s_value_another_scale_and_another_time_are_wrong(lived: _Lived) -> None:
    at, energy = lived.at, lived.energy
    assert _is_wrong(lived, _reading(lived.neighbour, _ENERGY, at, energy))
    assert _is_wrong(lived, _reading(lived.serial, _ENERGY, at, energy * 10))
    assert _is_wrong(lived, _reading(lived.serial, _ENERGY, at, "connected"))
    # Of the time before the phase sagged, and longer ago than a read takes.
    before = at - timedelta(seconds=21 + APART_S_MAX)
    assert _is_wrong(lived, _reading(lived.serial, _VOLTAGE, before, lived.voltage))


def test_a_captured_value_has_to_be_exact(lived: _Lived) -> None:
    off = _reading(lived.serial, _ENERGY, lived.at, lived.energy + 0.001)
    assert not _is_wrong(lived, off)
    assert _is_wrong(lived, off, captured=True)


def test_registers_the_village_does_not_know_are_not_compared(lived: _Lived) -> None:
    reading = _reading(lived.serial, Obis.parse("96.1.0"), lived.at, "99000005")
    assert lived.relived.compare([reading], captured=lambda _: False).compared == 0


# --- the summary ---------------------------------------------------------------------------------


def test_a_summary_is_good_if_all_was_seen_but_what_rightly_waits() -> None:
    good = Summary(acts={Act.DEAD: True}, events={}, compared={}, wrong=(), gap=None)
    assert good.good
    unseen = dataclasses.replace(good, acts={Act.DEAD: True, Act.CLOCK_SET: False})
    assert not unseen.good
    assert "slow clock set: NOT SEEN" in unseen.lines()
    waiting = dataclasses.replace(unseen, waits={Act.CLOCK_SET: "the quarter hour is too near"})
    assert waiting.good
    assert "slow clock set: waits: the quarter hour is too near" in waiting.lines()
    wrong = _reading(MeterSerial("VM-1"), _ENERGY, START, 1.0)
    assert not dataclasses.replace(good, wrong=(wrong,)).good


def test_a_clock_is_not_set_across_the_quarter_hour() -> None:
    quarter = datetime(2026, 6, 22, 13, 45, tzinfo=UTC)
    assert capture_edge_near(quarter - timedelta(seconds=30), 90)
    assert capture_edge_near(quarter + timedelta(seconds=100), 90)
    assert not capture_edge_near(quarter + timedelta(seconds=300), 90)
