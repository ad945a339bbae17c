"""Where spans go, by OpenTelemetry's standard variables; nowhere, as long as none of them is set.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 openami headend run …

OpenTelemetry itself is an optional extra, and is loaded here, when it is asked for.
"""

from collections.abc import Mapping
from typing import Final

from openami.headend.tracing import Tracing, Untraced

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"


class TracingError(Exception):
    """The variables ask for spans that cannot be sent; the message says what to do."""


def opened_tracing(environ: Mapping[str, str]) -> Tracing:
    """Return where spans go by the standard variables. Raises TracingError."""
    if not is_wanted(environ):
        return Untraced()
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise TracingError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is not spoken here: set it to {_PROTOCOL}, "
            "and the collector's port to 4318"
        )
    try:
        from openami.headend.opentelemetry_spans import OpenTelemetrySpans
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise TracingError(
            "OTEL_… asks for spans and OpenTelemetry is not installed: "
            "pip install 'openami[otel]', or unset the variables"
        ) from None
    return OpenTelemetrySpans(environ)


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the standard variables ask for spans; none of them does by default."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter:
        return exporter == "otlp"
    return any(environ.get(name) for name in _ENDPOINTS)
