"""The demo's broker asks for certificates as a real one does."""

from pathlib import Path

import pytest
from tests.keys.villages import wall
from tests.tools import require_tool

from openami.gateway.config import load_config
from openami.gateway.drivers.modbus import ModbusDriver
from openami.headend.config import read_config
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.mqtt.broker_rights import mosquitto_conf
from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import MUTUAL_TLS, embedded_broker
from openami.mqtt.port import PublishRefused, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.profile import FeederId, GatewayId
from openami.simulator.config_files import gateway_toml, headend_toml
from openami.simulator.security import DemoVillage, demo_village
from openami.sip.actions import Role
from openami.sip.canonical import read_document
from openami.sip.keyring import read_keyring


@pytest.fixture
def village(tmp_path: Path) -> DemoVillage:
    return demo_village(tmp_path, FeederId("demo-1"), GatewayId("demo-gateway"), now=wall())


def test_its_settings_are_the_deployed_ones() -> None:
    """Line by line, but for where the files are."""
    text = mosquitto_conf(certs="/d", acl_file="/d/openami.acl")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for name, value in MUTUAL_TLS.items():
        assert f"{name} {value.format(directory='/d')}" in lines


@pytest.mark.broker
async def test_each_may_say_its_own(village: DemoVillage) -> None:
    """Gateway and head-end get in with their certificates; nobody does without, or in plain."""
    require_tool("mosquitto")
    async with embedded_broker(("mosquitto",), tls_files=village.broker_files) as broker:
        assert broker.url.startswith("mqtts://127.0.0.1:")
        own = "openami/v1/demo-1/demo-gateway/meter/m1"
        async with MqttPort(village.gateway_settings(broker.url)).connect() as gateway:
            await gateway.publish(f"{own}/telemetry", b"{}")
            with pytest.raises(PublishRefused):
                await gateway.publish(f"{own}/command", b"{}")
        async with MqttPort(village.headend_settings(broker.url)).connect() as headend:
            await headend.publish(f"{own}/command", b"{}")
            with pytest.raises(PublishRefused):
                await headend.publish(f"{own}/telemetry", b"{}")
        nameless = BrokerSettings(
            url=broker.url, client_id="x", ca_file=str(village.keys.authority_file)
        )
        plain = BrokerSettings(
            url=broker.url.replace("mqtts", "mqtt"), client_id="x", connect_timeout_s=5
        )
        for settings in (nameless, plain):
            with pytest.raises(TransportError):
                async with MqttPort(settings).connect():
                    pass


def test_both_configurations_name_their_keys(village: DemoVillage, tmp_path: Path) -> None:
    """As the programs read them."""
    url = "mqtts://127.0.0.1:8883"
    (tmp_path / "headend.toml").write_text(
        headend_toml(
            store_url="sqlite:///x.db",
            mqtt=village.headend_settings(url),
            tables=village.headend_tables,
        )
    )
    signing = read_config(tmp_path / "headend.toml").signing
    assert signing is not None
    assert signing.roots_file == str(village.village.roots_file)
    (tmp_path / "gateway.toml").write_text(
        gateway_toml(
            feeder_id=FeederId("demo-1"),
            gateway_id=GatewayId("demo-gateway"),
            data_dir=tmp_path / "data",
            mqtt=village.gateway_settings(url),
            lines=[],
            tables=village.gateway_tables,
        )
        + '[[line]]\ndriver = "modbus"\nname = "l"\ntransport = "tcp"\nhost = "h"\n'
        '[[line.meter]]\nserial = "m1"\nunit = 1\nmap = "dds238"\n'
    )
    config = load_config(tmp_path / "gateway.toml", {"modbus": ModbusDriver}, environ={})
    assert config.commands.enabled


async def test_the_head_end_is_handed_the_keyring(village: DemoVillage, tmp_path: Path) -> None:
    """Version 2, in which the gateway is named."""
    store_url = f"sqlite:///{tmp_path / 'headend.db'}"
    async with open_store(store_url, Access.OWN) as store:
        await village.hand_over_keyring(store_url, now=wall())
        (keyring,) = await store.keyrings("demo-1", "demo-gateway")
    content = read_keyring(read_document(keyring.document).members)
    assert keyring.version == content.version == 2
    roles = {identity.id: identity.role for identity in content.identities.values()}
    assert roles["demo-gateway"] is Role.GATEWAY
