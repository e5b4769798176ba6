"""Comparing: what differs, and what that means."""

from __future__ import annotations

from typing import Any

import pytest

from loopgrid_query import compare
from loopgrid_query.compare import Judgement, Side
from loopgrid_query.compare.places import MAX_DIFFERENCES, text_difference
from loopgrid_query.compare.structure import structural

WRONG = {"response": "Your account looks fine."}
RIGHT = {"response": "Refund initiated."}
OTHER = {"response": "Please call us."}
NONE = object()


def verdict(original: Any, result: Any, truth: Any = NONE, **replay: Any) -> Judgement:
    right = None if replay else Side(result)
    return compare.judge(Side(original), right, compare.ABSENT if truth is NONE else truth).judgement


@pytest.mark.parametrize(
    ("original", "result", "truth", "expected"),
    [
        (WRONG, RIGHT, RIGHT, Judgement.FIXED),
        (WRONG, WRONG, RIGHT, Judgement.STILL_WRONG),
        (WRONG, OTHER, RIGHT, Judgement.STILL_WRONG),
        (RIGHT, OTHER, RIGHT, Judgement.NEWLY_BROKEN),
        (RIGHT, RIGHT, RIGHT, Judgement.UNCHANGED),
        (WRONG, OTHER, NONE, Judgement.CHANGED),
        (WRONG, WRONG, NONE, Judgement.UNCHANGED),
        (None, None, None, Judgement.UNCHANGED),
        (WRONG, None, None, Judgement.FIXED),
    ],
)
def test_the_judgement_goes_against_the_ground_truth_where_there_is_one(original, result, truth, expected):
    assert verdict(original, result, truth) is expected


@pytest.mark.parametrize("status", ["refused", "pending", "cancelled", "failed"])
def test_a_replay_without_a_good_end_is_not_comparable_and_says_why(status):
    nothing = compare.why_nothing({"status": status, "reason": "because"})
    verdict = compare.judge(Side(WRONG), None, RIGHT, nothing=nothing)

    assert verdict.judgement is Judgement.NOT_COMPARABLE
    assert verdict.why.endswith("because")
    assert verdict.agreement() == {"outputs": None, "left": None, "right": None}


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (Side(WRONG, failure="TimeoutError"), Side(RIGHT), "The decision failed: TimeoutError"),
        (Side(WRONG), Side(RIGHT, failure="no"), "The replay failed: no"),
        (Side(compare.ABSENT), Side(RIGHT), "The decision has no output on record."),
        (Side(WRONG), Side(compare.ABSENT), "The replay has no output on record."),
        (Side(WRONG, lossiness=("input:truncated", "output:truncated:9:sha256=0")), Side(RIGHT), "not whole"),
        (Side(WRONG, lossiness=("output.customer.iban:redacted",)), Side(RIGHT), "not whole"),
        (Side(WRONG), Side(RIGHT, lossiness=("output[0].text:redaction_failed:ValueError",)), "not whole"),
        (Side(WRONG, lossiness=("output:incomplete:closed",)), Side(RIGHT), "not whole"),
        (Side(WRONG, lossiness=("masked:output",)), Side(RIGHT), "not whole"),
        (Side(compare.Large.of("a")), Side(RIGHT), "not looked into"),
        (Side(compare.Large.of("a")), Side(compare.Large.of("b")), "not looked into"),
    ],
)
def test_what_is_not_whole_is_not_comparable_and_says_why(left, right, said):
    for truth in (compare.ABSENT, RIGHT):
        verdict = compare.judge(left, right, truth)

        assert verdict.judgement is Judgement.NOT_COMPARABLE
        assert said in verdict.why


@pytest.mark.parametrize(
    "lossiness",
    [("input.message:truncated",), ("output:unparsable",), ("outputs:redacted",), ("scrubbed:x",)],
)
def test_losses_elsewhere_do_not_keep_outputs_from_being_compared(lossiness):
    assert compare.judge(Side(WRONG, lossiness=lossiness), Side(RIGHT)).judgement is Judgement.CHANGED


@pytest.mark.parametrize(
    ("lost", "fields", "counts"),
    [
        ("output.note:redacted", ("/action",), False),
        ("output.action:redacted", ("/action",), True),
        ("output.action.inner:redacted", ("/action",), True),
        ("output:truncated:9", ("/action",), True),
        ("output.items[0].text:truncated:9", ("/items/0/text",), True),
        ("output.items[1].text:truncated:9", ("/items/0/text",), False),
        ("output.actions:redacted", ("/action",), False),
    ],
)
def test_only_the_fields_that_count_must_be_whole(lost, fields, counts):
    output = {"action": "x", "items": [{"text": "y"}]}
    rule = compare.Equality(fields=fields)
    verdict = compare.judge(Side(output, lossiness=(lost,)), Side(output), equality=rule)

    assert (verdict.judgement is Judgement.NOT_COMPARABLE) is counts


def test_a_field_that_no_output_has_is_said_and_does_not_count_as_equal():
    rule = compare.Equality(fields=("/response", "/acton"))
    verdict = compare.judge(Side(WRONG), Side(WRONG), equality=rule)

    assert verdict.judgement is Judgement.NOT_COMPARABLE
    assert "/acton" in verdict.why


