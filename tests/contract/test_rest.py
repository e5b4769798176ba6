"""The REST API as clients see it: recording, finding, judging."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loopgrid.schema import FIELDS
from tests.contract.rest import (
    UNKNOWN_DECISION,
    UNKNOWN_REPLAY,
    Api,
    decorated_span,
    llm_span,
    problem,
    running_api,
    span,
)

QUICKSTART: dict[str, Any] = {
    "service_name": "support-agent",
    "decision_type": "customer_support_reply",
    "input": {"message": "I was charged twice"},
    "model": {"provider": "openai", "name": "gpt-4"},
    "prompt": {"template": "support_v1"},
    "output": {"response": "Your account looks fine."},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all claims of this module; each speaks of decisions of its own."""
    with running_api(tmp_path_factory.mktemp("rest")) as running:
        yield running


@pytest.fixture
def service() -> str:
    """A service name that no other claim uses."""
    return f"service-{uuid.uuid4()}"


def fresh_id() -> str:
    return f"{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}"


def test_a_recorded_decision_comes_back_with_what_was_said_and_nothing_else(api):
    answer = api.client.post("/v1/decisions", json=QUICKSTART)
    decision = answer.json()

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/decisions/{decision['decision_id']}"
    assert {name: decision[name] for name in ("service_name", "decision_type", "input", "output")} == {
        name: QUICKSTART[name] for name in ("service_name", "decision_type", "input", "output")
    }
    assert decision["model"] == {
        "provider": "openai",
        "name": "gpt-4",
        "response_name": None,
        "parameters": None,
    }
    assert decision["prompt"] == {"name": None, "version": None, "template": "support_v1", "variables": None}
    assert (decision["kind"], decision["dialect"]) == ("decision", "loopgrid")
    absent = (
        "status",
        "duration_ms",
        "session_id",
        "user_id",
        "tags",
        "metadata",
        "finish_reasons",
        "replay_of",
    )
    assert [decision[name] for name in absent] == [None] * len(absent)
    assert set(decision["usage"].values()) == {None}


def test_everything_that_can_be_said_comes_back(api):
    said = {
        "input": {"a": [1, 2.5, None, True, "é\n"]},
        "output": "text",
        "model": {
            "provider": "p",
            "name": "n",
            "response_name": "r",
            "parameters": {"temperature": 0.5, "x": {"y": 1}},
        },
        "prompt": {"name": "n", "version": "1", "template": "t {a}", "variables": {"a": "b"}},
        "usage": {
            "input_tokens": 5,
            "output_tokens": 4,
            "cache_read_tokens": 3,
            "cache_write_tokens": 2,
            "reasoning_tokens": 1,
        },
        "finish_reasons": ["stop", "length"],
        "response_id": "resp",
        "error": {"type": "TimeoutError", "message": "too slow"},
        "session_id": "s",
        "user_id": "u",
        "agent_name": "a",
        "tags": ["x", "y"],
        "metadata": {"flat": "v", "nested": {"n": [1, {"m": False}]}, "number": 3},
        "service_name": "svc",
        "started_at": "2026-03-01T10:00:00.123456Z",
        "duration_ms": 12.5,
        "decision_id": fresh_id(),
    }

    decision = api.record(**said)

    assert {name: decision[name] for name in said} == said
    assert decision["status"] == "error"


def test_a_decision_that_is_read_again_is_the_decision_that_was_answered(api):
    decision = api.record(**{**QUICKSTART, "decision_type": "x"})

    assert api.client.get(f"/v1/decisions/{decision['decision_id']}").json() == decision


@pytest.mark.parametrize(
    "value", [None, "", 0, False, [], {}, {"$bytes": "x"}, "\u0000", "𝄞", 2**63, -(2**63), 1e300]
)
def test_any_json_is_an_input_and_an_output(api, value):
    decision = api.record(input=value, output={"nested": value})

    assert decision["input"] == value
    assert decision["output"] == {"nested": value}


def test_a_decision_shows_every_field_of_the_schema_and_what_was_said_about_it(api):
    decision = api.record()
    relations = {"marks", "corrections", "replays", "ground_truth", "outcomes"}

    assert set(decision) == {field.path.partition(".")[0] for field in FIELDS} | relations


def test_the_same_decision_sent_twice_is_stored_once(api):
    body = {**QUICKSTART, "decision_id": fresh_id()}

    first = api.client.post("/v1/decisions", json=body)
    second = api.client.post("/v1/decisions", json=body)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


