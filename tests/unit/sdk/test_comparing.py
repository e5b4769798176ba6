"""`grid.compare`: what is asked, and the verdict of a caller's own equality."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopgrid import LoopGrid, errors
from loopgrid.results import Comparison
from tests.support.otlp_receiver import Answer

ID = f"{1:032x}-{1:016x}"
OTHER = f"{2:032x}-{2:016x}"
REPLAY = f"rpl_{1:032x}"


def comparison(left: Any, right: Any, truth: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "verdict": "changed",
        "why": "so",
        "equality": {"text": "exact"},
        "agreement": {
            "outputs": False,
            "left": None if truth is None else False,
            "right": None if truth is None else False,
        },
        "decision": {"output": left, "incorrect": False},
        "replay": {"replay_id": REPLAY},
        "result": {"output": right},
        "ground_truth": None if truth is None else {"output": truth},
    } | fields


def by_length(one: str, other: str) -> bool:
    return len(one) == len(other)


def test_a_replay_is_asked_for_by_address_and_two_decisions_by_body(receiver):
    receiver.script(*[Answer(200, {}, json.dumps(comparison("a", "b")).encode())] * 4)
    with LoopGrid(endpoint=receiver.url) as grid:
        grid.compare(ID, REPLAY)
        grid.compare(ID, REPLAY, equality={"fields": ["/a"]})
        grid.compare(ID, OTHER, equality="normalised")
        grid.compare(REPLAY)

    assert [(each.method, each.path, json.loads(each.body or b"null")) for each in receiver.requests] == [
        ("GET", f"/v1/decisions/{ID}/compare/{REPLAY}", None),
        ("GET", f"/v1/decisions/{ID}/compare/{REPLAY}?equality=%7B%22fields%22%3A+%5B%22%2Fa%22%5D%7D", None),
        ("POST", "/v1/compare", {"left": ID, "right": OTHER, "equality": "normalised"}),
        ("POST", "/v1/compare", {"right": REPLAY}),
    ]


def test_a_rule_and_a_function_together_are_refused():
    with LoopGrid() as grid, pytest.raises(errors.Invalid, match="either equality or equal"):
        grid.compare(ID, REPLAY, equality="exact", equal=by_length)


@pytest.mark.parametrize(
    ("left", "right", "truth", "verdict", "agreement"),
    [
        ("a", "b", None, "unchanged", (True, None, None)),
        ("a", "bb", None, "changed", (False, None, None)),
        ("a", "bb", "cc", "fixed", (False, False, True)),
        ("aa", "b", "cc", "newly_broken", (False, True, False)),
        ("a", "b", "cc", "still_wrong", (True, False, False)),
        ("aa", "bb", "cc", "unchanged", (True, True, True)),
    ],
)
def test_a_function_of_the_callers_says_when_outputs_are_equal(left, right, truth, verdict, agreement):
    judged = Comparison.judged_by(by_length, comparison(left, right, truth))

    assert judged.verdict == verdict
    assert tuple(judged.agreement.values()) == agreement
    assert judged.equality["function"].endswith(":by_length")


def test_what_could_not_be_compared_stays_so_and_the_function_is_not_asked():
    nobody = {"outputs": None, "left": None, "right": None}
    answer = comparison("a", "b", "c", verdict="not_comparable", agreement=nobody)

    judged = Comparison.judged_by(lambda one, other: pytest.fail(f"asked about {one} and {other}"), answer)

    assert (judged.verdict, judged.why) == ("not_comparable", "so")


def test_what_the_function_raises_is_raised():
    with pytest.raises(TypeError, match="len"):
        Comparison.judged_by(by_length, comparison(1, 2))


def test_a_coroutine_function_is_refused():
    async def later(one: Any, other: Any) -> bool:
        return bool(one == other)

    with pytest.raises(errors.Invalid, match="answer at once"):
        Comparison.judged_by(later, comparison(1, 2))  # type: ignore[arg-type]  # the claim
