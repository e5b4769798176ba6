"""What decisions take from the spans around them, and what stays open: said alike by SQL and by the API."""

from __future__ import annotations

import random
from contextlib import contextmanager

import pytest

from loopgrid_query import decisions as decisions_module
from loopgrid_query.decisions import Decisions
from loopgrid_query.queries import Reader
from tests.support import samples
from tests.support.ledgers import house
from tests.support.spans import SECOND_NS, START_NS, log_record, logs, span, traces

DECORATED = {"loopgrid.record.version": 1, "loopgrid.decision.type": "reply"}
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.provider.name": "openai"}
ASKED = '[{"role":"user","parts":[{"type":"text","content":"x"}]}]'


def within(number, parent, attributes, *, trace=1, start=0, end=SECOND_NS, **fields):
    return span(
        number,
        trace_id=trace.to_bytes(16, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        start_time_unix_nano=START_NS + start,
        end_time_unix_nano=START_NS + end,
        attributes=attributes,
        **fields,
    )


def used(read, wrote, **more):
    return {**CALL, "gen_ai.usage.input_tokens": read, "gen_ai.usage.output_tokens": wrote, **more}


@contextmanager
def holding(tmp_path, *bodies):
    with house(tmp_path) as it:
        for body in bodies:
            it.ingest.traces_blocking(body)
        yield it


TAKEN = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("model_provider", "model_name", "model_response_name", "model_source", "usage_source", "agent_name"),
)


def as_said(record):
    return (
        *(record["usage"][name] for name in TAKEN[:5]),
        *(record["model"][name] for name in ("provider", "name", "response_name")),
        *(record[name] for name in TAKEN[8:]),
    )


def by_view(it):
    """What the view says of every decision."""
    columns = ", ".join(TAKEN)
    return {row[0]: row[1:] for row in it.rows(f"FROM decisions SELECT decision_id, {columns}")}


def by_both(it, decision_id):
    """What the view says of a decision, and so do its record and its place on a page."""
    api = Decisions(Reader(it.ledger), it.ingest)
    said = by_view(it)[decision_id]
    page = {item["decision_id"]: item for item in api.list([("limit", "500")])["items"]}
    assert as_said(api.get(decision_id)) == as_said(page[decision_id]) == said
    return dict(zip(TAKEN, said, strict=True))


def id_of(number, trace=1):
    return f"{trace:032x}-{number:016x}"


def test_a_decision_that_states_no_usage_takes_the_sum_of_the_calls_inside_it(tmp_path):
    spans = [
        within(1, 0, DECORATED, end=3 * SECOND_NS),
        within(2, 1, {"gen_ai.operation.name": "invoke_agent"}),
        within(3, 2, used(42, 17)),
        within(4, 1, used(42, 17), start=SECOND_NS, end=2 * SECOND_NS),
        within(5, 1, {"gen_ai.operation.name": "execute_tool"}),
    ]

    with holding(tmp_path, traces(*spans)) as it:
        taken = by_both(it, id_of(1))

        assert (taken["input_tokens"], taken["output_tokens"], taken["usage_source"]) == (84, 34, "steps")
        assert (taken["model_name"], taken["model_provider"], taken["model_source"]) == (
            "m",
            "openai",
            "steps",
        )
        assert taken["cache_read_tokens"] is None


def test_what_a_decision_states_itself_stays(tmp_path):
    stated = {**DECORATED, "gen_ai.usage.input_tokens": 7, "gen_ai.request.model": "asked-for"}

    with holding(tmp_path, traces(within(1, 0, stated), within(2, 1, used(42, 17)))) as it:
        taken = by_both(it, id_of(1))

        assert (taken["input_tokens"], taken["output_tokens"], taken["usage_source"]) == (7, None, "stated")
        assert (taken["model_name"], taken["model_provider"], taken["model_source"]) == (
            "asked-for",
            None,
            "stated",
        )


def test_a_model_is_taken_only_where_the_calls_agree(tmp_path):
    spans = [
        within(1, 0, DECORATED),
        within(2, 1, used(1, 1)),
        within(3, 1, used(1, 1, **{"gen_ai.request.model": "n"})),
    ]

    with holding(tmp_path, traces(*spans)) as it:
        taken = by_both(it, id_of(1))

        assert (taken["model_provider"], taken["model_name"], taken["input_tokens"]) == ("openai", None, 2)


def test_a_call_that_two_instrumentations_recorded_counts_once(tmp_path):
    twin = {"gen_ai.response.id": "r1", "gen_ai.input.messages": ASKED}
    spans = traces(within(1, 0, DECORATED), within(2, 1, used(42, 17, **twin)), within(3, 2, used(42, 17)))
    other = traces(within(4, 1, used(42, 17, **{"gen_ai.response.id": "r1"})), scope="another")

    with holding(tmp_path, spans, other) as it:
        taken = by_both(it, id_of(1))
        trace = Decisions(Reader(it.ledger), it.ingest).trace(id_of(1))

        assert (taken["input_tokens"], taken["output_tokens"]) == (42, 17)
        assert (trace["totals"]["input_tokens"], trace["totals"]["model_calls"]) == (42, 1)