def test_another_decision_under_the_same_id_is_refused_and_the_first_stands(api):
    body = {**QUICKSTART, "decision_id": fresh_id()}
    first = api.client.post("/v1/decisions", json=body).json()

    refused = api.client.post("/v1/decisions", json={**body, "output": "other"})

    assert body["decision_id"] in problem(refused, 409)["detail"]
    assert api.client.get(f"/v1/decisions/{body['decision_id']}").json() == first


def test_the_same_decision_sent_at_once_by_many_is_stored_once(api):
    body = {**QUICKSTART, "decision_id": fresh_id()}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.client.post("/v1/decisions", json=body), range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]


@pytest.mark.parametrize(
    ("changed", "field", "suggestion"),
    [
        ({"outputs": 1}, "outputs", "output"),
        ({"model": {"names": "x"}}, "model.names", "name"),
        ({"decision_type": None}, "decision_type", None),
        ({"usage": {"input_tokens": -1}}, "usage.input_tokens", None),
        ({"decision_id": "abc"}, "decision_id", None),
        ({"started_at": "yesterday"}, "started_at", None),
        ({"started_at": "2261-12-31T00:00:00Z", "duration_ms": 1e12}, "duration_ms", None),
        ({"metadata": {"": 1}}, "metadata.", None),
        ({"metadata": {"k": 2**63}}, "loopgrid.metadata.k", None),
    ],
)
def test_a_body_that_cannot_be_recorded_is_422_and_leaves_nothing(api, changed, field, suggestion):
    before = api.everything()

    (fault,) = problem(api.client.post("/v1/decisions", json={**QUICKSTART, **changed}), 422)["errors"][:1]

    assert fault["field"].startswith(field)
    assert fault.get("suggestion") == suggestion
    assert api.everything() == before


@pytest.mark.parametrize(
    "body",
    [
        b'{"decision_type": "t", "input": NaN}',
        b'{"decision_type": "t", "input": "\\ud800"}',
        b'{"decision_type": "\\ud800"}',
        b'{"decision_type": "t", "\\ud800": 1}',
        b'{"decision_type": "t", "output": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"decision_type": "t", "output": 1e999}',
        b'{"decision_type": "t", "output": ' + b"9" * 30 + b"}",
        b"[]",
        b'"text"',
        b"null",
    ],
)
def test_json_that_is_no_decision_is_422(api, body):
    headers = {"content-type": "application/json"}

    problem(api.client.post("/v1/decisions", content=body, headers=headers), 422)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 200_000])
def test_a_body_that_is_no_json_is_400(api, body):
    headers = {"content-type": "application/json"}

    problem(api.client.post("/v1/decisions", content=body, headers=headers), 400)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_called_json_is_415_and_says_what_to_call_it(api, content_type):
    headers = {"content-type": content_type} if content_type else {}

    refused = api.client.post("/v1/decisions", content=b'{"decision_type": "t"}', headers=headers)

    assert "Content-Type: application/json" in problem(refused, 415)["detail"]


def test_a_body_without_end_is_cut_off(api):
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 2**20

    headers = {"content-type": "application/json"}
    problem(api.client.post("/v1/decisions", content=pieces(), headers=headers), 413)


@pytest.mark.parametrize(
    "decision_id", ["abc", UNKNOWN_DECISION.upper().replace("1", "A"), "0" * 32 + "-" + "1" * 16]
)
@pytest.mark.parametrize("rest", ["", "/trace", f"/compare/{UNKNOWN_REPLAY}"])
def test_a_malformed_id_is_400_and_names_its_form(api, decision_id, rest):
    document = problem(api.client.get(f"/v1/decisions/{decision_id}{rest}"), 400)

    assert document["errors"][0]["field"] == "decision_id"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/v1/decisions/{UNKNOWN_DECISION}", None),
        ("GET", f"/v1/decisions/{UNKNOWN_DECISION}/trace", None),
        ("GET", f"/v1/decisions/{UNKNOWN_DECISION}/compare/{UNKNOWN_REPLAY}", None),
        ("GET", f"/v1/replays/{UNKNOWN_REPLAY}", None),
        ("POST", f"/v1/decisions/{UNKNOWN_DECISION}/incorrect", {"reason": "x"}),
        ("POST", f"/v1/decisions/{UNKNOWN_DECISION}/correction", {"correction": 1, "corrected_by": "x"}),
        ("POST", "/v1/replays", {"decision_id": UNKNOWN_DECISION}),
    ],
)
def test_what_is_not_on_record_is_404_and_nothing_is_written(api, method, path, body):
    before = api.everything()

    problem(api.client.request(method, path, json=body), 404)

    assert api.everything() == before


