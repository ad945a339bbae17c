"""Spans: off by default, and sent by the standard variables to a collector that is really there."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.headend.breakable import BreakableStore
from tests.headend.decisions import NOON
from tests.headend.messages import message_of
from tests.headend.test_ledger import a_command
from tests.headend.test_uplink import CLIENT, an_uplink, eventually, has_stored, publish, running
from tests.headend.web.test_operations import a_site, asking

from openami.headend.store.open import open_store
from openami.headend.tracing import Untraced, command_life
from openami.headend.tracing_settings import TracingError, is_wanted, opened_tracing
from openami.headend.uplink import FILTERS
from openami.mqtt.memory import MemoryBroker
from openami.profile.command import CommandState

SECOND = timedelta(seconds=1)


class Collector:
    """An OTLP/HTTP receiver, as any collector's: protobuf at /v1/traces."""

    def __init__(self) -> None:
        self.exports: list[ExportTraceServiceRequest] = []
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.exports.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def receiving(self) -> Iterator["Collector"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def services(self) -> set[str]:
        return {
            attribute.value.string_value
            for export in self.exports
            for resource in export.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


def told(span: Span) -> dict[str, object]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "")
        for each in span.attributes
    }


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector().receiving() as receiving:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiving.url)
        yield receiving


async def test_a_batch_a_request_and_a_commands_life_reach_a_collector(
    collector: Collector, tmp_path: Path
) -> None:
    """All of it in one run: the exporter's thread is started once."""
    await _traced(collector.url, tmp_path)
    spans = collector.spans()
    assert collector.services() == {"openami-headend"}

    batch = told(spans["ingest batch"])
    assert batch["openami.messages"] == 1
    assert batch["openami.readings.stored"] == 3

    request = spans["GET /version"]
    assert request.kind == Span.SPAN_KIND_SERVER
    assert told(request)["http.response.status_code"] == 200

    life = spans["command relay.disconnect"]
    assert [event.name for event in life.events] == ["signed", "sent"]
    assert life.end_time_unix_nano - life.start_time_unix_nano == 9_000_000_000
    assert told(life)["openami.command.state"] == "confirmed"
    assert life.status.code == Status.STATUS_CODE_OK


async def _traced(url: str, directory: Path) -> None:
    tracing = opened_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    try:
        async with open_store(f"sqlite:///{directory}/headend.db") as real:
            broker = MemoryBroker()
            async with broker.port(CLIENT).connect() as connection:
                await connection.subscribe(FILTERS)
            store = BreakableStore(real)
            await publish(broker, message_of("M-1"))
            async with running(an_uplink(broker.port(CLIENT), store, tracing=tracing)):
                await eventually(has_stored(store, 3))
            async with asking(a_site(real, tracing=tracing)) as get:
                await get.get("/version")
        tracing.lived(
            command_life(
                a_command(
                    requested_at=NOON,
                    signed_at=NOON + SECOND,
                    sent_at=NOON + 2 * SECOND,
                    ended_at=NOON + 9 * SECOND,
                    state=CommandState.CONFIRMED,
                )
            )
        )
    finally:
        tracing.close()


def test_a_command_that_was_never_sent_has_fewer_moments_and_has_failed() -> None:
    life = command_life(a_command(ended_at=NOON + SECOND, state=CommandState.EXPIRED))
    assert (life.moments, life.failed) == ([], True)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_spans_are_asked_for_by_the_standard_variables(
    environ: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(environ) is wanted


def test_another_protocol_is_refused_with_what_to_do() -> None:
    with pytest.raises(TracingError, match="http/protobuf"):
        opened_tracing({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_unasked_nothing_of_opentelemetry_is_loaded_and_without_it_the_remedy_is_told() -> None:
    """In an interpreter without SDK and exporter, as without the extra; the bare API comes with FastAPI."""
    program = """
import json, sys
OPTIONAL = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(OPTIONAL):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import openami.headend.main, openami.headend.web.app
from openami.headend.tracing_settings import TracingError, opened_tracing
off = type(opened_tracing({})).__name__
try:
    opened_tracing({"OTEL_TRACES_EXPORTER": "otlp"})
except TracingError as error:
    said = str(error)
print(json.dumps([off, said, [m for m in sys.modules if m.startswith(OPTIONAL)]]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    off, said, loaded = json.loads(run.stdout)
    assert off == Untraced.__name__
    assert "pip install 'openami[otel]'" in said
    assert loaded == []
