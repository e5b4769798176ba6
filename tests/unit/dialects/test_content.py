"""Content: kept where it stands when it stands whole, put together when it does not."""

from __future__ import annotations

import math

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loopgrid_collector.dialects.normalise import normalise_spans
from loopgrid_collector.otlp.decode import decode_traces
from tests.support.samples import attributes_of, facts_for, read_calls, span

CHAT = {"gen_ai.operation.name": "chat"}
GENERATION = {"langfuse.observation.type": "generation"}
MESSAGES = '[{"role": "user", "parts": [{"type": "text", "content": "hi"}], "name": null}]'
HI = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]


def text(value):
    return orjson.dumps(value).decode()


def test_canonical_messages_are_referred_to_and_never_copied():
    found = span({**CHAT, "gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": MESSAGES})

    assert (found.columns["input"], found.input_ref) == (None, "gen_ai.input.messages")
    assert (found.columns["output"], found.output_ref) == (None, "gen_ai.output.messages")
    assert found.input == orjson.loads(MESSAGES)


def test_structured_messages_are_referred_to_as_well():
    found = span({**CHAT, "gen_ai.input.messages": HI})

    assert found.input_ref == "gen_ai.input.messages"
    assert found.input == HI


def test_structured_messages_that_hold_what_json_lacks_are_copied_as_plain_json():
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": {"raw": b"\x00", "n": math.nan}}

    found = span({**CHAT, "gen_ai.output.messages": [{"role": "assistant", "parts": [call]}]})

    assert found.output_ref is None
    assert found.tool_calls == [("f", {"raw": "AA==", "n": None})]


def test_nothing_is_referred_to_on_a_span_that_repeats_a_key():
    """Its attributes are stored as pairs, and a reader who follows a name would find nothing."""

    request = ExportTraceServiceRequest()
    sent = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"1" * 8)
    pairs = (*CHAT.items(), ("gen_ai.input.messages", MESSAGES), ("twice", "a"), ("twice", "b"))
    for key, value in pairs:
        sent.attributes.add(key=key).value.string_value = value
    attributes = decode_traces(request.SerializeToString()).attributes

    columns = normalise_spans(attributes, facts_for(1))

    assert columns["input_ref"].to_pylist() == [None]
    assert orjson.loads(columns["input"][0].as_py()) == HI


def test_system_instructions_stand_in_front_by_reference():
    found = span(
        {
            **CHAT,
            "gen_ai.system_instructions": '[{"type": "text", "content": "be kind"}]',
            "gen_ai.input.messages": MESSAGES,
        }
    )

    assert found.system_ref == "gen_ai.system_instructions"
    assert found.texts == [("system", "be kind"), ("user", "hi")]


@pytest.mark.parametrize("instructions", ["be kind", '"be kind"', '["be kind"]', ["be kind"]])
def test_system_instructions_in_any_other_form_are_put_in_front(instructions):
    found = span({**CHAT, "gen_ai.system_instructions": instructions, "gen_ai.input.messages": MESSAGES})

    assert (found.system_ref, found.input_ref) == (None, None)
    assert found.texts == [("system", "be kind"), ("user", "hi")]


def test_system_instructions_without_messages_are_still_input():
    assert span({**CHAT, "gen_ai.system_instructions": "be kind"}).texts == [("system", "be kind")]


@pytest.mark.parametrize("nothing", ["", "[]", "null", [], None, "{}"])
def test_an_empty_value_means_not_captured(nothing):
    found = span({**CHAT, "gen_ai.input.messages": nothing, "gen_ai.prompt.0.content": "hi"})

    assert found.texts == [("user", "hi")]


def test_messages_of_another_shape_under_the_right_key_are_rebuilt():
    """Semantic Kernel's agents write OpenAI's shape there."""
    found = span({**CHAT, "gen_ai.output.messages": '[{"role": "assistant", "content": "ok"}]'})

    assert found.output_ref is None
    assert found.answers == [("assistant", "ok")]


def test_tool_arguments_that_were_sent_as_text_are_decoded():
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": '{"a": 1}'}

    found = span({**CHAT, "gen_ai.output.messages": text([{"role": "assistant", "parts": [call]}])})

    assert found.tool_calls == [("f", {"a": 1})]


