"""The JSON Schemas that are served are true of what is answered, and stand in the specification."""

from __future__ import annotations

import json

import jsonschema
import pytest

from loopgrid_query import schemas
from tests.contract.furnished import furnish
from tests.contract.rest import problem, running_api
from tests.support import generated


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with running_api(tmp_path_factory.mktemp("schemas")) as found:
        yield found


@pytest.fixture(scope="module")
def made(api):
    return furnish(api)


def fits(api, name, document):
    served = api.client.get(f"/schemas/{name}.json")
    assert served.status_code == 200, served.text
    assert served.headers["content-type"] == "application/schema+json"
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(served.json(), format_checker=checker).validate(document)


def test_the_specification_holds_the_schemas_that_are_served():
    held = {file.name: file.read_text("utf-8") for file in generated.SCHEMAS.glob("*.json")}

    assert held == generated.schema_files(), "run `python -m tests.support.generated`"


def test_the_list_leads_to_every_schema_and_each_is_one(api):
    listed = api.client.get("/schemas/").json()["items"]

    assert {item["name"] for item in listed} == set(schemas.documents())
    for item in listed:
        document = api.client.get(item["url"]).json()
        jsonschema.Draft202012Validator.check_schema(document)
        assert document["$id"] == schemas.ID_PREFIX + item["name"]


def test_a_schema_that_does_not_exist_is_404_and_suggests_one_that_does(api):
    document = problem(api.client.get("/schemas/marks.json"), 404)

    assert "did you mean 'mark'?" in document["detail"]


@pytest.mark.parametrize("event", ["approval", "agreement", "dispute", "adjudication", "withdrawal"])
def test_what_was_said_fits_the_schema_of_its_kind_and_of_no_other(api, made, event):
    fits(api, event, made.said[event])
    with pytest.raises(jsonschema.ValidationError):
        fits(api, "mark", made.said[event])


def test_every_event_of_a_history_fits(api, made):
    history = api.client.get(f"/v1/decisions/{made.decisions[0]}/history").json()

    fits(api, "history", history)
    assert {item["event"] for item in history["items"]} >= {"mark", "correction", "replay", "outcome"}


def test_judgements_as_sql_shows_them_fit_the_schema_of_their_kind(api, made):
    found = api.sql("SELECT * EXCLUDE (position) FROM judgements").json()
    names = [column["name"] for column in found["columns"]]
    kinds = set()
    for row in found["rows"]:
        event = dict(zip(names, row, strict=True))
        event["recorded_at"] += "Z"  # SQL shows times in UTC, without a zone
        fits(api, event["event"], event)
        kinds.add(event["event"])

    assert kinds == {
        "mark", "approval", "correction", "agreement", "dispute", "withdrawal", "adjudication"
    }  # fmt: skip


def test_a_decision_with_everything_about_it_fits(api, made):
    decision = api.client.get(f"/v1/decisions/{made.decisions[0]}").json()

    fits(api, "decision", decision)
    fits(api, "decision_whole", decision)
    fits(api, "trace", api.client.get(f"/v1/decisions/{made.decisions[-1]}/trace").json())
    fits(api, "ground_truth", decision["ground_truth"])
    fits(api, "outcome", made.outcome)
    for replay in made.replays:
        fits(api, "replay", replay)


def test_reviews_prices_and_problems_fit(api, made):
    fits(api, "review", made.review)
    fits(api, "review_claim", made.claim)
    fits(api, "review_answer", made.answered)
    for item in api.client.get(f"/v1/reviews/{made.review['review_id']}/items").json()["items"]:
        fits(api, "review_item", item)
    fits(api, "price_book", made.price_book)
    for price in api.client.get("/v1/prices").json()["items"]:
        fits(api, "price", price)
    fits(api, "problem", problem(api.client.get("/v1/decisions?nonsense=1"), 400))


def test_a_request_is_checked_by_its_schema_before_it_is_sent(api):
    fits(api, "mark_request", {"reason": "wrong amount"})
    for wrong in ({}, {"reason": "wrong amount", "by": "dana"}, {"reason": 1}):
        with pytest.raises(jsonschema.ValidationError):
            fits(api, "mark_request", json.loads(json.dumps(wrong)))


def test_a_key_fits_and_the_schemas_need_none(tmp_path):
    with running_api(tmp_path) as api:
        made = api.client.post("/v1/keys", json={"name": "first", "scopes": ["admin"]}).json()
        assert api.client.get("/v1/decisions").status_code == 401

        secret = made.pop("key")
        listed = api.client.get("/v1/keys", headers={"authorization": f"Bearer {secret}"}).json()["items"]
        fits(api, "key", made)
        fits(api, "key", listed[0])
        assert api.client.get("/schemas/").status_code == 200
