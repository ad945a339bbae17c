"""``openami conformance watch`` as a process, beside a real broker."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.conformance.streams import FEEDER, GATEWAY, ROOT, Stream
from tests.conftest import StartMosquitto
from tests.mosquitto import Mosquitto

from openami.clock import SystemClock
from openami.conformance.observation import Published

pytestmark = pytest.mark.broker

END_S = 20.0


class Watch:
    """The command as a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until_told(self, words: bytes) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(END_S):
            while words not in await self.process.stderr.readline():
                assert self.process.returncode is None

    async def end(self) -> tuple[int, str, str]:
        """Press Ctrl-C; return exit code, stdout and stderr."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


async def start(*arguments: str) -> Watch:
    return Watch(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "openami", "conformance", "watch", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@asynccontextmanager
async def watching(broker: Mosquitto, *arguments: str) -> AsyncIterator[Watch]:
    watch = await start("--broker", broker.url, *arguments)
    try:
        await watch.until_told(b"watching")
        yield watch
    finally:
        if watch.process.returncode is None:
            watch.process.kill()
            await watch.process.wait()


def readings(times: int = 3) -> list[Published]:
    """Return what a good gateway publishes now."""
    stream = Stream(now=SystemClock().now())
    stream.poll(times=times)
    return [each for each in stream.observations if isinstance(each, Published)]


def publish(broker: Mosquitto, messages: Sequence[Published]) -> None:
    """Publish as a gateway of any kind does: with any QoS, retained or not."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="gw")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for each in messages:
        client.publish(each.topic, each.payload, each.qos, each.retain).wait_for_publish(END_S)
    client.disconnect()
    client.loop_stop()


async def judged(
    broker: Mosquitto, messages: Sequence[Published], *arguments: str
) -> tuple[int, dict[str, str], dict[str, object]]:
    """Watch while messages are published; return exit code, verdicts and the judgement."""
    async with watching(broker, "--json", *arguments) as watch:
        await asyncio.to_thread(publish, broker, messages)
        await asyncio.sleep(0.3)  # the broker passes on the last of them
        code, out, _ = await watch.end()
    rows = [json.loads(line) for line in out.splitlines()]
    verdicts = {row["requirement"]: row["verdict"] for row in rows if row["row"] == "finding"}
    return code, verdicts, rows[-1]


async def test_a_good_gateway_conforms(mosquitto: StartMosquitto) -> None:
    code, verdicts, judgement = await judged(mosquitto(), readings())
    assert code == 0
    assert verdicts["OA-QOS-001"] == verdicts["OA-ENV-005"] == "passed"
    assert verdicts["OA-TLS-001"] == "not exercised"
    assert judgement["conforms"] is True
    assert judgement["subject"] == {
        "kind": "gateway",
        "names": [f"{FEEDER}/{GATEWAY}"],
        "vendor": "",
        "model": "",
        "firmware": "",
    }


async def test_qos_and_retain_are_seen_as_they_were_published(mosquitto: StartMosquitto) -> None:
    first, second, *_ = readings()
    wrong = [
        Published(first.at, first.topic, first.payload, qos=0, retain=False),
        Published(second.at, second.topic, second.payload, qos=1, retain=True),
    ]
    code, verdicts, _ = await judged(mosquitto(), wrong)
    assert code == 1
    assert (verdicts["OA-QOS-001"], verdicts["OA-TOP-006"]) == ("failed", "warning")


@pytest.mark.parametrize(("version", "verdict"), [("5", "not exercised"), ("3.1.1", "warning")])
async def test_what_the_broker_had_kept_is_no_reading(
    mosquitto: StartMosquitto, version: str, verdict: str
) -> None:
    """What somebody once left there is evidence of the flag alone, and in MQTT 5 it need not come."""
    broker = mosquitto()
    left = Published(SystemClock().now(), f"{ROOT}/meter/x/telemetry", b"old", qos=0, retain=True)
    await asyncio.to_thread(publish, broker, [left])
    code, verdicts, _ = await judged(broker, [], "--mqtt-version", version)
    assert code == 1  # nothing that every reading shows was seen
    assert verdicts["OA-TOP-006"] == verdict
    assert verdicts["OA-ENV-003"] == verdicts["OA-QOS-001"] == "not exercised"


