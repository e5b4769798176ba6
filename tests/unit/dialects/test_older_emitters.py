"""Older and rarer shapes of emitters, read as the conventions describe them: no sample of them is at hand."""

from __future__ import annotations

import orjson
import pytest

from tests.support.samples import ANSWER, SYSTEM, USER, span

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
REQUEST = {"model": "gpt-5-mini", "messages": MESSAGES, "temperature": 0.2}
USAGE = {"prompt_tokens": 42, "completion_tokens": 17, "prompt_tokens_details": {"cached_tokens": 16}}


def text(value) -> str:
    return orjson.dumps(value).decode()


def says_what_all_say(call):
    assert call.kind == "inference"
    assert call.texts == [("system", SYSTEM), ("user", USER)]
    assert call.answers == [("assistant", ANSWER)]


GOOGLE_REQUEST = {
    "model": "gemini-2.5-flash",
    "config": {"system_instruction": SYSTEM, "tools": [{"function_declarations": [{"name": "lookup"}]}]},
    "contents": [{"role": "user", "parts": [{"text": USER}]}],
}
GOOGLE_RESPONSE = {
    "content": {"role": "model", "parts": [{"text": ANSWER}]},
    "finish_reason": "STOP",
    "usage_metadata": {
        "prompt_token_count": 42,
        "candidates_token_count": 17,
        "cached_content_token_count": 16,
        "thoughts_token_count": 5,
    },
}


@pytest.mark.parametrize(
    "named", [{"gen_ai.operation.name": "generate_content"}, {}], ids=["named", "unnamed"]
)
def test_google_adk_before_2_keeps_googles_own_request_and_response(named):
    call = span(
        {
            "gen_ai.system": "gcp.vertex.agent",
            "gen_ai.request.model": "gemini-2.5-flash",
            "gcp.vertex.agent.llm_request": text(GOOGLE_REQUEST),
            "gcp.vertex.agent.llm_response": text(GOOGLE_RESPONSE),
            "gcp.vertex.agent.session_id": "session-1",
            **named,
        },
        scope="gcp.vertex.agent",
    )

    says_what_all_say(call)
    assert (call.dialect, call.model_provider, call.session_id) == ("google_adk", None, "session-1")
    assert (call.input_tokens, call.output_tokens) == (42, 17)
    assert (call.cache_read_tokens, call.reasoning_tokens) == (16, 5)
    assert call.finish_reasons == ["stop"]
    assert call.tools == [{"type": "function", "name": "lookup"}]
    assert call.lossiness == (None if named else ["kind_inferred"])


def test_a_tool_of_google_adk_is_a_tool_with_its_arguments_though_it_carries_an_empty_request():
    call = span(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.request.model": "gemini-2.5-flash",
            "gcp.vertex.agent.llm_request": "{}",
            "gcp.vertex.agent.tool_call_args": text({"order_id": "4711"}),
            "gcp.vertex.agent.tool_response": text({"status": "broken"}),
        },
        scope="gcp.vertex.agent",
    )

    assert (call.kind, call.input, call.output) == ("tool", {"order_id": "4711"}, {"status": "broken"})


def test_system_instructions_that_strands_sends_after_the_messages_stand_before_them():
    def details(**attributes):
        return {"name": "gen_ai.client.inference.operation.details", "attributes": attributes}

    user = [{"role": "user", "parts": [{"type": "text", "content": USER}]}]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}]

    call = span(
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "session.id": "s", "user.id": "u"},
        scope="strands.telemetry.tracer",
        events=[
            details(**{"gen_ai.input.messages": text(user)}),
            details(**{"gen_ai.system_instructions": text([{"type": "text", "content": SYSTEM}])}),
            details(**{"gen_ai.output.messages": text(answer)}),
        ],
    )

    says_what_all_say(call)
    assert (call.session_id, call.user_id, call.finish_reasons) == ("s", "u", ["stop"])


def test_logfires_direct_integration_keeps_request_and_response():
    call = span(
        {
            "request_data": text(
                {**REQUEST, "tools": [{"type": "function", "function": {"name": "lookup"}}]}
            ),
            "response_data": text({"message": {"role": "assistant", "content": ANSWER}, "usage": USAGE}),
            "gen_ai.system": "openai",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.response.finish_reasons": '["stop"]',
        },
        scope="logfire.openai",
    )

    says_what_all_say(call)
    assert (call.input_tokens, call.output_tokens, call.cache_read_tokens) == (42, 17, 16)
    assert call.model_parameters == '{"temperature":0.2}'
    assert call.tools == [{"type": "function", "name": "lookup"}]
    assert (call.finish_reasons, call.lossiness) == (["stop"], None)


def test_the_second_span_of_a_stream_of_logfire_has_the_answer_as_one_text():
    call = span(
        {
            "logfire.span_type": "log",
            "request_data": text({**REQUEST, "stream": True}),
            "response_data": text({"combined_chunk_content": ANSWER, "chunk_count": 4}),
            "gen_ai.request.model": "gpt-5-mini",
        },
        scope="logfire.openai",
    )

    says_what_all_say(call)
    assert call.lossiness == ["kind_inferred"]