def test_an_address_that_does_not_exist_suggests_one_that_does(api):
    assert "/v1/decisions" in problem(api.client.get("/v1/decision"), 404)["detail"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/decisions", {**QUICKSTART, "usage": {"input_tokens": "many"}}, "must be a whole number"),
        ("/v1/decisions", {**QUICKSTART, "usage": {"input_tokens": -1}}, "must be 0 or more"),
        ("/v1/decisions", {**QUICKSTART, "model": "gpt-4"}, "must be a JSON object"),
        ("/v1/decisions", {**QUICKSTART, "tags": "gold"}, "must be a list"),
        ("/v1/decisions", {**QUICKSTART, "session_id": 7}, "must be text"),
        ("/v1/decisions", {**QUICKSTART, "duration_ms": "1"}, "must be a number"),
        ("/v1/decisions", {**QUICKSTART, "metadata": {"": 1}}, "must not be empty"),
        ("/v1/decisions", {}, "is missing"),
        ("/v1/decisions", [], "must be a JSON object"),
        ("/v1/sql", {"query": "SELECT 1", "parameters": 7}, "must be a list or a JSON object"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_plain_words(api, path, body, said):
    (fault,) = problem(api.client.post(path, json=body), 422)["errors"]

    assert fault["message"] == said


def test_a_browser_is_led_to_the_documentation(api):
    answer = api.client.get("/")

    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_the_documentation_needs_nothing_from_elsewhere(api):
    page = api.client.get("/docs").text
    files = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert len(files) == 3
    assert all(api.client.get(file).status_code == 200 for file in files)
    assert "://" not in page


def test_a_method_that_is_not_possible_is_405_and_names_those_that_are(api):
    answer = api.client.put("/v1/decisions")

    problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}


def listed(api: Api, **filters: Any) -> list[str]:
    answer = api.client.get("/v1/decisions", params=filters)
    assert answer.status_code == 200, answer.text
    return [decision["decision_id"] for decision in answer.json()["items"]]


def test_pages_walk_through_all_decisions_once_newest_first_while_others_arrive(api, service):
    made = [
        api.record(service_name=service, started_at=f"2026-03-01T10:00:0{number // 3}Z")["decision_id"]
        for number in range(8)
    ]
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.client.get("/v1/decisions", params={"service_name": service, "limit": 3, **cursor}).json()
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        api.record(service_name=service, started_at="2026-03-01T11:00:00Z")
        cursor = {"cursor": page["next_cursor"]}

    assert sorted(decision["decision_id"] for decision in seen) == sorted(made)
    order = [(decision["started_at"], decision["decision_id"]) for decision in seen]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    ("recorded", "hit", "miss"),
    [
        ({"decision_type": "refund"}, {"decision_type": "refund"}, {"decision_type": "refun"}),
        ({"model": {"name": "gpt-4"}}, {"model": "gpt-4"}, {"model": "gpt"}),
        (
            {"model": {"name": "gpt-4", "response_name": "gpt-4-0613"}},
            {"model": "gpt-4-0613"},
            {"model": "x"},
        ),
        ({"prompt": {"name": "support"}}, {"prompt_name": "support"}, {"prompt_name": "x"}),
        ({"prompt": {"version": "1"}}, {"prompt_version": "1"}, {"prompt_version": "2"}),
        ({}, {"kind": "decision"}, {"kind": "inference"}),
        ({"error": {"type": "E"}}, {"status": "error"}, {"status": "ok"}),
        ({"session_id": "s"}, {"session_id": "s"}, {"session_id": "t"}),
        ({"user_id": "u"}, {"user_id": "u"}, {"user_id": ""}),
        (
            {"started_at": "2026-03-01T10:00:00Z"},
            {"from": "2026-03-01T10:00:00Z"},
            {"to": "2026-03-01T10:00:00Z"},
        ),
        (
            {"started_at": "2026-03-01T10:00:00Z"},
            {"to": "2026-03-01T12:00:01+02:00"},
            {"from": "2026-03-01T10:00:01Z"},
        ),
        ({}, {"incorrect": "false"}, {"incorrect": "true"}),
        ({}, {"corrected": "false"}, {"corrected": "true"}),
        ({"input": {"m": "I was CHARGED"}}, {"q": "was charged"}, {"q": "refund"}),
        ({"output": "déjà\nvu"}, {"q": "DÉJÀ\nvu"}, {"q": "deja"}),
        ({"output": 'say "hi"'}, {"q": 'say "hi"'}, {"q": "say hi"}),
        ({"metadata": {"team": "a"}}, {"metadata.team": "a"}, {"metadata.team": "b"}),
        ({"metadata": {"a.b/c": 3}}, {"metadata.a.b/c": "3"}, {"metadata.a": "3"}),
        (
            {"metadata": {"a": "1", "b": "2"}},
            {"metadata.a": "1", "metadata.b": "2"},
            {"metadata.a": "1", "metadata.b": "1"},
        ),
    ],
)
def test_each_filter_finds_what_it_should_and_not_the_rest(api, service, recorded, hit, miss):
    decision_id = api.record(service_name=service, **recorded)["decision_id"]

    assert listed(api, service_name=service, **hit) == [decision_id]
    assert listed(api, service_name=service, **miss) == []


