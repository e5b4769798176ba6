"""The parts of a comparison: prompts, messages, tool calls, measures, and what is too large."""

from __future__ import annotations

from typing import Any

from loopgrid_query.compare import Large, content
from loopgrid_query.compare.parts import Around, parts


def record(output: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "input": None,
        "output": output,
        "prompt": {"name": None, "version": None, "template": None, "variables": None},
        "usage": dict.fromkeys(
            ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
        ),
        "duration_ms": None,
        "cost_usd": None,
    } | fields


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def test_a_decision_beside_itself_differs_in_nothing():
    messages = [said("user", "hello"), said("assistant", "hi")]
    one = record([said("assistant", "yes")], input=messages, duration_ms=5.0)
    around = Around("rendered", [{"name": "find", "arguments": {"a": 1}}])
    told = parts(one, one, one["output"], (around, around))

    assert told["output_diff"] == told["correction_diff"] == {"structure": [], "text": None}
    assert told["prompt_diff"] == {"fields": [], "template": None, "rendered": None, "variables": []}
    nothing: dict[str, Any] = {"added": [], "removed": [], "changed": []}
    assert told["message_diff"] == {"unchanged": 2, **nothing}
    assert told["tool_call_diff"] == {"unchanged": 1, **nothing}
    assert told["measures"]["duration_ms"] == {"left": 5.0, "right": 5.0, "difference": 0.0}
    assert told["notes"] == []


def test_a_prompt_differs_in_name_version_template_rendered_text_and_variables():
    left = record(prompt={"name": "support", "version": "1", "template": "Hi {x}", "variables": {"x": "1"}})
    right = record(prompt={"name": "support", "version": "2", "template": "Yo {x}", "variables": {"x": "2"}})
    told = parts(left, right, around=(Around("Hi 1"), Around("Yo 2")))["prompt_diff"]

    assert told["fields"] == [{"field": "version", "left": "1", "right": "2"}]
    assert told["template"].splitlines()[-2:] == ["-Hi {x}", "+Yo {x}"]
    assert told["rendered"].splitlines()[-2:] == ["-Hi 1", "+Yo 2"]
    assert told["variables"] == [{"op": "changed", "path": "/x", "left": "1", "right": "2"}]


def test_a_message_put_in_at_the_front_moves_no_other():
    before = [said("user", "hello"), said("assistant", "hi")]
    after = [said("system", "be brief"), said("user", "hello"), said("assistant", "hi!")]
    told = parts(record(input=before), record(input={"messages": after}))["message_diff"]

    assert told["unchanged"] == 1
    assert told["added"] == [{"index": 0, "message": after[0]}]
    assert told["removed"] == []
    (changed,) = told["changed"]
    assert (changed["left_index"], changed["right_index"]) == (1, 2)
    assert changed["text"].splitlines()[-2:] == ["-hi", "+hi!"]


def test_inputs_without_messages_have_no_difference_of_messages():
    told = parts(record(input={"message": "x"}), record(input={"message": "y"}))

    assert told["message_diff"] is None


def test_tool_calls_are_told_as_added_removed_and_made_with_other_arguments():
    left = [{"name": "find", "arguments": {"order": 1}}, {"name": "close", "arguments": {}}]
    right = [
        {"name": "find", "arguments": {"order": 2}},
        {"name": "refund", "arguments": {"amount": 5}},
    ]
    told = parts(record(), record(), around=(Around(None, left), Around(None, right)))["tool_call_diff"]

    assert told["changed"] == [
        {
            "name": "find",
            "left_index": 0,
            "right_index": 0,
            "arguments": [{"op": "changed", "path": "/order", "left": 1, "right": 2}],
        }
    ]
    assert told["removed"] == [{"index": 1, "name": "close", "arguments": {}}]
    assert told["added"] == [{"index": 1, "name": "refund", "arguments": {"amount": 5}}]


def test_what_a_model_asked_for_counts_where_no_tool_ran():
    part = {"type": "tool_call", "name": "find", "arguments": {"a": 1}}
    told = parts(record([{"role": "assistant", "parts": [part]}]), record([said("assistant", "no")]))

    assert told["tool_call_diff"]["removed"] == [{"index": 0, "name": "find", "arguments": {"a": 1}}]


def test_a_measure_that_one_side_does_not_know_has_no_difference():
    usage = {**record()["usage"], "input_tokens": 7}
    told = parts(record(usage=usage, cost_usd=0.25), record(usage=usage | {"input_tokens": 9}))["measures"]

    assert told["input_tokens"] == {"left": 7, "right": 9, "difference": 2}
    assert told["cost_usd"] == {"left": 0.25, "right": None, "difference": None}
    assert told["output_tokens"] == {"left": None, "right": None, "difference": None}


def test_a_value_too_large_to_be_looked_into_is_compared_by_digest_and_that_is_said():
    told = parts(record(Large.of("one")), record(Large.of("two")), around=(Around(), Around()))

    assert told["output_diff"] is None
    assert told["notes"] == [
        "Output: longer than 4194304 characters; no difference was made. The digests differ."
    ]


def test_texts_of_too_many_lines_have_no_text_difference_and_that_is_said():
    notes: list[str] = []

    assert content.unified("a\n" * 2500, "b\n" * 2500, "Output", notes) is None
    assert notes == ["Output: 2501 and 2501 lines are too many for a text difference."]


def test_more_messages_than_can_be_put_beside_each_other_are_said_to_be_too_many():
    notes: list[str] = []
    many = [said("user", str(number)) for number in range(content.MAX_MESSAGES + 1)]

    assert content.messages(many, many[:1], notes) is None
    assert len(notes) == 1


def test_a_structural_difference_that_is_cut_off_says_so():
    notes: list[str] = []
    told = content.structure(list(range(3000)), list(range(1, 3001)), "Output", notes)

    assert len(told) == 1000
    assert notes == ["Output: only the first 1000 differences are told."]
