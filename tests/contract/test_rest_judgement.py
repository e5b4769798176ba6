"""What people say about decisions and about each other's words, through the API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from loopgrid import AsyncLoopGrid, LoopGrid
from loopgrid.errors import Invalid
from loopgrid_query.cli.app import run
from tests.contract.rest import Api, running_api

REFUND = {"action": "refund", "amount": 1}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("judgement")) as found:
        yield found


@pytest.fixture
def decision(api) -> str:
    return str(api.record(output={"action": "deny", "amount": 1})["decision_id"])


def said(api: Api, decision: str, verb: str, **body: Any) -> dict[str, Any]:
    answer = api.client.post(f"/v1/decisions/{decision}/{verb}", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def corrected(api: Api, decision: str, output: Any, by: str) -> str:
    return str(said(api, decision, "correction", correction=output, corrected_by=by)["correction_id"])


def truth(api: Api, decision: str, view: str = "ground_truth") -> Any:
    rows = api.sql(
        f"SELECT output, policy, disputed FROM {view} WHERE decision_id = ?",  # noqa: S608 - names of ours
        [decision],
    ).json()["rows"]
    return rows[0] if rows else None


def shown(api: Api, decision: str) -> dict[str, Any]:
    return dict(api.client.get(f"/v1/decisions/{decision}").json())


def test_a_decision_marked_correct_is_not_in_the_marks_and_stays_not_incorrect(api, decision):
    made = said(api, decision, "correct", reason="As the policy says", category="policy", said_by="ana")

    assert (made["event"], made["said_by"], made["category"]) == ("approval", "ana", "policy")
    assert (shown(api, decision)["incorrect"], shown(api, decision)["marks"]) == (False, [])


def test_a_mark_keeps_its_category_and_severity(api, decision):
    said(api, decision, "incorrect", reason="Wrong", category="policy", severity="high", marked_by="ana")

    (mark,) = shown(api, decision)["marks"]
    assert (mark["category"], mark["severity"]) == ("policy", "high")


def test_a_withdrawn_mark_counts_no_more_and_stays_in_the_history(api, decision):
    mark = said(api, decision, "incorrect", reason="Wrong", marked_by="ana")
    said(api, decision, "withdraw", subject_id=mark["mark_id"], reason="Mistaken", said_by="ana")

    assert (shown(api, decision)["incorrect"], shown(api, decision)["marks"]) == (False, [])
    history = api.client.get(f"/v1/decisions/{decision}/history").json()["items"]
    assert [(each["event"], each["withdrawn"]) for each in history] == [
        ("recorded", False),
        ("mark", True),
        ("withdrawal", False),
    ]
    assert history[2]["subject_id"] == mark["mark_id"]
    assert [each["commit_id"] for each in history] == sorted(each["commit_id"] for each in history)


def test_withdrawing_a_correction_lets_the_one_before_stand_again(api, decision):
    corrected(api, decision, "one", "ana")
    second = corrected(api, decision, "two", "ben")
    said(api, decision, "withdraw", subject_id=second, reason="Mistaken", said_by="ben")

    assert shown(api, decision)["ground_truth"]["output"] == "one"
    assert shown(api, decision)["corrected"] is True


def test_withdrawing_the_only_correction_leaves_none(api, decision):
    only = corrected(api, decision, "one", "ana")
    said(api, decision, "withdraw", subject_id=only, reason="Mistaken", said_by="ana")

    assert (shown(api, decision)["ground_truth"], shown(api, decision)["corrected"]) == (None, False)


@pytest.mark.parametrize("verb", ["agree", "dispute"])
@pytest.mark.parametrize("by", ["ana", "Ana "])
def test_nobody_agrees_or_disputes_with_themselves(api, decision, verb, by):
    own = corrected(api, decision, "one", "ana")
    answer = api.client.post(f"/v1/decisions/{decision}/{verb}", json={"subject_id": own, "said_by": by})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "subject_id")


def test_who_agrees_must_be_known(api, decision):
    one = corrected(api, decision, "one", "ana")
    answer = api.client.post(f"/v1/decisions/{decision}/agree", json={"subject_id": one})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "said_by")


def test_what_others_said_is_not_withdrawn_without_an_admins_key(api, decision):
    one = corrected(api, decision, "one", "ana")
    body = {"subject_id": one, "reason": "I know better", "said_by": "ben"}

    assert api.client.post(f"/v1/decisions/{decision}/withdraw", json=body).status_code == 403
    assert shown(api, decision)["ground_truth"]["output"] == "one"


def test_what_is_withdrawn_cannot_be_withdrawn_agreed_with_or_chosen(api, decision):
    one = corrected(api, decision, "one", "ana")
    said(api, decision, "withdraw", subject_id=one, reason="Mistaken", said_by="ana")

    for verb, body in (
        ("withdraw", {"subject_id": one, "reason": "again", "said_by": "ana"}),
        ("agree", {"subject_id": one, "said_by": "ben"}),
        ("adjudicate", {"correction_id": one, "reason": "it stands", "said_by": "ben"}),
    ):
        answer = api.client.post(f"/v1/decisions/{decision}/{verb}", json=body)
        assert answer.status_code == 409, answer.text


def test_what_was_said_about_another_decision_is_not_found_here(api, decision):
    elsewhere = corrected(api, str(api.record()["decision_id"]), "one", "ana")
    answer = api.client.post(
        f"/v1/decisions/{decision}/agree", json={"subject_id": elsewhere, "said_by": "ben"}
    )

    assert answer.status_code == 404


def test_a_dispute_shows_until_it_is_adjudicated(api, decision):
    one = corrected(api, decision, "one", "ana")
    corrected(api, decision, "two", "ben")
    said(api, decision, "dispute", subject_id=one, said_by="ben")
    assert shown(api, decision)["ground_truth"]["disputed"] is True

    said(api, decision, "adjudicate", correction_id=one, reason="Policy 7", said_by="cleo")

    assert truth(api, decision) == ['"one"', "latest", False]
    assert truth(api, decision, "ground_truth_adjudicated") == ['"one"', "adjudicated", False]


def test_an_adjudication_may_state_the_right_output_itself(api, decision):
    corrected(api, decision, "one", "ana")
    made = said(api, decision, "adjudicate", correction={"action": "ask"}, reason="Neither", said_by="cleo")

    now = shown(api, decision)["ground_truth"]
    assert (now["output"], now["correction_id"]) == ({"action": "ask"}, made["subject_id"])


def test_without_an_adjudication_nothing_is_adjudicated(api, decision):
    corrected(api, decision, "one", "ana")

    assert truth(api, decision, "ground_truth_adjudicated") is None


def test_the_majority_counts_people_and_not_entries(api, decision):
    for _ in range(3):
        corrected(api, decision, "two", "ben")
    one = corrected(api, decision, "one", "ana")
    assert truth(api, decision, "ground_truth_majority") is None
    said(api, decision, "agree", subject_id=one, said_by="cleo")

    assert truth(api, decision, "ground_truth_majority")[0] == '"one"'


def test_equal_corrections_count_together_and_a_dispute_counts_against(api, decision):
    corrected(api, decision, "one", "ana")
    one = corrected(api, decision, "one", "ben")
    assert truth(api, decision, "ground_truth_majority")[0] == '"one"'

    for who in ("cleo", "dan"):
        said(api, decision, "dispute", subject_id=one, said_by=who)
    assert truth(api, decision, "ground_truth_majority") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"action": "refund", "amount": 1}, {"amount": 1, "action": "refund"}),
        ({"amount": 1, "of": [{"b": 2, "a": 0.5}]}, {"of": [{"a": 0.50, "b": 2.0}], "amount": 1.0}),
        (-0.0, 0),
        (1e20, 100000000000000000000.0),
        (1e300, 10.0**300),
        ({"text": "é\n", "none": None, "yes": True}, {"yes": True, "none": None, "text": "\u00e9\n"}),
        (None, None),
    ],
)
def test_the_same_json_value_is_one_vote_however_it_is_written(api, decision, one, other):
    corrected(api, decision, one, "ana")
    corrected(api, decision, other, "ben")

    assert truth(api, decision, "ground_truth_majority") is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (None, "null"),
        ({}, []),
        ([1, 2], [2, 1]),
        ({"a": None}, {}),
        ([], [[]]),
        (0.1, 0.2),
        (2**63, 2**63 + 1),
        ({"a": [1]}, {"a[0]": 1}),
        ({"a": {"b": 1}}, {"a.b": 1}),
        ({"a": {"b": {"c": 1}}, "a.b": {"c": 2}}, {"a": {"b": {"c": 2}}, "a.b": {"c": 1}}),
        ({"a": ["x"]}, {"a": {"0": "x"}}),
        ("a\nb", ["a", "b"]),
    ],
)
def test_other_json_values_are_other_votes(api, decision, one, other):
    corrected(api, decision, one, "ana")
    corrected(api, decision, other, "ben")

    assert truth(api, decision, "ground_truth_majority") is None


def test_a_correction_keeps_its_category_and_severity_and_a_key_stands_for_them(api, decision):
    body = {"correction": "one", "corrected_by": "ana", "category": "policy", "severity": "high"}
    path, key = f"/v1/decisions/{decision}/correction", {"idempotency-key": f"once-{decision}"}
    made = api.client.post(path, json=body, headers=key)

    assert (made.status_code, made.json()["category"], made.json()["severity"]) == (201, "policy", "high")
    assert api.client.post(path, json=body, headers=key).json() == made.json()
    assert api.client.post(path, json={**body, "severity": "low"}, headers=key).status_code == 409
    (shown_there,) = shown(api, decision)["corrections"]
    assert (shown_there["category"], shown_there["severity"]) == ("policy", "high")
    stored = "SELECT category, severity FROM corrections WHERE decision_id = ?"
    assert api.sql(stored, [decision]).json()["rows"] == [["policy", "high"]]


def test_a_majority_for_the_recorded_output_is_no_correction(api, decision):
    corrected(api, decision, "one", "ana")
    for who in ("ben", "cleo"):
        said(api, decision, "correct", said_by=who)

    assert truth(api, decision, "ground_truth_majority") is None
    assert truth(api, decision)[0] == '"one"'


def test_a_patch_is_kept_with_the_output_that_it_makes(api, decision):
    patch = [
        {"op": "test", "path": "/action", "value": "deny"},
        {"op": "replace", "path": "/action", "value": "refund"},
    ]
    made = said(api, decision, "correction", patch=patch, corrected_by="ana")

    assert (made["output"], made["patch"]) == (REFUND, patch)
    assert shown(api, decision)["ground_truth"]["output"] == REFUND
    assert shown(api, decision)["output"] == {"action": "deny", "amount": 1}


@pytest.mark.parametrize("value", ["allow", True])
def test_a_patch_whose_test_fails_is_409_and_leaves_nothing(api, decision, value):
    path = "/amount" if value is True else "/action"
    body = {"patch": [{"op": "test", "path": path, "value": value}], "corrected_by": "ana"}
    answer = api.client.post(f"/v1/decisions/{decision}/correction", json=body)

    assert (answer.status_code, path in answer.json()["detail"]) == (409, True)
    assert shown(api, decision)["corrections"] == []


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "remove", "path": "/nothing"}],
        [{"op": "change", "path": "/action"}],
        [{"op": "replace", "path": "/action"}],
        [{"op": "add", "path": "/action/deep", "value": 1}],
        [{"op": "add", "path": 7, "value": 1}],
        [{"path": "/action"}],
        [{"op": ["add"], "path": "/action"}],
        [{"op": "test", "path": "/nothing", "value": 1}],
        [],
    ],
)
def test_a_patch_that_cannot_be_applied_is_422(api, decision, patch):
    body = {"patch": patch, "corrected_by": "ana"}

    assert api.client.post(f"/v1/decisions/{decision}/correction", json=body).status_code == 422


def test_a_patch_that_doubles_the_output_again_and_again_is_stopped(api, decision):
    doubling = [{"op": "copy", "from": "", "path": f"/x{number}"} for number in range(100)]
    body = {"patch": doubling, "corrected_by": "ana"}

    assert api.client.post(f"/v1/decisions/{decision}/correction", json=body).status_code == 422


def test_a_correction_is_either_whole_or_a_patch(api, decision):
    both = {"correction": 1, "patch": [{"op": "replace", "path": "", "value": 1}], "corrected_by": "ana"}
    for body in (both, {"corrected_by": "ana"}):
        assert api.client.post(f"/v1/decisions/{decision}/correction", json=body).status_code == 422


def test_the_same_idempotency_key_says_it_once_even_after_it_was_withdrawn(api, decision):
    one = corrected(api, decision, "one", "ana")
    headers = {"Idempotency-Key": "k"}
    body = {"subject_id": one, "said_by": "ben"}
    path = f"/v1/decisions/{decision}/agree"
    first = api.client.post(path, json=body, headers=headers)
    said(api, decision, "withdraw", subject_id=first.json()["judgement_id"], reason="no", said_by="ben")
    again = api.client.post(path, json=body, headers=headers)
    other = api.client.post(path, json={**body, "said_by": "cleo"}, headers=headers)

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json()["judgement_id"] == first.json()["judgement_id"]


def test_an_outcome_finds_every_decision_of_its_key_whenever_either_arrives(api):
    early = api.decorated(**{"loopgrid.key.order": "4711", "loopgrid.metadata.order": "4711"})
    report = {"key": "order", "value": "4711", "outcome": {"refund": "accepted"}, "reported_by": "shop"}
    answer = api.client.post("/v1/outcomes", json=report)
    assert answer.status_code == 201, answer.text
    assert [item["decision_id"] for item in answer.json()["items"]] == [early]

    late = api.record(metadata={"order": "4711"})["decision_id"]

    rows = api.sql("SELECT decision_id, decisions FROM outcomes WHERE value = '4711'").json()["rows"]
    assert sorted(rows) == sorted([[early, 2], [late, 2]])
    assert shown(api, late)["outcomes"][0]["outcome"] == {"refund": "accepted"}
    assert api.client.get(f"/v1/decisions/{late}/history").json()["items"][-1]["event"] == "outcome"


def test_an_outcome_without_a_decision_waits_for_one(api):
    report = {"key": "order", "value": "none yet", "outcome": 1}
    (item,) = api.client.post("/v1/outcomes", json=report).json()["items"]

    assert (item["decision_id"], item["decisions"], item["outcome"]) == (None, 0, 1)


def test_the_ground_truth_of_any_time_is_that_of_then(api, decision):
    corrected(api, decision, "one", "ana")
    then = api.client.get(f"/v1/decisions/{decision}/history").json()["items"][-1]["commit_id"]
    two = corrected(api, decision, "two", "ben")
    said(api, decision, "withdraw", subject_id=two, reason="no", said_by="ben")
    path = f"/v1/decisions/{decision}/ground_truth"

    at = {n: api.client.get(path, params={"as_of": n}) for n in (then, then + 1, then + 2)}
    assert [each.json()["output"] for each in at.values()] == ["one", "two", "one"]
    assert api.client.get(path).json()["as_of_commit"] >= then + 2
    assert api.client.get(path, params={"as_of": then - 1}).status_code == 404
    assert api.client.get(path, params={"policy": "adjudicated"}).status_code == 404
    assert api.client.get(path, params={"policy": "oldest"}).status_code == 400
    assert api.client.get(path, params={"as_of": "yesterday"}).status_code == 400


def test_compare_takes_the_ground_truth_of_the_policy_asked_for(api, decision):
    one = corrected(api, decision, "one", "ana")
    corrected(api, decision, "two", "ben")
    said(api, decision, "agree", subject_id=one, said_by="cleo")
    other = api.record(output="one")["decision_id"]

    found = {
        policy: api.client.post(
            "/v1/compare", json={"left": decision, "right": other, "policy": policy}
        ).json()["ground_truth"]
        for policy in ("latest", "majority", "adjudicated")
    }
    assert found["adjudicated"] is None
    assert [found[policy]["output"] for policy in ("latest", "majority")] == ["two", "one"]


def test_exports_take_the_same_policies_and_know_what_was_withdrawn(api, decision):
    one = corrected(api, decision, "one", "ana")
    corrected(api, decision, "two", "ben")
    agreed = said(api, decision, "agree", subject_id=one, said_by="cleo")
    body = {"decision_ids": [decision], "since_commit": agreed["commit_id"]}

    def standing(policy: str) -> dict[str, Any]:
        answer = api.client.post("/v1/export/standing", json={**body, "policy": policy})
        return dict(answer.json()["items"][0])

    assert (standing("majority")["correction_id"], standing("adjudicated")["correction_id"]) == (one, None)
    said(api, decision, "withdraw", subject_id=one, reason="no", said_by="ana")
    assert (standing("majority")["correction_id"] != one, standing("majority")["withdrawn"]) == (True, [one])


def test_both_clients_say_it_all(api, decision):
    endpoint = str(api.client.base_url)
    with LoopGrid(endpoint=endpoint) as grid:
        one = grid.attach_correction(
            decision, patch=[{"op": "replace", "path": "/amount", "value": 2}], corrected_by="ana"
        )
        two = grid.attach_correction(decision, correction="two", corrected_by="ben")
        grid.dispute(decision, two.correction_id, said_by="ana")
        grid.mark_correct(decision, reason="fine", said_by="dan")
        grid.adjudicate(decision, one.correction_id, reason="Policy 7", said_by="cleo")
        with pytest.raises(Invalid):
            grid.attach_correction(decision, corrected_by="ana")
        assert grid.get_decision(decision)["ground_truth"]["output"] == {"action": "deny", "amount": 2}
        assert grid.report_outcome("ticket", "1", outcome="closed").outcomes[0].decision_id is None

    async def others() -> list[str]:
        async with AsyncLoopGrid(endpoint=endpoint) as grid:
            agreed = await grid.agree(decision, two.correction_id, said_by="dan")
            await grid.withdraw(decision, agreed.judgement_id, reason="no", said_by="dan")
            return [event.event for event in (await grid.history(decision)).events]

    assert asyncio.run(others()) == [
        "recorded", "correction", "correction", "dispute", "approval", "adjudication",
        "agreement", "withdrawal",
    ]  # fmt: skip


def test_the_command_line_says_it_and_shows_the_history(api, decision, capsys):
    at = ["--endpoint", str(api.client.base_url)]
    one = corrected(api, decision, "one", "ana")

    assert run(["agree", decision, one, "--by", "ben", *at]) == 0
    assert run(["mark", decision, "--correct", "--by", "cleo", *at]) == 0
    assert run(["adjudicate", decision, one, "--reason", "Policy 7", "--by", "cleo", *at]) == 0
    assert run(["withdraw", decision, one, "--reason", "Mistaken", "--by", "ben", *at]) == 2
    assert run(["withdraw", decision, one, "--reason", "Mistaken", "--by", "ana", *at]) == 0
    capsys.readouterr()
    assert run(["history", decision, *at]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert f"correction {one} by ana" in lines[1]
    assert lines[1].endswith("(withdrawn)")


def test_an_outcome_key_of_any_letters_finds_its_decision(api):
    decision = api.record(metadata={'größe/"~': "7"})["decision_id"]
    report = {"key": 'größe/"~', "value": "7", "outcome": 1}
    (item,) = api.client.post("/v1/outcomes", json=report).json()["items"]

    assert item["decision_id"] == decision