def test_marked_and_corrected_decisions_are_found(api, service):
    decision_id = api.record(service_name=service)["decision_id"]
    api.client.post(f"/v1/decisions/{decision_id}/incorrect", json={"reason": "x"})
    api.client.post(f"/v1/decisions/{decision_id}/correction", json={"correction": 1, "corrected_by": "x"})

    assert listed(api, service_name=service, incorrect="true", corrected="true") == [decision_id]


def test_an_unknown_filter_is_400_and_suggests_the_nearest(api):
    (fault,) = problem(api.client.get("/v1/decisions?servce_name=x"), 400)["errors"]

    assert (fault["field"], fault["suggestion"]) == ("servce_name", "service_name")


def test_text_in_a_filter_is_never_sql(api, service):
    api.record(service_name=service)

    assert listed(api, service_name="' OR true --") == []
    assert listed(api, **{"metadata.a'||'": "x"}) == []


def test_a_mark_is_appended_and_shown(api):
    decision_id = api.record()["decision_id"]
    answer = api.client.post(
        f"/v1/decisions/{decision_id}/incorrect",
        json={"reason": "Missed billing issue", "marked_by": "agent_42"},
    )
    decision = api.client.get(f"/v1/decisions/{decision_id}").json()

    assert answer.status_code == 201
    assert set(answer.json()) == {
        "mark_id", "decision_id", "reason", "category", "severity", "marked_by", "recorded_at",
    }  # fmt: skip
    assert decision["incorrect"] is True
    assert [mark["mark_id"] for mark in decision["marks"]] == [answer.json()["mark_id"]]


def test_the_newest_correction_is_the_ground_truth_and_the_others_stay(api):
    decision_id = api.record(output="a")["decision_id"]

    def correct(output: Any) -> dict[str, Any]:
        body = {"correction": output, "corrected_by": "agent_42", "reason": "because"}
        answer = api.client.post(f"/v1/decisions/{decision_id}/correction", json=body)
        assert answer.status_code == 201
        return dict(answer.json())

    first, second = correct({"response": "b"}), correct(None)
    decision = api.client.get(f"/v1/decisions/{decision_id}").json()

    assert (first["supersedes"], second["supersedes"]) == (None, first["correction_id"])
    assert [found["output"] for found in decision["corrections"]] == [{"response": "b"}, None]
    assert decision["ground_truth"]["correction_id"] == second["correction_id"]
    assert decision["output"] == "a"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("incorrect", {}, "reason"),
        ("incorrect", {"reason": ""}, "reason"),
        ("incorrect", {"reason": "x", "marked": "y"}, "marked"),
        ("correction", {"corrected_by": "x"}, "correction"),
        ("correction", {"correction": 1}, "corrected_by"),
        ("correction", {"correction": 2**64, "corrected_by": "x"}, "correction"),
    ],
)
def test_a_judgement_that_says_nothing_sound_is_422_and_leaves_nothing(api, path, body, field):
    decision_id = api.record()["decision_id"]
    before = api.everything()

    refused = problem(api.client.post(f"/v1/decisions/{decision_id}/{path}", json=body), 422)

    assert refused["errors"][0]["field"] == field
    assert api.everything() == before


def test_a_model_call_seen_by_another_instrumentation_can_be_judged_too(api):
    sent = llm_span()
    api.export(sent)
    decision_id = f"{sent.trace_id.hex()}-{sent.span_id.hex()}"

    api.client.post(f"/v1/decisions/{decision_id}/incorrect", json={"reason": "x"})

    decision = api.client.get(f"/v1/decisions/{decision_id}").json()
    assert (decision["kind"], decision["dialect"], decision["incorrect"]) == ("inference", "genai", True)


