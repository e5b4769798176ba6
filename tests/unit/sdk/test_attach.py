"""Other instrumentations' spans through the spool, decisions shown elsewhere, context across threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry import context as contexts
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import get_current_span

import loopgrid
from loopgrid.errors import Misconfigured
from tests.unit.sdk.conftest import QUICK


@pytest.fixture
def provider():
    """The application's own provider."""
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    made.shutdown()


def test_model_spans_and_whatever_runs_inside_a_decision_are_carried_and_nothing_else(recording, provider):
    loopgrid.attach(provider)
    loopgrid.attach(provider)
    tracer = provider.get_tracer("somebody", "3")

    @loopgrid.decision("outer")
    def outer() -> None:
        with tracer.start_as_current_span("SELECT"), tracer.start_as_current_span("deeper"):
            pass

    with tracer.start_as_current_span("GET /"):
        pass
    with tracer.start_as_current_span("chat", attributes={"gen_ai.request.model": "m"}):
        pass
    outer()

    assert loopgrid.flush()
    assert sorted(span.name for span in recording.spans) == ["SELECT", "chat", "deeper", "outer"]
    by_name = {span.name: span for span in recording.spans}
    assert by_name["SELECT"].parent_span_id == by_name["outer"].span_id
    assert by_name["SELECT"].resource["service.name"] == provider.resource.attributes["service.name"]
    assert by_name["outer"].resource["service.name"] == "test-service"


def test_sampling_by_others_never_drops_a_decision(recording):
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)

    @loopgrid.decision("kept")
    def kept() -> None: ...

    with provider.get_tracer("app").start_as_current_span("unsampled") as outside:
        kept()

    assert loopgrid.flush()
    (span,) = recording.spans
    assert span.parent_span_id == f"{outside.get_span_context().span_id:016x}"


def test_a_mirrored_decision_has_the_same_ids_and_content_in_both_places(receiver, provider):
    shown = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(shown))
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK, mirror=provider)

    @loopgrid.decision("seen_twice")
    def seen(word: str) -> str:
        return word

    seen("hello")

    assert loopgrid.flush()
    (span,) = receiver.spans
    (mirrored,) = shown.get_finished_spans()
    assert f"{mirrored.context.trace_id:032x}-{mirrored.context.span_id:016x}" == span.decision_id
    assert dict(mirrored.attributes or {}) == span.attributes


def test_a_provider_that_cannot_be_attached_or_mirrored_is_named_with_what_to_give_instead(receiver):
    with pytest.raises(Misconfigured, match=r"TracerProvider of opentelemetry\.sdk\.trace, not a str"):
        loopgrid.attach("provider")
    with pytest.raises(Misconfigured, match="mirror is a str"):
        loopgrid.configure(endpoint=receiver.url, mirror="provider")  # type: ignore[arg-type]


def test_an_executor_runs_inside_the_decision_that_submits(recording):
    @loopgrid.decision("inner")
    def inner() -> None: ...

    @loopgrid.decision("outer")
    def outer() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loopgrid.in_context(inner)).result()
            pool.submit(inner).result()

    outer()

    assert loopgrid.flush()
    parents = [span.parent_span_id for span in recording.spans if span.name == "inner"]
    (whole,) = [span for span in recording.spans if span.name == "outer"]
    assert parents == [whole.span_id, ""]


def test_context_travels_to_another_process_as_w3c_headers(recording):
    headers: dict[str, str] = {}

    @loopgrid.decision("sender")
    def sender() -> None:
        loopgrid.inject(headers)

    sender()
    token = contexts.attach(loopgrid.extract(headers))
    remote = get_current_span().get_span_context()
    contexts.detach(token)

    assert loopgrid.flush()
    assert headers["traceparent"].split("-")[1:3] == [recording.spans[0].trace_id, recording.spans[0].span_id]
    assert f"{remote.span_id:016x}" == recording.spans[0].span_id


def test_zero_code_start_carries_every_span_of_the_program(receiver, tmp_path):
    program = """
        from opentelemetry import trace
        with trace.get_tracer("app").start_as_current_span("request"):
            with trace.get_tracer("app").start_as_current_span("chat", attributes={"gen_ai.system": "x"}):
                pass
    """
    (tmp_path / "app.py").write_text(textwrap.dedent(program))
    command = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    done = subprocess.run(
        [command, sys.executable, str(tmp_path / "app.py")],
        env={
            **os.environ,
            "LOOPGRID_ENDPOINT": receiver.url,
            "OTEL_TRACES_EXPORTER": "loopgrid",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "zero",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert {span.name for span in receiver.spans} == {"request", "chat"}
    assert {span.resource["service.name"] for span in receiver.spans} == {"zero"}
