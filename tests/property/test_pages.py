"""Pages of decisions, which are walked, say what the view says of the whole ledger, in both directions."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from loopgrid_query import pages
from loopgrid_query.corrections import Corrections
from loopgrid_query.decisions import Decisions
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.models import CorrectionRequest, MarkRequest
from loopgrid_query.queries import Reader
from tests.support.ledgers import House, house

KINDS = {
    "decision": {"loopgrid.decision.type": "refund"},
    "inference": {"gen_ai.operation.name": "chat"},
    "tool": {"gen_ai.operation.name": "execute_tool"},
    "other": {},
}

spans = st.fixed_dictionaries(
    {
        "trace": st.integers(1, 4),
        "parent": st.integers(0, 12),
        "kind": st.sampled_from(["decision", "inference", "inference", "inference", "tool", "other"]),
        # Several at one microsecond, some at one nanosecond, one without a start.
        "start": st.sampled_from([0, 10**18, 10**18 + 1, 10**18 + 900, 10**18 + 1000, 10**18 + 5000]),
        "length": st.sampled_from([0, 500, 1000, 10_000]),
        "scope": st.sampled_from(["one", "two"]),
        "model": st.sampled_from([None, "gpt-4", "gpt-5"]),
        "response": st.sampled_from([None, None, "r1", "r2"]),
        "text": st.sampled_from([None, "a blender", "a card"]),
        "user": st.sampled_from([None, "ann"]),
    }
)
FILTERS: list[dict[str, str]] = [
    {},
    {"model": "gpt-4"},
    {"q": "BLENDER"},
    {"kind": "inference"},
    {"user_id": "ann", "include_replays": "true"},
    {"incorrect": "true"},
    {"corrected": "false", "q": "card"},
    {"from": "2001-09-09T01:46:40Z", "to": "2001-09-09T01:46:40.000003Z"},
    {"to": "1970-01-01T00:00:00Z"},
]


def fill(home: House, given_spans: list[dict[str, Any]]) -> None:
    scopes: dict[str, list[Span]] = {"one": [], "two": []}
    for number, span in enumerate(given_spans, 1):
        values = dict(KINDS[span["kind"]])
        if span["model"]:
            values["gen_ai.request.model"] = span["model"]
        if span["response"]:
            values["gen_ai.response.id"] = span["response"]
        if span["user"]:
            values["user.id"] = span["user"]
        if span["text"]:
            part = {"type": "text", "content": span["text"]}
            values["gen_ai.input.messages"] = json.dumps([{"role": "user", "parts": [part]}])
        scopes[span["scope"]].append(
            Span(
                trace_id=span["trace"].to_bytes(16, "big"),
                span_id=number.to_bytes(8, "big"),
                # An earlier span or none, so that no rings arise.
                parent_span_id=span["parent"].to_bytes(8, "big") if 0 < span["parent"] < number else b"",
                name="a span",
                start_time_unix_nano=span["start"],
                end_time_unix_nano=span["start"] + span["length"],
                attributes=[
                    KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in values.items()
                ],
            )
        )
    request = ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                scope_spans=[
                    ScopeSpans(scope=InstrumentationScope(name=name), spans=each)
                    for name, each in scopes.items()
                ]
            )
        ]
    )
    receipt = home.ingest.traces_blocking(request.SerializeToString())
    assert receipt.stored == len(given_spans)


def walked(decisions: Decisions, words: dict[str, str], limit: int) -> tuple[list[str], list[str]]:
    """All ids by pages to the end, and by pages back from there."""

    def page(cursor: str | None) -> Any:
        more = {} if cursor is None else {"cursor": cursor}
        return decisions.list([*words.items(), ("limit", str(limit)), *more.items()])

    there, back = [], []
    at = page(None)
    while True:
        there.append([item["decision_id"] for item in at["items"]])
        if at["next_cursor"] is None:
            break
        at = page(at["next_cursor"])
    back.append(there[-1])
    while at["previous_cursor"] is not None:
        at = page(at["previous_cursor"])
        back.append([item["decision_id"] for item in at["items"]])
    return list(chain(*there)), list(chain(*reversed(back)))


@pytest.mark.parametrize("most", [pages.MAX_CANDIDATES, 0], ids=["walked", "reckoned"])
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    given_spans=st.lists(spans, min_size=4, max_size=12),
    words=st.sampled_from(FILTERS),
    limit=st.integers(2, 4),
)
def test_pages_in_both_directions_are_what_the_view_holds(
    tmp_path_factory: pytest.TempPathFactory,
    most: int,
    given_spans: list[dict[str, Any]],
    words: dict[str, str],
    limit: int,
):
    folder: Path = tmp_path_factory.mktemp("pages")
    with house(folder) as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MAX_CANDIDATES", most)
        patch.setattr(pages, "_ROUND", 1)
        fill(home, given_spans)
        reader = Reader(home.ledger)
        decisions = Decisions(reader, home.ingest)
        corrections = Corrections(reader, home.ingest, decisions, KeyedLocks())
        for decision_id in expected(home, {})[:2]:
            corrections.mark(decision_id, MarkRequest.model_validate({"reason": "wrong", "marked_by": "ann"}))
            corrections.correct(
                decision_id, CorrectionRequest.model_validate({"correction": "right", "corrected_by": "ann"})
            )

        there, back = walked(decisions, words, limit)

        assert there == expected(home, words)
        assert back == there


def expected(home: House, words: dict[str, str]) -> list[str]:
    """The same by one plain statement on the view."""
    conditions = {
        "model": "(model_name = ? OR model_response_name = ?)",
        "q": "contains(lower(CAST(input AS VARCHAR)), lower(?))",
        "kind": "kind = ?",
        "user_id": "user_id = ?",
        "incorrect": "incorrect = CAST(? AS BOOLEAN)",
        "corrected": "corrected = CAST(? AS BOOLEAN)",
        "from": "started_at >= CAST(rtrim(?, 'Z') AS TIMESTAMP)",
        "to": "started_at < CAST(rtrim(?, 'Z') AS TIMESTAMP)",
    }
    used = [(conditions[name], value) for name, value in words.items() if name in conditions]
    values = [value for condition, value in used for _ in range(condition.count("?"))]
    text = " AND ".join(["true", *(condition for condition, _ in used)])
    order = "started_at DESC NULLS LAST, decision_id DESC"
    query = f"FROM decisions SELECT decision_id WHERE {text} ORDER BY {order}"
    return [str(row[0]) for row in home.rows(query, *values)]
