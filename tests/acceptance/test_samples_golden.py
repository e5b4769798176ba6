"""The same call, seen by any instrumentation, is the same canonical decision."""

from __future__ import annotations

import re

import orjson
import pytest

from tests.support import samples
from tests.support.samples import ANSWER, SYSTEM, USER, Call, folders, inferences, load, without_nulls

OPENAI = ("gpt-5-mini", "gpt-5-mini-2025-08-07")
ANTHROPIC = ("claude-sonnet-5", "claude-sonnet-5")

# Case folder → (dialect, requested and answered model, cached tokens).
CHATS = {
    "genai-openai-*/span-only/chat": ("genai", OPENAI, 16),
    "genai-openai-*/span-and-event/chat": ("genai", OPENAI, 16),
    "genai-openai-*/event-only/chat": ("genai", OPENAI, 16),
    "genai-openai-*/span-only/responses": ("genai", OPENAI, 16),
    "openai-v2-*/experimental/chat": ("genai", OPENAI, None),
    "openai-v2-*/legacy-content/chat": ("genai", OPENAI, None),
    "genai-anthropic-*/span-only/messages": ("genai", ANTHROPIC, 12),
    "anthropic-sdk-*/content/messages": ("anthropic", ANTHROPIC, 12),
    "openinference-openai-*/default/chat": ("openinference", OPENAI, 16),
    "openinference-openai-*/default/responses": ("openinference", OPENAI, 16),
    "openinference-openai-*/genai-semconv/chat": ("openinference", OPENAI, 16),
    "traceloop-openai-0.62.4/default/chat": ("traceloop", OPENAI, 16),
    "traceloop-openai-0.62.4/default/responses": ("traceloop", OPENAI, 16),
    "traceloop-openai-0.40.14/default/chat": ("traceloop", OPENAI, 16),
    "vercel-ai-*/default/chat": ("vercel", OPENAI, None),
    "pydantic-ai-*/vdefault/chat": ("pydantic_ai", OPENAI, 16),
    "pydantic-ai-*/v2/chat": ("pydantic_ai", OPENAI, 16),
    "pydantic-ai-*/logfire/openai-direct": ("pydantic_ai", OPENAI, 16),
    "mlflow-*/default/openai-chat": ("mlflow", OPENAI, 16),
    "mlflow-*/default/openai-responses": ("mlflow", OPENAI, 16),
    "mlflow-*/genai-semconv/openai-chat": ("mlflow", OPENAI, None),
    "langfuse-*/default/openai-chat": ("langfuse", (None, OPENAI[1]), 16),
}

NAMES_NO_PROVIDER = {"mlflow", "langfuse"}
NAMES_NO_FINISH_REASON = {"langfuse"}


def one_call(pattern: str, dialect: str) -> Call:
    """The case's model call in this dialect (the anthropic SDK adds a span of its own to every call)."""
    (folder,) = folders(pattern)
    (call,) = [call for call in inferences(folder) if call.dialect == dialect]
    return call


@pytest.mark.parametrize("pattern", CHATS)
def test_one_chat_is_one_inference_with_the_same_words(pattern):
    dialect, (requested, answered), cached = CHATS[pattern]

    call = one_call(pattern, dialect)

    assert call.texts == [("system", SYSTEM), ("user", USER)]
    assert call.answers == [("assistant", ANSWER)]
    assert (call.model_name, call.model_response_name) == (requested, answered)
    assert (call.input_tokens, call.output_tokens, call.cache_read_tokens) == (42, 17, cached)
    assert call.decision_type is None
    assert call.error_type is None


@pytest.mark.parametrize("pattern", CHATS)
def test_canonical_content_is_made_of_text_parts_and_nothing_else(pattern):
    dialect, _, _ = CHATS[pattern]

    call = one_call(pattern, dialect)

    stripped = [
        {name: value for name, value in message.items() if name != "finish_reason"}
        for message in without_nulls(call.input + call.output)
    ]
    assert stripped == [
        {"role": "system", "parts": [{"type": "text", "content": SYSTEM}]},
        {"role": "user", "parts": [{"type": "text", "content": USER}]},
        {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}]},
    ]


@pytest.mark.parametrize("pattern", CHATS)
def test_provider_and_finish_reasons_are_normalised(pattern):
    dialect, models, _ = CHATS[pattern]

    call = one_call(pattern, dialect)

    provider = "anthropic" if models == ANTHROPIC else "openai"
    assert call.model_provider == (None if dialect in NAMES_NO_PROVIDER else provider)
    assert call.finish_reasons == (None if dialect in NAMES_NO_FINISH_REASON else ["stop"])


