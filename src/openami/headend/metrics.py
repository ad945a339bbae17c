"""The head-end's metrics, for Prometheus: base units, and no meter's serial in a label.

Readings go to whoever asks the API, not here; a label for each meter would make a series of each, for ever. Labels
are feeders, gateways, states and codes: all of them few. What the stream counts is read from its `Statistics` when
somebody asks, so a message costs nothing more; what the store knows comes as a `Survey`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from openami import __version__
from openami.headend.closing import ClosingSeen
from openami.headend.feeder_losses import Loss
from openami.headend.standing import Standing
from openami.headend.statistics import LAG_CLASSES_S, Statistics
from openami.headend.survey import Survey

# A second series beside each counter, which no query of ours needs.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

_PREFIX: Final = "openami_headend_"
# 0.3 s is what a page may take (the console's bound); the rest is a decade to either side.
WEB_CLASSES_S: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is not counted but looked at when somebody asks for the metrics."""

    broker_heard: bool
    broker_since: datetime
    """When that began."""
    survey: Survey | None
    """None while the store does not answer."""
    store_free_bytes: int | None = None
    """None where the store is not on a disk of this machine."""
    losses: Mapping[str, Loss] = field(default_factory=dict)
    """By feeder; without those of which it cannot be told."""
    standing: Standing | None = None
    """None where one head-end takes everything."""


class HeadendMetrics:
    """All metrics of one head-end, in a registry of their own."""

    def __init__(
        self,
        statistics: Statistics | None = None,
        *,
        refused_documents: Callable[[], int] = lambda: 0,
    ) -> None:
        """``refused_documents`` counts session documents and reports that did not prove themselves."""
        self.statistics = statistics or Statistics()
        self.refused_documents = refused_documents
        self.certificate_until: datetime | None = None
        """The end of our own certificate's validity, as far as it is known."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        Gauge(
            "openami_build_info", "Which program this is", ["version"], registry=self._registry
        ).labels(version=__version__).set(1)

        self.web_requests = Counter(
            f"{_PREFIX}web_requests",
            "Requests answered, by route, method and status",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self.web_seconds = Histogram(
            f"{_PREFIX}web_request_seconds",
            "Time until an answer began, by route",
            ["route"],
            buckets=WEB_CLASSES_S,
            registry=self._registry,
        )
        self.web_in_progress = Gauge(
            f"{_PREFIX}web_requests_in_progress",
            "Requests that are being answered, live streams among them",
            registry=self._registry,
        )
        self.sign_in_failures = Counter(
            f"{_PREFIX}sign_in_failures",
            "Sign-ins, tokens and second proofs that were refused",
            registry=self._registry,
        )
        self._looked_at = _LookedAt(self)
        self._registry.register(self._looked_at)

    def rendered(self, look: Look, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the text format the client accepts, and its content type."""
        encode, content_type = choose_encoder(accept)
        self._looked_at.look = look
        return encode(self._registry), content_type


class _LookedAt(Collector):
    """What is read, not counted, when somebody asks: made anew each time, so what is gone has no series."""

    def __init__(self, metrics: HeadendMetrics) -> None:
        self.look: Look | None = None
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from _stream(self._metrics.statistics)
        yield _counter(
            "refused_documents",
            "Session documents and reports that did not prove themselves",
            self._metrics.refused_documents(),
        )
        yield _counter(
            "readings_removed",
            "Readings removed because of their age; of a dropped table, as its server estimated",
            self._metrics.statistics.readings_removed,
        )
        until = self._metrics.certificate_until
        yield _gauge(
            "certificate_expiry_timestamp_seconds",
            "End of the head-end's own certificate; NaN without one",
            float("nan") if until is None else until.timestamp(),
        )
        yield from _closed(self._metrics.statistics.closing())
        look = self.look
        if look is None:  # the registry asks for names when it is given a collector
            return
        yield _gauge("broker_connected", "1 while the broker delivers to us", look.broker_heard)
        yield _gauge(
            "broker_changed_timestamp_seconds",
            "When the connection to the broker last began or ended",
            look.broker_since.timestamp(),
        )
        yield _gauge("store_up", "1 while the store answers", look.survey is not None)
        if look.store_free_bytes is not None:
            free_bytes = look.store_free_bytes
            yield _gauge("store_free_bytes", "Room left on the store's disk", free_bytes)
        if look.survey is not None:
            yield from _village(look.survey)
            yield from _kept(look.survey)
        yield from _losses(look.losses)
        if look.standing is not None:
            yield from _shared(look.standing, self._metrics.statistics)


