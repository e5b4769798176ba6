"""What is sent for a recorded model call, and why some are not sent at all."""

from __future__ import annotations

from typing import Any

import pytest

from loopgrid_query.replay.request import ANTHROPIC, OPENAI, ModelRequest, request_of
from loopgrid_query.replay.unsendable import Unsendable
from tests.support.samples import SAMPLES, inferences

SYSTEM = {"role": "system", "parts": [{"type": "text", "content": "You sort tickets for ACME."}]}
USER = {"role": "user", "parts": [{"type": "text", "content": "My blender broke."}]}
CALLING = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "id": "c1", "name": "order", "arguments": {"id": 7}}],
}
BROKEN = {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": "{"}]}
TOOL = {"type": "function", "name": "order", "description": "Finds it", "parameters": {"type": "object"}}
TEMPLATE = {"template": "You sort tickets for {company}.", "variables": {"company": "ACME"}}


def decision(**fields: Any) -> dict[str, Any]:
    return {
        "input": [SYSTEM, USER],
        "output": None,
        "tools": None,
        "lossiness": None,
        "prompt": {"name": None, "version": None, "template": None, "variables": None},
        "model": {"provider": "acme", "name": "m-1", "parameters": None},
        **fields,
    }


def model(**fields: Any) -> dict[str, Any]:
    return {"provider": "acme", "name": "m-1", "parameters": None, **fields}


def sent(protocol: str = OPENAI, overrides: Any = None, **fields: Any) -> ModelRequest:
    return request_of(decision(**fields), overrides or {}, protocol)


def refusal(protocol: str = OPENAI, overrides: Any = None, **fields: Any) -> str:
    with pytest.raises(Unsendable) as caught:
        sent(protocol, overrides, **fields)
    return str(caught.value)


def parameters(provider: str = "acme", protocol: str = OPENAI, **stated: Any) -> Any:
    return sent(protocol, model=model(provider=provider, parameters=stated)).parameters


def said(part: dict[str, Any], role: str = "user") -> Any:
    (message,) = sent(input=[{"role": role, "parts": [part]}]).messages
    return message


def test_a_call_is_sent_as_it_was_recorded():
    request = sent(
        input=[SYSTEM, {**USER, "name": "ann"}, CALLING, {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": {"state": "sent"}}],
        }],
        tools=[TOOL],
        model=model(parameters={"temperature": 0.2}),
    )  # fmt: skip

    assert request.messages == [
        {"role": "system", "content": "You sort tickets for ACME."},
        {"role": "user", "content": "My blender broke.", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"id": 7}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"state": "sent"}'},
    ]
    assert request.tools == [
        {
            "type": "function",
            "function": {"name": "order", "description": "Finds it", "parameters": {"type": "object"}},
        }
    ]
    assert (request.provider, request.model, request.parameters) == ("acme", "m-1", {"temperature": 0.2})


def test_messages_that_an_application_recorded_in_openais_form_are_sent_too():
    told = [
        {"role": "user", "content": "My blender broke."},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"id": 7}'}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "sent"},
    ]  # fmt: skip

    assert sent(input=told, tools=[TOOL]).messages == told


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ),
        (
            {"type": "uri", "modality": "image", "uri": "https://example.com/cat.png"},
            {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        ),
        (
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "AAAA"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ),
    ],
)
def test_attachments_that_the_record_holds_are_sent(part, content):
    assert said(part)["content"] == [content]


@pytest.mark.parametrize(
    ("stated", "members"),
    [
        ({"choice.count": 2, "seed": 7.0}, {"n": 2, "seed": 7}),
        ({"stop_sequences": ["END"], "top_p": 0.9}, {"stop": ["END"], "top_p": 0.9}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {}),
        ({"output.type": "text"}, {}),
        ({"reasoning.level": "low"}, {"reasoning_effort": "low"}),
        ({"response_format": "json_object"}, {"response_format": {"type": "json_object"}}),
        ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
        (
            {"toolChoice": {"type": "tool", "toolName": "order"}},
            {"tool_choice": {"type": "function", "function": {"name": "order"}}},
        ),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": None}, {}),
    ],
)
def test_parameters_are_sent_under_the_providers_names(stated, members):
    assert parameters(**stated) == members


