"""Replays by model over REST, with a provider on a real socket."""

from __future__ import annotations

import importlib.util
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loopgrid_query.replay.providers import Provider, Providers
from tests.contract.doors import PROTOBUF
from tests.contract.rest import Api, llm_span, problem, running_api
from tests.support import samples
from tests.support.provider_stub import Provider as Stub
from tests.support.provider_stub import Reply, answered, provider_stub, refusal

KEY = "sk-very-secret"
TOLD = [
    {"role": "system", "parts": [{"type": "text", "content": "You sort tickets for ACME."}]},
    {"role": "user", "parts": [{"type": "text", "content": "My blender broke."}]},
]
SAID = [{"role": "assistant", "parts": [{"type": "text", "content": "refund"}], "finish_reason": "stop"}]
TOOLS = [{"type": "function", "name": "order", "description": "d", "parameters": {"type": "object"}}]
ENDED = {"completed", "failed", "refused", "cancelled"}


@pytest.fixture(scope="module")
def running() -> Iterator[Stub]:
    with provider_stub() as stub:
        yield stub


def providers(stub: Stub, **settings: Any) -> Providers:
    given: dict[str, Any] = {"timeout_s": 30.0, "max_attempts": 1, **settings}
    return Providers({"openai": Provider("openai", "openai", stub.base_url, KEY, **given)})


@pytest.fixture(scope="module")
def api(running: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all claims of this module; each speaks of decisions of its own."""
    with running_api(tmp_path_factory.mktemp("models"), providers=providers(running)) as found:
        yield found


@pytest.fixture
def stub(running: Stub) -> Stub:
    running.again()
    return running


def call(api: Api, **attributes: Any) -> str:
    """A model call as an instrumentation sends it; its id."""
    given = {
        "gen_ai__input__messages": json.dumps(TOLD),
        "gen_ai__output__messages": json.dumps(SAID),
        "gen_ai__request__max_tokens": 64,
        **attributes,
    }
    sent = llm_span(**given)
    api.export(sent, service="support")
    return f"{sent.trace_id.hex()}-{sent.span_id.hex()}"


def requested(api: Api, decision_id: str, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/replays", json={"decision_id": decision_id, **body})
    assert answer.status_code in {200, 201, 202}, answer.text
    return dict(answer.json())


def replay(api: Api, replay_id: str) -> dict[str, Any]:
    return dict(api.client.get(f"/v1/replays/{replay_id}").json())


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until it does; how long is the machine's business, up to a minute."""
    tick = threading.Event()
    for _ in range(2_400):
        if holds():
            return
        tick.wait(0.025)
    raise AssertionError(f"never came true: {what}")


def ended(api: Api, replay_id: str) -> dict[str, Any]:
    eventually(lambda: replay(api, replay_id)["status"] in ENDED, "the replay ends")
    return replay(api, replay_id)


def ran(api: Api, decision_id: str, **body: Any) -> dict[str, Any]:
    return ended(api, requested(api, decision_id, **body)["replay_id"])


def decision(api: Api, decision_id: str) -> dict[str, Any]:
    return dict(api.client.get(f"/v1/decisions/{decision_id}").json())


def test_a_model_call_is_sent_again_and_its_answer_is_a_decision(api, stub):
    original = call(api)
    asked = requested(api, original, requested_by="me")
    found = ended(api, asked["replay_id"])
    result = decision(api, found["result_decision_id"])

    assert (asked["executor"], asked["status"]) == ("model", "pending")
    assert "has no function, and its messages are on record" in asked["reason"]
    assert (found["status"], found["reason"], found["attempts"]) == ("completed", None, 1)
    assert [event["status"] for event in found["history"]] == ["pending", "running", "completed"]
    assert stub.asked[0].body == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "You sort tickets for ACME."},
            {"role": "user", "content": "My blender broke."},
        ],
        "max_completion_tokens": 64,
    }
    assert result["input"] == TOLD
    assert result["output"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "I read 8 words."}],
            "finish_reason": "stop",
        }
    ]
    assert result["model"] == {
        "provider": "openai",
        "name": "gpt-4o",
        "response_name": "gpt-4o-2026-10-01",
        "parameters": {"max_tokens": 64},
    }
    assert result["usage"] == {
        "input_tokens": 8,
        "output_tokens": 4,
        "cache_read_tokens": 1,
        "cache_write_tokens": None,
        "reasoning_tokens": 2,
    }
    assert (result["finish_reasons"], result["response_id"]) == (["stop"], "chatcmpl-stub")
    assert (result["replay_id"], result["replay_of"]) == (found["replay_id"], original)
    assert result["duration_ms"] > 0
    assert result["service_name"] == "support"


