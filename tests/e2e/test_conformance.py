"""Our own gateway and head-end under the kit, as a vendor puts his there: real programs, real TLS, real relays."""

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.tools import require_tool

from openami.clock import SystemClock
from openami.conformance.replay import differences, replay
from openami.conformance.report.document import open_report
from openami.conformance.transcript import TranscriptReader
from openami.gateway.enrolment import GatewayKeys
from openami.headend.audit import Entry
from openami.headend.store import Access
from openami.headend.store.commands import StoredKeyring
from openami.headend.store.open import open_store
from openami.headend.village import HES, VillagePlan, add_gateway, make_village
from openami.keyfiles import load_signer
from openami.mqtt.settings import BrokerSettings
from openami.pki.enrolment import read_request
from openami.pki.names import GatewayName
from openami.profile import FeederId, GatewayId, MeterSerial
from openami.simulator.config_files import gateway_toml, headend_toml
from openami.simulator.faults import Silent
from openami.simulator.lines import VillageLine, village_lines
from openami.simulator.plan import PREPAID_MODEL
from openami.simulator.programs import Program
from openami.simulator.scenario import village_tonight
from openami.simulator.village import Village
from openami.sip.canonical import read_document
from openami.sip.keyring import read_keyring

NAME = GatewayName(FeederId("feeder-kit"), GatewayId("gateway-kit"))
DEADLINE_S = 40.0
# What a vendor is promised, from the start of the kit to the first verdict.
FIRST_VERDICT_S_MAX = 120.0
SEED = 20261127
TRANSCRIPT = "transcript.jsonl"

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(150)]


