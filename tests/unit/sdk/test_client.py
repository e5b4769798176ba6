"""The client says what it is asked to, tries again what may be, and tells what an answer means."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import json
import re
from typing import Any, assert_type

import pytest

import loopgrid
from loopgrid import LoopGrid, Model, Prompt, errors
from loopgrid.results import DecisionRecord
from loopgrid.schema import FIELDS
from tests.support.otlp_receiver import Answer, OtlpReceiver

ID = f"{1:032x}-{2:016x}"


def ok(content: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def problem(status: int, detail: str, **more: Any) -> Answer:
    body = {"type": "urn:loopgrid:problem:x", "title": "X", "status": status, "detail": detail, **more}
    return Answer(status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode())


@pytest.fixture
def grid(receiver: OtlpReceiver) -> LoopGrid:
    loopgrid.configure(endpoint=receiver.url)
    return LoopGrid("desk", api_key="lg-1", timeout_s=5)


def test_a_recorded_decision_is_sent_as_it_was_given_and_absent_fields_are_absent(grid, receiver):
    receiver.script(ok({"decision_id": ID}, 201))

    answer = grid.record_decision(
        decision_type="reply",
        input={"message": "hi", "schema": {"$ref": "#/x"}},
        output=None,
        model=Model("openai", "gpt-4o", temperature=0),
        prompt=Prompt("support", template="t"),
        started_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    )

    assert answer == {"decision_id": ID}
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/v1/decisions")
    assert request.headers["Authorization"] == "Bearer lg-1"
    sent = request.json
    assert re.fullmatch("[0-9a-f]{32}-[0-9a-f]{16}", sent.pop("decision_id")), "it can be sent twice"
    assert sent == {
        "decision_type": "reply",
        "service_name": "desk",
        "input": {"message": "hi", "schema": {"$ref": "#/x"}},
        "output": None,
        "model": {"provider": "openai", "name": "gpt-4o", "parameters": {"temperature": 0}},
        "prompt": {"name": "support", "template": "t"},
        "started_at": "2026-01-02T00:00:00+00:00",
    }


def test_what_has_no_json_form_is_refused_by_its_place_and_nothing_is_sent(grid, receiver):
    with pytest.raises(errors.Invalid, match=r"^input\.rows\[1\] cannot be written as JSON"):
        grid.record_decision(decision_type="reply", input={"rows": [1, object()]})

    assert receiver.requests == []


def test_an_unknown_field_is_pythons_type_error(grid: Any):
    with pytest.raises(TypeError, match="decision_typ"):
        grid.record_decision(decision_typ="reply")


def test_each_method_asks_its_route(grid, receiver):
    receiver.script(*[ok({})] * 8)

    grid.get_decision(ID)
    grid.mark_incorrect(ID, reason="wrong", marked_by="me")
    grid.attach_correction(ID, correction=["right"], corrected_by="me")
    grid.create_replay(decision_id=ID, overrides={"prompt": {"template": "x"}}, idempotency_key="k")
    grid.get_replay("rpl_1")
    grid.compare(ID, "rpl_1")
    grid.sql("SELECT ?", [1])
    grid.list_decisions(model="gpt", incorrect=False, metadata={"a b": 1}, from_=dt.date(2026, 1, 2), limit=5)

    assert [
        (request.method, request.path, json.loads(request.body or b"null")) for request in receiver.requests
    ] == [
        ("GET", f"/v1/decisions/{ID}", None),
        ("POST", f"/v1/decisions/{ID}/incorrect", {"reason": "wrong", "marked_by": "me"}),
        ("POST", f"/v1/decisions/{ID}/correction", {"correction": ["right"], "corrected_by": "me"}),
        (
            "POST",
            "/v1/replays",
            {"decision_id": ID, "overrides": {"prompt": {"template": "x"}}, "idempotency_key": "k"},
        ),
        ("GET", "/v1/replays/rpl_1", None),
        ("GET", f"/v1/decisions/{ID}/compare/rpl_1", None),
        ("POST", "/v1/sql", {"query": "SELECT ?", "parameters": [1]}),
        ("GET", "/v1/decisions?model=gpt&from=2026-01-02&incorrect=false&metadata.a+b=1&limit=5", None),
    ]


def test_an_id_cannot_leave_its_place_in_the_path(grid, receiver):
    receiver.script(problem(422, "no"))
    with pytest.raises(errors.Invalid):
        grid.get_decision("../sql?x#y")

    assert receiver.requests[0].path == "/v1/decisions/..%2Fsql%3Fx%23y"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (422, errors.Invalid),
        (500, errors.ServerDefect),
        (418, errors.ServerDefect),
    ],
)
def test_a_problem_becomes_its_error_with_the_servers_words(grid, receiver, status, kind):
    receiver.script(problem(status, "decision 7 is odd", errors=[{"field": "input", "message": "too odd"}]))

    with pytest.raises(kind) as raised:
        grid.get_decision(ID)

    assert type(raised.value) is kind
    assert raised.value.message.startswith("decision 7 is odd (input: too odd)")
    assert raised.value.status == status
    assert raised.value.problem["type"] == "urn:loopgrid:problem:x"
    assert len(receiver.requests) == 1


def test_an_address_that_knows_no_such_path_may_be_another_port(grid, receiver):
    receiver.script(Answer(404))
    with pytest.raises(errors.NotFound, match="is that the API port, by default 8000"):
        grid.get_decision(ID)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_sent_twice_is_tried_again_and_a_replay_only_when_asked_to(grid, receiver, status):
    receiver.script(problem(status, "busy"), ok({"a": 1}))
    assert grid.get_decision(ID) == {"a": 1}

    receiver.script(problem(status, "busy"), ok({"b": 2}))
    assert grid.mark_incorrect(ID, reason="x") == {"b": 2}
    first, again = receiver.requests[-2:]
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"]
    assert first.body == again.body

    receiver.script(problem(status, "busy"))
    with pytest.raises(errors.Unavailable, match="busy"):
        grid.create_replay(ID, overrides={})
    receiver.script(Answer(status, {"Retry-After": "0"}), ok({"c": 3}))
    assert grid.create_replay(ID, overrides={}) == {"c": 3}
    receiver.script(problem(status, "busy"), ok({"d": 4}))
    assert grid.create_replay(ID, overrides={}, idempotency_key="k") == {"d": 4}
    assert len(receiver.requests) == 9


def test_each_call_has_a_key_of_its_own_or_the_one_it_is_given(grid, receiver):
    receiver.script(*[ok({})] * 3)
    grid.mark_incorrect(ID, reason="x")
    grid.mark_incorrect(ID, reason="x")
    grid.attach_correction(ID, correction=1, corrected_by="me", idempotency_key="ticket-7")

    first, second, third = (request.headers["Idempotency-Key"] for request in receiver.requests)
    assert first != second
    assert third == "ticket-7"


def test_a_decision_is_sent_again_as_the_same_decision(grid, receiver):
    receiver.script(Answer(503), ok({"decision_id": ID}, 201))
    grid.record_decision(decision_type="reply")

    first, again = receiver.requests
    assert first.json == again.json
    assert "decision_id" in first.json


def test_members_of_an_answer_are_attributes_too(grid, receiver):
    decision = {"decision_id": ID, "model": {"name": "m", "provider": None}, "marks": [{"reason": "x"}]}
    receiver.script(ok(decision), ok({"items": [decision], "next_cursor": None}))

    answer = grid.get_decision(ID)
    page = grid.list_decisions()

    assert answer.decision_id == answer["decision_id"] == ID
    assert answer.model.name == answer["model"]["name"] == "m"
    assert answer.marks[0].reason == "x"
    assert page.decisions[0].model.provider is None
    assert page.next_cursor is None
    assert answer == decision
    with pytest.raises(AttributeError, match="has no member 'decisionid': did you mean 'decision_id'"):
        _ = answer.decisionid


def test_the_attributes_of_an_answer_are_the_fields_of_the_decision_record():
    tops = {field.path.partition(".")[0] for field in FIELDS}
    told = set(DecisionRecord.__annotations__) - {"_nested"}

    assert told == tops | {"marks", "corrections", "replays", "ground_truth", "outcomes"}
    for name, kind in DecisionRecord._nested.items():
        members = {field.path.partition(".")[2] for field in FIELDS if field.path.startswith(f"{name}.")}
        assert not members or set(kind.__annotations__) == members


def test_a_type_checker_knows_what_a_method_answers(grid: LoopGrid, receiver):
    receiver.script(ok({}), ok({"items": []}))

    assert_type(grid.get_decision(ID), DecisionRecord)
    assert_type(grid.list_decisions().decisions, list[DecisionRecord])
    assert str(inspect.signature(LoopGrid.get_replay)) == "(self, replay_id: 'str') -> 'ReplayRecord'"
    assert "with its marks" in (LoopGrid.get_decision.__doc__ or "")


def test_a_wait_beyond_the_timeout_is_not_begun(grid, receiver):
    receiver.script(Answer(503, {"Retry-After": "3600"}))

    with pytest.raises(errors.Unavailable) as raised:
        grid.get_decision(ID)

    assert raised.value.retry_after_s == 3600


def test_no_server_is_said_with_the_endpoint_and_the_command(grid, receiver):
    with OtlpReceiver() as gone:
        pass
    client = LoopGrid(endpoint=gone.url)

    with pytest.raises(
        errors.Unreachable, match=f"no LoopGrid server answers at {gone.url}.*`loopgrid serve`"
    ):
        client.record_decision(decision_type="reply")


@pytest.mark.parametrize("answer", [Answer(200, body=b"<html>"), ok([1])])
def test_something_else_than_a_loopgrid_server_is_noticed(grid, receiver, answer):
    receiver.script(answer)

    with pytest.raises(errors.LoopGridError, match="check the endpoint"):
        grid.get_decision(ID)


def test_a_method_about_a_decision_waits_until_it_has_arrived(grid, receiver):
    loopgrid.configure(endpoint=receiver.url, delivery=loopgrid.DeliveryLimits(linger_s=60))

    @loopgrid.decision("reply")
    def reply() -> str | None:
        return loopgrid.current().decision_id

    decision_id = reply()
    receiver.script(Answer(200), ok({}))
    grid.get_decision(decision_id)

    assert [request.path for request in receiver.requests] == ["/v1/traces", f"/v1/decisions/{decision_id}"]


def test_a_client_of_another_server_waits_for_nothing(grid, receiver):
    with OtlpReceiver() as elsewhere:
        elsewhere.script(ok({}))
        loopgrid.configure(endpoint=receiver.url, delivery=loopgrid.DeliveryLimits(linger_s=60))
        loopgrid.decision("reply")(lambda: None)()

        with LoopGrid(endpoint=elsewhere.url) as client:
            client.get_decision(ID)

    assert receiver.requests == []


def test_the_clients_settings_come_from_the_process(receiver):
    loopgrid.configure(endpoint=receiver.url, api_key="lg-9", service_name="ours")
    receiver.script(ok({}, 201))
    with LoopGrid() as client:
        client.record_decision(decision_type="reply")

    (request,) = receiver.requests
    assert request.headers["Authorization"] == "Bearer lg-9"
    assert request.json["service_name"] == "ours"


@pytest.mark.parametrize("arguments", [{"endpoint": "x"}, {"timeout_s": 0}])
def test_settings_that_cannot_be_meant_are_refused(arguments):
    with pytest.raises(errors.Misconfigured):
        LoopGrid(**arguments)


def test_every_error_is_of_one_of_three_kinds():
    kinds = (errors.Permanent, errors.Retryable, errors.Fatal)
    found = [
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and thing.__module__ == errors.__name__
    ]

    assert len(found) > 10
    for kind in found:
        assert kind is errors.LoopGridError or sum(issubclass(kind, one) for one in kinds) == 1


def test_dataclasses_and_their_like_are_written_by_field(grid, receiver):
    @dataclasses.dataclass
    class Ticket:
        number: int

    receiver.script(ok({}, 201))
    grid.record_decision(decision_type="reply", input=Ticket(7))

    assert receiver.requests[0].json["input"] == {"number": 7}
