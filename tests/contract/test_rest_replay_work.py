"""The life of a replay over REST: every step is on record, one worker at a time, what ran is shown as run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from loopgrid.schema import parse_decision_id, replay_result_id
from loopgrid_query.records import Record, decision_record, parsed
from loopgrid_query.replay.lifecycle import MAX_LOST_LEASES, SERVER, Outcome
from tests.contract.rest import UNKNOWN_REPLAY, Api, decorated_span, problem, running_api


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all claims of this module; each speaks of a function of its own."""
    with running_api(tmp_path_factory.mktemp("work")) as running:
        yield running


@pytest.fixture
def function() -> str:
    return f"app.f{uuid.uuid4().hex}"


def requested(api: Api, function: str, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/replays", json={"decision_id": api.decorated(function), **body})
    assert answer.status_code in {201, 202}, answer.text
    return dict(answer.json())


def claim(api: Api, function: str, worker: str = "w", **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/replays/claim", json={"worker": worker, "functions": [function], **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def post(api: Api, replay: dict[str, Any], verb: str, **body: Any) -> httpx.Response:
    return api.client.post(f"/v1/replays/{replay['replay_id']}/{verb}", json=body)


def finish(
    api: Api, replay: dict[str, Any], outcome: str, worker: str = "w", attempt: int = 1, **body: Any
) -> httpx.Response:
    return post(api, replay, "finish", worker=worker, attempt=attempt, outcome=outcome, **body)


def ran(
    api: Api, replay: dict[str, Any], attempt: int = 1, *, failed: bool = False, output: str = '"again"'
) -> str:
    """What the process that ran an attempt exports."""
    decision_id = replay_result_id(replay["replay_id"], attempt)
    sent = decorated_span(
        loopgrid__replay__id=replay["replay_id"],
        loopgrid__replay__of=replay["decision_id"],
        loopgrid__decision__output=output,
    )
    trace_id, span_id = parse_decision_id(decision_id)
    sent.trace_id, sent.span_id = trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big")
    if failed:
        sent.status.code = sent.status.STATUS_CODE_ERROR
    api.export(sent)
    return decision_id


def shown(api: Api, replay: dict[str, Any]) -> dict[str, Any]:
    return dict(api.client.get(f"/v1/replays/{replay['replay_id']}").json())


def steps(replay: dict[str, Any]) -> list[tuple[str, int]]:
    return [(event["status"], event["attempt"]) for event in replay["history"]]


def test_a_replay_goes_from_pending_over_running_to_completed_and_each_step_is_on_record(api, function):
    replay = requested(api, function)
    claimed = claim(api, function)
    running = shown(api, replay)
    result = ran(api, replay)
    done = finish(api, replay, "ran").json()

    assert (claimed["replay"]["replay_id"], claimed["attempt"]) == (replay["replay_id"], 1)
    assert (claimed["run_as"], claimed["decision"]["input"]) == (result, {"message": "hello"})
    assert (running["status"], running["worker"], running["result_decision_id"]) == ("running", "w", None)
    assert (running["completed_at"], running["reason"]) == (None, None)
    assert (done["status"], done["result_decision_id"], done["attempts"]) == ("completed", result, 1)
    assert steps(done) == [("pending", 1), ("running", 1), ("completed", 1)]
    assert [event["worker"] for event in done["history"]] == [None, "w", "w"]
    assert [event["at"] for event in done["history"]] == sorted(event["at"] for event in done["history"])


def test_an_attempt_whose_decision_is_not_on_record_cannot_be_said_to_have_run(api, function):
    replay = requested(api, function)
    claim(api, function)

    assert "not on record" in problem(finish(api, replay, "ran"), 409)["detail"]
    assert shown(api, replay)["status"] == "running"


def test_an_attempt_whose_decision_failed_is_failed(api, function):
    replay = requested(api, function)
    claim(api, function)
    ran(api, replay, failed=True)

    assert finish(api, replay, "ran").json()["status"] == "failed"


@pytest.mark.parametrize("outcome", ["failed", "refused"])
def test_an_attempt_that_led_to_nothing_says_why(api, function, outcome):
    replay = requested(api, function)
    claim(api, function)

    problem(finish(api, replay, outcome), 422)
    done = finish(api, replay, outcome, reason="ran for more than 5 s").json()

    assert (done["status"], done["reason"]) == (outcome, "ran for more than 5 s")
    assert done["result_decision_id"] is None


def test_said_twice_what_became_of_an_attempt_is_said_once(api, function):
    replay = requested(api, function)
    claim(api, function)
    ran(api, replay)
    first, second = finish(api, replay, "ran"), finish(api, replay, "ran")

    assert first.json() == second.json()


def test_a_second_result_of_the_same_attempt_is_not_a_second_decision(api, function):
    replay = requested(api, function)
    claim(api, function)
    result = ran(api, replay)
    ran(api, replay, output='"other"')
    finish(api, replay, "ran")

    assert api.client.get(f"/v1/decisions/{result}").json()["output"] == "again"
    assert api.sql("SELECT count(*) FROM decisions WHERE replay_id = $r", {"r": replay["replay_id"]}).json()[
        "rows"
    ] == [[1]]
    assert api.sql("SELECT count(*) FROM conflicts WHERE trace_id = $t", {"t": result[:32]}).json()[
        "rows"
    ] == [[1]]


def test_of_many_that_claim_at_once_one_is_given_it(api, function):
    replay = requested(api, function)
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda n: claim(api, function, f"w{n}"), range(8)))

    (given,) = [one for one in claimed if one["replay"] is not None]
    assert given["replay"]["replay_id"] == replay["replay_id"]