def test_tool_arguments_that_are_no_json_stay_text():
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": '{"a": '}

    found = span({**CHAT, "gen_ai.output.messages": text([{"role": "assistant", "parts": [call]}])})

    assert found.tool_calls == [("f", '{"a": ')]


def test_flattened_messages_are_sorted_by_number_and_gaps_close():
    found = span(
        {
            **CHAT,
            "gen_ai.prompt.10.content": "third",
            "gen_ai.prompt.2.content": "second",
            "gen_ai.prompt.1.role": "system",
            "gen_ai.prompt.1.content": "first",
            "gen_ai.prompt.name": "greeting",
        }
    )

    assert found.texts == [("system", "first"), ("user", "second"), ("user", "third")]
    assert found.prompt_name == "greeting"


def test_tool_calls_that_anthropic_repeats_in_contents_count_once():
    prefix = "llm.output_messages.0.message"
    found = span(
        {
            "openinference.span.kind": "LLM",
            f"{prefix}.role": "assistant",
            f"{prefix}.contents.0.message_content.type": "text",
            f"{prefix}.contents.0.message_content.text": "I will look",
            f"{prefix}.contents.1.message_content.type": "tool_use",
            f"{prefix}.contents.1.message_content.id": "t1",
            f"{prefix}.tool_calls.0.tool_call.id": "t1",
            f"{prefix}.tool_calls.0.tool_call.function.name": "f",
            f"{prefix}.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
        }
    )

    assert found.answers == [("assistant", "I will look")]
    assert found.tool_calls == [("f", {"a": 1})]


@pytest.mark.parametrize(
    ("request_", "texts"),
    [
        ("hi", [("user", "hi")]),
        ([{"role": "user", "content": "hi"}], [("user", "hi")]),
        ({"messages": [{"role": "developer", "content": "be kind"}]}, [("system", "be kind")]),
        (
            {"system": "be kind", "messages": [{"role": "human", "content": "hi"}]},
            [("system", "be kind"), ("user", "hi")],
        ),
        ({"instructions": "be kind", "input": "hi"}, [("system", "be kind"), ("user", "hi")]),
        ({"prompt": "hi"}, [("user", "hi")]),
        ({"contents": [{"role": "model", "parts": [{"text": "hi"}]}]}, [("assistant", "hi")]),
        ([{"role": "user", "content": [{"text": "bedrock"}]}], [("user", "bedrock")]),
        ([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], [("user", "hi")]),
    ],
)
def test_requests_of_every_provider_become_messages(request_, texts):
    sent = request_ if isinstance(request_, str) else text(request_)

    assert span({**GENERATION, "langfuse.observation.input": sent}).texts == texts


def test_a_request_of_no_known_shape_is_kept_whole():
    found = span({**GENERATION, "langfuse.observation.input": '{"ticket": 4711}'})

    assert found.input == [
        {"role": "user", "parts": [{"type": "generic", "generic_type": "json", "content": {"ticket": 4711}}]}
    ]


@pytest.mark.parametrize(
    ("response", "answers"),
    [
        ({"choices": [{"message": {"role": "assistant", "content": "ok"}}]}, [("assistant", "ok")]),
        ({"choices": [{"text": "ok"}]}, [("assistant", "ok")]),
        ({"role": "assistant", "content": [{"type": "text", "text": "ok"}]}, [("assistant", "ok")]),
        (
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "ok"}]}]},
            [("assistant", "ok")],
        ),
        ({"role": "assistant", "content": None, "refusal": "no"}, [("assistant", "no")]),
        ({"label": "refund"}, [("assistant", '{"label":"refund"}')]),
    ],
)
def test_responses_of_every_provider_become_messages(response, answers):
    assert span({**GENERATION, "langfuse.observation.output": text(response)}).answers == answers


def test_a_tools_answer_keeps_the_id_of_its_call():
    sent = [{"role": "tool", "tool_call_id": "c1", "content": '{"status": "delivered"}'}]

    found = span({**GENERATION, "langfuse.observation.input": text(sent)})

    part = {"type": "tool_call_response", "id": "c1", "response": '{"status": "delivered"}'}
    assert found.input == [{"role": "tool", "parts": [part]}]