def _stream(done: Statistics) -> Iterator[Metric]:
    tally = done.tally
    yield _counter("messages", "Messages committed, rejected ones among them", tally.messages)
    yield _counter("readings", "Readings stored", tally.stored)
    yield _counter("duplicates", "Readings that were there already", tally.duplicates)
    yield _counter("conflicts", "Other values told for a reading that was there", tally.conflicts)
    yield _counter("events", "Events stored", tally.events)
    yield _by_code("messages_rejected", "Messages rejected, by first fault", "rule", done.faults)
    yield _by_code(
        "registers_rejected",
        "Registers left out of accepted messages, by fault",
        "rule",
        done.register_faults,
    )
    yield _by_code("findings", "Doubts about stored readings, by code", "code", done.findings)
    yield _counter("batches", "Durable commits of messages", done.batches)
    yield _counter("broker_connects", "Times the broker let us in", done.broker_connects)
    yield _counter("broker_losses", "Times the connection to the broker ended", done.broker_losses)
    yield _counter(
        "broker_sessions_lost",
        "Times the broker had forgotten our session, and what waited in it",
        done.sessions_lost,
    )
    yield _counter("store_errors", "Times the store failed under the stream", done.store_losses)
    yield _counter("rejects_pruned", "Rejected messages deleted by their bounds", done.pruned)
    at_most = 0
    buckets = []
    bounds = [*(str(float(bound_s)) for bound_s in LAG_CLASSES_S), "+Inf"]
    for bound, count in zip(bounds, done.lags.by_class, strict=True):
        at_most += count
        buckets.append((bound, float(at_most)))
    yield HistogramMetricFamily(
        f"{_PREFIX}ingest_lag_seconds",
        "Time from measuring to receiving an accepted message",
        buckets=buckets,
        sum_value=done.lags.total_s,
    )


def _closed(seen: ClosingSeen) -> Iterator[Metric]:
    yield _gauge("closed_readings", "Readings in closed months", seen.totals.readings)
    yield _gauge("closed_bytes", "Bytes of closed months", seen.totals.bytes)
    yield _gauge("closing_due", "Months of meters that wait to be closed", seen.totals.due)
    yield _gauge("closing_damaged", "Closed months that are damaged", len(seen.damaged))
    yield _gauge("closing_failed", "1 when the last pass of closing failed", bool(seen.fault))


def _village(survey: Survey) -> Iterator[Metric]:
    meters = _family("meters", "Meters, by feeder and state", "feeder", "state")
    for (feeder, meter_state), count in survey.meters.items():
        meters.add_metric([feeder, meter_state], count)
    yield meters
    gateways = _family("gateways", "Gateways, by feeder and state", "feeder", "state")
    for (feeder, gateway_state), count in survey.gateways.items():
        gateways.add_metric([feeder, gateway_state], count)
    yield gateways
    heard = _family(
        "gateway_heard_timestamp_seconds",
        "When something of a gateway was last received",
        *("feeder", "gateway"),
    )
    for (feeder, gateway), at in survey.heard_at.items():
        heard.add_metric([feeder, gateway], at.timestamp())
    yield heard
    gaps = _family("gaps", "Gaps that are not closed, by feeder and state", "feeder", "state")
    missing = _family(
        "missing_messages", "What is missing in these gaps, by feeder and state", "feeder", "state"
    )
    for gap in survey.gaps:
        gaps.add_metric([gap.feeder_id, gap.state], gap.gaps)
        missing.add_metric([gap.feeder_id, gap.state], gap.missing)
    yield gaps
    yield missing
    commands = _family(
        "commands", "Commands requested within a day, by type and state", "type", "state"
    )
    for action, state, count in survey.commands:
        commands.add_metric([action, state.name.lower()], count)
    yield commands


def _kept(survey: Survey) -> Iterator[Metric]:
    since = survey.kept_since
    yield _gauge(
        "readings_kept_since_timestamp_seconds",
        "From when on readings are kept, by measured time; NaN where all of them are",
        float("nan") if since is None else since.timestamp(),
    )
    if survey.partitions:
        yield _gauge(
            "reading_partitions", "Tables that readings lie in, by month", len(survey.partitions)
        )
        yield _gauge(
            "reading_partitions_bytes",
            "Their size with their indexes",
            sum(each.bytes for each in survey.partitions),
        )


def _shared(standing: Standing, done: Statistics) -> Iterator[Metric]:
    terms = _family("slice_term", "Slices this worker holds, and in which term", "slice")
    for fence in standing.held:
        terms.add_metric([str(fence.number)], fence.term)
    yield terms
    yield _gauge("slices_free", "Slices that no worker holds", len(standing.free))
    yield _gauge("workers", "Head-ends that share the feeders", len(standing.roster.workers))
    yield _counter("slices_claimed", "Slices this worker took up", done.slices_claimed)
    yield _counter("slices_lost", "Slices this worker could not keep", done.slices_lost)
    yield _counter(
        "messages_left_to_slices",
        "Messages the rest heard and left to the slice that stores them",
        done.left_to_slices,
    )


def _losses(losses: Mapping[str, Loss]) -> Iterator[Metric]:
    loss = _family(
        "feeder_loss_ratio",
        "What is unaccounted of the last day's supply: the least and the most it can be",
        *("feeder", "bound"),
    )
    coverage = _family(
        "feeder_coverage_ratio",
        "Meters that are known in every hour of that day, of all that there are",
        "feeder",
    )
    for feeder, each in losses.items():
        loss.add_metric([feeder, "low"], each.low)
        loss.add_metric([feeder, "high"], each.high)
        coverage.add_metric([feeder], each.coverage)
    yield loss
    yield coverage


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, meaning, value=value)


def _by_code(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, meaning, labels=[label])
    for code, count in sorted(counts.items()):
        family.add_metric([str(code)], count)
    return family


def _family(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, meaning, labels=labels)