def test_the_result_links_to_the_original_and_is_no_production_decision(api, stub):
    original = call(api)
    result = ran(api, original)["result_decision_id"]

    rows = api.sql(
        "SELECT links->>'$[0].trace_id', links->>'$[0].span_id' FROM spans WHERE trace_id = $t",
        {"t": result[:32]},
    ).json()["rows"]
    listed = api.client.get("/v1/decisions", params={"limit": 200}).json()["items"]

    assert rows == [[original[:32], original[33:]]]
    assert original in {one["decision_id"] for one in listed}
    assert result not in {one["decision_id"] for one in listed}


def test_overrides_reach_the_provider_and_the_record(api, stub):
    prompt = {
        "loopgrid__prompt__template": "You sort tickets for {company}.",
        "gen_ai__prompt__name": "sort",
        "gen_ai__prompt__version": "1",
        "gen_ai__prompt__variable__company": "ACME",
    }
    overrides = {
        "prompt": {"template": "Be kind to {company}."},
        "model": {"name": "gpt-5", "parameters": {"max_tokens": None, "temperature": 0.5}},
    }
    found = ran(api, call(api, **prompt), overrides=overrides)
    result = decision(api, found["result_decision_id"])

    assert found["overrides"] == overrides
    assert stub.asked[0].body == {
        "model": "gpt-5",
        "messages": [
            {"role": "system", "content": "Be kind to ACME."},
            {"role": "user", "content": "My blender broke."},
        ],
        "temperature": 0.5,
    }
    assert result["input"][0]["parts"][0]["content"] == "Be kind to ACME."
    assert result["prompt"] == {
        "name": "sort",
        "version": None,
        "template": "Be kind to {company}.",
        "variables": {"company": "ACME"},
    }
    assert (result["model"]["name"], result["model"]["parameters"]) == ("gpt-5", {"temperature": 0.5})


def test_tools_are_offered_again_and_stand_in_the_result(api, stub):
    found = ran(api, call(api, gen_ai__tool__definitions=json.dumps(TOOLS)))
    result = decision(api, found["result_decision_id"])

    (tool,) = stub.asked[0].body["tools"]
    assert tool["function"] == {"name": "order", "description": "d", "parameters": {"type": "object"}}
    assert result["tools"] == TOOLS


def test_the_result_of_a_replay_can_be_replayed(api, stub):
    first = ran(api, call(api, gen_ai__tool__definitions=json.dumps(TOOLS)))
    second = ran(api, first["result_decision_id"])

    assert (second["executor"], second["status"]) == ("model", "completed")
    assert stub.asked[0].body == stub.asked[1].body


def test_a_replay_is_compared_with_its_original_and_its_correction(api, stub):
    original = call(api)
    right = [{**SAID[0], "parts": [{"type": "text", "content": "I read 8 words."}]}]
    body = {"correction": right, "corrected_by": "agent_42"}
    assert api.client.post(f"/v1/decisions/{original}/correction", json=body).status_code == 201

    found = ran(api, original)
    compared = api.client.get(f"/v1/decisions/{original}/compare/{found['replay_id']}").json()

    assert compared["verdict"] == "fixed"


def test_what_a_provider_refuses_is_a_failed_replay_with_the_reason(api, stub):
    stub.always(refusal(400, f"temperature is not for you, {KEY}"))

    found = ran(api, call(api))
    result = decision(api, found["result_decision_id"])

    assert found["status"] == "failed"
    assert found["reason"] == "http_400: openai answered 400: temperature is not for you, [key]."
    assert (result["output"], result["error"]["type"]) == (None, "http_400")


def test_a_failed_replay_is_run_again_as_a_new_attempt(api, stub):
    stub.then(Reply(body=b"{nope"))
    found = ran(api, call(api))
    assert found["status"] == "failed"

    assert api.client.post(f"/v1/replays/{found['replay_id']}/retry", json={}).status_code == 200
    again = ended(api, found["replay_id"])

    assert (again["status"], again["attempts"]) == ("completed", 2)
    assert again["result_decision_id"] != found["result_decision_id"]


def test_an_answer_that_no_record_can_hold_is_a_failure(api, stub):
    stub.always(lambda asked: answered(asked, content="half \ud83d of one"))

    found = ran(api, call(api))

    assert found["status"] == "failed"
    assert "no_completion" in found["reason"]