def test_messages_in_span_events_are_put_in_order():
    events = [
        {"name": "gen_ai.user.message", "attributes": {"content": "hi"}},
        {"name": "gen_ai.choice", "attributes": {"finish_reason": "stop", "message": '{"content": "ok"}'}},
        {"name": "exception", "attributes": {}},
    ]

    found = span(CHAT, events=events)

    assert (found.texts, found.answers) == ([("user", "hi")], [("assistant", "ok")])
    assert found.finish_reasons == ["stop"]


def test_a_details_event_on_the_span_carries_all_of_it():
    attributes = {
        "gen_ai.system_instructions": text([{"type": "text", "content": "be kind"}]),
        "gen_ai.input.messages": text(HI),
        "gen_ai.output.messages": text(HI),
    }
    events = [{"name": "gen_ai.client.inference.operation.details", "attributes": attributes}]

    found = span(CHAT, events=events)

    assert found.texts == [("system", "be kind"), ("user", "hi")]
    assert found.answers == [("user", "hi")]


@pytest.mark.parametrize("value", ['{"message": "charged twice"}', "[]", "null", "1", '"x"'])
def test_a_decision_keeps_whatever_json_it_recorded(value):
    found = span({"loopgrid.record.version": 1, "loopgrid.decision.input": value})

    assert found.input_ref == "loopgrid.decision.input"
    assert found.lossiness is None


def test_a_decisions_text_that_is_cut_is_kept_as_text_and_flagged():
    found = span({"loopgrid.record.version": 1, "loopgrid.decision.output": '{"response": "Your acc'})

    assert found.output == '{"response": "Your acc'
    assert found.lossiness == ["output:unparsable", "output:truncated"]


def test_a_tools_plain_text_is_no_loss():
    found = span({"openinference.span.kind": "TOOL", "output.value": "delivered"})

    assert (found.output, found.lossiness) == ("delivered", None)


def test_what_python_writes_and_json_forbids_is_read():
    sent = '[{"role": "user", "parts": [{"type": "x", "n": NaN, "half": "\\ud800"}]}]'

    found = span({**CHAT, "gen_ai.input.messages": sent})

    assert found.input_ref is None
    assert found.input == [{"role": "user", "parts": [{"type": "x", "half": "?"}]}]


@pytest.mark.parametrize("depth", [200, 300, 900, 1100, 100_000])
def test_nesting_of_any_depth_is_survived(depth):
    deep = "[" * depth + "]" * depth
    call = f'{{"type": "tool_call", "name": "f", "arguments": {text(deep)}}}'

    found = span({**CHAT, "gen_ai.output.messages": f'[{{"role": "assistant", "parts": [{call}]}}]'})

    assert found.output is not None


def test_rows_keep_their_own_content():
    rows = [
        {**CHAT, "gen_ai.input.messages": MESSAGES},
        {**CHAT, "gen_ai.prompt.0.content": "flat"},
        {"openinference.span.kind": "TOOL", "input.value": '{"a": 1}'},
        CHAT,
    ]

    calls = read_calls(attributes_of(rows), facts_for(len(rows)))

    assert [call.input for call in calls[:1]] == [orjson.loads(MESSAGES)]
    assert calls[1].texts == [("user", "flat")]
    assert calls[2].input == {"a": 1}
    assert calls[3].input is None


def test_tool_definitions_are_referred_to():
    found = span({**CHAT, "gen_ai.tool.definitions": '[{"type": "function", "name": "f"}]'})

    assert (found.tools_ref, found.tools) == ("gen_ai.tool.definitions", [{"type": "function", "name": "f"}])


def test_a_message_whose_parts_are_no_list_loses_nothing():
    call = span({**CHAT, "gen_ai.input.messages": '[{"role":"user","parts":"plain"}]'})

    assert call.texts == [("user", "plain")]


def test_content_that_span_events_say_twice_in_two_forms_counts_once():
    messages = '[{"role":"user","parts":[{"type":"text","content":"q"}]}]'
    call = span(
        CHAT,
        events=[
            {"name": "gen_ai.user.message", "attributes": {"content": "q"}},
            {
                "name": "gen_ai.client.inference.operation.details",
                "attributes": {"gen_ai.input.messages": messages},
            },
        ],
    )

    assert call.texts == [("user", "q")]
