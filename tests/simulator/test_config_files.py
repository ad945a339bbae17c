"""What the demo writes is what the programs read."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from openami.clock import SystemClock
from openami.gateway.config import load_config
from openami.gateway.drivers.modbus.driver import ModbusDriver
from openami.headend.config import read_config
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId
from openami.simulator.config_files import fast_s, gateway_toml, headend_toml, modbus_place
from openami.simulator.lines import village_lines
from openami.simulator.plan import METERS_MAX, plan_village
from openami.simulator.village import Village, serials

BROKER = BrokerSettings(
    url="mqtts://broker.example:8883",
    client_id='with "quotes" and \\',
    username="someone",
    protocol="3.1.1",
    session_expiry_days=0.04,
)


@pytest.mark.parametrize("meters", [2, 20, 33, METERS_MAX])
async def test_the_gateway_reads_its_configuration(meters: int, tmp_path: Path) -> None:
    plan = plan_village(meters=meters, seed=1, start=datetime(2026, 6, 22, tzinfo=UTC))
    lines = village_lines(Village(plan), SystemClock())
    file = tmp_path / "gateway.toml"
    file.write_text(
        gateway_toml(
            feeder_id=FeederId("feeder"),
            gateway_id=GatewayId("gateway"),
            data_dir=tmp_path / 'a "folder"',
            mqtt=BROKER,
            lines=[
                modbus_place(line.name, 5020 + number, line.meters)
                for number, line in enumerate(lines)
            ],
        )
    )
    config = load_config(file, {"modbus": ModbusDriver}, environ={})
    assert config.mqtt == BROKER
    assert config.data_dir == tmp_path / 'a "folder"'
    assert list(config.serials) == list(serials(plan))
    assert config.schedule.fast_s == fast_s(meters)


def test_the_head_end_reads_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "headend.toml"
    file.write_text(headend_toml(store_url="postgresql://me@here/db", mqtt=BROKER))
    config = read_config(file)
    assert config.store == "postgresql://me@here/db"
    assert config.mqtt == BROKER


def test_what_is_as_usual_is_not_written() -> None:
    text = headend_toml(
        store_url="sqlite:///a.db", mqtt=msgspec.structs.replace(BROKER, keepalive_s=60)
    )
    assert "keepalive_s" not in text


def test_more_meters_are_polled_more_slowly() -> None:
    polls = [fast_s(meters) for meters in (2, 50, 51, 200, 201, METERS_MAX)]
    assert polls == [2, 2, 5, 5, 10, 10]
