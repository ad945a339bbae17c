"""promtool, and the metrics that both programs really tell."""

import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.gateway.test_status import OUTBOX, snapshot
from tests.headend.decisions import FEEDER, NOON
from tests.tools import require_tool

import openami
from openami.gateway.entries import Thinned
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.thinning import Stage
from openami.headend.feeder_losses import Loss
from openami.headend.gap_life import GapState
from openami.headend.metrics import HeadendMetrics, Look
from openami.headend.standing import Standing
from openami.headend.states import GatewayState, MeterState
from openami.headend.store.counts import CommandCount, GapCount
from openami.headend.store.retaining import Partition
from openami.headend.survey import Survey
from openami.headend.worker_life import Fence
from openami.profile.command import CommandState
from openami.sip.actions import Action

ROOT = Path(openami.__file__).parents[2]


def promtool(*arguments: str | Path, given: str = "") -> None:
    """Run promtool; a complaint of it fails the test."""
    run = subprocess.run(
        [require_tool("promtool"), *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def headend_exposition() -> str:
    """Return what a head-end tells that has something to tell of everything."""
    metrics = HeadendMetrics(refused_documents=lambda: 1)
    metrics.certificate_until = NOON + timedelta(days=30)
    metrics.web_requests.labels("/", "GET", "200").inc()
    metrics.web_seconds.labels("/").observe(0.2)
    metrics.statistics.lags.add(2.0)
    for codes in (
        metrics.statistics.faults,
        metrics.statistics.register_faults,
        metrics.statistics.findings,
    ):
        codes["WRONG_UNIT"] += 1
    survey = Survey(
        meters={(FEEDER, state): 1 for state in MeterState},
        gateways={(FEEDER, state): 1 for state in GatewayState},
        heard_at={(FEEDER, "pole-1"): NOON},
        gaps=[GapCount(FEEDER, GapState.OPEN, 1, 7)],
        commands=[CommandCount(Action.DISCONNECT, CommandState.CONFIRMED, 1)],
        kept_since=NOON - timedelta(days=400),
        partitions=[Partition("reading_2026_06", 123_672, 123_851, 1000, 100_000)],
    )
    look = Look(
        broker_heard=True,
        broker_since=NOON,
        survey=survey,
        store_free_bytes=2**32,
        losses={FEEDER: Loss(0.05, 0.07, 0.94)},
        standing=Standing("hes-a", [Fence(0, "w", 3)]),
    )
    return metrics.rendered(look, "")[0].decode()


def gateway_exposition() -> str:
    """Return what a gateway tells that has something to tell of everything."""
    metrics = GatewayMetrics()
    metrics.polls.labels(outcome="answer").inc()
    metrics.readings.labels(quality="good").inc()
    metrics.events.labels(type="comms_lost").inc()
    metrics.missed_polls.labels(group="fast").inc()
    metrics.commands.labels(verdict="permit").inc()
    metrics.reports.labels(status="done").inc()
    metrics.silent_refusals.labels(code="STALE_NONCE").inc()
    metrics.cycle_seconds.labels(line="bus1").set(2.0)
    fast = Thinned(40, 40_000, oldest_ts=NOON, newest_ts=NOON, last=NOON)
    full = replace(OUTBOX, thinned={Stage.FAST: fast})
    return metrics.rendered(snapshot(outbox=full), "")[0].decode()


def metric_names() -> set[str]:
    """Return the name of every series the two programs tell, and what Prometheus itself tells of them."""
    families = [
        family
        for text in (headend_exposition(), gateway_exposition())
        for family in text_string_to_metric_families(text)
    ]
    return {sample.name for family in families for sample in family.samples} | {"up"}
