"""A month's bytes predicted, and held against what a gateway really puts on a link."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from tests.cases import in_one_test
from tests.conftest import StartMosquitto
from tests.gateway.pole import GatewayProgram, modbus_meters
from tests.pki import Pki

from openami.cli.gateway_budget import budget as budget_command
from openami.gateway.budget import Budget, MeterPlan, Plan, budget
from openami.gateway.config import ScheduleSettings
from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.normalise import Source
from openami.gateway.on_change import GroupReport
from openami.gateway.plausible_values import plausible_value
from openami.link_cost import DAY_S, WITHOUT_TLS
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Connection
from openami.mqtt.settings import BrokerSettings
from openami.profile import (
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    TelemetryTopic,
    shipped_catalogue,
)

WAIT_S = 60.0
METERS = 3
MEASURED = 4 * METERS
# How far the prediction of what TCP carries may be off, of meters that have been read, and of those that have not.
TOLERANCE_READ, TOLERANCE_ASSUMED = 0.05, 0.10
# Headers of IPv4 and TCP with timestamps. Three segments a message are foretold; a busy kernel puts several
# messages into one, an idle one acknowledges each by itself.
SEGMENT_BYTES = 52
SEGMENTS_MIN, SEGMENTS_MAX = 0.5, 4.5

CATALOGUE = shipped_catalogue()
VOLTAGE = RegisterInfo(Obis.parse("32.7.0"), "V", PollGroup.FAST, decimals=1)
ENERGY = RegisterInfo(Obis.parse("1.8.0"), "kWh", PollGroup.BILLING, decimals=2, monotonic=True)


def plan(*meters: MeterPlan, schedule: ScheduleSettings | None = None) -> Plan:
    return Plan(
        source=Source(FeederId("feeder-1"), GatewayId("pole-1")),
        catalogue=CATALOGUE,
        schedule=schedule or ScheduleSettings(),
        meters=meters,
        protocol="5",
        keep_alive_s=60,
        events_per_meter_day=0,
        price_per_mb=Decimal("0.10"),
    )


def meter(serial: str = "M-1", **known: Any) -> MeterPlan:
    values = {Obis.parse(code.replace("_", ".")[1:]): value for code, value in known.items()}
    return MeterPlan(MeterSerial(serial), (VOLTAGE, ENERGY), values)


def share(of: Budget, name: str) -> Any:
    (found,) = (each for each in of.shares if each.name == name)
    return found


def test_a_month_is_its_polls_and_its_connection() -> None:
    month = budget(plan(meter("M-1"), meter("M-2")))
    fast, billing = share(month, "fast"), share(month, "billing")
    assert fast.messages == 2 * 30 * DAY_S // 60
    assert billing.messages == 2 * 30 * DAY_S // 900
    assert share(month, "daily").messages == 0
    assert month.total_bytes == fast.bytes + billing.bytes + month.idle_bytes
    assert month.total_cost == f"{Decimal(month.total_bytes) / 10_000_000:.2f}"
    # Each message is at least its payload and topic, TLS, TCP and IP both ways, and its PUBACK.
    topic = len("openami/v1/feeder-1/pole-1/meter/M-1/telemetry")
    least = fast.payload_bytes + fast.messages * (topic + 2 * 22 + 3 * 52 + 4)
    assert least < fast.bytes < 1.02 * least


def test_a_slower_interval_saves_what_it_says() -> None:
    """The saving is the difference of two predictions, and no interval is told that the configuration refuses."""
    month = budget(plan(meter()))
    assert {(each.group, each.interval_s) for each in month.slower} == {
        *((PollGroup.FAST, s) for s in (90, 180, 300)),
        *((PollGroup.BILLING, s) for s in (1800, 3600, 7200)),
    }
    for each in month.slower:
        fast = each.group is PollGroup.FAST
        chosen = (each.interval_s, 900) if fast else (60, each.interval_s)
        schedule = ScheduleSettings(fast_s=chosen[0], billing_s=chosen[1])
        other = budget(plan(meter(), schedule=schedule))
        assert other.total_bytes == each.total_bytes == month.total_bytes - each.saved_bytes
        assert each.saved_bytes > 0


def test_a_meter_that_was_read_counts_with_its_own_registers_and_values() -> None:
    """What its map has and it never told is not paid for."""
    both = budget(plan(meter(_32_7_0=230.5, _1_8_0=1842.5)))
    energy = budget(plan(meter(_1_8_0=1842.5)))
    longer = budget(plan(meter(_32_7_0=230.5, _1_8_0=1842.52)))
    assert (both.meters_read, budget(plan(meter())).meters_read) == (1, 0)
    assert share(energy, "fast").messages == 0
    assert share(longer, "billing").payload_bytes - share(both, "billing").payload_bytes == 2880


def test_on_change_costs_between_its_heartbeats_and_everything() -> None:
    """A counter in the fast group is paid for at each poll all the same."""
    counter = replace(ENERGY, group=PollGroup.FAST)
    reports = {PollGroup.FAST: GroupReport(heartbeat_s=900)}

    def fast(changed_share: float, *infos: RegisterInfo) -> Any:
        made = MeterPlan(MeterSerial("M-1"), infos)
        return share(
            budget(replace(plan(made), reports=reports, changed_share=changed_share)), "fast"
        )

    beats, polls = 30 * DAY_S // 900, 30 * DAY_S // 60
    assert fast(0, VOLTAGE, ENERGY).messages == beats
    assert fast(0.5, VOLTAGE, ENERGY).messages == beats + (polls - beats) // 2
    assert fast(1, VOLTAGE, ENERGY) == share(budget(plan(meter())), "fast")
    assert fast(0, VOLTAGE, counter).messages == polls
    assert fast(0, VOLTAGE, counter).bytes < fast(1, VOLTAGE, counter).bytes
    # Without the register its days are accounted by nothing is withheld.
    assert fast(0, VOLTAGE).messages == polls


def test_a_link_without_tls_is_cheaper_by_two_records_a_message() -> None:
    plain = budget(replace(plan(meter()), assumed=WITHOUT_TLS))
    fast, sealed = share(plain, "fast"), share(budget(plan(meter())), "fast")
    assert sealed.bytes - fast.bytes == 2 * 22 * fast.messages


def test_pings_are_paid_where_polls_are_further_apart_than_the_keep_alive() -> None:
    quiet = ScheduleSettings(fast_s=3600, billing_s=3600)
    assert budget(plan(meter(), schedule=quiet)).idle_bytes > budget(plan(meter())).idle_bytes
    seldom = replace(plan(meter(), schedule=quiet), keep_alive_s=1200)
    assert budget(seldom).idle_bytes < budget(plan(meter(), schedule=quiet)).idle_bytes


@in_one_test(CATALOGUE, name=lambda entry: entry.obis)
def test_plausible_values_are_possible(entry: Any) -> None:
    value = plausible_value(RegisterInfo(entry.code, entry.unit, PollGroup.FAST), entry)
    match entry.type:
        case "string":
            assert isinstance(value, str)
            assert not entry.values or value in entry.values
        case _:
            assert isinstance(value, int | float)
            lowest, highest = entry.range
            assert lowest <= value <= highest


def test_the_table_tells_groups_and_sum(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1"}, modbus_port=1)
    gateway.configure(meters=2, fast_s=60, billing_s=900)
    asked = ["-c", str(gateway.file), "--price-per-mb", "0.15", "--currency", "EUR"]
    told = CliRunner().invoke(budget_command, asked)
    assert told.exit_code == 0, told.stderr
    assert [line.split()[0] for line in told.stdout.splitlines()[1:7]] == [
        *("fast", "billing", "daily", "events", "connection", "a"),
    ]
    assert told.stdout.count("EUR") == 6 + 6
    row = json.loads(CliRunner().invoke(budget_command, [*asked, "--json"]).stdout)
    assert (row["pricePerMb"], row["currency"]) == ("0.15", "EUR")
    assert row["assumptions"]["tlsRecordBytes"] == 0  # its broker is mqtt://
    assert "values of 2 of 2 meters are assumed" in told.stderr
    wrong = CliRunner().invoke(budget_command, ["-c", str(gateway.file), "--price-per-mb", "NaN"])
    assert wrong.exit_code == 2
    assert "'NaN' is not between 0 and 1,000,000" in wrong.stderr


def test_a_link_that_breaks_pays_half_for_each_further_connection() -> None:
    once = plan(meter()).assumed
    often = replace(plan(meter()), assumed=msgspec.structs.replace(once, connections_per_day=97))
    more = budget(often).idle_bytes - budget(plan(meter())).idle_bytes
    assert more == 30 * 96 * once.resumed_handshake_bytes < 30 * 96 * once.handshake_bytes


def test_an_alias_spares_the_topic_of_the_meters_it_reaches() -> None:
    meters = meter("M-1"), meter("M-2")
    topic = len("openami/v1/feeder-1/pole-1/meter/M-1/telemetry")
    without, one, both = (
        share(budget(replace(plan(*meters), topic_aliases=n)), "fast") for n in (0, 1, 10)
    )
    assert (without.bytes - both.bytes) / without.messages == topic - 3
    assert without.bytes - one.bytes == one.bytes - both.bytes


def test_a_cap_says_what_it_makes_of_the_month(tmp_path: Path) -> None:
    gateway = GatewayProgram(tmp_path, mqtt={"url": "mqtt://127.0.0.1"}, modbus_port=1)
    asked = ["-c", str(gateway.file)]

    def told(cap_mb: float) -> Any:
        gateway.configure(
            meters=2, fast_s=60, billing_s=900, more=["[uplink]", f"cap_mb_a_month = {cap_mb}"]
        )
        return CliRunner().invoke(budget_command, asked)

    assert "with a cap of 500.00 MB: full 30 days" in told(500).stdout
    bites = told(20)
    assert re.search(r"with a cap of 20\.00 MB: \w+ \d+ days.*; 1\d\.\d\d MB", bites.stdout)
    assert "the cap does not hold" not in bites.stderr
    assert "the cap does not hold" in told(1).stderr
    row = json.loads(CliRunner().invoke(budget_command, [*asked, "--json"]).stdout)["capped"]
    assert row["capBytes"] == 1_000_000 < row["totalBytes"]
    assert row["stages"] == [{"stage": "essential", "days": 30.0, "usedBytes": row["totalBytes"]}]
    refused = told(0.5)
    assert refused.exit_code != 0
    assert "uplink.cap_mb_a_month: " in refused.stderr
    assert "0 is no cap" in refused.stderr


# --- on a link -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Carried:
    """Bytes within TCP, and the segments they went in."""

    stream: int
    segments: int


class CountedLink:
    """Stands between a gateway and its broker, passes bytes on, and asks the kernel what the link carried."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._socket: socket.socket | None = None
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["CountedLink"]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1")
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._socket = writer.get_extra_info("socket")
        there, here = await asyncio.open_connection("127.0.0.1", self._broker_port)
        await asyncio.gather(_copy(reader, here), _copy(there, writer))

    def carried(self) -> Carried:
        """Return what the gateway's connection carried so far, both ways."""
        assert self._socket is not None
        # struct tcp_info of Linux: bytes_acked, bytes_received, segs_out, segs_in.
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
        acked, received, out, into = struct.unpack_from("<QQII", info, 120)
        return Carried(acked + received, out + into)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65536):
            writer.write(some)
    finally:
        writer.close()


