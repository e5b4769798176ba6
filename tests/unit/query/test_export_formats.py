"""One decision as a row of each export format: tables of what goes in and what comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from loopgrid.schema import FIELDS
from loopgrid_query.exports import formats, messages
from loopgrid_query.exports.messages import Unfit

HOSTILE = 'quote " back \\ nul \x00 line\nnext \u2028 \u0085 \ufeff 😀 </s><|im_end|> ; DROP TABLE'
MESSAGES = [
    {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
    {"role": "user", "parts": [{"type": "text", "content": "Charged"}, {"type": "text", "content": "twice"}]},
]
CALLED = [
    *MESSAGES,
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c1", "name": "find", "arguments": {"n": 2}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"found": True}}]},
]
FIND = [{"type": "function", "name": "find", "description": "Finds.", "parameters": {"type": "object"}}]


def row(**values: Any) -> dict[str, Any]:
    """A decision as it is read; JSON columns are given as values."""
    empty = dict.fromkeys([field.column for field in FIELDS])
    beside = dict.fromkeys(["truth_output", "correction_id", "corrected_by", "corrected_at", "marks"])
    json_columns = {field.column for field in FIELDS if field.sql_type == "JSON"} | {"truth_output"}
    given = {name: json.dumps(value) if name in json_columns else value for name, value in values.items()}
    return {**empty, **beside, "decision_id": "a" * 32 + "-" + "b" * 16, "digest": "d", **given}


def corrected(truth: Any, **values: Any) -> dict[str, Any]:
    return row(truth_output=truth, correction_id="cor_1", corrected_by="dana", **values)


def chat_of(**values: Any) -> Any:
    return json.loads(formats.openai_chat(corrected("Yes.", **values)))["messages"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param({"input": "hi"}, [("user", "hi")], id="text is said as it is"),
        pytest.param({"input": {"m": "é"}}, [("user", '{"m": "é"}')], id="anything else is said as JSON"),
        pytest.param(
            {"input": "hi", "prompt_template": "You help."},
            [("system", "You help."), ("user", "hi")],
            id="a template without placeholders is the system's",
        ),
        pytest.param(
            {"input": "hi", "prompt_template": "Say {what} {{}}", "prompt_variables": {"what": "no"}},
            [("user", "Say no {}")],
            id="a template whose variables are recorded is filled in",
        ),
        pytest.param(
            {"input": "hi", "prompt_template": "Say {what}"},
            [("system", "Say {what}"), ("user", "hi")],
            id="one whose variables are not recorded stands as it is",
        ),
        pytest.param(
            {"input": "hi", "prompt_template": "{a.__class__}", "prompt_variables": {"a": "x"}},
            [("system", "{a.__class__}"), ("user", "hi")],
            id="a template reaches into nothing",
        ),
        pytest.param(
            {"input": MESSAGES, "prompt_template": "unused"},
            [("system", "Be brief."), ("user", "Charged\ntwice")],
            id="recorded messages come first",
        ),
        pytest.param(
            {"input": [{"role": "human", "content": "hi"}]}, [("user", "hi")], id="roles have one name"
        ),
    ],
)
def test_a_conversation_is_what_was_recorded(values, told):
    assert [(each["role"], each["content"]) for each in chat_of(**values)] == [*told, ("assistant", "Yes.")]


def test_tool_calls_keep_their_ids_and_name_their_tools():
    example = json.loads(formats.openai_chat(corrected("Yes.", input=CALLED, tools=FIND)))

    call, result = example["messages"][2:4]
    assert call == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"n": 2}'}}
        ],
    }
    assert result == {"role": "tool", "tool_call_id": "c1", "content": '{"found": true}'}
    assert [tool["function"]["name"] for tool in example["tools"]] == ["find"]


IMAGE = [{"role": "user", "parts": [{"type": "blob", "content": "iVBOR"}]}]


@pytest.mark.parametrize(
    ("make", "values", "reason"),
    [
        (formats.openai_chat, {"input": IMAGE}, "message_part_blob"),
        (formats.openai_chat, {}, "no_input"),
        (formats.openai_chat, {"input": [{"role": "critic", "content": "x"}]}, "unknown_role"),
        (formats.openai_chat, {"input": [{"role": "user", "parts": []}]}, "empty_message"),
        (formats.openai_chat, {"input": CALLED}, "tool_calls_without_tools"),
        (formats.openai_chat, {"input": CALLED[:3], "tools": FIND}, "tool_call_without_result"),
        (formats.openai_chat, {"input": CALLED[3:], "tools": FIND}, "tool_result_without_call"),
        (formats.openai_chat, {"input": "\ud800"}, "no_unicode_text"),
        (formats.preference, {"input": "hi"}, "no_output"),
        (formats.preference, {"input": "hi", "output": "Yes."}, "correction_equals_output"),
        (formats.preference_trl, {"input": CALLED, "output": "No."}, "tool_calls_have_no_place_here"),
        (formats.promptfoo, {"input": "{{ env.KEY }}"}, "promptfoo_would_read_it_as_template"),
        (formats.promptfoo, {"input": "file:///etc/passwd"}, "promptfoo_would_read_it_as_template"),
    ],
)
def test_what_has_no_place_in_a_format_is_left_out_by_a_named_reason(make, values, reason):
    with pytest.raises(Unfit) as unfit:
        make(corrected("Yes.", **values))

    assert unfit.value.reason == reason


@pytest.mark.parametrize(
    "make",
    [formats.openai_chat, formats.preference, formats.preference_trl, formats.inspect, formats.promptfoo],
)
def test_without_ground_truth_there_is_nothing_to_learn(make):
    with pytest.raises(Unfit, match="no_ground_truth"):
        make(row(input="hi", output="No."))


def test_nesting_beyond_what_can_be_read_is_left_out():
    deep = corrected("Yes.") | {"input": "[" * 100_000 + "]" * 100_000}

    with pytest.raises(Unfit, match="nested_too_deeply"):
        formats.openai_chat(deep)


def test_a_preference_pair_prefers_the_correction_to_what_was_said():
    pair = json.loads(formats.preference(corrected("Yes.", input="hi", output="No.")))

    assert pair == {
        "input": {"messages": [{"role": "user", "content": "hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Yes."}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    plain = json.loads(formats.preference_trl(corrected("Yes.", input="hi", output="No.")))
    assert (plain["chosen"], plain["rejected"]) == (pair["preferred_output"], pair["non_preferred_output"])
    assert plain["prompt"] == pair["input"]["messages"]


def test_a_sample_of_inspect_has_its_decision_as_id_and_says_who_corrected():
    sample = json.loads(formats.inspect(corrected({"ok": 1}, input="hi", prompt_version="2")))

    assert (sample["input"], sample["target"], sample["id"]) == ("hi", '{"ok": 1}', row()["decision_id"])
    assert sample["metadata"]["corrected_by"] == "dana"
    assert sample["metadata"]["prompt_version"] == "2"


def test_inspect_gets_tool_arguments_as_an_object():
    sample = json.loads(formats.inspect(corrected("Yes.", input=CALLED)))

    assert sample["input"][2]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": "find", "arguments": {"n": 2}}
    ]


def test_a_test_of_promptfoo_compares_structured_outputs_as_such():
    (test,) = yaml.safe_load(formats.promptfoo(corrected({"ok": 1}, input={"a": ["x", "y"], "b": "z"})))

    # A list would make promptfoo run the test for each member.
    assert test["vars"] == {"a": '["x", "y"]', "b": "z"}
    assert test["assert"] == [{"type": "equals", "value": {"ok": 1}}]


def test_hostile_text_survives_every_format():
    asked = corrected(HOSTILE, input=HOSTILE, output="No.")

    chat = json.loads(formats.openai_chat(asked))
    assert [each["content"] for each in chat["messages"]] == [HOSTILE, HOSTILE]
    assert json.loads(formats.preference(asked))["preferred_output"][0]["content"] == HOSTILE
    assert json.loads(formats.inspect(asked))["target"] == HOSTILE
    (test,) = yaml.safe_load(formats.promptfoo(asked))
    assert (test["vars"]["input"], test["assert"][0]["value"]) == (HOSTILE, HOSTILE)
    record = json.loads(formats.jsonl(asked))
    assert (record["input"], record["ground_truth"]["output"]) == (HOSTILE, HOSTILE)
    for make in (formats.openai_chat, formats.preference, formats.inspect, formats.promptfoo, formats.jsonl):
        assert b"\n" not in make(asked)


def test_json_lines_keep_content_as_it_is_stored_on_one_line():
    stored = row() | {"input": '{\n  "n": 1.0e400,\n  "id": 123456789012345678901234567890\r\n}'}

    line = formats.jsonl(stored)

    assert b"\n" not in line
    assert b'"n": 1.0e400' in line
    assert b"123456789012345678901234567890" in line


def test_an_answer_of_several_messages_is_no_target():
    with pytest.raises(Unfit, match="several_output_messages"):
        messages.answered(
            json.dumps([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}])
        )
