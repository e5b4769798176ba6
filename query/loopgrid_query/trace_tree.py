"""A trace's spans as a tree, told parents before children, and sums that count nothing twice. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from loopgrid.schema import Kind

Span = Mapping[str, Any]

_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_COUNTED: Final = frozenset({Kind.DECISION.value, Kind.INFERENCE.value})


def in_tree_order(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """The spans parents first, each with its ``depth`` and its ``owner``: the nearest decision above it.

    A span whose parent is not among them is a root. Spans that are each other's ancestors, which no
    honest producer emits, are told as roots too, each once.

    Args:
        spans: rows with ``span_id``, ``parent_span_id`` and ``kind``, in order of time.
    """
    children: dict[str | None, list[Span]] = defaultdict(list)
    known = {span["span_id"] for span in spans}
    for span in spans:
        parent = span["parent_span_id"]
        children[parent if parent in known else None].append(span)
    told: dict[str, dict[str, Any]] = {}
    for start in [*children[None], *spans]:
        waiting: list[tuple[Span, int, str | None]] = [(start, 0, None)]
        while waiting:
            span, depth, owner = waiting.pop()
            if span["span_id"] in told:
                continue
            is_decision = span["kind"] == Kind.DECISION.value
            told[span["span_id"]] = {**span, "depth": depth, "owner": None if is_decision else owner}
            below = span["span_id"] if is_decision else owner
            waiting.extend((child, depth + 1, below) for child in reversed(children[span["span_id"]]))
    return list(told.values())


def totals(spans: Sequence[Span], repeated: AbstractSet[str] = frozenset()) -> dict[str, Any]:
    """Sums over a trace.

    Decisions and model calls report tokens. Where one of them stands inside a decision that reports
    them as well, the decision's number already holds the inner one's.

    Args:
        spans: as ``in_tree_order`` gives them.
        repeated: ids of spans that record a call once more.
    """
    sums: dict[str, int | None] = dict.fromkeys(_TOKENS)
    # Of the spans above the present one, from the root down: whether one of them was counted.
    covered: list[bool] = []
    for span in spans:
        del covered[span["depth"] :]
        inside = bool(covered) and covered[-1]
        counts = span["kind"] in _COUNTED and span["span_id"] not in repeated
        reports = counts and any(span.get(name) is not None for name in _TOKENS)
        if reports and not inside:
            for name in _TOKENS:
                if span.get(name) is not None:
                    sums[name] = (sums[name] or 0) + span[name]
        covered.append(inside or (reports and span["kind"] == Kind.DECISION.value))
    calls = sum(span["kind"] == Kind.INFERENCE.value and span["span_id"] not in repeated for span in spans)
    return {"spans": len(spans), "model_calls": calls, **sums}