def test_openai_is_told_max_tokens_by_the_name_that_all_its_models_take():
    assert parameters("openai", max_tokens=64.0) == {"max_completion_tokens": 64}
    assert parameters("deepseek", max_tokens=64) == {"max_tokens": 64}


def test_anthropics_thinking_is_one_parameter_again():
    stated = {"max_tokens": 2048, "thinking.type": "enabled", "thinking.budget_tokens": 1024}

    assert parameters("anthropic", ANTHROPIC, **stated) == {
        "max_tokens": 2048,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }


def test_overrides_of_the_model_are_merged_into_what_was_recorded():
    request = sent(
        model=model(parameters={"temperature": 0.2, "seed": 7, "odd": 1}),
        overrides={"model": {"name": "m-2", "parameters": {"temperature": 0.9, "odd": None}}},
    )

    assert request.model == "m-2"
    assert request.parameters == {"temperature": 0.9, "seed": 7}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": None}, "not captured"),
        ({"input": {"message": "hello"}}, "no list of messages"),
        ({"input": "hello"}, "no list of messages"),
        ({"input": [{"role": "user", "parts": []}, USER]}, "Message 1 is empty"),
        ({"input": [{"role": "critic", "parts": USER["parts"]}]}, "role 'critic'"),
        ({"model": model(provider=None)}, "model.provider"),
        ({"model": model(name=None)}, "model.name"),
        ({"lossiness": ["content_off:CAPTURE=true"]}, "CAPTURE=true turns it on"),
        ({"lossiness": ["input_missing"]}, "not captured"),
        ({"lossiness": ["input:truncated", "input:unparsable"]}, "truncated"),
        ({"lossiness": ["input[1].content:redacted"]}, "redacted"),
        ({"lossiness": ["input.text:truncated:70000:sha256=00"]}, "truncated"),
        ({"lossiness": ["continued"]}, "only the provider holds"),
        ({"lossiness": ["elsewhere:input"]}, "uploaded elsewhere"),
        ({"lossiness": ["masked:input"]}, "hidden at the source"),
        ({"lossiness": ["attributes_dropped:3"]}, "dropped 3 attributes"),
        ({"lossiness": ["something_new"]}, "something_new"),
        ({"output": [CALLING]}, "tools it was offered are not recorded"),
        ({"tools": [{"type": "function", "name": "order"}]}, "parameters of the tool order"),
        ({"tools": [{"type": "web_search", "name": "search"}]}, "provider's own"),
        ({"model": model(parameters={"weird": 1})}, "model.parameters.weird"),
        ({"model": model(parameters={"output.type": "json"})}, "schema"),
        ({"model": model(parameters={"response_format": "json_schema"})}, "schema"),
        ({"model": model(parameters={"tool_choice": "sometimes"})}, "tool_choice"),
        ({"model": model(parameters={"max_tokens": 1, "maxTokens": 2})}, "twice"),
    ],
)
def test_what_cannot_be_sent_as_it_was_is_refused_with_the_reason(fields, words):
    assert words in refusal(**fields)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "file", "modality": "document", "file_id": "f1"}, "file that only the provider holds"),
        ({"type": "uri", "modality": "image", "uri": "gs://bucket/cat.png"}, "out of reach"),
        ({"type": "blob", "modality": "image", "mime_type": "image/png"}, "not captured"),
        ({"type": "blob", "modality": "document", "mime_type": "application/pdf", "content": "AA"}, "pdf"),
        ({"type": "reasoning", "content": "hm"}, "reasoning"),
        ({"type": "generic", "generic_type": "json", "content": {}}, "'generic'"),
        ({"type": "text", "content": "x", "cache_control": {}}, "cache_control"),
        ({"type": "tool_call", "id": "c1", "name": "f", "arguments": {}}, "not the model's"),
        ({"type": "tool_call_response", "response": "x"}, "without the id"),
    ],
)
def test_parts_that_have_no_place_in_a_request_are_refused(part, words):
    assert words in refusal(input=[{"role": "user", "parts": [part]}])


@pytest.mark.parametrize(
    "code",
    ["output:truncated", "output_missing", "incomplete_stream", "metadata.mail:redacted", "user_id:redacted"],
)
def test_what_is_missing_of_the_answer_or_about_people_does_not_matter(code):
    assert sent(lossiness=[code, "model_parameters:defaults_left_out"]).messages