@pytest.fixture
def programs() -> Iterator[list[GatewayProgram]]:
    started: list[GatewayProgram] = []
    yield started
    for program in started:
        program.kill()


def predicted(gateway: GatewayProgram) -> Any:
    """Return what the command prints."""
    told = CliRunner().invoke(
        budget_command, ["-c", str(gateway.file), "--events-per-day", "0", "--json"]
    )
    assert told.exit_code == 0, told.stderr
    return json.loads(told.stdout)


async def hear(connection: Connection, messages: int) -> None:
    """Return when so many messages have come, at a poll's end."""
    heard = 0
    async with asyncio.timeout(WAIT_S):
        while heard < messages:
            deliveries = await connection.receive(messages - heard)
            connection.acknowledge(deliveries)
            heard += len(deliveries)


@pytest.mark.broker
async def test_the_prediction_holds_on_a_real_link(
    tmp_path: Path, mosquitto: StartMosquitto, pki: Pki, programs: list[GatewayProgram]
) -> None:
    """The program itself, over TLS to mosquitto: what the kernel counts is what was foretold."""
    server, client = pki.server(), pki.client("feeder-1/pole-1")
    broker = mosquitto(
        "listener {port} 127.0.0.1",
        f"cafile {pki.ca_file}",
        f"certfile {server.cert_file}",
        f"keyfile {server.key_file}",
        "require_certificate true",
        "set_tcp_nodelay true",
    )
    other = pki.client("head-end")
    head_end = BrokerSettings(
        url=broker.tls_url,
        client_id="head-end",
        ca_file=str(pki.ca_file),
        cert_file=str(other.cert_file),
        key_file=str(other.key_file),
    )
    async with modbus_meters(METERS) as meters, CountedLink(broker.port).open() as link:
        mqtt = {
            "url": f"mqtts://127.0.0.1:{link.port}",
            "ca_file": str(pki.ca_file),
            "cert_file": str(client.cert_file),
            "key_file": str(client.key_file),
        }
        gateway = GatewayProgram(tmp_path, mqtt=mqtt, modbus_port=meters)
        gateway.configure(meters=METERS, fast_s=1, billing_s=86400)
        programs.append(gateway)
        before = await asyncio.to_thread(predicted, gateway)
        async with MqttPort(head_end).connect() as connection:
            await connection.subscribe([TelemetryTopic.filter()])
            gateway.start()
            await hear(
                connection, 3 * METERS
            )  # at the start the billing registers are read too, once
            begun = link.carried()
            await hear(connection, MEASURED)
            ended = link.carried()
        after = await asyncio.to_thread(predicted, gateway)
    assert (before["metersRead"], after["metersRead"]) == (0, METERS)
    stream = (ended.stream - begun.stream) / MEASURED
    segments = (ended.segments - begun.segments) / MEASURED
    for month, tolerance in ((before, TOLERANCE_ASSUMED), (after, TOLERANCE_READ)):
        fast = month["shares"][0]
        foretold = fast["bytes"] / fast["messages"]
        assert foretold - 3 * SEGMENT_BYTES == pytest.approx(stream, rel=tolerance)
    assert SEGMENTS_MIN <= segments <= SEGMENTS_MAX