def test_a_cancelled_call_is_given_up_and_not_recorded(api, stub):
    held = threading.Event()
    stub.always(lambda asked: Reply(body=answered(asked).body, held=held))
    replay_id = requested(api, call(api))["replay_id"]
    try:
        eventually(lambda: len(stub.asked) == 1, "it is asked")
        assert api.client.post(f"/v1/replays/{replay_id}/cancel", json={"reason": "no"}).status_code == 200
        models = api.services.replays.models
        eventually(lambda: models.under_way() == 0, "the call is given up")
    finally:
        held.set()

    found = replay(api, replay_id)
    assert (found["status"], found["result_decision_id"]) == ("cancelled", None)


def test_the_same_key_asks_the_provider_once(api, stub):
    original, key = call(api), str(uuid.uuid4())
    first = requested(api, original, idempotency_key=key)
    ended(api, first["replay_id"])
    second = requested(api, original, idempotency_key=key)

    assert second["replay_id"] == first["replay_id"]
    assert len(stub.asked) == 1


def test_a_function_is_preferred_and_a_model_may_be_asked_for(api, stub):
    by_default = requested(api, api.decorated())
    by_name = requested(api, api.decorated(), executor="model")

    assert by_default["executor"] == "function"
    assert (by_name["executor"], by_name["status"]) == ("model", "refused")
    assert "Nothing ran" in by_name["reason"]
    assert stub.asked == []


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"gen_ai__input__messages": None}, "not captured"),
        ({"gen_ai__provider__name": "acme"}, "LOOPGRID_PROVIDERS"),
        ({"gen_ai__request__previous_response__id": "resp_1"}, "only the provider holds"),
        ({"gen_ai__request__weird": 1}, "model.parameters.weird"),
        ({"gen_ai__request__model": None}, "model.name"),
    ],
)
@pytest.mark.parametrize("executor", [None, "model"])
def test_what_cannot_be_sent_is_refused_with_the_reason(api, stub, attributes, words, executor):
    found = requested(api, call(api, **attributes), **({} if executor is None else {"executor": executor}))

    assert (found["status"], found["executor"]) == ("refused", executor)
    assert "Nothing ran" in found["reason"]
    assert words in found["reason"]
    assert stub.asked == []


def test_an_output_does_not_go_with_a_model(api, stub):
    body = {"decision_id": call(api), "executor": "model", "output": 1}

    assert problem(api.client.post("/v1/replays", json=body), 422)["errors"][0]["field"] == "output"


@pytest.mark.parametrize(
    "pattern",
    [
        "genai-openai-*/span-only/chat",
        "genai-openai-*/event-only/chat",
        "openinference-openai-*/default/chat",
        "traceloop-openai-0.62.4/default/chat",
        "vercel-ai-*/default/chat",
        "pydantic-ai-*/v2/chat",
        "mlflow-*/default/openai-chat",
    ],
)
def test_the_same_call_is_sent_again_whoever_recorded_it(stub, tmp_path, pattern):
    (folder,) = samples.folders(pattern)
    with running_api(tmp_path, providers=providers(stub)) as api:
        for signal in ("traces", "logs"):
            for body in samples.bodies(folder, signal):
                headers = {"content-type": PROTOBUF}
                assert api.client.post(f"/v1/{signal}", content=body, headers=headers).status_code == 200
        (found,) = api.client.get("/v1/decisions").json()["items"]
        # Some do not say who was asked.
        overrides = {} if found["model"]["provider"] else {"model": {"provider": "openai"}}
        done = ran(api, found["decision_id"], overrides=overrides)

    assert done["status"] == "completed", done["reason"]
    assert stub.asked[0].body["model"] == found["model"]["name"]
    assert stub.asked[0].body["messages"] == [
        {"role": "system", "content": samples.SYSTEM},
        {"role": "user", "content": samples.USER},
    ]


def test_the_key_is_nowhere_in_the_ledger(api, stub):
    stub.always(refusal(401, f"unknown key {KEY}"))
    assert "Check the key" in ran(api, call(api))["reason"]

    for view in ("spans", "replays", "decisions"):
        rows = api.sql(f"SELECT * FROM {view}").text  # noqa: S608 - names of ours
        assert KEY not in rows


def test_no_more_calls_are_under_way_than_the_setting_allows(stub, tmp_path):
    held = threading.Event()
    stub.always(lambda asked: Reply(body=answered(asked).body, held=held))
    with running_api(tmp_path, providers=providers(stub), max_model_calls=3) as api:
        replays = [requested(api, call(api))["replay_id"] for _ in range(9)]
        eventually(lambda: len(stub.asked) == 3, "three are asked")
        assert [replay(api, one)["status"] for one in replays].count("running") == 3
        # Ingestion does not wait for them.
        call(api)
        held.set()
        assert {ended(api, one)["status"] for one in replays} == {"completed"}

    assert len(stub.asked) == 9


