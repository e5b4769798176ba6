"""A trace as a tree, and sums that count nothing twice."""

from __future__ import annotations

from typing import Any

from loopgrid_query.trace_tree import in_tree_order, totals


def span(
    name: str, parent: str | None = None, kind: str = "inference", tokens: int | None = None
) -> dict[str, Any]:
    return {
        "span_id": name,
        "parent_span_id": parent,
        "kind": kind,
        "input_tokens": tokens,
        "output_tokens": None if tokens is None else 1,
    }


def shape(*spans: dict[str, Any]) -> list[tuple[str, int]]:
    return [(told["span_id"], told["depth"]) for told in in_tree_order(spans)]


def test_parents_come_before_children_and_siblings_in_order_of_time():
    told = shape(span("c", "b"), span("a"), span("b", "a"), span("d", "a"), span("e", "b"))

    assert told == [("a", 0), ("b", 1), ("c", 2), ("e", 2), ("d", 1)]


def test_a_span_whose_parent_is_elsewhere_is_a_root():
    assert shape(span("a", "missing"), span("b", "a")) == [("a", 0), ("b", 1)]


def test_spans_that_are_each_others_parents_are_told_once():
    assert sorted(name for name, _ in shape(span("a", "b"), span("b", "a"), span("c", "c"))) == [
        "a",
        "b",
        "c",
    ]


def test_a_very_deep_trace_is_told():
    spans = [span("0")] + [span(str(n), str(n - 1)) for n in range(1, 20_000)]

    assert shape(*spans)[-1] == ("19999", 19_999)


def summed(*spans: dict[str, Any]) -> dict[str, Any]:
    return totals(in_tree_order(spans))


def test_model_calls_inside_a_decision_that_reports_no_tokens_are_added_up():
    found = summed(span("a", kind="decision"), span("b", "a", tokens=3), span("c", "a", tokens=4))

    assert (found["spans"], found["model_calls"]) == (3, 2)
    assert (found["input_tokens"], found["output_tokens"], found["reasoning_tokens"]) == (7, 2, None)


def test_tokens_that_two_nested_spans_report_are_counted_once():
    found = summed(
        span("a", kind="decision", tokens=7),
        span("b", "a", tokens=3),
        span("t", "a", "tool"),
        span("c", "t", tokens=4),
    )

    assert found["input_tokens"] == 7


def test_a_call_of_another_model_inside_a_call_is_counted_beside_it():
    found = summed(span("a", tokens=3), span("b", "a", tokens=4))

    assert (found["input_tokens"], found["model_calls"]) == (7, 2)


def test_a_span_that_records_a_call_once_more_is_left_out():
    spans = in_tree_order([span("a", kind="decision"), span("b", "a", tokens=3), span("c", "a", tokens=3)])

    found = totals(spans, {"c"})

    assert (found["input_tokens"], found["model_calls"], found["spans"]) == (3, 1, 3)


def test_an_agent_that_sums_up_its_calls_is_not_counted_beside_them():
    found = summed(span("a", kind="agent", tokens=7), span("b", "a", tokens=3), span("c", "a", tokens=4))

    assert found["input_tokens"] == 7


def test_two_decisions_side_by_side_are_both_counted():
    assert (
        summed(span("a", kind="decision", tokens=1), span("b", kind="decision", tokens=2))["input_tokens"]
        == 3
    )


def test_tokens_nobody_reports_are_unknown_rather_than_zero():
    assert summed(span("a"))["input_tokens"] is None
