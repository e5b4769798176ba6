"""Callers that ask too often, and callers that are pages in a browser."""

from __future__ import annotations

import pytest

from loopgrid_collector.errors import Misconfigured
from tests.contract.rest import problem, running_api
from tests.support.ledgers import house

PAGE = "https://app.example.com"


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not(tmp_path):
    with running_api(tmp_path, api_requests_per_s=0.001, api_request_burst=3) as api:
        first = api.client.post("/v1/keys", json={"name": "first", "scopes": ["admin"]}).json()["key"]
        admin = {"authorization": f"Bearer {first}"}
        second = api.client.post(
            "/v1/keys", json={"name": "second", "scopes": ["read"]}, headers=admin
        ).json()
        reads = {"authorization": f"Bearer {second['key']}"}
        answers = [api.client.get("/v1/decisions", headers=reads) for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        problem(answers[3], 429)
        assert 990 <= int(answers[3].headers["retry-after"]) <= 1000
        assert answers[3].headers["x-request-id"]
        assert api.client.get("/v1/decisions", headers=admin).status_code == 200


def test_whom_the_rate_refused_is_in_the_access_log_and_a_flood_is_counted(tmp_path):
    refused = 40
    with running_api(tmp_path, api_requests_per_s=0.001, api_request_burst=1) as api:
        made = api.client.post("/v1/keys", json={"name": "first", "scopes": ["admin"]}).json()
        asks = {"authorization": f"Bearer {made['key']}", "x-request-id": "the-first"}
        answers = [api.client.get("/v1/decisions", headers=asks) for _ in range(refused + 1)]
        assert {answer.status_code for answer in answers[1:]} == {429}

    with house(tmp_path, file="ledger.duckdb") as ledger:
        rows = ledger.rows(
            "SELECT key_id, method, route, reason, request_id, address IS NOT NULL "
            "FROM access_log WHERE status = 429"
        )
        missing = ledger.rows("SELECT sum(attempts) FROM access_log WHERE reason = 'too_many_refused'")[0][0]
    reason = "More requests came than one caller may make"
    assert set(rows) == {(made["key_id"], "GET", "/v1/decisions", reason, "the-first", True)}
    assert len(rows) + (missing or 0) == refused


def test_without_keys_an_address_has_the_rate_and_health_and_otlp_have_none(tmp_path):
    with running_api(tmp_path, api_requests_per_s=0.001, api_request_burst=1) as api:
        recorded = api.client.post("/v1/decisions", json={"decision_type": "reply"})
        refused = api.client.post("/v1/decisions", json={"decision_type": "reply"})

        assert recorded.status_code == 201
        problem(refused, 429)
        for path in ("/healthz", "/readyz", "/docs", "/schemas/", "/metrics"):
            assert [api.client.get(path).status_code for _ in range(3)] == [200] * 3
        for _ in range(3):
            api.decorated()


def test_nobody_is_limited_unless_somebody_said_so(tmp_path):
    with running_api(tmp_path) as api:
        assert {api.client.get("/v1/replays/x").status_code for _ in range(300)} == {400}


def test_a_page_of_an_origin_that_is_named_may_use_the_api_and_no_other(tmp_path):
    with running_api(tmp_path, api_cors_allowed_origins=f"{PAGE}, http://localhost:3000") as api:
        api.client.post("/v1/keys", json={"name": "first", "scopes": ["admin"]})
        asks = {
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        }
        preflight = api.client.options("/v1/sql", headers=asks)
        refused = api.client.get("/v1/decisions", headers={"origin": PAGE})
        other = api.client.options("/v1/sql", headers={**asks, "origin": "https://evil.example"})
        strange = api.client.get("/healthz", headers={"origin": "https://evil.example"})

        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in preflight.headers
        problem(refused, 401)
        assert refused.headers["access-control-allow-origin"] == PAGE
        assert "ETag" in refused.headers["access-control-expose-headers"]
        assert other.status_code == 400
        for answer in (other, strange):
            assert "access-control-allow-origin" not in answer.headers


def test_otlp_on_the_same_port_keeps_to_its_own_origins(tmp_path):
    with running_api(tmp_path, api_cors_allowed_origins=PAGE) as api:
        asks = {"origin": PAGE, "access-control-request-method": "POST"}
        answer = api.client.options("/v1/traces", headers=asks)

        assert "access-control-allow-origin" not in answer.headers


def test_no_page_may_use_the_api_unless_somebody_said_so(tmp_path):
    with running_api(tmp_path) as api:
        answer = api.client.get("/v1/decisions", headers={"origin": PAGE})

        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("origins", ["*", "app.example.com", "https://app.example.com/path"])
def test_what_is_no_origin_is_refused_at_the_start(tmp_path, origins):
    with (
        pytest.raises(Misconfigured, match="api_cors_allowed_origins"),
        running_api(tmp_path, api_cors_allowed_origins=origins),
    ):
        pass
