"""Many decisions at once, and answers that the client has already."""

from __future__ import annotations

import pytest

from tests.contract.furnished import furnish
from tests.contract.rest import UNKNOWN_DECISION, Api, decorated_span, llm_span, problem, running_api


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with running_api(tmp_path_factory.mktemp("batch")) as found:
        yield found


@pytest.fixture(scope="module")
def made(api):
    return furnish(api)


def batch(api: Api, *ids: str):
    answer = api.client.post("/v1/decisions/batch", json={"ids": list(ids)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_batch_gives_what_each_get_gives_in_the_order_asked_for(api, made):
    ids = [*reversed(made.decisions), made.replays[0]["result_decision_id"], made.decisions[1]]
    found = batch(api, *ids)

    assert found["missing"] == []
    assert found["items"] == [api.client.get(f"/v1/decisions/{each}").json() for each in ids]
    assert {bool(item["outcomes"]) for item in found["items"]} == {True, False}


def test_what_is_no_decision_on_record_is_missing_and_the_others_are_given(api, made):
    parent = decorated_span()
    step = llm_span(parent)
    api.export(parent, step)
    step_id = f"{step.trace_id.hex()}-{step.span_id.hex()}"
    mixed = f"{made.decisions[0][:32]}-{made.decisions[1][33:]}"
    found = batch(api, UNKNOWN_DECISION, made.decisions[0], step_id, mixed)

    assert [item["decision_id"] for item in found["items"]] == [made.decisions[0]]
    assert found["missing"] == [UNKNOWN_DECISION, step_id, mixed]


@pytest.mark.parametrize(
    ("ids", "field"), [([], "ids"), (["x"], "ids.0"), ([UNKNOWN_DECISION] * 501, "ids"), ("x", "ids")]
)
def test_a_batch_that_cannot_be_meant_is_422_and_names_the_place(api, ids, field):
    document = problem(api.client.post("/v1/decisions/batch", json={"ids": ids}), 422)

    assert [error["field"] for error in document["errors"]] == [field]


def test_a_whole_batch_is_answered(api):
    ids = [api.record(input=number)["decision_id"] for number in range(60)]

    assert [item["input"] for item in batch(api, *(ids * 8))["items"]] == [*range(60)] * 8


def test_a_key_that_reads_may_ask_for_a_batch_and_the_log_says_what_it_saw(tmp_path):
    with running_api(tmp_path) as api:
        ids = [api.record()["decision_id"] for _ in range(2)]
        admin, reads, writes = (
            {"authorization": f"Bearer {made['key']}"} for made in _keys(api, ("admin", "read", "ingest"))
        )
        asked = api.client.post("/v1/decisions/batch", json={"ids": [*ids, UNKNOWN_DECISION]}, headers=reads)
        refused = api.client.post("/v1/decisions/batch", json={"ids": ids}, headers=writes)

        assert asked.status_code == 200
        problem(refused, 403)
        # Accesses are stored in portions; a stop stores what waits.
    with running_api(tmp_path) as api:
        seen = "SELECT decision_ids FROM access_log WHERE route = '/v1/decisions/batch' AND status = 200"
        rows = api.sql(seen, **admin).json()["rows"]
        assert [sorted(shown) for (shown,) in rows] == [sorted(ids)]


def _keys(api: Api, scopes):
    headers: dict[str, str] = {}
    for scope in scopes:
        answer = api.client.post("/v1/keys", json={"name": scope, "scopes": [scope]}, headers=headers)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        headers = headers or {"authorization": f"Bearer {made['key']}"}
        yield made


def known(api: Api, path: str, tag: str) -> bool:
    """Whether the server says that the answer with this tag is still the one."""
    answer = api.client.get(path, headers={"if-none-match": tag})
    if answer.status_code == 304:
        assert answer.content == b""
        assert answer.headers["etag"] == tag.removeprefix("W/")
    else:
        assert answer.status_code == 200
        assert answer.headers["etag"] != tag
    return answer.status_code == 304


def test_what_has_not_changed_is_304(api, made):
    for path in (f"/v1/decisions/{made.decisions[0]}", "/v1/decisions?service_name=support-agent"):
        tag = api.client.get(path).headers["etag"]

        assert known(api, path, tag)
        assert known(api, path, f"W/{tag}")
        assert api.client.get(path, headers={"if-none-match": f'"other", {tag}'}).status_code == 304
        assert api.client.get(path, headers={"if-none-match": "*"}).status_code == 304
        assert not known(api, path, '"other"')


@pytest.mark.parametrize(
    ("path", "body", "in_list"),
    [
        ("incorrect", {"reason": "late"}, True),
        ("correction", {"correction": 2, "corrected_by": "dana"}, True),
        ("/v1/replays", {"executor": "external", "output": 1}, False),
        ("/v1/outcomes", {"key": "ticket", "value": "4711", "outcome": "returned"}, False),
    ],
    ids=["mark", "correction", "replay", "outcome"],
)
def test_the_tag_changes_with_whatever_is_said_about_a_decision(api, request, path, body, in_list):
    service = f"tagged-{request.node.callspec.id}"
    metadata = {"ticket": "4711"} if "outcomes" in path else {}
    decision_id = api.record(service_name=service, output=0, metadata=metadata)["decision_id"]
    one, page = f"/v1/decisions/{decision_id}", f"/v1/decisions?service_name={service}"
    tags = {each: api.client.get(each).headers["etag"] for each in (one, page)}
    if path == "/v1/replays":
        body = {"decision_id": decision_id, **body}
    said = api.client.post(path if path.startswith("/") else f"{one}/{path}", json=body)
    assert said.status_code == 201, said.text

    assert not known(api, one, tags[one])
    # A list shows whether it was marked or corrected; replays and outcomes stand at the decision alone.
    assert known(api, page, tags[page]) is not in_list


def test_a_list_changes_its_tag_when_a_decision_arrives(api):
    api.record(service_name="arriving")
    path = "/v1/decisions?service_name=arriving"
    tag = api.client.get(path).headers["etag"]
    api.record(service_name="arriving")

    assert not known(api, path, tag)