@pytest.mark.parametrize(
    "pattern",
    [
        "genai-openai-*/span-only/chat",
        "openai-v2-*/experimental/chat",
        "openai-v2-*/legacy-content/chat",
        "openinference-openai-*/default/chat",
        "openinference-openai-*/genai-semconv/chat",
    ],
)
def test_request_parameters_have_one_spelling(pattern):
    dialect, _, _ = CHATS[pattern]

    parameters = samples.revived(one_call(pattern, dialect).model_parameters)

    parameters.pop("user", None)
    assert parameters == {
        "temperature": 0.2,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "max_tokens": 64,
        "stop_sequences": ["END"],
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("pattern", "dialect"),
    [
        ("genai-openai-*/span-only/chat-tools", "genai"),
        ("genai-openai-*/event-only/chat-tools", "genai"),
        ("genai-anthropic-*/span-only/messages-tools", "genai"),
        ("genai-anthropic-*/event-only/messages-tools", "genai"),
        ("anthropic-sdk-*/content/messages-tools", "anthropic"),
        ("openai-v2-*/experimental/chat-tools", "genai"),
        ("openai-v2-*/legacy-content/chat-tools", "genai"),
        ("openinference-openai-*/default/chat-tools", "openinference"),
        ("openinference-openai-*/default/responses-tools", "openinference"),
        ("openinference-openai-*/genai-semconv/chat-tools", "openinference"),
        ("traceloop-openai-*/default/chat-tools", "traceloop"),
        ("traceloop-openai-0.62.4/default/responses-tools", "traceloop"),
        ("vercel-ai-*/default/tools", "vercel"),
        ("pydantic-ai-*/vdefault/tools", "pydantic_ai"),
        ("pydantic-ai-*/v2/tools", "pydantic_ai"),
        ("google-adk-*/*/tools", "google_adk"),
    ],
)
def test_two_calls_with_a_tool_between_them_add_up_once(pattern, dialect):
    """Agents repeat the totals of their calls; what counts is the calls."""
    for folder in folders(pattern):
        spans = load(folder)
        calls = [call for call in spans if call.dialect == dialect and call.kind == "inference"]

        assert sum(call.input_tokens for call in calls) == 84
        assert sum(call.output_tokens for call in calls) == 34
        assert all(span.input_tokens is None for span in spans if span.kind in {"agent", "tool"})
        assert calls[0].tool_calls == [("lookup_order", {"order_id": "A-1017"})]
        assert calls[1].answers == [("assistant", ANSWER)]
        if dialect != "google_adk":  # It reports "stop" for a tool call.
            assert [call.finish_reasons for call in calls] == [["tool_call"], ["stop"]]


@pytest.mark.parametrize("pattern", ["*/*/embeddings", "otel-sdk-*/non-decision-spans"])
def test_what_is_no_model_call_is_none(pattern):
    for folder in folders(pattern):
        assert {call.kind for call in load(folder)} <= {"embedding", "other"}


def test_every_span_of_every_sample_has_a_row_and_its_kind_is_one_of_ours():
    known = {"decision", "inference", "agent", "tool", "retrieval", "embedding", "other"}
    spans = [call for path in samples.SAMPLES.rglob("*-traces.pb") for call in load(path.parent)]

    assert len(spans) > 250
    assert {call.kind for call in spans} <= known


@pytest.mark.parametrize(
    "pattern",
    [
        "genai-openai-*/*/chat-error-*",
        "genai-anthropic-*/*/messages-error-*",
        "anthropic-sdk-*/*/messages-error-*",
        "openai-v2-*/*/chat-error-*",
        "openinference-openai-*/*/chat-error-*",
        "traceloop-openai-0.62.4/*/chat-error-*",
        "traceloop-openai-0.40.14/*/chat-error-4*",
        "vercel-ai-*/default/error-*",
        "pydantic-ai-*/*/error-*",
        "mlflow-*/*/openai-error-*",
        "langfuse-*/*/openai-error-*",
        "google-adk-*/*/error",
    ],
)
def test_a_failed_call_says_what_failed(pattern):
    for folder in folders(pattern):
        calls = inferences(folder)

        assert calls
        assert all(re.search(r"Error|error|^\d{3}$", call.error_type) for call in calls)
        assert all(call.output is None for call in calls)


@pytest.mark.parametrize(
    "pattern",
    [
        "genai-openai-*/span-only/chat-stream-*",
        "openai-v2-*/experimental/chat-stream-*",
        "openinference-openai-*/default/chat-stream-*",
        "traceloop-openai-0.62.4/default/chat-stream-*",
        "openai-v2-*/legacy-content/chat-stream-broken",
    ],
)
def test_an_answer_that_broke_off_is_flagged_and_a_whole_one_is_not(pattern):
    for folder in folders(pattern):
        (call,) = inferences(folder)

        broke_off = folder.name.endswith(("-broken", "-abandoned"))
        assert ("incomplete_stream" in (call.lossiness or [])) == broke_off


