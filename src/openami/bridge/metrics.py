"""The bridge's metrics, for Prometheus: base units, and no meter's serial in a label (decision 0044)."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from openami import __version__
from openami.bridge.spool import Figures

# A second series beside each counter, which no query of ours needs.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

_PREFIX = "openami_bridge_"


class BridgeMetrics:
    """All metrics of one bridge, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Gauge(
            "openami_build_info", "Which program this is", ["version"], registry=self.registry
        ).labels(version=__version__).set(1)
        self.received = self._counter("received_messages", "Messages of the firmware's broker")
        self.translated = self._counter("envelopes", "Envelopes made, by topic", "topic")
        self.findings = self._counter(
            "findings", "What was not passed on as it came", "reason", "effect"
        )
        self.sent = self._counter("sent_messages", "Envelopes the broker has acknowledged")
        self.sent_bytes = self._counter("transmit_bytes", "Bytes of acknowledged envelopes")
        self.refused = self._counter("refused_messages", "Envelopes the broker refused")
        self.unspooled = self._counter(
            "unspooled_messages", "Envelopes lost here: the disk is full, or the clock unset"
        )
        self.commands = self._counter("commands_refused", "Commands from north, none carried out")
        self.connected = self._gauge("connected", "1 while connected to the broker", "side")
        self.connect_failures = self._counter(
            "connect_failures", "Connections that failed or broke", "side"
        )
        self._waiting = self._gauge("spooled_messages", "Envelopes waiting for the broker")
        self._bytes = self._gauge("spool_bytes", "Size of what waits")
        # A counter by nature, kept by the file across restarts; so it is set, not counted.
        self._dropped = self._gauge("dropped_messages", "Envelopes a full spool has lost")

    def show(self, figures: Figures) -> None:
        """Set what the spool says of itself."""
        self._waiting.set(figures.messages)
        self._bytes.set(figures.bytes)
        self._dropped.set(figures.dropped)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, meaning, labels, registry=self.registry)