def test_many_at_once_are_all_recorded(stub, tmp_path):
    with running_api(tmp_path, providers=providers(stub), max_model_calls=32) as api:
        originals = [call(api) for _ in range(60)]
        with ThreadPoolExecutor(8) as pool:
            replays = list(pool.map(lambda one: requested(api, one)["replay_id"], originals))
        results = {ended(api, one)["result_decision_id"] for one in replays}
        recorded = api.sql("SELECT count(*) FROM decisions WHERE replay_id IS NOT NULL").json()["rows"]

    assert len(results) == len(stub.asked) == 60
    assert recorded == [[60]]


def test_a_stop_fails_what_is_asked_and_the_next_start_runs_what_waits(stub, tmp_path):
    held = threading.Event()
    stub.then(Reply(held=held))
    with running_api(tmp_path, providers=providers(stub), max_model_calls=1) as api:
        asked, waits = (requested(api, call(api))["replay_id"] for _ in range(2))
        eventually(lambda: len(stub.asked) == 1, "the first is asked")
    held.set()
    with running_api(tmp_path, providers=providers(stub), max_model_calls=1) as api:
        stopped, later = replay(api, asked), ended(api, waits)

    assert stopped["status"] == "failed"
    assert "The server stopped while openai was asked. It may have been charged" in stopped["reason"]
    assert later["status"] == "completed"
    assert len(stub.asked) == 2


def test_a_provider_that_is_no_longer_set_up_refuses_what_waited_for_it(stub, tmp_path):
    held = threading.Event()
    stub.then(Reply(held=held))
    with running_api(tmp_path, providers=providers(stub), max_model_calls=1) as api:
        _, waits = (requested(api, call(api))["replay_id"] for _ in range(2))
        eventually(lambda: len(stub.asked) == 1, "the first is asked")
    held.set()
    with running_api(tmp_path) as api:
        found = ended(api, waits)

    assert found["status"] == "refused"
    assert "The server has no provider 'openai' (it has none)" in found["reason"]


def test_without_the_extra_a_replay_says_what_to_install(stub, tmp_path: Path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "any_llm" else find(name))
    with running_api(tmp_path, providers=providers(stub)) as api:
        found = requested(api, call(api))

    assert found["status"] == "refused"
    assert "install LoopGrid with its extra `replay-model`" in found["reason"]


def waiting(api: Api) -> float:
    """How many calls wait for their turn at the provider."""
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    calls = next(each for each in families if each.name == "loopgrid_model_calls")
    return sum(each.value for each in calls.samples if each.labels["state"] == "waiting")


def test_a_provider_is_asked_no_more_than_it_allows_and_what_waits_can_be_cancelled(stub, tmp_path):
    held = threading.Event()
    stub.always(lambda asked: Reply(body=answered(asked).body, held=held))
    allowed = providers(stub, concurrency=1)
    with running_api(tmp_path, providers=allowed, max_model_calls=4) as api:
        replays = [requested(api, call(api))["replay_id"] for _ in range(4)]
        eventually(lambda: waiting(api) == 3, "three wait for their turn")
        assert len(stub.asked) == 1
        assert {replay(api, one)["status"] for one in replays} == {"running"}
        # One of the last three waits, whichever came first to the provider.
        for one in replays[2:]:
            assert api.client.post(f"/v1/replays/{one}/cancel", json={}).status_code == 200
        eventually(lambda: waiting(api) in {1, 2}, "who was cancelled waits no longer")
        held.set()
        statuses = [ended(api, one)["status"] for one in replays]
        eventually(lambda: waiting(api) == 0, "nobody waits any more")

    assert statuses == ["completed", "completed", "cancelled", "cancelled"]
    assert len(stub.asked) <= 3


def test_what_waited_for_its_turn_when_the_server_stopped_was_not_charged(stub, tmp_path):
    held = threading.Event()
    stub.always(Reply(held=held))
    allowed = providers(stub, concurrency=1)
    with running_api(tmp_path, providers=allowed, max_model_calls=2) as api:
        replays = [requested(api, call(api))["replay_id"] for _ in range(2)]
        eventually(lambda: waiting(api) == 1 and len(stub.asked) == 1, "one is asked, one waits")
    held.set()
    with running_api(tmp_path, providers=allowed, max_model_calls=2) as api:
        reasons = sorted(replay(api, one)["reason"] for one in replays)

    assert reasons[0] == "The server stopped before it was the turn to ask openai."
    assert "may have been charged" in reasons[1]
