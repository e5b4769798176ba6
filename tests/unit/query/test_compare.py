"""Comparing: what differs, and what that means."""

from __future__ import annotations

from typing import Any

import pytest

from loopgrid_query import compare
from loopgrid_query.compare import Judgement

WRONG = {"response": "Your account looks fine."}
RIGHT = {"response": "Refund initiated."}
OTHER = {"response": "Please call us."}
NONE = object()


def verdict(original: Any, result: Any, truth: Any = NONE, **replay: Any) -> Judgement:
    decision = {"output": original, "incorrect": False}
    state = {"status": "completed", "reason": None, **replay}
    corrected = None if truth is NONE else {"output": truth}
    return compare.judge(decision, state, {"output": result}, corrected)[0]


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
    decision = {"output": WRONG, "incorrect": False}
    judgement, why = compare.judge(decision, {"status": status, "reason": "because"}, None, {"output": RIGHT})

    assert judgement is Judgement.NOT_COMPARABLE
    assert why.endswith("because")


def test_a_failed_replay_is_not_comparable_even_though_it_left_a_decision():
    assert verdict(WRONG, None, RIGHT, status="failed") is Judgement.NOT_COMPARABLE


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
    pieces = compare.text_difference(before, after)

    assert "".join(piece["text"] for piece in pieces if piece["op"] != "insert") == before
    assert "".join(piece["text"] for piece in pieces if piece["op"] != "delete") == after
    assert pieces[0] == {"op": "equal", "text": "Your account "}


def test_texts_too_long_to_compare_word_by_word_are_still_told():
    long = {"decision": "a " * 5000, "replay": "b " * 5000}
    (told,) = compare.differences(long)

    assert told["text"] is None
    assert told["replay"] == long["replay"]


def test_outputs_that_differ_everywhere_are_told_up_to_a_bound():
    told = compare.differences({"decision": list(range(5000)), "replay": list(range(1, 5001))})

    assert len(told) == compare.MAX_DIFFERENCES


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
