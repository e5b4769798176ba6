"""What is known to be missing is said, and failures say what failed."""

from __future__ import annotations

import pytest

from tests.support.samples import span

CHAT = {"gen_ai.operation.name": "chat"}
OUTPUT = {"gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "ok"}]}]'}
INPUT = {"gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'}
ERROR = 2


def codes(attributes, **facts):
    return span(attributes, **facts).lossiness


def test_a_whole_call_has_no_losses():
    assert codes({**CHAT, **INPUT, **OUTPUT}) is None


def test_what_the_sdk_says_is_lost_stands_first():
    found = codes(
        {"loopgrid.record.version": 1, "loopgrid.capture.lossiness": ["input:truncated"]}, dropped=3
    )

    assert found == ["input:truncated", "attributes_dropped:3"]


def test_a_missing_half_is_named():
    assert codes({**CHAT, **INPUT}) == ["output_missing"]
    assert codes({**CHAT, **OUTPUT}) == ["input_missing"]


def test_a_failed_call_owes_no_output():
    assert codes({**CHAT, **INPUT}, status=ERROR) is None


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (
            "opentelemetry.instrumentation.genai.openai",
            "content_off:OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_AND_EVENT",
        ),
        (
            "opentelemetry.instrumentation.openai_v2",
            "content_off:OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true",
        ),
        ("com.anthropic.sdk.python", "content_off:ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content"),
        ("gcp.vertex.agent", "content_off:ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true"),
        ("mlflow.tracing.provider", "content_off"),
    ],
)
def test_a_call_without_content_names_the_setting_of_its_emitter(scope, code):
    assert codes(CHAT, scope=scope) == [code]


def test_an_emitter_whose_failed_calls_have_no_content_is_not_told_to_switch_it_on():
    assert codes(CHAT, scope="pydantic-ai", status=ERROR) == ["input_missing"]


def test_content_that_was_uploaded_elsewhere_is_said_to_be_there():
    assert codes({**CHAT, "gen_ai.input.messages_ref": "s3://bucket/1"}) == ["elsewhere:input"]


@pytest.mark.parametrize(
    ("attributes", "status", "incomplete"),
    [
        ({"gen_ai.request.stream": True}, 0, True),
        ({"gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["stop"]}, 0, False),
        ({"gen_ai.request.stream": True, "gen_ai.response.finish_reasons": [""]}, 0, True),
        ({"gen_ai.request.stream": False}, 0, False),
        ({"gen_ai.is_streaming": True}, 0, True),
        ({"llm.is_streaming": "true"}, 0, True),
        ({"gen_ai.response.time_to_first_chunk": 0.1}, 0, True),
        ({"gen_ai.response.finish_reasons": ["error"]}, 0, True),
        ({"gen_ai.response.finish_reasons": ["error"], "gen_ai.response.id": "r"}, ERROR, True),
        ({}, 0, False),
    ],
)
def test_an_answer_without_an_end_is_incomplete(attributes, status, incomplete):
    found = codes({**CHAT, **INPUT, **OUTPUT, **attributes}, status=status) or []

    assert ("incomplete_stream" in found) == incomplete


def test_a_request_that_was_refused_is_no_broken_stream():
    attributes = {**CHAT, **INPUT, "gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["error"]}

    assert codes({**CHAT, **INPUT, "gen_ai.request.stream": True}, status=ERROR) is None
    assert codes({**attributes, "gen_ai.request.stream": False}, status=ERROR) is None


def test_a_continued_conversation_says_that_its_beginning_is_elsewhere():
    found = codes({**CHAT, **INPUT, **OUTPUT, "gen_ai.request.previous_response.id": "resp_1"})

    assert found == ["continued"]


def test_parameters_that_are_cut_are_flagged():
    found = codes({**CHAT, **INPUT, **OUTPUT, "llm.invocation_parameters": '{"temperature": 0.2, "x": "yy'})

    assert found == ["model_parameters:unparsable"]


EXCEPTION = {
    "name": "exception",
    "attributes": {"exception.type": "openai.RateLimitError", "exception.message": "too many"},
}


@pytest.mark.parametrize(
    ("attributes", "facts", "expected"),
    [
        ({"error.type": "X"}, {"message": "Y: z", "events": [EXCEPTION]}, ("X", "Y: z")),
        ({}, {"message": "Y: z", "events": [EXCEPTION]}, ("openai.RateLimitError", "Y: z")),
        ({}, {"events": [EXCEPTION]}, ("openai.RateLimitError", "too many")),
        ({}, {"message": "RateLimitError: slow down"}, ("RateLimitError", "RateLimitError: slow down")),
        ({}, {"message": "Error code: 429 - slow down"}, ("429", "Error code: 429 - slow down")),
        ({"http.response.status_code": 503}, {}, ("503", None)),
        ({}, {"message": "Connection error."}, (None, "Connection error.")),
        ({}, {}, (None, None)),
    ],
)
def test_a_failure_is_named_by_the_best_evidence_there_is(attributes, facts, expected):
    found = span({**CHAT, **attributes}, status=ERROR, **facts)

    assert (found.error_type, found.error_message) == expected


def test_a_span_that_did_not_fail_has_no_failure():
    found = span(CHAT, status=1, message="RateLimitError: retried", events=[EXCEPTION])

    assert (found.error_type, found.error_message) == (None, None)