def test_a_worker_that_waits_is_given_what_comes(api, function):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claim, api, function, wait_s=60)
        replay = requested(api, function)

    assert waiting.result()["replay"]["replay_id"] == replay["replay_id"]


def test_a_worker_is_given_what_it_can_run_alone(api, function):
    requested(api, function)

    assert claim(api, "app.other")["replay"] is None
    assert claim(api, "app.other", modules=["app"])["replay"] is not None


def test_a_worker_that_leaves_waits_no_more(api, function):
    name = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claim, api, function, name, wait_s=60)
        while not api.client.post("/v1/replays/leave", json={"worker": name}).json()["ended"]:
            pass

    assert waiting.result()["replay"] is None


def test_a_lease_that_ends_is_taken_over_as_a_new_attempt(api, function):
    replay = requested(api, function)
    claim(api, function, "gone", lease_s=1)
    taken = claim(api, function, "next", wait_s=30)
    late = finish(api, replay, "ran", "gone")
    result = ran(api, replay, 2)
    done = finish(api, replay, "ran", "next", 2).json()

    assert (taken["attempt"], taken["run_as"]) == (2, result)
    assert "running by next, attempt 2" in problem(late, 409)["detail"]
    assert steps(done) == [("pending", 1), ("running", 1), ("pending", 2), ("running", 2), ("completed", 2)]
    assert "gone went silent" in done["history"][2]["reason"]


def test_the_result_of_a_silent_worker_counts_and_nothing_runs_again(api, function):
    replay = requested(api, function)
    claim(api, function, "gone", lease_s=1)
    result = ran(api, replay)
    taken = claim(api, function, "next", wait_s=2)

    assert taken["replay"] is None
    assert (shown(api, replay)["status"], shown(api, replay)["result_decision_id"]) == ("completed", result)


def test_a_heartbeat_keeps_the_lease(api, function):
    replay = requested(api, function)
    claim(api, function, lease_s=60)

    assert post(api, replay, "heartbeat", worker="w", attempt=1).json()["lease_s"] == 60
    problem(post(api, replay, "heartbeat", worker="other", attempt=1), 409)
    problem(post(api, replay, "heartbeat", worker="w", attempt=2), 409)


def test_what_silences_its_workers_again_and_again_has_failed(api, function):
    replay = requested(api, function)
    for number in range(MAX_LOST_LEASES):
        assert claim(api, function, f"w{number}", wait_s=30, lease_s=1)["attempt"] == number + 1
    assert claim(api, function, wait_s=2)["replay"] is None

    assert shown(api, replay)["status"] == "failed"
    assert "went silent" in shown(api, replay)["reason"]


def test_what_a_worker_gives_back_waits_for_another(api, function):
    replay = requested(api, function)
    claim(api, function)
    given_back = finish(api, replay, "given_back").json()

    assert (given_back["status"], given_back["attempts"]) == ("pending", 1)
    assert claim(api, function, "next")["attempt"] == 2


def test_a_cancelled_replay_is_given_to_nobody(api, function):
    replay = requested(api, function)
    first = post(api, replay, "cancel", reason="not needed", requested_by="dana")
    second = post(api, replay, "cancel")

    assert first.json() == second.json()
    assert (first.json()["status"], first.json()["reason"]) == ("cancelled", "cancelled by dana: not needed")
    assert claim(api, function)["replay"] is None


def test_who_runs_a_replay_that_is_cancelled_is_told_at_the_next_heartbeat(api, function):
    replay = requested(api, function)
    claim(api, function)
    post(api, replay, "cancel")

    assert "cancelled" in problem(post(api, replay, "heartbeat", worker="w", attempt=1), 409)["detail"]
    problem(finish(api, replay, "failed", reason="x"), 409)
    assert shown(api, replay)["status"] == "cancelled"


def test_what_has_completed_cannot_be_cancelled_or_tried_again(api, function):
    replay = requested(api, function)
    claim(api, function)
    ran(api, replay)
    finish(api, replay, "ran")

    problem(post(api, replay, "cancel"), 409)
    problem(post(api, replay, "retry"), 409)


@pytest.mark.parametrize("outcome", ["failed", "refused"])
def test_a_replay_is_tried_again_as_a_new_attempt_once(api, function, outcome):
    replay = requested(api, function)
    claim(api, function)
    finish(api, replay, outcome, reason="once")
    post(api, replay, "retry", attempt=1)
    again = post(api, replay, "retry", attempt=1).json()
    claimed = claim(api, function)
    ran(api, replay, 2)
    done = finish(api, replay, "ran", attempt=2).json()

    assert (again["status"], again["completed_at"]) == ("pending", None)
    assert claimed["attempt"] == 2
    assert (done["status"], done["attempts"]) == ("completed", 2)
    assert post(api, replay, "retry", attempt=1).json() == done


