"""The demo's broker: really there, on loopback only, and gone without a trace."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.tools import require_tool, scratch_directory

from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import LOSSLESS, EmbeddedBroker, embedded_broker
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings


async def assert_keeps_a_session(broker: EmbeddedBroker) -> None:
    """A message of the largest size waits for a client that is away."""
    port = MqttPort(BrokerSettings(url=broker.url, client_id="hes", protocol=broker.protocol))
    async with port.connect() as connection:
        await connection.subscribe(["openami/#"])
    async with MqttPort(
        BrokerSettings(url=broker.url, client_id="gw", protocol=broker.protocol)
    ).connect() as gateway:
        await gateway.publish("openami/a", b"x" * 65_536)
    async with port.connect() as connection:
        async with asyncio.timeout(5):
            (delivery,) = await connection.receive(10)
        assert len(delivery.payload) == 65_536


def assert_gone(broker: EmbeddedBroker) -> None:
    with socket.socket() as client:
        port = int(broker.url.rsplit(":", 1)[1])
        assert client.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.broker
async def test_mosquitto_where_it_is_installed() -> None:
    require_tool("mosquitto")
    async with embedded_broker() as broker:
        assert (broker.program, broker.protocol) == ("mosquitto", "5")
        await assert_keeps_a_session(broker)
        assert_on_loopback_only(broker)
        directories = scratch_directories()
    assert_gone(broker)
    assert directories
    assert not [each for each in directories if each.exists()]


async def test_the_pip_one_where_it_is_not() -> None:
    async with embedded_broker(("iotcore",)) as broker:
        assert (broker.program, broker.protocol) == ("iotcore", "3.1.1")
        await assert_keeps_a_session(broker)
        assert_on_loopback_only(broker)
    assert_gone(broker)


async def test_without_any_it_says_what_to_install() -> None:
    with pytest.raises(TransportError, match="no broker to start") as raised:
        async with embedded_broker(()):
            pytest.fail("there is none")
    assert "apt install mosquitto" in raised.value.remedy
    assert raised.value.permanent


@pytest.mark.parametrize("program", ["mosquitto", "iotcore"])
async def test_it_dies_with_us_even_when_we_are_killed(program: str) -> None:
    script = (
        "import asyncio\n"
        "from openami.mqtt.embedded import embedded_broker\n"
        "async def main():\n"
        f"    async with embedded_broker(({program!r},)) as broker:\n"
        "        print(broker.url, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    if program == "mosquitto":
        require_tool("mosquitto")
    with scratch_directory() as scratch:
        scratch.chmod(0o755)  # mosquitto runs as somebody else when we are root
        demo = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        assert demo.stdout is not None
        url = (await asyncio.wait_for(demo.stdout.readline(), 30)).decode().strip()
        os.kill(demo.pid, signal.SIGKILL)
        await demo.wait()
    port = int(url.rsplit(":", 1)[1])
    for _ in range(250):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) != 0:
                return
        await asyncio.sleep(0.02)
    pytest.fail("the broker outlived us")


def test_it_is_configured_as_the_one_for_a_laptop() -> None:
    text = Path("deploy/mosquitto/loopback.conf").read_text()
    lines = [line.split(None, 1) for line in text.splitlines() if line and line[0] != "#"]
    settings = {line[0]: line[1] for line in lines}
    for name in ("listener", "persistence_location", "log_dest"):
        settings.pop(name, None)
    assert settings == dict(LOSSLESS)


def scratch_directories() -> list[Path]:
    """Return the directories of the brokers this very process has started."""
    ours = os.getpid()
    children = Path(f"/proc/{ours}/task/{ours}/children").read_text().split()
    return [
        directory
        for child in children
        if (directory := Path(f"/proc/{child}/cwd").readlink()).name.startswith("openami-broker-")
    ]


def assert_on_loopback_only(broker: EmbeddedBroker) -> None:
    port = f":{int(broker.url.rsplit(':', 1)[1]):04X}"
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [row.split()[1] for row in rows if row.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(port)] == [f"0100007F{port}"]
