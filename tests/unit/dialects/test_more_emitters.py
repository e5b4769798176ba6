"""Recorded payloads of more instrumentations: each model call is one, the same whoever saw it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from tests.support.samples import Call, load
from tests.support.samples import span as made

EMITTERS = Path(__file__).resolve().parents[2] / "data" / "emitters"
SYSTEM = "You answer customers of a shop."
USER = "Where is my refund for order A-1?"
ANSWER = "Your refund is on its way."
REASONS = {"stop", "length", "tool_call", "content_filter", "error", None}

CALLS = {
    "agent-framework": 4,
    "langsmith": 5,
    "logfire-openai": 6,
    "openinference-bedrock": 5,
    "openinference-google-genai": 5,
    "openinference-langchain": 5,
    "openinference-litellm": 4,
    "openinference-llama-index": 10,
    "openinference-openai-agents": 4,
    "openinference-smolagents": 3,
    "openllmetry-bedrock": 5,
    "openllmetry-langchain": 5,
    "semantic-kernel": 4,
    "strands-attributes": 7,
    "strands-events": 6,
    "vercel-7": 5,
}
"""Emitter → spans that are model calls. Strands tries a refused call again, in a span of its own each time;
Logfire tells of the end of a streamed call in a second span, LlamaIndex of each call in two that nest."""

ASKED = {
    "openinference-bedrock": "anthropic.claude-sonnet-4",
    "openinference-google-genai": None,
    "openinference-litellm": "openai/gpt-5-mini",
    "openinference-smolagents": "openai/gpt-5-mini",
    "openllmetry-bedrock": "claude-sonnet-4",
}
"""Emitter → requested model, where it is not ``gpt-5-mini``."""


@cache
def calls(emitter: str) -> tuple[Call, ...]:
    return tuple(call for call in load(EMITTERS / emitter) if call.kind == "inference")


def plain(emitter: str) -> list[Call]:
    """Complete answers to the one question, without tools before them."""
    asked = [("system", SYSTEM), ("user", USER)]
    return [
        call
        for call in calls(emitter)
        if call.texts == asked and call.answers and len(call.input) == len(asked)
    ]


@pytest.mark.parametrize(("emitter", "expected"), CALLS.items(), ids=CALLS)
def test_what_calls_a_model_is_a_model_call_and_nothing_else_is(emitter, expected):
    assert len(calls(emitter)) == expected


@pytest.mark.parametrize("emitter", sorted(set(CALLS) - {"openinference-smolagents"}))
def test_the_same_call_is_the_same_decision(emitter):
    seen = plain(emitter)

    assert seen
    for call in seen:
        assert call.answers == [("assistant", ANSWER)]
        # Bedrock's older door, OpenAI Agents and Google's name no model that was asked.
        assert call.model_name in {ASKED.get(emitter, "gpt-5-mini"), None}
        assert call.input_tokens in {42, 58, None}, "Bedrock counts cached tokens apart: 42 and 16"
        assert call.output_tokens in {17, None}


@pytest.mark.parametrize("emitter", CALLS)
def test_roles_and_finish_reasons_are_said_in_one_vocabulary(emitter):
    for call in calls(emitter):
        said = [*(call.input or []), *(call.output or [])]
        assert {message["role"] for message in said} <= {"system", "user", "assistant", "tool"}
        assert {message.get("finish_reason") for message in call.output or []} <= REASONS


@pytest.mark.parametrize(
    "emitter", ["openinference-bedrock", "openinference-google-genai", "openinference-langchain"]
)
def test_a_call_that_failed_was_asked_of_a_model_and_answered_by_none(emitter):
    failed = [call for call in calls(emitter) if call.error_type]

    assert failed
    for call in failed:
        assert call.model_response_name is None
        assert call.model_name


def test_bedrocks_older_door_names_the_model_that_answered_and_none_that_was_asked():
    named = {(call.model_name, call.model_response_name) for call in calls("openinference-bedrock")}

    assert named == {("anthropic.claude-sonnet-4", None), (None, "claude")}


def test_a_generation_of_openai_agents_names_the_model_that_was_asked_and_a_response_the_one_that_answered():
    named = {
        (call.name, call.model_name, call.model_response_name)
        for call in calls("openinference-openai-agents")
        if call.output
    }

    assert named == {
        ("response", None, "gpt-5-mini-2026-08-07"),
        ("generation", "gpt-5-mini", None),
    }


@pytest.mark.parametrize(
    ("scope", "failed", "response_id", "incomplete"),
    [("litellm", True, None, False), ("litellm", False, "own-id", False), ("other", True, "own-id", True)],
)
def test_the_id_of_a_failed_call_is_not_that_of_a_response_where_litellm_tells_of_it_itself(
    scope, failed, response_id, incomplete
):
    told: dict[str, object] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.id": "own-id",
    }
    if not failed:
        told["gen_ai.usage.output_tokens"] = 1

    call = made(told, scope=scope, status=2 if failed else 1)

    assert call.response_id == response_id
    assert ("incomplete_stream" in (call.lossiness or [])) is incomplete


def test_an_empty_id_of_a_tool_call_is_none():
    answer = [{"role": "assistant", "tool_calls": [{"id": "", "function": {"name": "f", "arguments": "{}"}}]}]

    call = made({"gen_ai.operation.name": "chat", "gen_ai.completion": json.dumps(answer)})

    assert call.output[0]["parts"] == [{"type": "tool_call", "name": "f", "arguments": {}}]


@pytest.mark.parametrize("emitter", ["openinference-smolagents", "openinference-llama-index"])
def test_a_requested_model_is_not_taken_for_the_one_that_answered(emitter):
    assert {call.model_name for call in calls(emitter)} == {ASKED.get(emitter, "gpt-5-mini")}
    assert {call.model_response_name for call in calls(emitter)} == {None}


def test_the_model_that_answered_is_read_from_the_answer_where_the_attribute_holds_the_requested_one():
    answered = {call.model_response_name for call in calls("openinference-litellm") if call.response_id}

    assert answered == {"gpt-5-mini-2026-08-07"}


def test_parameters_that_were_copied_from_the_response_do_not_name_the_requested_model():
    answered = [call for call in calls("openinference-openai-agents") if call.response_id]

    assert {(call.model_name, call.model_response_name) for call in answered} == {
        (None, "gpt-5-mini-2026-08-07")
    }
    assert not any('"created_at"' in call.model_parameters for call in answered)


@pytest.mark.parametrize("emitter", ["openllmetry-bedrock", "openinference-openai-agents"])
def test_a_failed_call_without_content_is_not_blamed_on_a_switch(emitter):
    losses = [code for call in calls(emitter) for code in call.lossiness or []]

    assert losses == ["input_missing"]


def test_the_user_that_langchain_was_told_of_is_the_user():
    told = [call for call in calls("openinference-langchain") if call.session_id]

    assert {(call.session_id, call.user_id) for call in told} == {("s-1", "u-1")}


def test_an_error_type_that_was_written_as_python_shows_it_is_its_name():
    types = {call.error_type for call in calls("semantic-kernel") if call.error_type}

    assert types == {"semantic_kernel.exceptions.service_exceptions.ServiceResponseException"}


@pytest.mark.parametrize(
    "emitter", ["openinference-langchain", "openllmetry-langchain", "vercel-7", "langsmith"]
)
def test_a_tool_call_and_its_result_stand_in_the_next_call(emitter):
    asking = [call for call in calls(emitter) if call.tool_calls]
    after = [
        call
        for call in calls(emitter)
        if any(part["type"] == "tool_call_response" for message in call.input for part in message["parts"])
    ]

    assert [call.tool_calls for call in asking] == [[("lookup_order", {"order_id": "A-1"})]]
    assert [call.finish_reasons for call in asking] == [["tool_call"]]
    assert len(after) == 1
