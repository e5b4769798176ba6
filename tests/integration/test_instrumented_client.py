"""The team that has OpenTelemetry already: an instrumented client, and only the endpoint changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from tests.support.server import RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

THEIR_PROGRAM = """
import openai
message = {"role": "user", "content": "Where is my order?"}
answer = openai.OpenAI().chat.completions.create(model="gpt-5-mini", messages=[message])
print(answer.choices[0].message.content)
"""


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


def test_a_program_started_with_opentelemetry_instrument_shows_up_unchanged(tmp_path: Path) -> None:
    """The combination that the README names: no line of the program knows about telemetry."""
    (tmp_path / "app.py").write_text(THEIR_PROGRAM)
    with running_server(tmp_path) as server, openai_stub() as base_url:
        environ = without_settings(os.environ) | {
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "none",
            "OTEL_SERVICE_NAME": "their-app",
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.otlp_http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        starter = Path(sys.executable).with_name("opentelemetry-instrument")
        ran = subprocess.run(
            [starter, sys.executable, "app.py"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        answer = urllib3.request("GET", f"{server.api}/v1/decisions?service_name=their-app")

    assert (ran.returncode, ran.stdout) == (0, "I read 4 words.\n"), ran.stderr
    (decision,) = json.loads(answer.data)["items"]
    assert "Where is my order?" in json.dumps(decision["input"])
    assert "I read 4 words." in json.dumps(decision["output"])
