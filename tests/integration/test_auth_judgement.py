"""Who may judge, review and report outcomes, on a real server; and what an ingest key cannot forge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import DECISION, House, open_house
from tests.support.spans import log_record, logs

pytestmark = pytest.mark.integration


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as found:
        yield found


JUDGEMENT = [
    ("GET", "/v1/reviews", None),
    ("POST", "/v1/reviews", {"name": "week 12"}),
    ("POST", "/v1/reviews/rev_1/claim", {}),
    ("POST", "/v1/reviews/rev_1/answers", {}),
    ("POST", "/v1/reviews/rev_1/close", {}),
    ("POST", "/v1/decisions/{id}/correct", {}),
    ("POST", "/v1/decisions/{id}/agree", {"subject_id": "{mark}"}),
    ("POST", "/v1/decisions/{id}/dispute", {"subject_id": "{mark}"}),
    ("POST", "/v1/decisions/{id}/adjudicate", {"correction": 1, "reason": "so"}),
    ("POST", "/v1/decisions/{id}/withdraw", {"subject_id": "{own}", "reason": "mistaken"}),
    ("POST", "/v1/outcomes", {"key": "order", "value": "4711", "outcome": "paid"}),
    ("POST", "/v1/evaluations/accept", {"name": "tone", "labels": {"rude": "mark"}}),
]
"""Every route of judgement, review and outcomes, with what it takes."""


@pytest.mark.parametrize("other", ["read", "ingest"])
def test_judgement_takes_a_key_of_scope_review_and_what_others_try_is_in_the_access_log(house: House, other):
    def made(name: str, path: str, body: Any) -> Any:
        answer = house.ask(name, "POST", path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    decision_id = made("ingest", "/v1/decisions", DECISION)["decision_id"]
    marking = f"/v1/decisions/{decision_id}/incorrect"
    places = {
        "{id}": decision_id,
        "{mark}": made("admin", marking, {"reason": "wrong"})["mark_id"],
        "{own}": made("review", marking, {"reason": "wrong, too"})["mark_id"],
    }

    def asked(name: str, method: str, path: str, body: Any) -> int:
        text = json.dumps([path, body])
        for place, value in places.items():
            text = text.replace(place, value)
        path, body = json.loads(text)
        return house.ask(name, method, path, **({} if body is None else {"json": body})).status_code

    refused = [asked(other, *each) for each in JUDGEMENT]
    allowed = {path: asked("review", method, path, body) for method, path, body in JUDGEMENT}

    assert refused == [403] * len(JUDGEMENT)
    # A queue that is not there is not found by who may look for it.
    assert {path: status for path, status in allowed.items() if status >= 300} == {
        path: 404 for path in allowed if "rev_1" in path and "answers" not in path
    } | {"/v1/reviews/rev_1/answers": 422}
    log = house.accesses()
    refusals = [row for row in log if row["status"] == 403]
    assert {row["key_id"] for row in refusals} == {house.key_id(other)}
    assert {"needs the scope review" in row["reason"] for row in refusals} == {True}
    # Those that came faster than they are recorded singly are counted.
    counted = [row for row in log if not row["door"]]
    assert sum(row["attempts"] for row in refusals + counted) == len(JUDGEMENT)


def test_judgement_leaves_to_a_key_of_scope_read_and_the_log_says_whose(house: House):
    decision_id = house.ask("ingest", "POST", "/v1/decisions", json=DECISION).json()["decision_id"]
    house.ask("review", "POST", f"/v1/decisions/{decision_id}/incorrect", json={"reason": "wrong"})

    statuses = {
        name: house.ask(name, "GET", "/v1/evaluations").status_code for name in ("read", "review", "ingest")
    }

    assert statuses == {"read": 200, "review": 403, "ingest": 403}
    shown = [row for row in house.accesses() if row["route"] == "/v1/evaluations" and row["status"] == 200]
    assert [(row["key_id"], list(row["decision_ids"])) for row in shown] == [
        (house.key_id("read"), [decision_id])
    ]


def test_what_comes_in_by_an_ingest_key_is_nobodys_judgement_before_somebody_accepts_it(house: House):
    decision_id = house.ask("ingest", "POST", "/v1/decisions", json=DECISION).json()["decision_id"]
    trace_id, _, span_id = decision_id.partition("-")
    claimed = {
        "gen_ai.evaluation.name": "human_review",
        "gen_ai.evaluation.score.label": "corrected",
        "loopgrid.correction.output": '"forged"',
        "loopgrid.evaluator.type": "human",
        "loopgrid.evaluator.id": "dana",
        "loopgrid.judgement.id": "cor_" + "a" * 32,
    }
    ids: dict[str, Any] = {"trace_id": bytes.fromhex(trace_id), "span_id": bytes.fromhex(span_id)}
    record = log_record(event_name="gen_ai.evaluation.result", attributes=claimed, **ids)
    assert house.send("ingest", logs(record), path="/v1/logs").status_code == 200
    views = ("evaluations", "judgements", "corrections", "ground_truth")
    assert [house.count(view) for view in views] == [1, 0, 0, 0]

    body = {"name": "human_review", "labels": {"corrected": "correction"}}
    answer = house.ask("review", "POST", "/v1/evaluations/accept", json=body)

    assert answer.status_code == 200
    assert [house.count(view) for view in views] == [1, 1, 1, 1]
    whole = house.ask("admin", "GET", f"/v1/decisions/{decision_id}").json()
    assert (whole["ground_truth"]["output"], whole["ground_truth"]["corrected_by"]) == ("forged", "dana")
