"""``openami watch`` on a real broker."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from click.testing import CliRunner
from tests.conftest import StartMosquitto

from openami.cli import main
from openami.mqtt.client import MqttPort
from openami.mqtt.settings import BrokerSettings

pytestmark = pytest.mark.broker

ROOT = "openami/v1/feeder-north-paravur-01/pole-ems-0042"
TOPIC = f"{ROOT}/meter/DS1000-88421/telemetry"
EXAMPLE = {
    "schemaVersion": "0.1",
    "ts": "2026-06-22T14:30:00Z",
    "feederId": "feeder-north-paravur-01",
    "gatewayId": "pole-ems-0042",
    "meterSerial": "DS1000-88421",
    "registers": [
        {"obis": "1.8.0", "value": 1842.5, "unit": "kWh", "quality": "good"},
        {"obis": "96.8.0", "value": 12.4, "unit": "kWh", "quality": "suspect"},
    ],
}


def encoded(**changes: object) -> bytes:
    return json.dumps({**EXAMPLE, **changes}).encode()


class Watch:
    """The command as a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until_watching(self) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while b"watching" not in await self.process.stderr.readline():
                assert self.process.returncode is None

    async def ended(self) -> tuple[int, list[str], str]:
        """Return exit code, lines of stdout, and stderr."""
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode().splitlines(), err.decode()


async def start(*arguments: str) -> Watch:
    return Watch(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from openami.cli import main; main()", "watch", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@asynccontextmanager
async def watching(*arguments: str) -> AsyncIterator[Watch]:
    watch = await start(*arguments)
    try:
        await watch.until_watching()
        yield watch
    finally:
        if watch.process.returncode is None:
            watch.process.kill()
            await watch.process.wait()


async def publish(url: str, messages: Sequence[tuple[str, bytes]]) -> None:
    settings = BrokerSettings(url=url, client_id="gw")
    async with MqttPort(settings).connect() as connection:
        for topic, payload in messages:
            await connection.publish(topic, payload)


MESSAGES = (
    (TOPIC, encoded()),
    (TOPIC, encoded(ts="yesterday")),
    (TOPIC, encoded(registers=[EXAMPLE["registers"][0], {"obis": "1.8.0"}])),
    (TOPIC.replace("telemetry", "telemetri"), encoded()),
    (f"{ROOT}/session/s-1", b"anything"),
    (TOPIC, b"\x1b]0;owned\x07"),
)


async def test_every_message_is_a_line_with_its_verdict(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    async with watching("--broker", broker.url, "-C", "6") as watch:
        await publish(broker.url, MESSAGES)
        code, lines, _ = await watch.ended()
    text = "\n".join(lines)
    assert code == 0
    head = "pole-ems-0042  DS1000-88421  telemetry"
    assert f"{head}  2026-06-22T14:30:00Z  1.8.0=1842.5 kWh  96.8.0=12.4 kWh (suspect)" in lines[0]
    assert f"{head}  REJECTED BAD_TIME at /ts: " in text
    assert "    not stored: MISSING_MEMBER at /registers/1/" in text
    assert "REJECTED BAD_TOPIC at the message: " in text
    assert "session s-1" in text
    assert "REJECTED BAD_JSON" in lines[-1]
    assert text.replace("\n", "").isprintable()  # nothing that a terminal would obey


async def test_json_is_one_object_a_message(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    async with watching("--broker", broker.url, "-C", "6", "--json", "--raw") as watch:
        await publish(broker.url, MESSAGES)
        code, lines, _ = await watch.ended()
    rows = [json.loads(line) for line in lines]
    assert code == 0
    verdicts = ["accepted", "rejected", "partial", "rejected", "not-judged", "rejected"]
    assert [row["verdict"] for row in rows] == verdicts
    assert rows[0]["topic"] == TOPIC
    assert rows[0]["registers"][1] == EXAMPLE["registers"][1]
    assert json.loads(rows[0]["payload"]) == EXAMPLE
    assert (rows[1]["errors"][0]["code"], rows[1]["errors"][0]["path"]) == ("BAD_TIME", "/ts")


async def test_one_meter_only(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    other = TOPIC.replace("88421", "88422")
    async with watching(
        "--broker", broker.url, "-C", "1", "--json", "--meter", "DS1000-88422"
    ) as watch:
        await publish(
            broker.url, [(TOPIC, encoded()), (other, encoded(meterSerial="DS1000-88422"))]
        )
        code, lines, _ = await watch.ended()
    assert code == 0
    assert [json.loads(line)["topic"] for line in lines] == [other]


async def test_a_filter_of_ones_own(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    async with watching("--broker", broker.url, "-C", "1", "--json", "other/+") as watch:
        await publish(broker.url, [(TOPIC, encoded()), ("other/a", b"")])
        code, lines, _ = await watch.ended()
    assert code == 0
    assert [json.loads(line)["topic"] for line in lines] == ["other/a"]


async def test_too_few_within_the_time_is_a_failure(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    code, lines, err = await (await start("--broker", broker.url, "-C", "2", "-W", "0.5")).ended()
    assert (code, lines) == (1, [])
    assert "0 of 2 messages came within 0.5 s" in err
    code, _, _ = await (await start("--broker", broker.url, "-W", "0.2")).ended()
    assert code == 0


async def test_control_c_ends_it_without_a_word(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    async with watching("--broker", broker.url) as watch:
        watch.process.send_signal(signal.SIGINT)
        code, lines, err = await watch.ended()
    assert (code, lines, err) == (130, [], "")


async def test_it_takes_nothing_from_the_head_end(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    head_end = MqttPort(BrokerSettings(url=broker.url, client_id="hes"))
    async with head_end.connect() as connection:
        await connection.subscribe([TOPIC])
    async with watching("--broker", broker.url, "-C", "1") as watch:
        await publish(broker.url, [(TOPIC, encoded())])
        await watch.ended()
    async with head_end.connect() as connection, asyncio.timeout(5):
        assert len(await connection.receive(10)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--broker", "mqtt://127.0.0.1:1"], 3, "nothing listens at port 1"),
        (["--broker", "http://127.0.0.1"], 2, "must begin with mqtt://"),
        (["--broker", "mqtt://127.0.0.1:1", "--ca-file", "x"], 2, "ca_file is for mqtts://"),
        (["--meter", "m", "some/topic"], 2, "name either"),
        (["-C", "0"], 2, "-C"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments: list[str], code: int, said: str) -> None:
    ended = CliRunner().invoke(main, ["watch", *arguments], catch_exceptions=False)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert said in ended.stderr
