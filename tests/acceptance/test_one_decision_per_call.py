"""A model call that several instrumentations recorded is one decision, whatever came first."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.support import samples
from tests.support.ledgers import house
from tests.support.spans import SECOND_NS, START_NS, span, traces

STANDING = "SELECT dialect, input_tokens, output_tokens FROM decisions ORDER BY started_at"
MODEL = "claude-sonnet-5"


@contextmanager
def holding(tmp_path, *bodies, logs=()):
    with house(tmp_path) as it:
        for body in bodies:
            it.ingest.traces_blocking(body)
        for body in logs:
            it.ingest.logs_blocking(body)
        yield it


def folder_of(pattern):
    (folder,) = samples.folders(pattern)
    return samples.bodies(folder, "traces"), samples.bodies(folder, "logs")


@pytest.mark.parametrize("order", [1, -1], ids=["as sent", "backwards"])
@pytest.mark.parametrize(
    "pattern",
    [
        "genai-anthropic-*/span-only/messages",
        "genai-anthropic-*/no-content/messages",
        "genai-anthropic-*/span-only/messages-stream",
        "genai-anthropic-*/span-only/messages-thinking",
    ],
)
def test_an_anthropic_call_is_one_decision_and_the_sdks_own_span_a_step_of_it(tmp_path, pattern, order):
    bodies, logs = folder_of(pattern)

    with holding(tmp_path, *bodies[::order], logs=logs) as it:
        assert it.rows(STANDING) == [("genai", 42, 17)]
        assert it.rows("SELECT dialect, owner_decision_id = duplicate_of FROM steps") == [("anthropic", True)]
        assert it.count("spans") == 2


def test_a_failed_anthropic_call_has_no_response_id_and_is_one_decision_by_ancestry(tmp_path):
    bodies, logs = folder_of("genai-anthropic-*/span-only/messages-error-429")

    with holding(tmp_path, *bodies, logs=logs) as it:
        assert [("genai", "error")] == it.rows("SELECT dialect, status FROM decisions")


@pytest.mark.parametrize(
    ("pattern", "calls"),
    [
        ("genai-anthropic-*/event-only/messages-tools", 2),
        ("genai-anthropic-*/span-and-event/messages-tools", 2),
        ("pydantic-ai-*/logfire/tools", 2),
        ("pydantic-ai-*/logfire/chat", 1),
        ("pydantic-ai-*/logfire/stream", 1),
        ("pydantic-ai-*/vdefault/tools", 2),
        ("vercel-ai-*/default/tools", 2),
        ("google-adk-*/default/tools", 2),
    ],
)
def test_totals_over_decisions_count_each_call_once(tmp_path, pattern, calls):
    bodies, logs = folder_of(pattern)

    with holding(tmp_path, *bodies, logs=logs) as it:
        totals = it.rows("SELECT count(*), sum(input_tokens), sum(output_tokens) FROM decisions")

        assert totals == [(calls, 42 * calls, 17 * calls)]


def test_logfires_stream_that_shares_no_id_with_its_call_stays_apart(tmp_path):
    bodies, _ = folder_of("pydantic-ai-*/logfire/openai-direct-stream")

    with holding(tmp_path, *bodies) as it:
        assert it.count("decisions") == 2


def call(number, scope, *, at=0, response="msg_1", lasts=SECOND_NS, content=False, **fields):
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": MODEL,
        **({"gen_ai.response.id": response} if response else {}),
        **(
            {"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"x"}]}]'}
            if content
            else {}
        ),
    }
    start = START_NS + at
    made = span(
        number, start_time_unix_nano=start, end_time_unix_nano=start + lasts, attributes=attributes, **fields
    )
    return traces(made, scope=scope)


def test_a_root_in_another_trace_with_the_same_response_id_is_the_same_call(tmp_path):
    inner = call(2, "com.anthropic.sdk.python", at=10, lasts=SECOND_NS - 20)

    with holding(tmp_path, call(1, "traceloop", content=True), inner) as it:
        assert it.rows("SELECT span_id FROM decisions") == [("0000000000000001",)]
        assert it.rows("SELECT decision_id, duplicate_of, owner_decision_id FROM steps") == [
            (f"{2:032x}-{2:016x}", f"{1:032x}-{1:016x}", f"{1:032x}-{1:016x}")
        ]


def test_the_span_with_content_stands_for_the_call_wherever_it_is(tmp_path):
    inner = call(2, "com.anthropic.sdk.python", at=10, lasts=SECOND_NS - 20, content=True)

    with holding(tmp_path, call(1, "traceloop"), inner) as it:
        assert it.rows("SELECT span_id FROM decisions") == [("0000000000000002",)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"scope": "a"}, {"scope": "a", "at": 10}),
        ({"scope": "a"}, {"scope": "b", "at": 5 * SECOND_NS}),
        ({"scope": "a", "response": "msg_1"}, {"scope": "b", "response": "msg_2"}),
        ({"scope": "a", "response": None}, {"scope": "b", "response": None}),
    ],
    ids=["seen by one instrumentation", "at another time", "another id", "no id"],
)
def test_calls_without_a_sign_that_they_are_one_stay_apart(tmp_path, first, second):
    with holding(tmp_path, call(1, **first), call(2, **second)) as it:
        assert it.count("decisions") == 2


def test_a_constant_response_id_does_not_fold_a_ledger_into_one_decision(tmp_path):
    bodies = [call(number, "a", at=number, response="chatcmpl-1") for number in range(1, 60)]

    with holding(tmp_path, *bodies) as it:
        assert it.count("decisions") == 59


def test_a_nested_call_of_another_model_is_a_call_of_its_own(tmp_path):
    outer = call(1, "a", response=None)
    other = span(
        2,
        trace_id=(1).to_bytes(16, "big"),
        parent_span_id=(1).to_bytes(8, "big"),
        start_time_unix_nano=START_NS + 1,
        end_time_unix_nano=START_NS + 2,
        attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5-mini"},
    )

    with holding(tmp_path, outer, traces(other)) as it:
        assert it.count("decisions") == 2


def test_a_call_seen_inside_a_decorated_decision_and_outside_of_it_belongs_to_the_decision(tmp_path):
    decorated = span(1, attributes={"loopgrid.record.version": 1, "loopgrid.decision.type": "reply"})
    inside = call(
        2, "com.anthropic.sdk.python", trace_id=(1).to_bytes(16, "big"), parent_span_id=(1).to_bytes(8, "big")
    )
    outside = call(3, "traceloop", content=True)

    with holding(tmp_path, outside, inside, traces(decorated)) as it:
        assert it.rows("SELECT kind FROM decisions") == [("decision",)]
        assert it.rows("SELECT DISTINCT owner_decision_id FROM steps") == [(f"{1:032x}-{1:016x}",)]
        assert it.count("steps") == 2