def test_pydantic_ai_of_format_1_lists_its_events_in_one_attribute():
    call = span(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.usage.details.cache_read_tokens": 16,
            "model_request_parameters": text(
                {"function_tools": [{"name": "lookup", "parameters_json_schema": {"type": "object"}}]}
            ),
            "events": text(
                [
                    {"event.name": "gen_ai.system.message", "role": "system", "content": SYSTEM},
                    {"event.name": "gen_ai.user.message", "role": "user", "content": USER},
                    {
                        "event.name": "gen_ai.choice",
                        "index": 0,
                        "message": {"role": "assistant", "content": ANSWER},
                    },
                ]
            ),
        },
        scope="pydantic-ai",
    )

    says_what_all_say(call)
    assert call.cache_read_tokens == 16
    assert call.tools == [{"type": "function", "name": "lookup", "parameters": {"type": "object"}}]
    assert call.lossiness is None


def test_spans_of_pydantic_ai_that_name_no_operation_are_agents_and_tools():
    agent = span({"agent_name": "triage", "pydantic_ai.all_messages": "[]"}, scope="pydantic-ai")
    tool = span(
        {"gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "call_1", "tool_arguments": text({"id": 1})},
        scope="pydantic-ai",
    )

    assert (agent.kind, agent.agent_name) == ("agent", "triage")
    assert (tool.kind, tool.input) == ("tool", {"id": 1})


def test_the_first_releases_of_the_vercel_sdk_call_the_answer_a_result():
    call = span(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.id": "gpt-5-mini",
            "ai.prompt.messages": text(MESSAGES),
            "ai.result.text": ANSWER,
            "ai.finishReason": "stop",
        },
        scope="ai",
    )

    says_what_all_say(call)
    assert (call.finish_reasons, call.lossiness) == (["stop"], None)


def test_a_schema_that_the_vercel_sdk_asked_for_is_a_parameter_and_a_file_is_a_part():
    call = span(
        {
            "ai.operationId": "ai.generateObject.doGenerate",
            "ai.prompt.messages": text(MESSAGES),
            "ai.response.text": ANSWER,
            "ai.response.files": text([{"type": "file", "mediaType": "image/png", "data": "aGk="}]),
            "ai.schema": text({"type": "object"}),
            "ai.schema.name": "label",
        },
        scope="ai",
    )

    says_what_all_say(call)
    assert orjson.loads(call.model_parameters) == {"schema": {"type": "object"}, "schema.name": "label"}
    assert call.output[0]["parts"][1] == {
        "type": "blob",
        "mime_type": "image/png",
        "modality": "image",
        "content": "aGk=",
    }


def test_mlflow_with_its_genai_switch_names_the_model_that_answered_as_the_requested_one():
    call = span(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-5-mini-2025-08-07",
            "mlflow.spanType": '"CHAT_MODEL"',
            "model": '"gpt-5-mini"',
        },
        scope="mlflow.openai",
    )

    assert (call.model_name, call.model_response_name) == ("gpt-5-mini", "gpt-5-mini-2025-08-07")


def test_the_prompt_of_a_text_completion_stands_under_the_name_of_its_role():
    call = span(
        {
            "llm.request.type": "completion",
            "gen_ai.request.model": "m",
            "gen_ai.prompt.0.user": USER,
            "gen_ai.completion.0.content": ANSWER,
            "gen_ai.completion.0.finish_reason": "stop",
        }
    )

    assert (call.texts, call.answers) == ([("user", USER)], [("assistant", ANSWER)])
    assert call.lossiness is None


def test_langchain_says_in_the_messages_metadata_why_a_model_stopped():
    message = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": ANSWER, "response_metadata": {"finish_reason": "length"}},
    }

    call = span(
        {
            "langsmith.span.kind": "llm",
            "gen_ai.prompt": text({"messages": [MESSAGES]}),
            "gen_ai.completion": text(
                {"generations": [[{"message": message}]], "llm_output": {"model_name": "gpt-x"}}
            ),
        }
    )

    says_what_all_say(call)
    assert (call.finish_reasons, call.model_response_name) == (["length"], "gpt-x")


def test_a_decision_models_call_is_a_decision_with_question_and_answer():
    question, answer = {"options": ["refund", "replace"]}, {"refund": 0.91}

    call = span(
        {
            "openinference.span.kind": "DECISION",
            "decision.request.model_name": "decider",
            "decision.provider": "openai",
            "decision.token_count.input": 5,
            "decision.token_count.output": 1,
            "input.value": text(question),
            "output.value": text(answer),
        },
        scope="openinference.instrumentation.decisions",
    )

    assert (call.kind, call.model_name, call.model_provider) == ("inference", "decider", "openai")
    assert (call.input_tokens, call.output_tokens) == (5, 1)
    assert call.input[0]["parts"][0]["content"] == question
    assert orjson.loads(call.answers[0][1]) == answer


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"openinference.span.kind": "AGENT"}, "span"),
        ({"openinference.span.kind": "AGENT", "agent.name": "triage"}, "triage"),
        ({"openinference.span.kind": "CHAIN"}, None),
        ({"langfuse.observation.type": "agent"}, "span"),
        ({"traceloop.span.kind": "agent", "traceloop.entity.name": "triage"}, "triage"),
        ({"traceloop.span.kind": "workflow", "traceloop.entity.name": "triage"}, None),
    ],
)
def test_an_agent_that_no_attribute_names_is_called_as_its_convention_calls_it(attributes, name):
    assert span(attributes).agent_name == name