def test_a_call_that_two_traces_recorded_counts_once_in_the_one_that_stands_for_it(tmp_path):
    """Two services saw one call, each inside a decision of its own."""
    one = {"gen_ai.response.id": "r1"}
    first = traces(
        within(1, 0, DECORATED), within(2, 1, used(42, 17, **one, **{"gen_ai.input.messages": ASKED}))
    )
    second = traces(
        within(3, 0, DECORATED, trace=2), within(4, 3, used(42, 17, **one), trace=2), scope="another"
    )

    with holding(tmp_path, first, second) as it:
        assert by_both(it, id_of(1))["input_tokens"] == 42
        assert by_both(it, id_of(3, 2))["input_tokens"] is None
        assert it.rows("SELECT decision_id, duplicate_of FROM steps WHERE duplicate_of IS NOT NULL") == [
            (id_of(4, 2), id_of(2))
        ]
        by_model = Decisions(Reader(it.ledger), it.ingest).list([("model", "m")])["items"]
        assert [item["decision_id"] for item in by_model] == [id_of(1)]


def test_what_an_inner_decision_used_is_its_own(tmp_path):
    spans = [within(1, 0, DECORATED), within(2, 1, DECORATED), within(3, 2, used(42, 17))]

    with holding(tmp_path, traces(*spans)) as it:
        assert by_both(it, id_of(1))["usage_source"] is None
        assert by_both(it, id_of(2))["input_tokens"] == 42


def test_a_call_takes_the_name_of_the_nearest_agent_above_it(tmp_path):
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "outer"}
    spans = [
        within(1, 0, agent),
        within(2, 1, {**agent, "gen_ai.agent.name": "inner"}),
        within(3, 2, {"openinference.span.kind": "CHAIN"}),
        within(4, 3, used(1, 1)),
        within(5, 1, used(1, 1), start=SECOND_NS, end=2 * SECOND_NS),
        within(6, 1, used(1, 1, **{"gen_ai.agent.name": "own"}), start=3 * SECOND_NS, end=4 * SECOND_NS),
    ]

    with holding(tmp_path, traces(*spans)) as it:
        assert [by_both(it, id_of(n))["agent_name"] for n in (4, 5, 6)] == ["inner", "outer", "own"]


@pytest.mark.parametrize("seed", range(3))
def test_sql_and_api_agree_on_forests_of_any_shape(tmp_path, seed):
    """Calls, agents, transport, tools and decisions in random trees; twins in several scopes; any order."""
    rng = random.Random(seed)
    kinds = (
        DECORATED,
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"},
        {"http.request.method": "POST"},
        {"gen_ai.operation.name": "execute_tool"},
    )
    places: list[tuple[int, int]] = []
    bodies = []
    for number in range(1, 80):
        trace = rng.randrange(1, 5)
        parent = rng.choice([other for other, of in places if of == trace] or [0])
        attributes = rng.choice(kinds)
        if rng.random() < 0.6:
            attributes = used(rng.randrange(5), rng.randrange(5))
            attributes["gen_ai.request.model"] = rng.choice("mn")
            if rng.random() < 0.7:
                attributes["gen_ai.response.id"] = f"r{rng.randrange(3)} of {trace if seed % 2 else 'all'}"
            if rng.random() < 0.5:
                attributes["gen_ai.input.messages"] = ASKED
        start = rng.randrange(0, 50)
        end = start + rng.randrange(0, 60)
        places.append((number, trace))
        made = within(number, parent, attributes, trace=trace, start=start, end=end)
        bodies.append(traces(made, scope=rng.choice("abc")))
    rng.shuffle(bodies)

    with holding(tmp_path, *bodies) as it:
        said = by_view(it)
        page = Decisions(Reader(it.ledger), it.ingest).list([("limit", "500")])

        assert len(said) > 10
        assert {item["decision_id"]: as_said(item) for item in page["items"]} == said


def test_traces_too_large_for_a_page_are_reckoned_by_the_ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(decisions_module, "MAX_RELATIVES", 1)
    spans = traces(within(1, 0, DECORATED), within(2, 1, used(42, 17)), within(3, 1, used(1, 1)))

    with holding(tmp_path, spans) as it:
        assert by_both(it, id_of(1))["input_tokens"] == 43


def test_a_page_filtered_by_model_knows_the_models_of_steps(tmp_path):
    with holding(tmp_path, traces(within(1, 0, DECORATED), within(2, 1, used(42, 17)))) as it:
        api = Decisions(Reader(it.ledger), it.ingest)

        assert [item["decision_id"] for item in api.list([("model", "m")])["items"]] == [id_of(1)]
        assert api.list([("model", "n")])["items"] == []


