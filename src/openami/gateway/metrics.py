"""The gateway's metrics, for Prometheus: base units, and no meter's serial in a label.

Readings go to the head-end, not here; a label for each meter would make a series of each, for ever.
Counters are counted where it happens; gauges are set from a `Snapshot` when somebody asks.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from openami import __version__
from openami.gateway.monthly_cap import CapStage
from openami.gateway.snapshot import Snapshot

# A second series beside each counter, which no query of ours needs.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

_PREFIX = "openami_gateway_"
_DAY_S = 24 * 60 * 60


class GatewayMetrics:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        Gauge(
            "openami_build_info", "Which program this is", ["version"], registry=self._registry
        ).labels(version=__version__).set(1)

        self.polls = self._counter("polls", "Polls of a meter, by how they ended", "outcome")
        self.readings = self._counter("readings", "Registers read, by quality", "quality")
        self.events = self._counter("events", "Events noticed, by type", "type")
        self.missed_polls = self._counter(
            "missed_polls", "Due instants that passed without a poll", "group"
        )
        self.reread = self._counter(
            "reread_intervals", "Billing intervals of outages, by what became of them", "outcome"
        )
        self.unstored = self._counter("unstored_messages", "Envelopes the outbox did not take")
        self.sent = self._counter("sent_messages", "Envelopes the broker has acknowledged")
        self.sent_bytes = self._counter("transmit_bytes", "Bytes of acknowledged envelopes")
        self.connects = self._counter("uplink_connects", "Connections opened to the broker")
        self.connect_failures = self._counter("uplink_failures", "Connections that failed or broke")
        self.commands = self._counter("commands", "Authentic commands, by verdict", "verdict")
        self.reports = self._counter("command_reports", "Commands carried out, by status", "status")
        self.silent_refusals = self._counter(
            "silent_refusals", "Messages refused without an answer, by code", "code"
        )
        self.cycle_seconds = self._gauge("cycle_seconds", "Length of the last poll cycle", "line")
        self.line_up = self._gauge("line_up", "1 while the line is open", "line")

        self._meters = self._gauge("meters", "Configured meters, by state", "state")
        self._backlog = self._gauge("backlog_messages", "Envelopes waiting for the broker")
        self._oldest = self._gauge(
            "backlog_oldest_timestamp_seconds",
            "Measured time of the envelope that waits longest; 0 when none does",
        )
        self._held = self._gauge("held_messages", "Envelopes waiting for a trusted clock")
        self._refused = self._gauge("refused_messages", "Envelopes the broker refused")
        self._kept = self._gauge("kept_messages", "Envelopes sent and kept to be asked for again")
        self._bytes = self._gauge("outbox_bytes", "Size of what the outbox holds")
        self._bytes_max = self._gauge("outbox_limit_bytes", "Size the outbox may have")
        self._room = self._gauge(
            "outbox_room_seconds", "How long the outbox lasts without an uplink; NaN while unknown"
        )
        # A counter by nature, kept by the database across restarts; so it is set, not counted.
        self._thinned = self._gauge(
            "thinned_messages", "Envelopes deleted before their time, by stage of thinning", "stage"
        )
        self._up = self._gauge("uplink_connected", "1 while connected to the broker")
        self._month = self._gauge(
            "month_bytes", "Bytes the link has carried this month; NaN without a cap"
        )
        self._cap = self._gauge("month_cap_bytes", "The monthly cap; NaN without one")
        for gauge in (self._month, self._cap):
            gauge.set(float("nan"))
        self._stage = self._gauge("cap_stage", "1 for the stage of the monthly cap", "stage")
        self._clock = self._gauge("clock_trusted", "1 while the wall clock is trusted")
        self._certificate = self._gauge(
            "certificate_expiry_timestamp_seconds",
            "End of the client certificate's validity; NaN without one",
        )
        self._certificate.set(float("nan"))

    def rendered(self, snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the text format the client accepts, and its content type."""
        self._set_gauges(snapshot)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _set_gauges(self, snapshot: Snapshot) -> None:
        for state, count in snapshot.meters_by_state.items():
            self._meters.labels(state=state).set(count)
        for line in snapshot.lines:
            self.line_up.labels(line=line.name).set(not line.fault)
        self._up.set(snapshot.uplink.connected)
        if snapshot.uplink.certificate_until is not None:
            self._certificate.set(snapshot.uplink.certificate_until.timestamp())
        if (cap := snapshot.uplink.cap) is not None:
            self._month.set(cap.used_bytes)
            self._cap.set(cap.cap_bytes)
            for each in CapStage:
                self._stage.labels(stage=each).set(each is cap.stage)
        outbox = snapshot.outbox
        if outbox is None:
            return
        self._backlog.set(outbox.pending)
        oldest = outbox.oldest_pending
        self._oldest.set(0 if oldest is None else oldest.timestamp())
        self._held.set(outbox.held)
        self._refused.set(outbox.refused)
        self._kept.set(outbox.kept)
        self._bytes.set(outbox.bytes_used)
        self._bytes_max.set(outbox.bytes_max)
        days = outbox.room_days
        self._room.set(float("nan") if days is None else days * _DAY_S)
        for stage, thinned in outbox.thinned.items():
            self._thinned.labels(stage=stage).set(thinned.entries)
        self._clock.set(outbox.clock.trusted)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, meaning, labels, registry=self._registry)
