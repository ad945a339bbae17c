"""What the gateway tells on its LAN: the page, the checks, the metrics."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from openami.gateway.meter_record import MeterRecord
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.monthly_cap import CapStage
from openami.gateway.normalise import Doubt, KnownValue, Remembered
from openami.gateway.outbox import OutboxState
from openami.gateway.reachability import Reachability
from openami.gateway.snapshot import CapView, CheckState, LineView, Snapshot, UplinkView
from openami.gateway.status import status_app
from openami.gateway.status_page import status_page
from openami.gateway.timekeeping import Reason, Verdict
from openami.profile import FeederId, GatewayId, MeterSerial, Obis

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)

OUTBOX = OutboxState(
    pending=318,
    pending_events=2,
    held=0,
    refused=0,
    kept=12_000,
    oldest_pending=NOW - timedelta(hours=3),
    bytes_used=64 * 2**20,
    bytes_max=256 * 2**20,
    room_days=41.2,
    thinned={},
    last_append=NOW,
    last_seq=12_345,
    clock=Verdict(Reason.SYNCHRONISED),
)


def meter(serial: str, **changed: object) -> MeterRecord:
    known = KnownValue(NOW, 1842.5, "kWh")
    record = MeterRecord(
        serial=MeterSerial(serial),
        line="bus1",
        memory={Obis.parse("1.8.0"): Remembered(known=known)},
        answered_at=NOW - timedelta(seconds=42),
    )
    return msgspec.structs.replace(record, **changed)


def snapshot(**changed: object) -> Snapshot:
    base = Snapshot(
        feeder_id=FeederId("feeder-north"),
        gateway_id=GatewayId("pole-ems-0042"),
        now=NOW,
        started_at=NOW - timedelta(days=41),
        records=[meter("DS1000-88421")],
        lines=[LineView("bus1")],
        uplink=UplinkView("mqtts://broker.village:8883", connected=True, since=NOW),
        outbox=OUTBOX,
    )
    return replace(base, **changed)  # type: ignore[arg-type]


Ask = Callable[[str], Awaitable[httpx.Response]]


@asynccontextmanager
async def asking(shown: Snapshot, metrics: GatewayMetrics | None = None) -> AsyncIterator[Ask]:
    async def take() -> Snapshot:
        return shown

    app = status_app(take, metrics or GatewayMetrics())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client.get


# --- readiness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "state", "check"),
    [
        ({}, CheckState.OK, "database"),
        (
            {"uplink": UplinkView("b", fault="certificate expired", remedy="renew it")},
            CheckState.DEGRADED,
            "uplink",
        ),
        (
            {"outbox": replace(OUTBOX, clock=Verdict(Reason.NOT_SYNCHRONISED))},
            CheckState.DEGRADED,
            "clock",
        ),
        ({"lines": [LineView("bus1", fault="no adapter")]}, CheckState.DEGRADED, "line bus1"),
        ({"lines": [LineView("b", store_fault="disk full")]}, CheckState.FAIL, "database"),
        ({"outbox": None, "outbox_fault": "damaged"}, CheckState.FAIL, "database"),
        ({"stuck_lines": ["bus1"]}, CheckState.FAIL, "collector"),
    ],
)
async def test_ready_is_who_can_store_readings(
    changed: dict[str, object], state: CheckState, check: str
) -> None:
    async with asking(snapshot(**changed)) as ask:
        answer = await ask("/readyz")
    assert answer.status_code == (503 if state is CheckState.FAIL else 200)
    assert answer.json()["status"] == state
    first = answer.json()["checks"][0]
    assert (first["name"], first["status"]) == (check, state)


async def test_a_fault_is_told_with_its_remedy() -> None:
    down = UplinkView("b", fault="certificate expired", remedy="renew it")
    async with asking(snapshot(uplink=down)) as ask:
        checks = (await ask("/readyz")).json()["checks"]
    assert checks[0]["detail"] == "certificate expired; renew it"


async def test_the_process_lives_whatever_else() -> None:
    async with asking(snapshot(outbox=None, outbox_fault="x")) as ask:
        assert (await ask("/healthz")).status_code == 200
        assert "version" in (await ask("/version")).json()


async def test_nothing_can_be_changed_from_the_lan() -> None:
    async def take() -> Snapshot:
        return snapshot()

    transport = httpx.ASGITransport(status_app(take, GatewayMetrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in (
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/version",
            "/style.css",
            "/status.js",
        ):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                assert (await client.request(method, path)).status_code == 405
        assert (await client.get("/etc/passwd")).status_code == 404


# --- the page ------------------------------------------------------------------------------------

VOID = {"meta", "link", "br"}


class Balanced(HTMLParser):
    """Reads a page and holds it to its own nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("style", "iframe", "form")
        assert tag != "script" or dict(attrs)["src"] == "status.js"
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text(page: str) -> str:
    reader = Balanced()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return re.sub(r"\s+", " ", " ".join(reader.words))


