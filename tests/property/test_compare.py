"""Laws of comparison, for any JSON."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query import compare
from loopgrid_query.compare import ABSENT, Equality, Judgement, Side, same
from loopgrid_query.compare.equality import at
from loopgrid_query.compare.structure import structural

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab~/0", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
RULES = st.builds(
    Equality,
    normalised=st.booleans(),
    ignore_case=st.booleans(),
    fields=st.lists(st.sampled_from(["", "/a", "/0", "/a/b", "/~1"]), max_size=2).map(tuple),
    absolute=st.sampled_from([0, 0.5]),
    relative=st.sampled_from([0, 0.1]),
)
SIDES = st.builds(
    Side,
    output=JSON | st.just(ABSENT) | st.just(compare.Large.of("x")),
    failure=st.none() | st.just("it failed"),
    lossiness=st.lists(st.sampled_from(["output:truncated", "output.a:redacted", "input:x"]), max_size=1).map(
        tuple
    ),
)


def applied(left: Any, operations: list[dict[str, Any]]) -> Any:
    """Left after what a structural difference says."""
    root = {"": copy.deepcopy(left)}

    def holder(path: str) -> tuple[Any, Any]:
        if not path:
            return root, ""
        above, _, step = path.rpartition("/")
        place = at(root[""], above)
        name = step.replace("~1", "/").replace("~0", "~")
        return place, int(name) if isinstance(place, list) else name

    for operation in operations:
        if operation["op"] == "removed":
            continue
        place, step = holder(operation["path"])
        if isinstance(place, list) and step == len(place):
            place.append(operation["right"])
        else:
            place[step] = operation["right"]
    for operation in reversed(operations):
        if operation["op"] == "removed":
            place, step = holder(operation["path"])
            del place[step]
    return root[""]


@given(JSON)
def test_a_value_has_no_difference_from_itself(value):
    assert structural(value, copy.deepcopy(value)) == ([], True)


@given(JSON, JSON)
def test_left_with_its_difference_applied_is_right(left, right):
    operations, whole = structural(left, right)

    assert whole
    assert same(applied(left, operations), right)
    assert (operations == []) is same(left, right)


@given(RULES, JSON, JSON)
def test_every_equality_holds_both_ways_and_of_a_value_with_itself(rule, one, other):
    assert rule.equal(one, copy.deepcopy(one))
    assert rule.equal(one, other) is rule.equal(other, one)
    assert not same(one, other) or rule.equal(one, other)


@given(SIDES, SIDES | st.none(), JSON | st.just(ABSENT), RULES)
def test_every_comparison_has_one_verdict_that_fits_who_agrees_with_whom(left, right, truth, rule):
    verdict = compare.judge(left, right, truth, equality=rule)

    assert verdict.why
    match verdict.agreement():
        case {"outputs": None, "left": None, "right": None}:
            assert verdict.judgement is Judgement.NOT_COMPARABLE
        case {"outputs": equal, "left": None, "right": None}:
            assert truth is ABSENT
            assert verdict.judgement is (Judgement.UNCHANGED if equal else Judgement.CHANGED)
        case {"outputs": bool(), "left": bool(was), "right": bool(now)}:
            assert (
                verdict.judgement
                is {
                    (False, True): Judgement.FIXED,
                    (False, False): Judgement.STILL_WRONG,
                    (True, False): Judgement.NEWLY_BROKEN,
                    (True, True): Judgement.UNCHANGED,
                }[was, now]
            )
        case other:
            pytest.fail(f"half a verdict: {other}")


@given(JSON, JSON | st.just(ABSENT))
def test_a_decision_beside_itself_is_never_fixed_broken_or_changed(output, truth):
    judgement = compare.judge(Side(output), Side(copy.deepcopy(output)), truth).judgement

    assert judgement in {Judgement.UNCHANGED, Judgement.STILL_WRONG}