def test_sums_that_no_number_holds_are_absent_and_break_nothing(tmp_path):
    most = 2**63 - 1
    spans = traces(within(1, 0, DECORATED), within(2, 1, used(most, 1)), within(3, 1, used(most, 1)))

    with holding(tmp_path, spans) as it:
        taken = by_both(it, id_of(1))

        assert (taken["input_tokens"], taken["output_tokens"]) == (None, 2)


def test_the_same_input_at_the_same_time_is_a_possible_duplicate(tmp_path):
    asked = {**CALL, "gen_ai.input.messages": ASKED}
    first, second = within(1, 0, asked, trace=1), within(2, 0, asked, trace=2, start=10)
    later = within(3, 0, asked, trace=3, start=5 * SECOND_NS, end=6 * SECOND_NS)
    other = within(4, 0, {**asked, "gen_ai.request.model": "n"}, trace=4)

    with holding(tmp_path, traces(first, scope="a"), traces(second, scope="b"), traces(later, other)) as it:
        assert it.rows("SELECT decision_id, possible_duplicate_of, same_scope FROM possible_duplicates") == [
            (id_of(2, 2), id_of(1, 1), False)
        ]
        assert it.count("decisions") == 4


def test_logfires_two_spans_of_a_stream_are_possible_duplicates(tmp_path):
    (folder,) = samples.folders("pydantic-ai-*/logfire/openai-direct-stream")

    with holding(tmp_path, *samples.bodies(folder, "traces")) as it:
        assert it.count("possible_duplicates") == 1


def test_an_agent_without_calls_below_is_an_aggregate_until_one_arrives(tmp_path):
    agent = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "triage",
        "gen_ai.usage.input_tokens": 84,
        "gen_ai.usage.output_tokens": 34,
    }
    tool = within(2, 1, {"gen_ai.operation.name": "execute_tool"})

    with holding(tmp_path, traces(within(1, 0, agent), tool)) as it:
        assert it.rows("SELECT agent_name, input_tokens, output_tokens FROM aggregates") == [
            ("triage", 84, 34)
        ]
        assert it.count("decisions") == 0

        it.ingest.traces_blocking(traces(within(3, 2, used(42, 17))))

        assert it.count("aggregates") == 0


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [
        ({"llm.cost.total": 0.25}, 0.25),
        ({"operation.cost": 0.5}, 0.5),
        ({"gen_ai.usage.cost": 1}, 1.0),
        ({"langfuse.observation.cost_details": '{"input": 0.1, "total": 0.3}'}, 0.3),
        ({"mlflow.llm.cost": '{"total_cost": 0.4}'}, 0.4),
        ({"operation.cost": "nothing", "gen_ai.usage.cost": 2.0}, 2.0),
        ({"operation.cost": float("nan")}, None),
        ({"langfuse.observation.cost_details": "{"}, None),
        ({}, None),
    ],
)
def test_a_cost_is_what_the_sender_states(tmp_path, attributes, cost):
    with holding(tmp_path, traces(within(1, 0, {**CALL, **attributes}))) as it:
        assert it.rows("SELECT cost_usd FROM decisions") == [(cost,)]


def test_judgements_that_senders_attach_are_evaluations_and_no_marks(tmp_path):
    result = {
        "gen_ai.evaluation.name": "human_review",
        "gen_ai.evaluation.score.label": "incorrect",
        "gen_ai.evaluation.score.value": 0.0,
        "gen_ai.evaluation.explanation": "missed it",
        "loopgrid.evaluator.type": "human",
    }
    annotated = {
        **CALL,
        "annotations.0.annotation.name": "tone",
        "annotations.0.annotation.label": "rude",
        "annotations.0.annotation.annotator_kind": "HUMAN",
        "evaluations.10.evaluation.name": "length",
        "evaluations.10.evaluation.score": 0.5,
        "evaluations.10.evaluation.annotator_kind": "CODE",
    }
    eventful = within(1, 0, annotated)
    event = eventful.events.add(name="gen_ai.evaluation.result", time_unix_nano=START_NS)
    event.attributes.extend(span(attributes=result).attributes)

    with holding(tmp_path, traces(eventful)) as it:
        it.ingest.logs_blocking(logs(log_record(1, event_name="gen_ai.evaluation.result", attributes=result)))
        found = it.rows(
            "SELECT decision_id, source, name, label, score, explanation, annotator_kind "
            "FROM evaluations ORDER BY source, name"
        )

        assert found == [
            (id_of(1), "attributes", "length", None, 0.5, None, "code"),
            (id_of(1), "attributes", "tone", "rude", None, None, "human"),
            (id_of(1), "log", "human_review", "incorrect", 0.0, "missed it", "human"),
            (id_of(1), "span_event", "human_review", "incorrect", 0.0, "missed it", "human"),
        ]
        assert it.rows("SELECT incorrect FROM decisions") == [(False,)]