@dataclass
class Kit:
    """``openami conformance serve --json`` as a process, and what it has said."""

    program: Program
    directory: Path
    log: Path

    def events(self) -> list[Mapping[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    async def said(self, **wanted: object) -> Mapping[str, Any]:
        """Wait for an event with these members."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for event in self.events():
                    if wanted.items() <= event.items():
                        return event
                self.program.check()
                await asyncio.sleep(0.05)

    async def ended(self, within_s: float) -> Mapping[str, Any]:
        """Wait for its end; return the judgement it wrote, which is signed and follows from its transcript."""
        async with asyncio.timeout(within_s):
            while not any(event["event"] == "end" for event in self.events()):
                self.program.check()
                await asyncio.sleep(0.1)
        report = open_report((self.directory / "report.json").read_bytes()).report
        with (self.directory.parent / TRANSCRIPT).open("rb") as file:
            again = replay(TranscriptReader(file), report.judgement.ended_at)
        assert list(differences(report, again)) == []
        judgement: Mapping[str, Any] = msgspec.to_builtins(report.judgement)
        return judgement

    def acts(self) -> Mapping[str, str]:
        """How each act has ended."""
        return {event["act"]: event["state"] for event in self.events() if event["event"] == "act"}


@asynccontextmanager
async def kit(directory: Path, *arguments: str) -> AsyncIterator[Kit]:
    place = directory / "kit"
    log = directory / "kit.log"
    program = Program(
        "kit",
        [
            *("conformance", "serve", "--host", "localhost", "--port", "0", "--plain-port", "0"),
            *("--page", "127.0.0.1:0", "--directory", str(place), "--json", "--once"),
            *("--transcript", str(directory / TRANSCRIPT), *arguments),
        ],
        log=log,
    )
    await program.start()
    try:
        yield Kit(program, place, log)
    finally:
        await program.stop()


@dataclass
class Bench:
    """A gateway with simulated meters, and the hands that pull its plugs."""

    lines: Sequence[VillageLine]
    gateway: Program
    village: "Counted"

    async def obey(self, words: Sequence[str]) -> str:
        """Do what the hook is asked; return what it is to print."""
        match words:
            case ["relay", serial]:
                return self.village.measured(MeterSerial(serial)).relay.value
            case ["unplug", serial]:
                self._set(serial, Silent())
            case ["plug", serial]:
                self._set(serial, None)
            case ["reboot"]:
                await self.gateway.kill()
                await self.gateway.start()
        return "done"

    def _set(self, serial: str, fault: Silent | None) -> None:
        [line] = [line for line in self.lines if serial in line.serials]
        line.set_fault(MeterSerial(serial), fault)


# A vendor's hook talks to its bench as it likes; this one writes to a socket.
HOOK = """
import socket, sys
if sys.argv[2:] == ["verbs"]:
    print("unplug plug reboot relay")
    sys.exit()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as bench:
    bench.sendall((" ".join(sys.argv[2:]) + "\\n").encode())
    answer = bench.recv(64).decode()
    print(answer, end="")
    sys.exit(0 if answer else 1)
"""


@asynccontextmanager
async def hook(directory: Path, benches: Sequence[Bench]) -> AsyncIterator[str]:
    """Serve the bench to the hook's script; yield the command line of the hook."""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        writer.write((await benches[0].obey(words)).encode() + b"\n")
        writer.close()

    script = directory / "hook.py"
    script.write_text(HOOK)
    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"{sys.executable} {script} {port}"


class Counted(Village):
    """A village that remembers every order a relay is given."""

    orders: list[tuple[str, str]]

    def order_relay(self, serial: Any, position: Any) -> None:
        self.orders.append((serial, position.value))
        super().order_relay(serial, position)


@asynccontextmanager
async def bench(directory: Path, keys: GatewayKeys, port: int) -> AsyncIterator[Bench]:
    clock = SystemClock()
    plan = village_tonight(meters=3, seed=SEED, now=clock.now())
    customers = tuple(
        dataclasses.replace(c, model=PREPAID_MODEL, credit_uj=10**15, bypass_permille=0)
        for c in plan.customers
    )
    village = Counted(dataclasses.replace(plan, customers=customers))
    village.orders = []
    lines = village_lines(village, clock)
    async with AsyncExitStack() as parts:
        places = [await parts.enter_async_context(line.serving()) for line in lines]
        mqtt = BrokerSettings(
            url=f"mqtts://localhost:{port}",
            client_id=str(NAME),
            ca_file=str(keys.authority_file),
            cert_file=str(keys.transport_file),
        )
        toml = gateway_toml(
            feeder_id=NAME.feeder_id,
            gateway_id=NAME.gateway_id,
            data_dir=directory / "gateway",
            mqtt=mqtt,
            lines=places,
            tables={
                "commands": {
                    "key_file": str(keys.sip_key_file),
                    "roots_file": str(keys.roots_file),
                }
            },
        )
        file = directory / "gateway.toml"
        toml = toml.replace("fast_s = 2", "fast_s = 1").replace("billing_s = 10", "billing_s = 5")
        file.write_text(toml)
        gateway = Program(
            "gateway", ["gateway", "run", "-c", str(file)], log=directory / "gateway.log"
        )
        await gateway.start()
        parts.push_async_callback(gateway.stop)
        yield Bench(lines, gateway, village)


async def test_our_gateway_passes_whatever_it_is_put_through(tmp_path: Path) -> None:
    require_tool("mosquitto")
    clock = SystemClock()
    keys = GatewayKeys(tmp_path / "gateway-keys")
    request = tmp_path / "request.json"
    request.write_bytes(keys.request(NAME, now=clock.now()))
    benches: list[Bench] = []
    started = clock.boottime()
    async with (
        hook(tmp_path, benches) as command,
        kit(tmp_path, "--enrol", str(request), "--hook", command) as judge,
    ):
        ready = await judge.said(event="ready")
        keys.install((judge.directory / "enrolment-answer.json").read_bytes(), village=None)
        async with bench(tmp_path, keys, ready["port"]) as running:
            benches.append(running)
            await judge.said(event="verdict", verdict="passed")
            first_verdict_s = clock.boottime() - started
            judgement = await judge.ended(within_s=100)
    assert first_verdict_s < FIRST_VERDICT_S_MAX
    assert broken(judgement) == []
    assert judgement["conforms"]
    assert judge.acts() == {
        "acknowledgement-withheld": "done",
        "network-lost": "done",
        "command-without-session": "done",
        "session-offered": "done",
        "meter-unplugged": "done",
        "gateway-restarted": "done",
    }
    passed = verdicts(judgement)["passed"]
    assert {"OA-TLS-001", "OA-DEL-001", "OA-DEL-003", "OA-SES-002", "OA-SIL-001"} <= passed
    assert {f"OA-CMD-00{number}" for number in range(1, 7)} <= passed
    assert "OA-SEQ-001" in passed
    # The honest order and the one back: of a dozen forged ones and a replay none came through.
    assert [position for _, position in running.village.orders] == ["disconnected", "connected"]
    assert "Traceback" not in judge.log.read_text()


async def test_our_head_end_passes_with_a_gateway_the_kit_plays(tmp_path: Path) -> None:
    require_tool("mosquitto")
    script = tmp_path / "hook.py"
    store_url = f"sqlite:///{tmp_path / 'headend.db'}"
    script.write_text(HEADEND_HOOK)
    enrolled = tmp_path / "enrolled"
    command = f"{sys.executable} {script} {enrolled} {store_url}"
    async with kit(tmp_path, "--headend", "--hook", command) as judge:
        ready = await judge.said(event="ready")
        request = (judge.directory / "enrolment-request.json").read_bytes()
        async with headend(tmp_path, store_url, ready, request):
            enrolled.touch()
            judgement = await judge.ended(within_s=100)
    assert broken(judgement) == []
    assert judgement["conforms"]
    assert judge.acts() == {"command-given": "done"}
    asked = {"OA-QOS-003", "OA-TLS-001", "OA-SES-002", "OA-SES-003", "OA-CMD-007", "OA-CMD-008"}
    assert asked <= verdicts(judgement)["passed"]
    assert "Traceback" not in judge.log.read_text()


HEADEND_HOOK = """
import pathlib, subprocess, sys, time
enrolled, store, verb, *words = sys.argv[1:]
if verb == "verbs":
    print("disconnect reconnect")
    sys.exit()
while not pathlib.Path(enrolled).exists():
    time.sleep(0.05)
sys.exit(subprocess.run(
    [sys.executable, "-m", "openami", "command", "send", f"relay-{verb}", *words,
     "--reason", "tried", "--wait", "30s", "--store", store]).returncode)
"""


@asynccontextmanager
async def headend(
    directory: Path, store_url: str, ready: Mapping[str, Any], request: bytes
) -> AsyncIterator[None]:
    """Run a head-end whose operator has enrolled the kit's gateway."""
    now = SystemClock().now()
    plan = VillagePlan(
        feeders=(NAME.feeder_id,),
        broker_names=("localhost",),
        port=ready["port"],
        roots=1,
        threshold=1,
        disconnects_per_hour=100,
        min_dwell_s=0,
    )
    village = make_village(directory / "operator", plan, now=now)
    add_gateway(village, read_request(request), [load_signer(village.root_key_file(1))], now=now)
    keyring = village.signed_keyring(NAME.feeder_id, NAME.gateway_id)
    assert keyring is not None
    mqtt = BrokerSettings(
        url=f"mqtts://localhost:{ready['port']}",
        client_id=HES,
        ca_file=ready["caFile"],
        cert_file=ready["certFile"],
        key_file=ready["keyFile"],
    )
    tables = {
        "signing": {
            "key_file": str(village.key_file(HES)),
            "roots_file": str(village.roots_file),
        }
    }
    file = directory / "headend.toml"
    file.write_text(headend_toml(store_url=store_url, mqtt=mqtt, tables=tables))
    program = Program(
        "head-end", ["headend", "run", "-c", str(file)], log=directory / "headend.log"
    )
    await program.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not program.has_said("ready"):
                program.check()
                await asyncio.sleep(0.05)
        await hand_over(store_url, keyring)
        yield
    finally:
        await program.stop()


async def hand_over(store_url: str, keyring: bytes) -> None:
    """Give the keyring to the head-end, as `openami keyring publish` does."""
    document = read_document(keyring)
    content = read_keyring(document.members)
    stored = StoredKeyring(
        feeder_id=content.feeder_id,
        gateway_id=content.gateway_id,
        version=content.version,
        document=keyring,
        added_at=SystemClock().now(),
        added_by="test",
    )
    entry = Entry(who="test", what="keyring given to the head-end", digest=document.digest)
    async with open_store(store_url, Access.EDIT) as store:
        await store.add_keyring(stored, entry)


def broken(judgement: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [f for f in judgement["findings"] if f["verdict"] in ("failed", "warning")]


def verdicts(judgement: Mapping[str, Any]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in judgement["findings"]:
        found.setdefault(finding["verdict"], set()).add(finding["requirement"])
    return found