@pytest.mark.parametrize(
    ("template", "variables", "given", "told"),
    [
        (*TEMPLATE.values(), {"template": "Sort for {company}!"}, "Sort for ACME!"),
        (*TEMPLATE.values(), {"variables": {"company": "Umbrella"}}, "You sort tickets for Umbrella."),
        (
            "You sort tickets for {{ company }}.",
            {"company": "ACME"},
            {"template": "For {{company}}."},
            "For ACME.",
        ),
        ("You sort tickets for ACME.", None, {"template": "Be kind."}, "Be kind."),
        (
            "tickets for {company}",
            {"company": "ACME"},
            {"template": "mail of {company}"},
            "You sort mail of ACME.",
        ),
    ],
)
def test_another_prompt_takes_the_place_of_the_recorded_one(template, variables, given, told):
    prompt = {"name": "sort", "version": "1", "template": template, "variables": variables}

    request = sent(prompt=prompt, overrides={"prompt": given})

    assert request.messages == [
        {"role": "system", "content": told},
        {"role": "user", "content": "My blender broke."},
    ]
    assert request.told == [{"role": "system", "parts": [{"type": "text", "content": told}]}, USER]


@pytest.mark.parametrize(
    ("prompt", "given", "words"),
    [
        ({"template": None}, {"template": "x"}, "no prompt template"),
        ({"template": "Another text."}, {"template": "x"}, "not in the recorded messages"),
        ({"template": "e"}, {"template": "x"}, "more than once"),
        (TEMPLATE, {"version": "2"}, "prompt.template"),
        (TEMPLATE, {"template": "For {whom}."}, "needs whom"),
        (TEMPLATE, {"template": "For {company"}, "cannot be filled in"),
    ],
)
def test_a_prompt_whose_place_or_text_is_not_known_is_refused(prompt, given, words):
    prompt = {"name": None, "version": None, "variables": None, **prompt}

    assert words in refusal(prompt=prompt, overrides={"prompt": given})


@pytest.mark.parametrize(
    "code", ["prompt.template:truncated:9:sha256=00", "gen_ai.prompt.variable.company:redacted"]
)
def test_a_lost_prompt_matters_only_where_it_is_replaced(code):
    prompt = {"name": None, "version": None, **TEMPLATE}

    assert sent(lossiness=[code], prompt=prompt).messages
    assert "whole" in refusal(lossiness=[code], prompt=prompt, overrides={"prompt": {"template": "x"}})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "max_tokens"),
        ({"model": model(parameters={"max_tokens": 9, "seed": 1})}, "seed"),
        ({"input": [{**USER, "name": "ann"}]}, "name"),
        ({"input": [USER, SYSTEM]}, "instructions"),
        ({"input": [SYSTEM]}, "nothing else"),
        ({"input": [{**SYSTEM, "name": "ann"}, USER]}, "name"),
        ({"input": [USER, BROKEN], "tools": [TOOL]}, "no JSON"),
    ],
)
def test_what_anthropic_could_not_be_told_is_refused(fields, words):
    assert words in refusal(
        ANTHROPIC, **{"model": model(parameters={"max_tokens": 9}), **fields} if fields else {}
    )


def test_calls_that_instrumentations_captured_with_content_can_be_sent():
    folders = sorted({path.parent for path in SAMPLES.rglob("*-traces.pb")})
    calls = [call for folder in folders for call in inferences(folder) if call.input and call.model_name]
    refused = []
    for call in calls:
        # Content that arrives in log records makes the first code void.
        codes = [code for code in call.lossiness or () if not code.startswith("content_off")]
        asked = model(provider=call.model_provider or "openai", name=call.model_name)
        fields = {"input": call.input, "output": call.output, "tools": call.tools, "lossiness": codes}
        try:
            sent(**fields, model=asked)
        except Unsendable as reason:
            refused.append(str(reason))

    assert len(calls) > 100
    assert set(refused) == {
        "It calls tools, and the tools it was offered are not recorded.",
        "The record is not whole: model_parameters was cut and does not parse (model_parameters:unparsable).",
        "The parameters of the tool lookup_order were not recorded.",
        "Message 1 holds a part of type 'generic', which has no place in a chat request.",
    }