def test_a_step_is_no_decision_of_its_own_and_names_the_one_it_ran_in(api):
    owner = decorated_span()
    step = llm_span(parent=owner)
    api.export(owner, step)

    refused = problem(api.client.get(f"/v1/decisions/{step.trace_id.hex()}-{step.span_id.hex()}"), 404)

    assert f"{owner.trace_id.hex()}-{owner.span_id.hex()}" in refused["detail"]


def test_a_trace_is_told_as_a_tree_and_its_tokens_once(api):
    root = decorated_span()
    agent = span("agent", parent=root, gen_ai__operation__name="invoke_agent")
    first, second = llm_span(parent=agent), llm_span(parent=agent)
    tool = span("tool", parent=root, gen_ai__operation__name="execute_tool")
    api.export(second, tool, first, root, agent)

    trace = api.client.get(f"/v1/decisions/{root.trace_id.hex()}-{root.span_id.hex()}/trace").json()

    assert [(told["span_id"], told["depth"]) for told in trace["spans"]] == [
        (root.span_id.hex(), 0),
        (agent.span_id.hex(), 1),
        (first.span_id.hex(), 2),
        (second.span_id.hex(), 2),
        (tool.span_id.hex(), 1),
    ]
    assert [told["kind"] for told in trace["spans"]] == [
        "decision",
        "agent",
        "inference",
        "inference",
        "tool",
    ]
    assert trace["spans"][0]["input"] == {"message": "hello"}
    assert trace["totals"] == {
        "spans": 5,
        "model_calls": 2,
        "input_tokens": 6,
        "output_tokens": 4,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
    }
    assert {told["owner_decision_id"] for told in trace["spans"][1:]} == {trace["decision_id"]}


def test_the_server_says_that_it_lives_and_is_ready(api):
    assert api.client.get("/healthz").json() == {"status": "alive"}
    assert api.client.get("/readyz").json() == {"status": "ready"}


def test_the_description_of_the_api_names_every_address_its_answers_and_its_problems(api):
    described = api.client.get("/openapi.json").json()

    assert len(described["paths"]) == 62
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert not {"HTTPValidationError"} & set(described["components"]["schemas"])
    assert described["components"]["schemas"]["DecisionRequest"]["additionalProperties"] is False
    assert "Problem" in described["components"]["schemas"]


def test_a_server_that_takes_no_more_says_when_to_come_back(tmp_path):
    with running_api(tmp_path, max_queued_bytes=10) as full:
        answer = full.client.post("/v1/decisions", json=QUICKSTART)

        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert full.client.get("/v1/decisions").json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"service_name": "\ud800"}, "service_name"),
        ({"error": {"type": "x", "message": "\ud800"}}, "error.message"),
    ],
)
def test_half_a_surrogate_pair_is_422_and_names_its_field(api, fields, field):
    body = json.dumps({"decision_type": "reply", **fields})
    answer = api.client.post("/v1/decisions", content=body, headers={"content-type": "application/json"})

    assert problem(answer, 422)["errors"][0]["field"] == field


def test_while_nothing_can_be_written_the_server_is_not_ready(tmp_path):
    # No disk has this much room, so that every write is refused.
    with running_api(tmp_path, min_free_bytes=2**62) as running:
        problem(running.client.post("/v1/decisions", json={"decision_type": "reply"}), 503)

        told = problem(running.client.get("/readyz"), 503)["detail"]

    assert "LOOPGRID_MIN_FREE_BYTES" in told
    assert "bytes left" in told


def test_spans_of_two_traces_with_the_same_span_id_are_told_apart(api):
    sent = [decorated_span(loopgrid__decision__output=json.dumps(number)) for number in range(2)]
    sent[1].span_id = sent[0].span_id
    api.export(*sent)
    ids = [f"{each.trace_id.hex()}-{each.span_id.hex()}" for each in sent]
    nobody = f"{uuid.uuid4().hex}-{sent[0].span_id.hex()}"

    found = [api.client.get(f"/v1/decisions/{each}").json() for each in ids]

    assert [(each["decision_id"], each["output"]) for each in found] == [(ids[0], 0), (ids[1], 1)]
    problem(api.client.get(f"/v1/decisions/{nobody}"), 404)
