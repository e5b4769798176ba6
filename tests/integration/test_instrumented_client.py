"""The team that has OpenTelemetry already: an instrumented client, and only the endpoint changed."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
import urllib3
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from tests.support.openai_stub import openai_stub
from tests.support.server import RunningServer, running_server

pytestmark = pytest.mark.integration


def exporters(server: RunningServer) -> dict[str, SpanExporter]:
    """The ways in: both OTLP transports, and OTLP/HTTP on the API's own port."""
    return {
        "http": HttpExporter(f"{server.otlp_http}/v1/traces"),
        "http-gzip": HttpExporter(f"{server.otlp_http}/v1/traces", compression=Compression.Gzip),
        "api-port": HttpExporter(f"{server.api}/v1/traces"),
        "grpc": GrpcExporter(server.otlp_grpc, insecure=True),
    }


@pytest.mark.parametrize("way", ["http", "http-gzip", "api-port", "grpc"])
def test_a_real_model_call_shows_up_as_a_decision(tmp_path: Path, way: str) -> None:
    with running_server(tmp_path) as server, openai_stub() as base_url:
        provider = TracerProvider(resource=Resource.create({"service.name": "their-app"}))
        provider.add_span_processor(SimpleSpanProcessor(exporters(server)[way]))
        instrumentor = OpenAIInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        try:
            with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
                client.chat.completions.create(
                    model="gpt-5-mini",
                    temperature=0.2,
                    messages=[{"role": "user", "content": "Where is my order?"}],
                )
        finally:
            instrumentor.uninstrument()
            provider.shutdown()

        answer = urllib3.request("GET", f"{server.api}/v1/decisions?service_name=their-app")
        (decision,) = json.loads(answer.data)["items"]

    assert "inference" == decision["kind"]
    assert "Where is my order?" in json.dumps(decision["input"])
    assert "I read 4 words." in json.dumps(decision["output"])
    assert ("gpt-5-mini", "gpt-5-mini-2025-08-07") == (
        decision["model"]["name"],
        decision["model"]["response_name"],
    )
    assert (4, 4) == (decision["usage"]["input_tokens"], decision["usage"]["output_tokens"])
    assert 0.2 == decision["model"]["parameters"]["temperature"]