def test_an_abandoned_stream_whose_span_says_nothing_about_its_end_says_so():
    """openai-v2's default leaves the finish reason of a stream to the log record."""
    (folder,) = folders("openai-v2-*/legacy-content/chat-stream-abandoned")

    (call,) = inferences(folder)

    assert "end_unknown" in call.lossiness
    assert [message["finish_reason"] for message in call.output] == ["error"]


@pytest.mark.parametrize(
    ("pattern", "dialect", "setting"),
    [
        (
            "genai-openai-*/no-content/chat",
            "genai",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_AND_EVENT",
        ),
        (
            "anthropic-sdk-*/metadata-only/messages",
            "anthropic",
            "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content",
        ),
    ],
)
def test_a_call_without_content_names_the_setting_that_turns_it_on(pattern, dialect, setting):
    call = one_call(pattern, dialect)

    assert call.lossiness == [f"content_off:{setting}"]
    assert call.replayability == "none"


def test_a_cut_value_is_kept_as_text_and_flagged():
    (folder,) = folders("otel-sdk-*/truncated-attr")

    (call,) = load(folder)

    assert call.kind == "inference"
    assert {"input:unparsable", "output:unparsable"} <= set(call.lossiness)
    assert call.input.startswith('[{"role": "user"')
    assert call.replayability == "none"


def test_a_call_that_lost_what_said_its_kind_is_recognised_by_its_messages_and_flagged():
    (folder,) = folders("otel-sdk-*/attr-count-overflow")

    (call,) = load(folder)

    assert call.kind == "inference"
    assert set(call.lossiness) == {"kind_inferred", "attributes_dropped:18"}
    assert call.texts[0] == ("user", "message 7")
    assert call.answers == [("assistant", "refund")]
    assert call.replayability == "none"


def test_a_structured_value_equals_its_json_text():
    (folder,) = folders("otel-sdk-*/structured-anyvalue")
    (call,) = load(folder)

    as_text = samples.span(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": orjson.dumps(call.input).decode(),
            "gen_ai.output.messages": orjson.dumps(call.output).decode(),
            "gen_ai.tool.definitions": orjson.dumps(call.tools).decode(),
        }
    )

    assert call.texts == [("user", USER)]
    assert (as_text.input, as_text.output, as_text.tools) == (call.input, call.output, call.tools)
    assert as_text.finish_reasons == call.finish_reasons == ["stop"]


def test_content_in_span_events_of_2024_is_read():
    (folder,) = folders("otel-sdk-*/legacy-span-events-content")

    (call,) = load(folder)

    assert call.texts == [("user", USER)]
    assert call.answers == [("assistant", "refund")]
    assert (call.input_tokens, call.output_tokens) == (42, 17)


def test_nothing_and_zero_are_told_apart():
    (folder,) = folders("otel-sdk-*/none-empty-bytes-nan")

    (call,) = load(folder)

    assert call.input_tokens == 0
    assert call.output_tokens is None
    assert call.input is None


def test_context_that_spans_inherit_is_believed_for_calls_and_kept_out_of_other_spans():
    (folder,) = folders("openinference-0.1.72/*/chain-agent-tool-llm-context")

    spans = load(folder)

    assert {span.session_id for span in spans} == {"sess-9"}
    assert {span.kind: span.prompt_version for span in spans} == {
        "tool": None,
        "agent": None,
        "inference": "v4",
    }


def test_masked_content_is_not_taken_for_content():
    (folder,) = folders("openinference-0.1.72/*/masked")

    (call,) = load(folder)

    assert (call.input, call.output) == (None, None)
    assert call.lossiness == ["masked:input", "masked:output"]


def test_an_image_is_the_same_part_wherever_it_was_captured():
    patterns = (
        "genai-openai-*/span-only/chat-image",
        "openinference-openai-*/default/chat-image",
        "openai-v2-*/legacy-content/chat-image",
    )

    seen = [inferences(folder)[0].input for pattern in patterns for folder in folders(pattern)]

    assert all(without_nulls(messages) == without_nulls(seen[0]) for messages in seen)
    assert [part["type"] for part in seen[0][0]["parts"]] == ["text", "blob"]


@pytest.mark.parametrize("pattern", ["*/*/chat-unicode"])
def test_awkward_characters_survive(pattern):
    for folder in folders(pattern):
        (call,) = inferences(folder)

        assert call.texts == [("user", 'Grüße 你好 🧾 "quoted" \\ backslash\nnewline\ttab')]


def test_two_choices_are_two_messages_with_two_finish_reasons():
    for folder in folders("*/*/chat-n2"):
        (call,) = inferences(folder)

        assert [answer for _, answer in call.answers] == [ANSWER, '{"label": "complaint", "confidence": 0.4}']
        assert call.finish_reasons == ["stop", "stop"]


def test_messages_in_log_records_of_google_adk_join_their_span():
    (folder,) = folders("google-adk-*/default/chat")

    (call,) = inferences(folder)

    assert [role for role, _ in call.texts] == ["system", "user"]
    assert call.answers == [("assistant", ANSWER)]
