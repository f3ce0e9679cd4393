"""Spans of requests, as OpenTelemetry's own SDK receives them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import tracing
from service.errors import ConfigurationError
from service.settings import Settings
from service.tracing import make_provider
from tests.service.serving import Client, npy, serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NPY = {"content-type": "application/x-npy"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*tracing.ENDPOINTS, *tracing.PROTOCOLS, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


class Traced:
    def __init__(self, client: Client, exporter: InMemorySpanExporter) -> None:
        self.client, self._exporter = client, exporter

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Give the spans since the last time."""
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        return spans


@pytest.fixture(scope="module")
def shared(store_root: Path) -> Iterator[Traced]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = Settings(store=store_root, models=("toy-binary",), device="cpu", threads=1, otel="on")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "make_provider", lambda: provider)
        with serving(settings) as client:
            yield Traced(client, exporter)


@pytest.fixture
def traced(shared: Traced) -> Traced:
    """The app as if nobody had asked it yet."""
    shared.spans()
    return shared


def test_a_request_is_a_span(traced: Traced) -> None:
    z = npy(np.zeros((3, 4), np.float32))
    caller = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
    answer = traced.client.post("/decode?model=toy-binary", content=z, headers=NPY | caller)
    assert answer.status_code == 200
    (span,) = traced.spans()
    assert (span.name, span.kind) == ("POST /decode", SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.attributes is not None
    assert span.attributes["http.route"] == "/decode"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["latentd.model"] == "toy-binary@1"
    assert span.attributes["latentd.request_id"] == "mine"
    named = {part.split(";")[0] for part in answer.headers["server-timing"].split(", ")}
    assert {event.name for event in span.events} == named
    assert named


def test_a_fault_of_ours_is_an_error_and_a_callers_is_none(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    traced.client.post("/decode", content=b"nothing", headers=NPY)
    with monkeypatch.context() as patch:
        patch.setattr(traced.client.app.state.service.engine, "model", None)
        traced.client.post("/sample?n=1")
    theirs, ours = traced.spans()
    assert theirs.status.status_code is not StatusCode.ERROR
    assert ours.status.status_code is StatusCode.ERROR


def test_paths_that_there_are_not_share_a_name_and_probes_have_no_span(traced: Traced) -> None:
    for path in ("/models/toy-binary", "/nowhere/1", "/livez", "/readyz?verbose", "/metrics"):
        traced.client.get(path)
    assert [span.name for span in traced.spans()] == ["GET /models/{name}", "GET"]


@pytest.mark.parametrize(
    ("environment", "switch", "expected"),
    [
        ({}, "auto", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, "auto", True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, "auto", True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, "auto", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, "off", False),
        ({}, "on", True),
    ],
)
def test_it_is_on_where_it_is_configured(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], switch: str, expected: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_on(Settings(otel=switch)) is expected  # type: ignore[arg-type]


def test_missing_packages_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigurationError, match="pip install --group telemetry, or set LATENTD_OTEL=off"):
        make_provider()


def test_another_protocol_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigurationError, match="sent by http/protobuf alone"):
        make_provider()


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    # FastAPI itself imports the API; what records and sends spans is the SDK.
    code = (
        "import sys, service.app; service.app.create_app();"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