def test_the_page_says_what_a_person_at_the_pole_wants_to_know() -> None:
    lost = meter("DS1000-88422", reach=Reachability(lost=True), fault="no answer within 1 s")
    doubtful = Remembered(known=KnownValue(NOW, 231, "V"), doubt=Doubt.IMPLAUSIBLE_VALUE)
    suspect = meter("DS1000-88423", memory={Obis.parse("32.7.0"): doubtful})
    new = meter("DS1000-88424", answered_at=None, memory={})
    page = text(status_page(snapshot(records=[meter("DS1000-88421"), lost, suspect, new])))
    for expected in (
        "pole-ems-0042",
        "feeder-north · 2026-06-22 14:30:00 UTC",
        "318 messages, the oldest measured 3 h ago",
        "41 days without a broker; 25 % of 256 MB used",
        "● connected to mqtts://broker.village:8883",
        "● trusted (synchronised)",
        "DS1000-88422 bus1 ✕ silent 42 s ago import 1842.5 kWh no answer within 1 s",
        "DS1000-88423 bus1 ▲ suspect 42 s ago 231 V ▲ now suspect",
        "DS1000-88424 bus1 ○ never seen never",
        "up 41 d",
    ):
        assert expected in page
    serials = [re.escape(f"DS1000-8842{n}") for n in (2, 3, 4, 1)]
    assert re.search(".*".join(serials), page), "what needs a person comes first"


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        (NOW + timedelta(days=31), "our certificate is valid until 2026-07-23"),
        (NOW + timedelta(days=29), "▲ our certificate is valid until 2026-07-21"),
        (NOW - timedelta(days=1), "✕ our certificate expired on 2026-06-21"),
    ],
)
def test_a_certificate_that_ends_soon_is_seen_in_time(until: datetime, expected: str) -> None:
    uplink = UplinkView("mqtts://b", connected=True, since=NOW, certificate_until=until)
    assert expected in text(status_page(snapshot(uplink=uplink)))


def test_the_month_under_its_cap_is_shown_where_there_is_one() -> None:
    assert "This month" not in text(status_page(snapshot()))
    cap = CapView(20_000_000, used_bytes=12_340_000)
    shown = snapshot(uplink=UplinkView("b", connected=True, cap=cap))
    assert "This month 12.3 of 20.0 MB Clock" in text(status_page(shown))
    cap.stage, cap.waits = CapStage.HOURLY, True
    expected = "This month 12.3 of 20.0 MB; ▲ telemetry hourly ; readings wait for room"
    assert expected in text(status_page(shown))


async def test_metrics_of_the_month_under_its_cap() -> None:
    async with asking(snapshot()) as ask:
        assert "openami_gateway_month_cap_bytes NaN" in (await ask("/metrics")).text
    cap = CapView(20_000_000, used_bytes=12_340_000, stage=CapStage.DAILY)
    async with asking(snapshot(uplink=UplinkView("b", cap=cap))) as ask:
        told = (await ask("/metrics")).text
    assert "openami_gateway_month_bytes 1.234e+07" in told
    assert "openami_gateway_month_cap_bytes 2e+07" in told
    assert 'openami_gateway_cap_stage{stage="daily"} 1.0' in told
    assert 'openami_gateway_cap_stage{stage="full"} 0.0' in told


