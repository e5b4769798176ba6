"""What a span is, and which convention it speaks."""

from __future__ import annotations

import pytest

from loopgrid_collector.dialects.normalise import COLUMNS, normalise_spans
from tests.support.samples import attributes_of, facts_for, read_calls, span

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


@pytest.mark.parametrize(
    ("attributes", "kind", "dialect"),
    [
        ({"loopgrid.record.version": 1, "loopgrid.decision.type": "triage"}, "decision", "loopgrid"),
        ({"loopgrid.decision.input": "{}"}, "decision", "loopgrid"),
        ({"loopgrid.decision.type": "triage"}, "decision", "loopgrid"),
        ({**CHAT, "loopgrid.decision.type": "triage"}, "inference", "genai"),
        ({"gen_ai.operation.name": "invoke_agent", "loopgrid.decision.type": "triage"}, "decision", "genai"),
        (CHAT, "inference", "genai"),
        ({"gen_ai.operation.name": "generate_content"}, "inference", "genai"),
        ({"gen_ai.operation.name": "text_completion"}, "inference", "genai"),
        ({"gen_ai.operation.name": "invoke_agent"}, "agent", "genai"),
        ({"gen_ai.operation.name": "invoke_workflow"}, "agent", "genai"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool", "genai"),
        ({"gen_ai.operation.name": "retrieval"}, "retrieval", "genai"),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.input.messages": "[]"}, "embedding", "genai"),
        ({"gen_ai.operation.name": "fetch_response", "gen_ai.request.model": "m"}, "other", "genai"),
        ({"openinference.span.kind": "LLM"}, "inference", "openinference"),
        ({"openinference.span.kind": "DECISION"}, "inference", "openinference"),
        ({"openinference.span.kind": "CHAIN"}, "agent", "openinference"),
        ({"openinference.span.kind": "RERANKER"}, "retrieval", "openinference"),
        ({"openinference.span.kind": "GUARDRAIL"}, "other", "openinference"),
        ({**CHAT, "openinference.span.kind": "LLM"}, "inference", "openinference"),
        ({"llm.request.type": "completion"}, "inference", "traceloop"),
        ({"llm.request.type": "embedding"}, "embedding", "traceloop"),
        ({"traceloop.span.kind": "workflow"}, "agent", "traceloop"),
        ({"traceloop.span.kind": "tool"}, "tool", "traceloop"),
        ({"ai.operationId": "ai.streamText.doStream"}, "inference", "vercel"),
        ({"ai.operationId": "ai.streamText"}, "agent", "vercel"),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, "embedding", "vercel"),
        ({"langfuse.observation.type": "generation"}, "inference", "langfuse"),
        ({"langfuse.observation.type": "event"}, "other", "langfuse"),
        ({"mlflow.spanType": '"CHAT_MODEL"'}, "inference", "mlflow"),
        ({"mlflow.spanType": '"TOOL"'}, "tool", "mlflow"),
        ({"http.request.method": "GET"}, "other", None),
        ({}, "other", None),
    ],
)
def test_kind_and_dialect(attributes, kind, dialect):
    found = span(attributes)

    assert (found.kind, found.dialect) == (kind, dialect)


@pytest.mark.parametrize(
    ("scope", "dialect"),
    [
        ("com.anthropic.sdk.python", "anthropic"),
        ("pydantic-ai", "pydantic_ai"),
        ("logfire.openai", "pydantic_ai"),
        ("gcp.vertex.agent", "google_adk"),
        ("ai", "vercel"),
        ("openinference.instrumentation.openai", "openinference"),
        ("opentelemetry.instrumentation.genai.openai", "genai"),
    ],
)
def test_a_scope_tells_emitters_of_the_same_names_apart(scope, dialect):
    assert span(CHAT, scope=scope).dialect == dialect


def test_a_span_without_a_kind_is_a_call_if_it_carries_messages_and_a_model():
    found = span({"llm.input_messages.0.message.content": "hi", "llm.model_name": "m"})

    assert found.kind == "inference"
    assert "kind_inferred" in found.lossiness


@pytest.mark.parametrize(
    "attributes",
    [
        {"llm.input_messages.0.message.content": "hi"},
        {"gen_ai.prompt.name": "greeting", "gen_ai.request.model": "m"},
        {"gen_ai.operation.name": "my_custom_op", "gen_ai.input.messages": "[]", "gen_ai.request.model": "m"},
    ],
)
def test_nothing_is_made_a_call_on_less_evidence(attributes):
    assert span(attributes).kind == "other"


def test_no_spans_are_no_rows():
    columns = normalise_spans(attributes_of([]), facts_for(0))

    assert tuple(columns) == COLUMNS
    assert {len(column) for column in columns.values()} == {0}


def test_attributes_of_one_span_say_nothing_about_its_neighbour():
    calls = read_calls(attributes_of([CHAT, {}, {"openinference.span.kind": "TOOL"}]), facts_for(3))

    assert [call.kind for call in calls] == ["inference", "other", "tool"]
    assert [call.model_name for call in calls] == ["m", None, None]