def test_the_result_of_the_newest_attempt_is_the_result(api, function):
    replay = requested(api, function)
    claim(api, function)
    ran(api, replay, failed=True)
    finish(api, replay, "ran")
    post(api, replay, "retry")

    assert (shown(api, replay)["status"], shown(api, replay)["result_decision_id"]) == ("pending", None)


def test_what_nothing_can_run_is_not_tried_again(api):
    replay = api.client.post("/v1/replays", json={"decision_id": api.record(output=1)["decision_id"]}).json()

    problem(post(api, replay, "retry"), 409)


def test_who_asks_may_run_it_at_once_and_no_worker_is_given_it(api, function):
    replay = requested(api, function, worker="me")

    assert (replay["status"], replay["worker"], replay["attempts"]) == ("running", "me", 1)
    assert claim(api, function)["replay"] is None
    ran(api, replay)
    assert finish(api, replay, "ran", "me").json()["status"] == "completed"


def test_replays_are_listed_newest_first_by_status_and_decision(api, function):
    decision_id = api.decorated(function)
    made = [
        api.client.post("/v1/replays", json={"decision_id": decision_id}).json()["replay_id"]
        for _ in range(3)
    ]
    api.client.post(f"/v1/replays/{made[0]}/cancel", json={})

    def listed(**words: Any) -> dict[str, Any]:
        return dict(api.client.get("/v1/replays", params={"decision_id": decision_id, **words}).json())

    page = listed(limit=2)
    rest = listed(limit=2, cursor=page["next_cursor"])
    assert [one["replay_id"] for one in page["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None
    assert [one["replay_id"] for one in listed(status="cancelled")["items"]] == made[:1]


@pytest.mark.parametrize(
    ("words", "field"),
    [({"status": "done"}, "status"), ({"cursor": "x"}, "cursor"), ({"decision_id": "x"}, "decision_id")],
)
def test_a_list_that_cannot_be_meant_is_400(api, words, field):
    assert problem(api.client.get("/v1/replays", params=words), 400)["errors"][0]["field"] == field


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_replay_that_is_none_on_record_is_404(api, verb):
    problem(post(api, {"replay_id": UNKNOWN_REPLAY}, verb), 404)


def test_after_a_restart_what_waited_waits_and_what_ran_keeps_its_lease(tmp_path, function):
    with running_api(tmp_path) as api:
        running, waiting = requested(api, function), requested(api, function)
        claim(api, function, lease_s=60)
    with running_api(tmp_path) as api:
        claimed = claim(api, function, "next")

        assert claimed["replay"]["replay_id"] == waiting["replay_id"]
        assert post(api, running, "heartbeat", worker="w", attempt=1).status_code == 200
        ran(api, running)
        assert finish(api, running, "ran").json()["status"] == "completed"


def test_a_server_that_stops_lets_go_of_workers_that_wait(tmp_path, function):
    body = {"worker": "w", "functions": [function], "wait_s": 50}
    with ThreadPoolExecutor(1) as pool:
        with running_api(tmp_path, shutdown_grace_s=60) as api:
            address = str(api.client.base_url).rstrip("/") + "/v1/replays/claim"
            waiting = pool.submit(httpx.post, address, json=body, timeout=60, trust_env=False)
            while not api.services.dispatcher._waiters:
                pass

        assert waiting.result().json()["replay"] is None


def test_what_runs_inside_the_server_is_carried_through_to_its_end(api, function):
    replay = requested(api, function)
    found = {"output": 1, "model": {"response_name": "gpt-4o-2024"}, "duration_ms": 5}
    carry_through(api, replay, {"model": {"provider": "openai", "name": "gpt-4o"}}, found)
    done = shown(api, replay)
    result = api.client.get(f"/v1/decisions/{done['result_decision_id']}").json()

    assert steps(done) == [("pending", 1), ("running", 1), ("completed", 1)]
    assert (result["output"], result["model"]["response_name"]) == (1, "gpt-4o-2024")
    assert (result["model"]["name"], result["replay_id"]) == ("gpt-4o", replay["replay_id"])
    assert claim(api, function)["replay"] is None


def test_what_fails_inside_the_server_says_why(api, function):
    replay = requested(api, function)
    carry_through(api, replay, {}, {"error": {"type": "Timeout", "message": "no answer"}})

    assert (shown(api, replay)["status"], shown(api, replay)["reason"]) == ("failed", "Timeout: no answer")


def carry_through(api: Api, replay: Mapping[str, Any], overrides: Record, found: Record) -> None:
    """What an executor inside the server does with a replay."""
    lifecycle = api.services.replays.lifecycle
    original = decision_record(api.services.decisions.row(replay["decision_id"]), parsed)
    attempt = lifecycle.begin(replay["replay_id"], SERVER)
    lifecycle.record_result(attempt, original, overrides, found)
    lifecycle.end(replay["replay_id"], SERVER, attempt.number, Outcome.RAN)