async def test_others_on_the_same_broker_are_not_judged(mosquitto: StartMosquitto) -> None:
    at = SystemClock().now()
    others = [
        Published(at, topic, b"21.5", qos=0, retain=True)
        for topic in ("home/temperature", "openami/v2/f/g/batch", "spBv1.0/g/NDATA/e")
    ]
    code, verdicts, _ = await judged(mosquitto(), [*others, *readings()])
    assert code == 0
    assert verdicts["OA-TOP-001"] == "passed"


async def test_one_gateway_can_be_chosen(mosquitto: StartMosquitto) -> None:
    bad = Published(
        SystemClock().now(), "openami/v1/other/pole-9/meter/x/telemetry", b"no", 1, retain=False
    )
    arguments = ("--gateway", f"{FEEDER}/{GATEWAY}")
    code, verdicts, _ = await judged(mosquitto(), [bad, *readings()], *arguments)
    assert (code, verdicts["OA-ENV-003"]) == (0, "passed")


async def test_a_person_reads_verdicts_evidence_and_remedies(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    stream = Stream(now=SystemClock().now())
    stream.telemetry(
        registers=[{"obis": "\x1b[31menergy", "value": 1, "unit": "", "quality": "good"}]
    )
    async with watching(broker) as watch:
        messages = [each for each in stream.observations if isinstance(each, Published)]
        await asyncio.to_thread(publish, broker, messages)
        await watch.until_told(b"failed OA-REG-002: ")  # at once, not at the end
        code, out, _ = await watch.end()
    assert code == 1
    assert "failed         OA-REG-002" in out
    assert "FAILED OA-REG-002: obis is a string with an OBIS code" in out
    assert f"1 of 1 times, by {FEEDER}/{GATEWAY}" in out
    assert f"{ROOT}/meter/DS1000-1/telemetry /registers/0/obis" in out
    assert "remedy: Write the code as the register list does" in out
    assert "How to bring about what was not exercised:" in out
    assert f"{FEEDER}/{GATEWAY}: does NOT conform (1 failed" in out
    assert out.replace("\n", "").isprintable()


async def test_it_ends_by_itself_when_the_time_is_up(mosquitto: StartMosquitto) -> None:
    watch = await start("--broker", mosquitto().url, "--for", "1s")
    async with asyncio.timeout(END_S):
        out, _ = await watch.process.communicate()
    assert watch.process.returncode == 1
    assert "no gateway was heard: not known to conform" in out.decode()


async def test_a_broker_that_restarts_is_watched_again(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    async with watching(broker, "--json") as watch:
        await asyncio.to_thread(broker.restart)
        await watch.until_told(b"watching")
        await asyncio.to_thread(publish, broker, readings())
        await asyncio.sleep(0.3)
        code, out, _ = await watch.end()
    assert code == 0, out


async def test_no_broker_is_one_sentence() -> None:
    watch = await start("--broker", "mqtt://127.0.0.1:1")
    async with asyncio.timeout(END_S):
        out, err = await watch.process.communicate()
    assert (watch.process.returncode, out) == (3, b"")
    assert err.decode().startswith("openami: cannot connect to mqtt://127.0.0.1:1")


async def test_a_gateway_that_is_none_is_usage() -> None:
    watch = await start("--gateway", "pole 1")
    async with asyncio.timeout(END_S):
        _, err = await watch.process.communicate()
    assert watch.process.returncode == 2
    assert b"is not FEEDER/GATEWAY" in err


async def test_a_broker_that_passes_on_nothing_above_qos_0_is_no_witness(
    mosquitto: StartMosquitto,
) -> None:
    broker = mosquitto("listener {port} 127.0.0.1", "max_qos 0")
    watch = await start("--broker", broker.url)
    async with asyncio.timeout(END_S):
        out, err = await watch.process.communicate()
    assert (watch.process.returncode, out) == (3, b"")
    assert "QoS 0 only" in err.decode()