def test_unknown_is_not_shown_as_nothing() -> None:
    page = text(status_page(snapshot(outbox=None, outbox_fault="the database is damaged")))
    assert "Waiting to be sent unknown Room left unknown" in page
    assert "✕ not ready database: the database is damaged" in page


async def test_what_a_meter_says_is_text_and_not_markup() -> None:
    evil = '<script>alert("1")</script>&amp;'
    memory = {Obis.parse("96.11.1"): Remembered(known=KnownValue(NOW, evil, "enum"))}
    shown = snapshot(
        records=[meter("A", memory=memory, fault=evil, reach=Reachability(lost=True), line=evil)],
        uplink=UplinkView(evil, fault=evil, remedy=evil),
        lines=[LineView(evil, fault=evil, load=2.0)],
        outbox=replace(OUTBOX, refused=1, refusal=evil),
    )
    async with asking(shown) as ask:
        answer = await ask("/")
    assert answer.text.count("<script") == 1
    assert text(answer.text).count(evil) >= 7
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert 'href="style.css"' in answer.text
    async with asking(shown) as ask:
        style = await ask("/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_the_page_of_a_full_gateway_is_small_enough_for_a_phone() -> None:
    page = status_page(snapshot(records=[meter(f"DS1000-{n:05}") for n in range(500)]))
    assert len(page.encode()) < 200_000


# --- metrics -------------------------------------------------------------------------------------


async def test_metrics_tell_how_it_is_now() -> None:
    metrics = GatewayMetrics()
    metrics.polls.labels(outcome="answer").inc(3)
    until = NOW + timedelta(days=9)
    records = [meter("A"), meter("B", reach=Reachability(lost=True))]
    uplink = UplinkView("b", connected=True, certificate_until=until)
    async with asking(snapshot(records=records, uplink=uplink), metrics) as ask:
        answer = await ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    told = {
        sample.name + "".join(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    for name, value in {
        "polls_totalanswer": 3,
        "metersreporting": 1,
        "metersmeter_silent": 1,
        "meterssuspect": 0,
        "backlog_messages": 318,
        "backlog_oldest_timestamp_seconds": (NOW - timedelta(hours=3)).timestamp(),
        "outbox_room_seconds": 41.2 * 86_400,
        "uplink_connected": 1,
        "clock_trusted": 1,
        "line_upbus1": 1,
        "certificate_expiry_timestamp_seconds": until.timestamp(),
    }.items():
        assert told[f"openami_gateway_{name}"] == pytest.approx(value)


async def test_metrics_carry_no_meters_serial_and_have_units() -> None:
    serial = "DS1000-88421"
    metrics = GatewayMetrics()
    async with asking(snapshot(records=[meter(serial)]), metrics) as ask:
        exposition = (await ask("/metrics")).text
    assert serial not in exposition
    names = set(re.findall(r"^# TYPE (openami_\S+) counter", exposition, re.MULTILINE))
    assert names
    assert all(name.endswith("_total") for name in names)
    for name in re.findall(r"^# TYPE (openami_\S+)", exposition, re.MULTILINE):
        assert not re.search(r"_(ms|minutes|hours|days|kb|mb)\b", name)


async def test_metrics_are_negotiated() -> None:
    async def take() -> Snapshot:
        return snapshot()

    transport = httpx.ASGITransport(status_app(take, GatewayMetrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get(
            "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_metrics_of_an_outbox_that_cannot_be_read_are_the_others() -> None:
    async with asking(snapshot(outbox=None, outbox_fault="x")) as ask:
        assert 'meters{state="reporting"} 1.0' in (await ask("/metrics")).text


def test_readiness_is_json_for_machines() -> None:
    assert json.dumps([check.state for check in snapshot().checks]) == '["ok", "ok", "ok", "ok"]'
