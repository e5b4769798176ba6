"""Replays over REST: nothing that did not run is ever shown as run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.contract.rest import Api, decorated_span, llm_span, problem, running_api

WRONG = {"response": "Your account looks fine."}
RIGHT = {"response": "I see the duplicate charge. Refund initiated."}
OVERRIDES = {"prompt": {"template": "support_v2"}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all claims of this module; each speaks of decisions of its own."""
    with running_api(tmp_path_factory.mktemp("replays")) as running:
        yield running


@pytest.fixture
def decision_id(api: Api) -> str:
    """A decision recorded through the API, which nothing can run again."""
    decision = api.record(
        input={"message": "I was charged twice"},
        output=WRONG,
        prompt={"name": "support", "version": "1", "template": "support_v1"},
        model={
            "provider": "openai",
            "name": "gpt-4",
            "response_name": "gpt-4-0613",
            "parameters": {"seed": 1},
        },
        service_name="support",
        usage={"input_tokens": 5},
        user_id="u",
    )
    return str(decision["decision_id"])


def requested(api: Api, decision_id: str, **body: Any) -> httpx.Response:
    return api.client.post("/v1/replays", json={"decision_id": decision_id, "overrides": OVERRIDES, **body})


def compared(api: Api, replay: dict[str, Any]) -> dict[str, Any]:
    answer = api.client.get(f"/v1/decisions/{replay['decision_id']}/compare/{replay['replay_id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def correct(api: Api, decision_id: str, output: Any) -> None:
    body = {"correction": output, "corrected_by": "agent_42"}
    assert api.client.post(f"/v1/decisions/{decision_id}/correction", json=body).status_code == 201


def ran(api: Api, replay: dict[str, Any], output: str, *, failed: bool = False, **attributes: Any) -> None:
    """What a process that has the function sends when it ran the replay."""
    sent = decorated_span(
        loopgrid__replay__id=replay["replay_id"],
        loopgrid__replay__of=replay["decision_id"],
        loopgrid__decision__output=output,
        **attributes,
    )
    if failed:
        sent.status.code = sent.status.STATUS_CODE_ERROR
    api.export(sent)


def test_a_decision_that_nothing_can_run_gets_a_refused_replay_with_the_reason(api, decision_id):
    answer = requested(api, decision_id)
    replay = answer.json()

    assert answer.status_code == 201
    assert (replay["status"], replay["executor"], replay["result_decision_id"]) == ("refused", None, None)
    assert "Nothing ran" in replay["reason"]
    assert compared(api, replay)["verdict"] == "not_comparable"


def test_a_decision_of_a_decorated_function_waits_for_a_process_that_has_it(api):
    answer = requested(api, api.decorated())
    replay = answer.json()

    assert answer.status_code == 202
    assert (replay["status"], replay["executor"]) == ("pending", "function")
    assert "loopgrid replay" in replay["reason"]
    assert compared(api, replay)["verdict"] == "not_comparable"


def test_a_replay_is_completed_when_its_decision_arrives_and_not_before(api):
    replay = requested(api, api.decorated()).json()
    ran(api, replay, '{"response": "hi again"}')

    found = api.client.get(f"/v1/replays/{replay['replay_id']}").json()

    assert (found["status"], found["reason"]) == ("completed", None)
    assert compared(api, found)["verdict"] == "changed"


def test_a_replay_whose_decision_failed_is_failed_and_not_comparable(api):
    replay = requested(api, api.decorated()).json()
    ran(api, replay, "null", failed=True)

    assert api.client.get(f"/v1/replays/{replay['replay_id']}").json()["status"] == "failed"
    assert compared(api, replay)["verdict"] == "not_comparable"


def test_a_failed_replay_says_why(api):
    replay = requested(api, api.decorated()).json()
    ran(api, replay, "null", failed=True, error__type="KeyError", loopgrid__error__message="'refund'")

    found = api.client.get(f"/v1/replays/{replay['replay_id']}").json()

    assert found["reason"].startswith("KeyError")
    assert compared(api, found)["why"] == f"The replay failed: {found['reason']}"


def test_an_output_got_elsewhere_is_recorded_as_a_decision_of_its_own(api, decision_id):
    answer = requested(api, decision_id, output=RIGHT, requested_by="me")
    replay = answer.json()
    result = api.client.get(f"/v1/decisions/{replay['result_decision_id']}").json()

    assert answer.status_code == 201
    assert (replay["status"], replay["executor"], replay["requested_by"]) == ("completed", "external", "me")
    assert result["output"] == RIGHT
    assert (result["replay_of"], result["replay_id"]) == (decision_id, replay["replay_id"])
    assert result["trace_id"] != decision_id[:32]
    assert result["prompt"] == {
        "name": "support",
        "version": None,
        "template": "support_v2",
        "variables": None,
    }
    assert result["model"] == {
        "provider": "openai",
        "name": "gpt-4",
        "response_name": None,
        "parameters": {"seed": 1},
    }
    assert result["service_name"] == "support"
    assert (result["usage"]["input_tokens"], result["user_id"], result["duration_ms"]) == (None, None, None)


def test_the_result_links_to_the_original(api, decision_id):
    replay = requested(api, decision_id, output=RIGHT).json()

    rows = api.sql(
        "SELECT links->>'$[0].trace_id', links->>'$[0].span_id' FROM spans WHERE trace_id = $t",
        {"t": replay["result_decision_id"][:32]},
    ).json()["rows"]

    assert rows == [[decision_id[:32], decision_id[33:]]]


def test_a_model_call_without_a_decision_type_can_be_replayed_elsewhere(api):
    sent = llm_span()
    api.export(sent)

    replay = requested(api, f"{sent.trace_id.hex()}-{sent.span_id.hex()}", output="x").json()
    result = api.client.get(f"/v1/decisions/{replay['result_decision_id']}").json()

    assert replay["status"] == "completed"
    assert (result["decision_type"], result["kind"]) == (None, "decision")


def test_a_replay_can_be_replayed(api, decision_id):
    first = requested(api, decision_id, output=RIGHT).json()
    second = requested(api, first["result_decision_id"], output=WRONG).json()

    assert second["status"] == "completed"
    assert compared(api, second)["verdict"] == "changed"


def test_lists_leave_out_what_replays_made_unless_asked(api):
    service = f"service-{uuid.uuid4()}"
    original = api.record(service_name=service, output=1)["decision_id"]
    result = requested(api, original, output=2).json()["result_decision_id"]

    def listed(**filters: str) -> set[str]:
        page = api.client.get("/v1/decisions", params={"service_name": service, **filters}).json()
        return {decision["decision_id"] for decision in page["items"]}

    assert listed() == {original}
    assert listed(include_replays="true") == {original, result}


@pytest.mark.parametrize(
    ("body", "field", "suggestion"),
    [
        ({"overrides": {"prompts": {}}}, "overrides.prompts", "prompt"),
        ({"overrides": {"prompt": {"templates": "x"}}}, "overrides.prompt.templates", "template"),
        ({"executor": "functions"}, "executor", "function"),
        ({"executor": "external"}, "output", None),
        ({"executor": "function", "output": 1}, "output", None),
        ({"override": {}}, "override", "overrides"),
    ],
)
def test_a_replay_that_cannot_be_is_422_before_anything_is_recorded(
    api, decision_id, body, field, suggestion
):
    before = api.everything()

    (fault,) = problem(requested(api, decision_id, **body), 422)["errors"]

    assert (fault["field"], fault.get("suggestion")) == (field, suggestion)
    assert api.everything() == before


def test_an_argument_the_function_does_not_have_is_refused_with_the_nearest(api):
    refused = requested(api, api.decorated(), overrides={"input": {"messages": "x"}})

    assert problem(refused, 422)["errors"][0]["suggestion"] == "message"


@pytest.mark.parametrize("extra", [{}, {"output": RIGHT}, {"output": None}])
def test_the_same_key_and_request_give_the_same_replay(api, decision_id, extra):
    key = str(uuid.uuid4())
    first = requested(api, decision_id, idempotency_key=key, **extra)
    second = requested(api, decision_id, idempotency_key=key, **extra)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


@pytest.mark.parametrize(
    "other",
    [
        {"output": WRONG},
        {"overrides": {}},
        {"requested_by": "else"},
        {"output": RIGHT, "overrides": {"model": {}}},
    ],
)
def test_the_same_key_for_another_request_is_409(api, decision_id, other):
    key = str(uuid.uuid4())
    requested(api, decision_id, idempotency_key=key, output=RIGHT)

    problem(requested(api, decision_id, **{"idempotency_key": key, "output": RIGHT, **other}), 409)


def test_the_same_key_for_another_decision_is_409(api, decision_id):
    key = str(uuid.uuid4())
    requested(api, decision_id, idempotency_key=key)

    problem(requested(api, api.record()["decision_id"], idempotency_key=key), 409)


def test_the_same_key_used_at_once_by_many_gives_one_replay(api, decision_id):
    key = str(uuid.uuid4())
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: requested(api, decision_id, idempotency_key=key, output=RIGHT), range(8))
        )

    assert len({answer.json()["replay_id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]


@pytest.mark.parametrize(
    ("output", "truth", "verdict"),
    [
        (RIGHT, RIGHT, "fixed"),
        (WRONG, RIGHT, "still_wrong"),
        (RIGHT, WRONG, "newly_broken"),
        (WRONG, WRONG, "unchanged"),
    ],
)
def test_with_a_correction_the_comparison_says_who_was_right(api, decision_id, output, truth, verdict):
    replay = requested(api, decision_id, output=output).json()
    correct(api, decision_id, truth)

    assert compared(api, replay)["verdict"] == verdict


def test_a_comparison_shows_decision_replay_and_correction_side_by_side(api, decision_id):
    replay = requested(api, decision_id, output={"response": "Please wait."}).json()
    correct(api, decision_id, RIGHT)

    found = compared(api, replay)

    (difference,) = found["differences"]
    assert difference["path"] == "$.response"
    assert difference["decision"] == WRONG["response"]
    assert difference["replay"] == "Please wait."
    assert difference["correction"] == RIGHT["response"]
    assert {piece["op"] for piece in difference["text"]} <= {"equal", "delete", "insert"}
    assert found["decision"]["decision_id"] == decision_id
    assert found["result"]["decision_id"] == replay["result_decision_id"]
    assert found["ground_truth"]["output"] == RIGHT
    assert found["overrides"] == OVERRIDES
    assert {change["path"]: change["overridden"] for change in found["changes"]} == {
        "prompt.version": False,
        "prompt.template": True,
        "model.response_name": False,
    }


def test_without_a_correction_the_comparison_says_only_whether_something_changed(api, decision_id):
    same = requested(api, decision_id, output=WRONG).json()
    other = requested(api, decision_id, output=RIGHT).json()

    assert compared(api, same)["verdict"] == "unchanged"
    assert compared(api, other)["verdict"] == "changed"


def test_a_replay_is_compared_with_its_own_decision_only(api, decision_id):
    replay = requested(api, decision_id, output=RIGHT).json()
    other = api.record()["decision_id"]

    refused = problem(api.client.get(f"/v1/decisions/{other}/compare/{replay['replay_id']}"), 404)

    assert decision_id in refused["detail"]


def test_content_nested_beyond_all_reason_is_told_but_not_compared(api):
    deep = "[" * 5000 + "]" * 5000
    original = api.decorated(loopgrid__decision__output=deep)
    replay = requested(api, original).json()
    ran(api, replay, deep)

    assert deep in api.client.get(f"/v1/decisions/{original}").text
    answer = api.client.get(f"/v1/decisions/{original}/compare/{replay['replay_id']}")
    assert answer.status_code in {200, 422}


@pytest.mark.parametrize("replay_id", ["x", "rpl_1", "rpl_" + "G" * 32, "mrk_" + "1" * 32])
def test_a_malformed_replay_id_is_400(api, replay_id):
    assert problem(api.client.get(f"/v1/replays/{replay_id}"), 400)["errors"][0]["field"] == "replay_id"


def test_a_prompt_version_on_record_is_replayed_with_its_template(api, decision_id):
    api.record(prompt={"name": "support", "version": "2", "template": "Look twice: {message}"})
    named = {"prompt": {"version": "2"}}
    key = str(uuid.uuid4())

    replay = requested(api, decision_id, overrides=named, output=RIGHT, idempotency_key=key).json()
    again = requested(api, decision_id, overrides=named, output=RIGHT, idempotency_key=key)

    filled = {"version": "2", "template": "Look twice: {message}"}
    assert replay["overrides"] == {"prompt": filled}
    result = api.client.get(f"/v1/decisions/{replay['result_decision_id']}").json()
    assert result["prompt"] == {"name": "support", "variables": None, **filled}
    assert (again.status_code, again.json()) == (200, replay)


@pytest.mark.parametrize(
    ("prompt", "field", "said"),
    [
        ({"version": "9"}, "overrides.prompt.version", "versions with a template: 1"),
        ({"name": "suport", "version": "1"}, "overrides.prompt.name", "did you mean 'support'?"),
    ],
)
def test_a_prompt_that_is_not_on_record_is_refused_before_anything_is_recorded(
    api, decision_id, prompt, field, said
):
    before = api.everything()

    (fault,) = problem(requested(api, decision_id, overrides={"prompt": prompt}, output=RIGHT), 422)["errors"]

    assert fault["field"] == field
    assert said in fault["message"]
    assert api.everything() == before


def test_a_function_may_be_replayed_with_a_version_that_only_its_own_process_knows(api):
    answer = requested(api, api.decorated(), overrides={"prompt": {"version": "never recorded"}})

    assert answer.status_code == 202
    assert answer.json()["overrides"] == {"prompt": {"version": "never recorded"}}


def test_a_template_that_was_cut_when_it_was_recorded_is_not_replayed(api, decision_id):
    api.decorated(
        gen_ai__prompt__name="support",
        gen_ai__prompt__version="cut",
        loopgrid__prompt__template="Look tw",
        loopgrid__capture__lossiness=["prompt.template:truncated:900:sha256=00"],
    )

    refused = requested(api, decision_id, overrides={"prompt": {"version": "cut"}}, output=RIGHT)

    assert "without its whole template" in problem(refused, 422)["detail"]
