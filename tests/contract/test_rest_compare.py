"""Comparisons over REST: any two decisions, by the equality asked for, as JSON or as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.rest import (
    UNKNOWN_DECISION,
    UNKNOWN_REPLAY,
    Api,
    decorated_span,
    problem,
    running_api,
    span,
)

WRONG = {"action": "check_account", "amount": 10.0, "response": "Your account looks fine."}
RIGHT = {"action": "refund", "amount": 10.02, "response": "Refund  initiated."}
INPUT = {"message": "I was charged twice"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all claims of this module; each speaks of decisions of its own."""
    with running_api(tmp_path_factory.mktemp("compare")) as running:
        yield running


def decided(api: Api, output: Any = WRONG, **fields: Any) -> str:
    return str(api.record(**{"input": INPUT, "output": output, **fields})["decision_id"])


def replayed(api: Api, decision_id: str, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/replays", json={"decision_id": decision_id, **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def correct(api: Api, decision_id: str, output: Any) -> None:
    body = {"correction": output, "corrected_by": "agent_42"}
    assert api.client.post(f"/v1/decisions/{decision_id}/correction", json=body).status_code == 201


def asked(api: Api, **body: Any) -> httpx.Response:
    return api.client.post("/v1/compare", json=body)


def compared(api: Api, **body: Any) -> dict[str, Any]:
    answer = asked(api, **body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_two_decisions_are_compared_part_by_part(api):
    left = decided(
        api,
        prompt={"name": "support", "version": "1", "template": "Hello {message}"},
        usage={"input_tokens": 40},
        duration_ms=20.0,
    )
    right = decided(
        api,
        RIGHT,
        prompt={"name": "support", "version": "2", "template": "Dear {message}"},
        usage={"input_tokens": 42},
        duration_ms=15.0,
    )
    before = api.everything()

    found = compared(api, left=left, right=right)

    assert found["verdict"] == "changed"
    assert found["agreement"] == {"outputs": False, "left": None, "right": None}
    assert found["equality"] == {"text": "exact"}
    assert (found["replay"], found["overrides"], found["ground_truth"]) == (None, None, None)
    assert found["decision"]["decision_id"] == left
    assert found["result"]["decision_id"] == right
    assert found["output_diff"]["structure"] == [
        {"op": "changed", "path": f"/{name}", "left": WRONG[name], "right": RIGHT[name]} for name in WRONG
    ]
    assert found["prompt_diff"]["fields"] == [{"field": "version", "left": "1", "right": "2"}]
    assert found["prompt_diff"]["template"].endswith("-Hello {message}\n+Dear {message}")
    assert found["measures"]["input_tokens"] == {"left": 40, "right": 42, "difference": 2}
    assert found["measures"]["duration_ms"]["difference"] == -5.0
    assert found["notes"] == []
    assert api.everything() == before, "nothing is recorded"


def test_a_decision_beside_itself_differs_in_nothing(api):
    decision = decided(api)
    found = compared(api, left=decision, right=decision)

    assert found["verdict"] == "unchanged"
    assert found["differences"] == found["changes"] == found["output_diff"]["structure"] == []


@pytest.mark.parametrize(
    ("equality", "verdict"),
    [
        ("exact", "still_wrong"),
        ("normalised", "still_wrong"),
        ({"fields": ["/action"]}, "fixed"),
        ('{"fields": ["/action"]}', "fixed"),
        ({"text": "normalised", "fields": ["/action", "/response"]}, "fixed"),
        ({"text": "normalised", "absolute": 0.02}, "fixed"),
        ({"text": "normalised", "relative": 0.001}, "still_wrong"),
        ({"fields": ["/nothing"]}, "not_comparable"),
    ],
)
def test_the_verdict_follows_the_equality_in_the_body_and_in_the_address(api, equality, verdict):
    decision = decided(api)
    replay = replayed(api, decision, output={**RIGHT, "amount": 10.0, "response": "Refund initiated. "})
    correct(api, decision, RIGHT)

    body = compared(api, left=decision, right=replay["replay_id"], equality=equality)
    text = equality if isinstance(equality, str) else json.dumps(equality)
    address = f"/v1/decisions/{decision}/compare/{replay['replay_id']}"
    query = api.client.get(address, params={"equality": text}).json()

    assert body["verdict"] == verdict
    assert query == body


def test_a_replay_alone_is_compared_with_what_it_replays(api):
    decision = decided(api)
    replay = replayed(api, decision, output=RIGHT)

    alone = compared(api, right=replay["replay_id"])

    assert alone == compared(api, left=decision, right=replay["replay_id"])
    assert alone["replay"]["replay_id"] == replay["replay_id"]


def test_two_replays_of_a_decision_are_compared_by_what_they_led_to(api):
    decision = decided(api)
    first, second = (replayed(api, decision, output=output) for output in (WRONG, RIGHT))

    found = compared(api, left=first["replay_id"], right=second["replay_id"])

    assert found["decision"]["decision_id"] == first["result_decision_id"]
    assert found["result"]["decision_id"] == second["result_decision_id"]
    assert found["verdict"] == "changed"


def test_decisions_share_a_ground_truth_where_their_inputs_are_the_same(api):
    left, same, other = decided(api), decided(api, RIGHT), decided(api, RIGHT, input={"message": "hello"})
    correct(api, left, RIGHT)

    assert compared(api, left=left, right=same)["verdict"] == "fixed"
    assert compared(api, left=same, right=left)["verdict"] == "newly_broken"
    assert compared(api, left=left, right=other)["verdict"] == "changed"
    assert compared(api, left=left, right=other)["ground_truth"] is None


def test_the_tools_that_ran_inside_and_the_prompt_as_it_was_sent_are_compared(api):
    ids = []
    for order in ("1", "2"):
        root = decorated_span("app.reply", loopgrid__prompt__rendered=f"Order {order}")
        tool = span(
            "execute_tool find_order",
            parent=root,
            gen_ai__operation__name="execute_tool",
            gen_ai__tool__name="find_order",
            gen_ai__tool__call__arguments=json.dumps({"order": order}),
        )
        api.export(root, tool)
        ids.append(f"{root.trace_id.hex()}-{root.span_id.hex()}")

    found = compared(api, left=ids[0], right=ids[1])

    (call,) = found["tool_call_diff"]["changed"]
    assert call["name"] == "find_order"
    assert call["arguments"] == [{"op": "changed", "path": "/order", "left": "1", "right": "2"}]
    assert found["prompt_diff"]["rendered"].endswith("-Order 1\n+Order 2")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_side_that_failed_or_was_cut_is_not_comparable_and_says_why(api, side):
    good = decided(api)
    failed = decided(api, error={"type": "TimeoutError", "message": "too slow"})
    cut = api.decorated(
        loopgrid__decision__output='{"a": "x"}', loopgrid__capture__lossiness="output.a:truncated:9:sha256=0"
    )
    missing = str(api.record(input=INPUT)["decision_id"])

    for bad, said in ((failed, "failed: too slow"), (cut, "not whole"), (missing, "no output on record")):
        pair = {"left": good, "right": bad} if side == "right" else {"left": bad, "right": good}
        found = compared(api, **pair)
        assert found["verdict"] == "not_comparable"
        assert said in found["why"]
        assert found["why"].startswith(f"The {side} decision")


def test_null_is_an_output_like_any_other(api):
    assert compared(api, left=decided(api, None), right=decided(api, None))["verdict"] == "unchanged"
    assert compared(api, left=decided(api, None), right=decided(api, {}))["verdict"] == "changed"


def test_outputs_too_large_to_be_looked_into_are_compared_by_digest(api):
    large, other = "x" * (5 * 2**20), "y" * (5 * 2**20)
    left, same, changed = decided(api, large), decided(api, large), decided(api, other)

    unlike = compared(api, left=left, right=changed)

    assert compared(api, left=left, right=same)["verdict"] == "unchanged"
    assert unlike["verdict"] == "not_comparable"
    assert unlike["output_diff"] is None
    assert "no difference was made" in unlike["notes"][0]


@pytest.mark.parametrize(
    ("output", "other"),
    [('{"a": 1e999}', '{"a": 2}'), ('"\\ud800"', '"\\udfff"'), ('{"a": ' + "9" * 5000 + "}", "1")],
)
def test_numbers_and_texts_beyond_python_are_answered(api, output, other):
    ids = [api.decorated(loopgrid__decision__output=text) for text in (output, other)]
    answer = asked(api, left=ids[0], right=ids[1])

    assert answer.status_code in {200, 422}
    json.loads(answer.text, parse_constant=pytest.fail)


def test_accept_chooses_a_page_and_the_page_forbids_itself_everything(api):
    hostile = "</script><script>alert(1)</script>"
    left, right = decided(api, hostile), decided(api, hostile + "!")
    replay = replayed(api, left, output=hostile)
    address = f"/v1/decisions/{left}/compare/{replay['replay_id']}"
    accept = {"accept": "text/html"}

    for answer in (
        api.client.post("/v1/compare", json={"left": left, "right": right}, headers=accept),
        api.client.get(address, headers=accept),
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.text.startswith("<!doctype html>")
        assert "<script" not in answer.text
    assert problem(api.client.get(address, headers={"accept": "image/png"}), 406)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "right"),
        ({"right": UNKNOWN_DECISION}, 422, "left"),
        ({"left": UNKNOWN_DECISION, "right": UNKNOWN_DECISION}, 404, None),
        ({"right": UNKNOWN_REPLAY}, 404, None),
        ({"left": "x", "right": UNKNOWN_DECISION}, 422, "left"),
        ({"left": UNKNOWN_DECISION, "right": UNKNOWN_DECISION, "equality": "fuzzy"}, 422, "equality"),
        ({"right": UNKNOWN_REPLAY, "equalty": "exact"}, 422, "equalty"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_by_name(api, body, status, field):
    refused = problem(asked(api, **body), status)

    assert field is None or refused["errors"][0]["field"] == field


def test_an_equality_that_is_none_is_refused_in_the_address_too(api):
    decision = decided(api)
    replay = replayed(api, decision, output=RIGHT)
    address = f"/v1/decisions/{decision}/compare/{replay['replay_id']}"

    refused = problem(api.client.get(address, params={"equality": "normalized"}), 422)

    assert refused["errors"][0]["suggestion"] == "normalised"


def test_a_replay_that_led_to_nothing_is_compared_with_what_it_replays_only(api):
    decision = decided(api)
    waiting = api.client.post("/v1/replays", json={"decision_id": decision, "overrides": {}}).json()

    assert compared(api, right=waiting["replay_id"])["verdict"] == "not_comparable"
    refused = problem(asked(api, left=decided(api), right=waiting["replay_id"]), 422)
    assert refused["errors"][0]["field"] == "right"