def test_outputs_too_large_to_be_looked_into_are_unchanged_where_their_texts_are_the_same():
    large = compare.Large.of("x" * 10)

    assert compare.judge(Side(large), Side(compare.Large.of("x" * 10))).judgement is Judgement.UNCHANGED


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([1, 2], [2, 1], False),
        ({"a": None}, {}, False),
        ("a", "a ", False),
        ({"a": [{"b": True}]}, {"a": [{"b": 1}]}, False),
        (10**30, 10**30, True),
    ],
)
def test_values_are_the_same_when_their_json_says_the_same(one, other, expected):
    assert compare.same(one, other) is expected


def test_sameness_does_not_depend_on_the_depth_of_the_call_stack():
    deep: Any = 1
    also: Any = 1
    for _ in range(20_000):
        deep, also = [deep], [also]

    assert compare.same(deep, also)
    assert not compare.same(deep, [also])


def test_a_difference_names_its_place_and_the_three_values():
    told = compare.differences({"decision": WRONG, "replay": OTHER, "correction": RIGHT})

    assert [place["path"] for place in told] == ["$.response"]
    assert told[0]["decision"] == WRONG["response"]
    assert told[0]["replay"] == OTHER["response"]
    assert told[0]["correction"] == RIGHT["response"]
    assert told[0]["absent"] == []


def test_missing_and_null_are_told_apart():
    told = compare.differences({"decision": {"a": None}, "replay": {}})

    assert told == [
        {
            "path": "$.a",
            "decision": None,
            "replay": None,
            "correction": None,
            "absent": ["replay", "correction"],
            "text": None,
            "text_to_correction": None,
        }
    ]


def test_without_a_correction_only_decision_and_replay_are_compared():
    outputs = {"decision": {"a": 1, "b": 2}, "replay": {"a": 1, "b": 3}}

    assert [place["path"] for place in compare.differences(outputs)] == ["$.b"]


def test_one_output_alone_differs_from_nothing():
    assert compare.differences({"decision": WRONG}) == []


def test_paths_reach_into_lists_and_through_names_that_need_quotes():
    before = {"a b": [{"it's": 1}, 2]}
    after = {"a b": [{"it's": 9}]}

    paths = [place["path"] for place in compare.differences({"decision": before, "replay": after})]

    assert paths == ["$['a b'][0]['it\\'s']", "$['a b'][1]"]


def test_values_of_different_kinds_are_told_whole():
    told = compare.differences({"decision": {"a": [1]}, "replay": {"a": {"b": 1}}})

    assert [(place["path"], place["decision"], place["replay"]) for place in told] == [("$.a", [1], {"b": 1})]


def test_an_object_that_only_one_side_has_is_told_whole():
    told = compare.differences({"decision": {}, "replay": {"a": {"b": 1, "c": 2}}})

    assert [(place["path"], place["replay"]) for place in told] == [("$.a", {"b": 1, "c": 2})]


def test_a_text_difference_gives_both_texts_back():
    before = "Your account looks fine, thanks.\nBye"
    after = "Your account has a duplicate charge.\nBye"
    pieces = text_difference(before, after)

    assert "".join(piece["text"] for piece in pieces if piece["op"] != "insert") == before
    assert "".join(piece["text"] for piece in pieces if piece["op"] != "delete") == after
    assert pieces[0] == {"op": "equal", "text": "Your account "}


def test_texts_too_long_to_compare_word_by_word_are_still_told():
    long = {"decision": "a " * 5000, "replay": "b " * 5000}
    (told,) = compare.differences(long)

    assert told["text"] is None
    assert told["replay"] == long["replay"]


def test_texts_that_repeat_few_words_are_told_without_a_difference_of_words():
    repeated = {"decision": "a b " * 500, "replay": "b c " * 500}
    (told,) = compare.differences(repeated)

    assert told["text"] is None


def test_deep_and_wide_outputs_cost_no_more_than_their_size():
    def nested(leaf: int) -> Any:
        value: Any = [leaf] * 20_000
        for _ in range(2000):
            value = [value]
        return value

    assert len(compare.differences({"decision": nested(1), "replay": nested(2)})) == MAX_DIFFERENCES
    assert len(structural(nested(1), nested(2))[0]) == MAX_DIFFERENCES


def test_outputs_that_differ_everywhere_are_told_up_to_a_bound():
    told = compare.differences({"decision": list(range(5000)), "replay": list(range(1, 5001))})

    assert len(told) == MAX_DIFFERENCES


def test_changes_tell_what_was_overridden_and_what_merely_moved():
    decision: dict[str, Any] = {
        "input": {"message": "x"},
        "prompt": {"name": "support", "version": "1", "template": "one", "variables": None},
        "model": {"provider": "openai", "name": "gpt-4", "response_name": "gpt-4-0613", "parameters": None},
    }
    result = {
        **decision,
        "prompt": {**decision["prompt"], "version": None, "template": "two"},
        "model": {**decision["model"], "response_name": None},
    }

    told = compare.changes(decision, result, {"prompt": {"template": "two"}})

    assert [(change["path"], change["overridden"]) for change in told] == [
        ("prompt.version", False),
        ("prompt.template", True),
        ("model.response_name", False),
    ]


def test_an_overridden_part_covers_everything_below_it():
    decision = {"input": None, "prompt": {}, "model": {"parameters": {"temperature": 0.1}}}
    result = {"input": None, "prompt": {}, "model": {"parameters": {"temperature": 0.9, "seed": 1}}}

    told = compare.changes(decision, result, {"model": {"parameters": {"temperature": 0.9}}})

    assert {change["path"]: change["overridden"] for change in told} == {
        "model.parameters.temperature": True,
        "model.parameters.seed": False,
    }
