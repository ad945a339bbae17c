"""Spans to an OTLP/HTTP collector, by the standard ``OTEL_*`` variables. The only file that knows OpenTelemetry."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as TelemetrySpan
from opentelemetry.trace import SpanKind, Status, StatusCode

from openami import __version__
from openami.headend.tracing import Attributes, Kind, Life, Span

_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}
SERVICE: Final = "openami-headend"
_NS_PER_MS: Final = 1_000_000  # nanoseconds in a millisecond
# The end of the program does not wait longer for a collector that is away.
FLUSH_TIMEOUT_MS: Final = 2_000


class OpenTelemetrySpans:
    """Sends spans in batches from a thread of its own; what the collector does not take is dropped."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # OTEL_SERVICE_NAME wins over what we call ourselves; the SDK's own default is unknown_service.
        own = {SERVICE_VERSION: __version__}
        if not environ.get("OTEL_SERVICE_NAME"):
            own[SERVICE_NAME] = SERVICE
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("openami.headend", __version__)

    @contextmanager
    def span(self, name: str, attributes: Attributes, *, kind: Kind = "internal") -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, kind=_KINDS[kind], attributes=dict(attributes)
        ) as span:
            yield _Open(span)

    def lived(self, life: Life) -> None:
        span = self._tracer.start_span(
            life.name, start_time=_ns(life.began), attributes=dict(life.attributes)
        )
        for name, at in life.moments:
            span.add_event(name, timestamp=_ns(at))
        span.set_status(Status(StatusCode.ERROR if life.failed else StatusCode.OK))
        span.end(_ns(life.ended))

    def close(self) -> None:
        self._provider.force_flush(FLUSH_TIMEOUT_MS)
        self._provider.shutdown()


class _Open:
    def __init__(self, span: TelemetrySpan) -> None:
        self._span = span

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def tell(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1000) * _NS_PER_MS
