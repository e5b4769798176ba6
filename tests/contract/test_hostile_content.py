"""Content that nobody means, through the real server: nothing lost, doubled or invented, no view breaks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3

from tests.support.server import running_server
from tests.support.spans import any_value, chat, log_record, logs, span, traces

MESSAGES = '[{"role":"user","parts":[{"type":"text","content":"q"}]}]'
ANSWERS = '[{"role":"assistant","parts":[{"type":"text","content":"a"}]}]'
WHOLE = {"gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": ANSWERS}
DETAILS = "gen_ai.client.inference.operation.details"
ODD: tuple[dict[str, Any], ...] = (
    {"gen_ai.input.messages": b"\xff\x00"},
    {"gen_ai.input.messages": 5},
    {"gen_ai.input.messages": '{"role":5}'},
    {"gen_ai.output.messages": "[[[]]]"},
    {"llm.input_messages.99999999999999999999.message.content": "c"},
    {"gen_ai.prompt.0": "x", "gen_ai.prompt.0.content": {"a": 1}},
    {"gen_ai.tool.definitions": "5"},
    {"request_data": "[1]", "response_data": "[]", "events": "{}", "logfire.json_schema": "{"},
    {"gcp.vertex.agent.llm_response": '{"content":"x"}'},
    {"langfuse.observation.cost_details": "{bad", "mlflow.llm.cost": 5},
    {"metadata": "[]", "openinference.span.kind": "LLM"},
    {"annotations.0.annotation.name": {"x": 1}, "annotations.9.annotation.label'": "x"},
    {'evaluations.1.evaluation."q': "x"},
    {"logfire.span_type": "log", "duration": "abc", **WHOLE},
    {"logfire.span_type": "log", "duration": float("inf"), **WHOLE},
    {"gen_ai.usage.input_tokens": 2**63 - 1, "operation.cost": float("nan")},
    {'a"b': 1, "$map": 2, "c'd": "e", "nul\0key": "v\0w", "": "empty"},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("hostile")) as running:
        yield running


def post(server, signal, body):
    answer = urllib3.request(
        "POST",
        f"{server.otlp_http}/v1/{signal}",
        body=body,
        headers={"Content-Type": "application/x-protobuf"},
        retries=False,
        timeout=30,
    )
    assert answer.status == 200
    return answer.headers["loopgrid-receipt"]


def rows(server, query):
    answer = urllib3.request("POST", f"{server.api}/v1/sql", json={"query": query}, timeout=30)
    assert answer.status == 200, answer.data
    return json.loads(answer.data)["rows"]


def test_one_span_in_many_requests_at_once_is_stored_once_and_the_other_content_is_one_conflict(server):
    bodies = [traces(chat(1000 + number, version=version)) for number in range(20) for version in (1, 2)] * 3

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: post(server, "traces", body), bodies))

    ids = "span_id BETWEEN '00000000000003e8' AND '00000000000003fb'"
    assert rows(server, f"FROM spans SELECT count(*), count(DISTINCT span_id) WHERE {ids}") == [[20, 20]]
    assert rows(server, f"FROM conflicts SELECT count(*), count(DISTINCT span_id) WHERE {ids}") == [[20, 20]]


@pytest.mark.parametrize("first", ["logs", "traces"])
def test_content_that_log_records_say_twice_in_two_forms_counts_once(server, first):
    """As one event with the whole content, and message by message, as some senders do."""
    number = 2000 if first == "logs" else 2001
    single = (
        log_record(number, event_name="gen_ai.user.message", body=any_value({"content": "q"})),
        log_record(number, event_name="gen_ai.choice", body=any_value({"message": {"content": "a"}})),
    )
    sent = {
        "traces": traces(span(number, attributes={"gen_ai.operation.name": "chat"})),
        "logs": logs(*single, log_record(number, event_name=DETAILS, attributes=WHOLE)),
    }

    for signal in sorted(sent, reverse=first == "traces"):
        post(server, signal, sent[signal])

    assert rows(server, f"FROM decisions SELECT input, output WHERE span_id = '{number:016x}'") == [
        [MESSAGES, ANSWERS]
    ]


def test_no_value_of_an_attribute_breaks_a_view_or_a_decision(server):
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    spans = [span(3000 + place, attributes={**attributes, **odd}) for place, odd in enumerate(ODD)]
    assert post(server, "traces", traces(*spans)).startswith(f"stored={len(ODD)}, ")

    for view in ("decisions", "steps", "spans", "events", "possible_duplicates", "aggregates", "evaluations"):
        rows(server, f"FROM {view}")
    page = urllib3.request("GET", f"{server.api}/v1/decisions?limit=500", timeout=30)
    listed = {item["decision_id"] for item in json.loads(page.data)["items"]}
    assert {f"{number:032x}-{number:016x}" for number in range(3000, 3000 + len(ODD))} <= listed
    unmapped = rows(server, "SELECT count(*) FROM decisions WHERE mapping_version = 0")
    assert unmapped == [[0]]


def test_spans_that_are_each_others_parents_are_told_and_nobody_runs_in_circles(server):
    trace = b"\x01" * 16
    called = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1}
    decorated = {"loopgrid.decision.type": "t", "loopgrid.record.version": 1}
    ring = traces(
        span(4000, trace_id=trace, parent_span_id=(4001).to_bytes(8, "big"), attributes=called),
        span(4001, trace_id=trace, parent_span_id=(4000).to_bytes(8, "big"), attributes=decorated),
        span(4002, trace_id=trace, parent_span_id=(4002).to_bytes(8, "big"), attributes=called),
    )
    post(server, "traces", ring)

    found = rows(server, f"FROM decisions SELECT span_id WHERE trace_id = '{trace.hex()}' ORDER BY span_id")
    assert found == [[f"{4001:016x}"], [f"{4002:016x}"]]
    decision = urllib3.request("GET", f"{server.api}/v1/decisions/{trace.hex()}-{4001:016x}", timeout=30)
    assert json.loads(decision.data)["usage"]["input_tokens"] == 1
