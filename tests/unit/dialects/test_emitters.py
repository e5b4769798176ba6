"""Emitters of which there is no sample at hand, read as docs and conventions describe what they send."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pytest

from loopgrid_collector.dialects.normalise import LogFacts, normalise_logs
from loopgrid_collector.otlp.scrub import SCRUBBED
from tests.support.samples import ANSWER, SYSTEM, USER, Call, attributes_of, span

STRANDS = "strands.telemetry.tracer"
SCHEMA = {"type": "object", "properties": {"order_id": {"type": "string"}}}
TOOL = {"type": "function", "name": "lookup_order", "description": "Finds an order.", "parameters": SCHEMA}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5-mini"}


def text(value) -> str:
    return orjson.dumps(value).decode()


def says_what_all_say(call: Call):
    assert call.kind == "inference"
    assert call.texts == [("system", SYSTEM), ("user", USER)]
    assert call.answers == [("assistant", ANSWER)]
    assert call.finish_reasons == ["stop"]


def langsmith(prompt, completion, **more) -> Call:
    return span(
        {
            "langsmith.span.kind": "llm",
            "gen_ai.system": "langchain",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.prompt": text(prompt),
            "gen_ai.completion": text(completion),
            "gen_ai.usage.input_tokens": 42,
            "gen_ai.usage.output_tokens": 17,
            **more,
        }
    )


def test_langsmith_with_the_providers_own_request_and_response():
    call = langsmith(
        {
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}],
            "tools": [TOOL],
        },
        {
            "id": "chatcmpl-1",
            "model": "gpt-5-mini-2025-08-07",
            "choices": [{"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        },
        **{
            "langsmith.metadata.ls_provider": "openai",
            "langsmith.metadata.thread_id": "thread-1",
            "langsmith.metadata.user_id": "u-1",
            "langsmith.metadata.tenant": "acme",
            "langsmith.span.tags": "a, b",
            "langsmith.metadata.usage_metadata": text(
                {"input_token_details": {"cache_read": 16}, "output_token_details": {"reasoning": 5}}
            ),
            "gen_ai.usage.input_token_details": "{'cache_read': 16}",
        },
    )

    says_what_all_say(call)
    assert (call.dialect, call.model_provider) == ("langsmith", "openai")
    assert (call.response_id, call.model_response_name) == ("chatcmpl-1", "gpt-5-mini-2025-08-07")
    assert (call.input_tokens, call.output_tokens, call.cache_read_tokens, call.reasoning_tokens) == (
        42,
        17,
        16,
        5,
    )
    assert (call.session_id, call.user_id, call.tags) == ("thread-1", "u-1", ["a", "b"])
    assert call.metadata == '{"tenant":"acme"}'
    assert call.tools == [TOOL]


def constructor(name, **kwargs):
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


@pytest.mark.parametrize(
    "messages",
    [
        [
            [
                constructor("SystemMessage", content=SYSTEM, type="system"),
                constructor("HumanMessage", content=USER),
            ]
        ],
        [{"type": "system", "content": SYSTEM}, {"type": "human", "content": USER}],
        [{"type": "system", "data": {"content": SYSTEM}}, {"type": "human", "data": {"content": USER}}],
    ],
    ids=["constructors", "plain", "data"],
)
def test_langchains_own_forms_of_a_message_are_messages(messages):
    answer = constructor("AIMessage", content=ANSWER, type="ai", id="run-1")

    call = langsmith(
        {"messages": messages},
        {
            "generations": [
                [{"text": ANSWER, "generation_info": {"finish_reason": "stop"}, "message": answer}]
            ]
        },
    )

    says_what_all_say(call)


def test_a_tool_call_of_langchain_is_a_tool_call():
    calls = [{"name": "lookup_order", "args": {"order_id": "A-1"}, "id": "c1", "type": "tool_call"}]

    call = langsmith(
        {"messages": [[constructor("HumanMessage", content=USER)]]},
        {"generations": [[{"text": "", "message": constructor("AIMessage", content="", tool_calls=calls)}]]},
    )

    assert call.tool_calls == [("lookup_order", {"order_id": "A-1"})]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("chain", "agent"), ("tool", "tool"), ("retriever", "retrieval"), ("parser", "other")],
)
def test_other_runs_of_langsmith_are_no_decisions(kind, expected):
    assert span({"langsmith.span.kind": kind, "gen_ai.prompt": "{}"}).kind == expected


def test_strands_keeps_content_in_span_events_with_bedrocks_parts():
    def event(name, **attributes):
        return {"name": name, "attributes": attributes}

    call = span(
        {**CHAT, "gen_ai.system": "strands-agents", "gen_ai.usage.prompt_tokens": 42, "tags": ["t"]},
        scope=STRANDS,
        events=[
            event("gen_ai.user.message", content=text([{"text": USER}])),
            event(
                "gen_ai.assistant.message",
                content=text([{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}]),
            ),
            event(
                "gen_ai.tool.message",
                content=text([{"toolResult": {"toolUseId": "c1", "content": [{"text": "x"}]}}]),
            ),
            event("gen_ai.choice", message=text([{"text": ANSWER}]), finish_reason="end_turn"),
        ],
    )

    assert (call.dialect, call.kind, call.model_provider, call.tags) == ("strands", "inference", None, ["t"])
    assert call.input == [
        {"role": "user", "parts": [{"type": "text", "content": USER}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": [{"text": "x"}]}]},
    ]
    assert call.answers == [("assistant", ANSWER)]
    assert (call.input_tokens, call.finish_reasons) == (42, ["stop"])


def test_strands_agents_repeat_totals_that_are_not_counted():
    call = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 84}, scope=STRANDS)

    assert (call.kind, call.input_tokens) == ("agent", None)


def test_semantic_kernel_says_its_finish_reason_in_the_singular_and_names_its_switch():
    call = span(
        {**CHAT, "gen_ai.system": "openai", "gen_ai.response.finish_reason": "FinishReason.STOP"},
        scope="semantic_kernel.utils.telemetry.model_diagnostics.decorators",
    )

    assert (call.dialect, call.finish_reasons, call.model_provider) == ("semantic_kernel", ["stop"], "openai")
    assert call.lossiness == [
        "content_off:SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE=true"
    ]


def test_semantic_kernels_log_records_name_their_event_in_an_attribute_and_hold_json_text():
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ANSWER},
        "finish_reason": "FinishReason.STOP",
    }
    bodies = [text({"role": "user", "content": USER}), text(choice), text("an ordinary line")]
    names = ["gen_ai.user.message", "gen_ai.choice", "app"]

    found = normalise_logs(
        attributes_of([{"event.name": name} for name in names]),
        LogFacts(
            event_name=pa.nulls(3, pa.string()),
            body_json=pa.array([text(body) for body in bodies], pa.string()),
            resource_service=pa.nulls(3, pa.string()),
        ),
    )

    (asked, _, _), (_, answered, _) = found["input"].to_pylist(), found["output"].to_pylist()
    assert orjson.loads(asked) == [{"role": "user", "parts": [{"type": "text", "content": USER}]}]
    assert orjson.loads(answered)[0]["finish_reason"] == "stop"
    assert found["input"].null_count == 2


def test_agent_framework_is_no_provider_and_writes_lists_as_text():
    call = span(
        {
            **CHAT,
            "gen_ai.provider.name": "microsoft.agent_framework",
            "gen_ai.response.finish_reasons": '["stop"]',
            "gen_ai.output.messages": text(
                [
                    {
                        "role": "assistant",
                        "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": '{"a":1}'}],
                    }
                ]
            ),
        },
        scope="agent_framework",
    )

    assert (call.dialect, call.model_provider, call.finish_reasons) == ("agent_framework", None, ["stop"])
    assert call.tool_calls == [("f", {"a": 1})]


def test_openai_agents_send_groups_and_tools_and_no_model_calls():
    scope = "opentelemetry.instrumentation.openai_agents"

    kinds = {
        name: span({"gen_ai.operation.name": name}, scope=scope).kind
        for name in ("invoke_agent", "invoke_workflow", "execute_tool", "handoff")
    }

    assert kinds == {
        "invoke_agent": "agent",
        "invoke_workflow": "agent",
        "execute_tool": "tool",
        "handoff": "other",
    }


def test_vercel_7_speaks_opentelemetry_in_a_scope_of_its_own():
    call = span(
        {
            **CHAT,
            "gen_ai.provider.name": "openai.responses",
            "gen_ai.agent.name": "triage",
            "gen_ai.tool.definitions": text([{"type": "function", "name": "f", "inputSchema": SCHEMA}]),
        },
        scope="gen_ai",
    )

    assert (call.dialect, call.kind, call.model_provider, call.agent_name) == (
        "vercel",
        "inference",
        "openai",
        "triage",
    )
    assert call.tools == [{"type": "function", "name": "f", "parameters": SCHEMA}]
    assert span({"gen_ai.operation.name": "agent_step"}, scope="gen_ai").kind == "agent"


def test_the_legacy_exporter_of_vercel_7_counts_reasoning_and_cache():
    call = span(
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.id": "gpt-5-mini",
            "ai.usage.inputTokens": 42,
            "ai.usage.outputTokens": 17,
            "ai.usage.reasoningTokens": 5,
            "ai.usage.inputTokenDetails.cacheReadTokens": 16,
            "ai.response.finishReason": "tool-calls",
            "ai.prompt.tools": [text({"type": "function", "name": "f", "inputSchema": SCHEMA})],
        },
        scope="ai",
    )

    assert (call.input_tokens, call.output_tokens, call.cache_read_tokens, call.reasoning_tokens) == (
        42,
        17,
        16,
        5,
    )
    assert call.finish_reasons == ["tool_call"]
    assert call.tools == [{"type": "function", "name": "f", "parameters": SCHEMA}]


def test_crewai_is_read_by_its_opentelemetry_names():
    assert span(CHAT, scope="crewai.telemetry").kind == "inference"


NESTED = {"type": "function", "function": {k: TOOL[k] for k in ("name", "description", "parameters")}}


@pytest.mark.parametrize(
    "attributes",
    [
        {"openinference.span.kind": "LLM", "llm.tools.0.tool.json_schema": text(NESTED)},
        {
            "openinference.span.kind": "LLM",
            "llm.tools.3.tool.json_schema": text(
                {"name": "lookup_order", "description": "Finds an order.", "input_schema": SCHEMA}
            ),
        },
        {
            "llm.request.type": "chat",
            "llm.request.functions.0.name": "lookup_order",
            "llm.request.functions.0.description": "Finds an order.",
            "llm.request.functions.0.parameters": text(SCHEMA),
        },
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.input": text(
                {"tools": [NESTED], "messages": [{"role": "user", "content": USER}]}
            ),
        },
        {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.chat.tools": text([NESTED])},
        {**CHAT, "gen_ai.tool.definitions": text([TOOL])},
        {**CHAT, "gen_ai.tool.definitions": [TOOL]},
    ],
    ids=["openinference", "anthropic schema", "traceloop", "langfuse", "mlflow", "text", "structured"],
)
def test_tools_have_one_form_wherever_they_were_captured(attributes):
    assert span(attributes).tools == [TOOL]


def test_tools_that_stand_in_one_attribute_in_canonical_words_are_not_copied():
    columns = span({**CHAT, "gen_ai.tool.definitions": text([TOOL])}).columns

    assert (columns["tools"], columns["tools_ref"]) == (None, "gen_ai.tool.definitions")


def test_credentials_that_an_instrumentation_copied_are_not_stored_and_said_so():
    secret = "ls-0123456789"

    attributes = attributes_of(
        [{**CHAT, "langsmith.metadata.LANGSMITH_API_KEY": secret, "llm.headers": "None"}]
    )
    call = span({**CHAT, "langsmith.metadata.LANGSMITH_API_KEY": secret})

    assert secret not in attributes.objects()[0].as_py()
    assert SCRUBBED in attributes.objects()[0].as_py()
    assert '"llm.headers":"None"' in attributes.objects()[0].as_py()
    assert secret not in str(call.columns)
    assert "scrubbed:langsmith.metadata.LANGSMITH_API_KEY" in call.lossiness


def test_a_value_that_was_cut_is_told_from_one_that_is_no_json():
    cut = span({**CHAT, "gen_ai.input.messages": '[{"role":"user","par'})
    odd = span({**CHAT, "gen_ai.input.messages": "hello"})

    assert {"input:unparsable", "input:truncated"} <= set(cut.lossiness)
    assert "input:truncated" not in odd.lossiness
