"""API keys on every door of a real server, and who saw what."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from loopgrid import LoopGrid
from loopgrid_collector.auth import Scope
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured
from loopgrid_collector.keyring import KeyRefused
from loopgrid_collector.server import Server
from tests.contract.doors import running, started
from tests.support.house import DECISION, PROTOBUF, House, keyring, open_house
from tests.support.server import COMMAND, RunningServer, running_server, without_settings
from tests.support.spans import logs, span, traces

BAD_KEYS = ["missing", "wrong", "no key at all", "password", "expired", "revoked"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what must not be bound


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """For tests that look at answers only."""
    with open_house(tmp_path_factory.mktemp("house")) as found:
        yield found


# Keys that are not good


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_key_that_is_not_good_is_refused_on_each_door_and_leaves_an_audit_row(house: House, bad):
    answers = [
        house.ask(bad, "GET", "/v1/decisions"),
        house.ask(bad, "POST", "/v1/decisions", json=DECISION),
        house.ask(bad, "POST", "/v1/sql", json={"query": "FROM decisions"}),
        house.ask(bad, "GET", "/v1/keys"),
        house.ask(bad, "GET", "/metrics"),
        house.send(bad, traces(span())),
        house.send(bad, traces(span()), base=house.server.api),
    ]
    code = house.export(bad, traces(span()))

    assert [answer.status_code for answer in answers] == [401] * 7
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)
    problem = answers[0].json()
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["status"]) == ("urn:loopgrid:problem:unauthenticated", 401)
    assert "loopgrid keys create" in problem["detail"]
    assert house.count("spans") == 0
    refused = [row for row in house.accesses() if row["status"] == 401]
    doors = ["rest", "rest", "rest", "rest", "rest", "otlp_http", "otlp_http", "otlp_grpc"]
    assert [row["door"] for row in refused] == doors
    assert {row["address"] for row in refused} == {"127.0.0.1"}
    assert {row["key_id"] for row in refused} == {None}


@pytest.mark.parametrize("port", ["otlp_http", "api"])
@pytest.mark.parametrize("bad", ["missing", "wrong"])
def test_a_bad_key_is_refused_before_a_byte_of_the_body_has_come(shared: House, bad, port):
    """Nothing is read or expanded for a stranger: the body never comes, and the answer does."""
    address = urlsplit(getattr(shared.server, port))
    lines = ["POST /v1/traces HTTP/1.1", "host: localhost", "content-length: 60000000"]
    lines += ["content-type: application/x-protobuf", "content-encoding: gzip"]
    lines += [f"{name}: {value}" for name, value in shared.headers(bad).items()]
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = connection.recv(65_536)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer" in answer


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "/v1/decisions", None, "read"),
        ("GET", "/metrics", None, "read"),
        ("POST", "/v1/sql", {"query": "FROM decisions"}, "read"),
        ("POST", "/v1/decisions", DECISION, "ingest"),
        ("POST", "/v1/decisions/{id}/incorrect", {"reason": "wrong"}, "review"),
        ("POST", "/v1/decisions/{id}/correction", {"correction": "right"}, "review"),
        ("POST", "/v1/replays", {"decision_id": "{id}", "executor": "external", "output": 1}, "replay"),
        ("GET", "/v1/keys", None, "admin"),
        ("POST", "/v1/keys", {"name": "x", "scopes": ["read"]}, "admin"),
    ],
)
def test_each_scope_opens_its_own_routes_and_no_others(shared: House, method, path, body, scope):
    decision_id = shared.ask("admin", "POST", "/v1/decisions", json=DECISION).json()["decision_id"]
    path = path.replace("{id}", decision_id)
    more = {} if body is None else {"json": json.loads(json.dumps(body).replace("{id}", decision_id))}

    statuses = {
        name: shared.ask(name, method, path, **more).status_code
        for name in ("ingest", "read", "review", "replay", "admin")
    }

    allowed = {name for name, status in statuses.items() if status < 300}
    assert allowed == {scope, "admin"}
    assert {status for name, status in statuses.items() if name not in {scope, "admin"}} == {403}


def test_a_browser_opens_the_documentation_without_a_key_and_calls_nothing_without_one(shared: House):
    opened = {
        path: shared.ask("missing", "GET", path) for path in ("/docs", "/docs/files/swagger-ui-bundle.js")
    }
    described = shared.ask("missing", "GET", "/openapi.json")

    assert {answer.status_code for answer in (*opened.values(), described)} == {200}
    assert described.json()["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert described.json()["security"] == [{"key": []}, {}]
    assert shared.ask("missing", "GET", "/v1/decisions").status_code == 401
    assert shared.ask("missing", "POST", "/docs").status_code == 401


def test_an_under_scoped_key_is_refused_by_otlp_and_the_log_names_it(house: House):
    answers = [house.send("read", traces(span())), house.send("read", logs(), path="/v1/logs")]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert house.export("review", traces(span())) is grpc.StatusCode.PERMISSION_DENIED
    rows = [row for row in house.accesses() if row["status"] == 403]
    assert [row["key_id"] for row in rows] == [
        house.key_id("read"),
        house.key_id("read"),
        house.key_id("review"),
    ]
    assert "needs the scope ingest" in rows[0]["reason"]


def test_health_needs_no_key(shared: House):
    assert [shared.ask("missing", "GET", path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert httpx.get(shared.server.otlp_http + "/healthz", trust_env=False).status_code == 200


# Keys that are good


def test_a_good_key_gets_in_by_either_header_on_every_door(house: House):
    by_other_name = {"x-api-key": house.keys["ingest"]}
    over_http = httpx.post(
        house.server.otlp_http + "/v1/traces",
        content=traces(span(1)),
        headers=PROTOBUF | by_other_name,
        trust_env=False,
    )
    assert over_http.status_code == 200
    assert house.send("ingest", traces(span(2)), base=house.server.api).status_code == 200
    assert house.export("ingest", traces(span(3))) is grpc.StatusCode.OK
    asked = httpx.get(
        house.server.api + "/v1/decisions", headers={"x-api-key": house.keys["read"]}, trust_env=False
    )
    assert asked.status_code == 200
    assert house.count("spans") == 3


def test_the_library_and_the_commands_send_their_key(shared: House, tmp_path: Path):
    grid = LoopGrid(service_name="shop", endpoint=shared.server.api, api_key=shared.keys["admin"])
    decision = grid.record_decision(decision_type="reply", input={"a": 1}, output="x")

    listed = command("decisions", "list", "--json", server=shared.server, key=shared.keys["read"])
    refused = command("decisions", "list", "--json", server=shared.server, key=None)

    assert json.loads(listed.stdout)["items"][0]["decision_id"] == decision["decision_id"]
    assert refused.returncode == 2
    assert "LOOPGRID_API_KEY" in refused.stderr


def test_a_key_bound_to_a_service_sends_for_no_other(house: House):
    assert house.send("shop", traces(span(1), service="shop")).status_code == 200
    assert house.export("shop", traces(span(2), service="shop")) is grpc.StatusCode.OK
    refused = house.send("shop", traces(span(3), service="bank"))
    assert refused.status_code == 403
    assert b"bank" in refused.content
    assert house.send("shop", traces(span(4), service=None)).status_code == 403
    assert house.export("shop", traces(span(5), service="bank")) is grpc.StatusCode.PERMISSION_DENIED
    assert house.ask("shop", "POST", "/v1/decisions", json=DECISION).status_code == 201
    other = house.ask("shop", "POST", "/v1/decisions", json=DECISION | {"service_name": "bank"})
    assert (other.status_code, other.json()["type"]) == (403, "urn:loopgrid:problem:forbidden")
    assert house.count("spans") == 3


# Who


def test_a_reviewer_signs_with_the_name_of_the_key_and_with_no_other(shared: House):
    decision_id = shared.ask("ingest", "POST", "/v1/decisions", json=DECISION).json()["decision_id"]
    marks = f"/v1/decisions/{decision_id}/incorrect"
    corrections = f"/v1/decisions/{decision_id}/correction"

    unsigned = shared.ask("review", "POST", marks, json={"reason": "wrong"})
    signed = shared.ask("review", "POST", corrections, json={"correction": 1, "corrected_by": "dana"})
    forged = shared.ask("review", "POST", marks, json={"reason": "wrong", "marked_by": "erik"})
    by_admin = shared.ask("admin", "POST", marks, json={"reason": "wrong", "marked_by": "erik"})

    assert unsigned.json()["marked_by"] == "dana"
    assert signed.json()["corrected_by"] == "dana"
    assert forged.status_code == 403
    assert "speaks for dana" in forged.json()["detail"]
    assert by_admin.json()["marked_by"] == "erik"


# Who saw what


def test_the_access_log_says_who_saw_a_decision(house: House):
    decision_id = house.ask("ingest", "POST", "/v1/decisions", json=DECISION).json()["decision_id"]
    house.ask("read", "GET", f"/v1/decisions/{decision_id}", headers={"x-request-id": "req-1"})
    house.ask("read", "GET", "/v1/decisions")
    house.ask("read", "GET", f"/v1/decisions/{decision_id}/trace")
    house.ask("read", "POST", "/v1/sql", json={"query": "SELECT 'the text itself' FROM decisions"})
    house.ask("review", "POST", f"/v1/decisions/{decision_id}/incorrect", json={"reason": "wrong"})

    log = house.accesses()

    saw = [(row["key_id"], row["method"], row["route"]) for row in log if decision_id in row["decision_ids"]]
    assert saw == [
        (house.key_id("ingest"), "POST", "/v1/decisions"),
        (house.key_id("read"), "GET", "/v1/decisions/{decision_id}"),
        (house.key_id("read"), "GET", "/v1/decisions"),
        (house.key_id("read"), "GET", "/v1/decisions/{decision_id}/trace"),
        (house.key_id("review"), "POST", "/v1/decisions/{decision_id}/incorrect"),
    ]
    assert log[1]["request_id"] == "req-1"
    (by_sql,) = [row for row in log if row["statement_sha256"] is not None]
    assert (by_sql["route"], by_sql["status"], len(by_sql["statement_sha256"])) == ("/v1/sql", 200, 64)
    assert "the text itself" not in str(log)


@pytest.mark.parametrize(
    "query", ["FROM access_log", "SELECT 1 FROM decisions, keys", "DESCRIBE Access_Log", "FROM main.keys"]
)
def test_who_saw_what_is_for_admins(shared: House, query):
    refused = shared.ask("read", "POST", "/v1/sql", json={"query": query})
    granted = shared.ask("admin", "POST", "/v1/sql", json={"query": query})

    assert (refused.status_code, "scope admin" in refused.json()["detail"]) == (403, True)
    assert granted.status_code == 200


def test_many_refused_attempts_are_counted_and_no_secret_is_stored(house: House):
    attempts = 60
    for _ in range(attempts):
        assert house.ask("wrong", "GET", "/v1/decisions").status_code == 401

    log = house.accesses()

    assert sum(row["attempts"] for row in log) == attempts
    assert 0 < len(log) < attempts
    secrets = [key.split("_")[2].encode() for key in house.keys.values()]
    stored = b"".join(path.read_bytes() for path in house.server.ledger.parent.iterdir() if path.is_file())
    assert not [secret for secret in secrets if secret in stored]


# Making and ending keys


def command(
    *words: str, server: RunningServer | None = None, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`loopgrid` as a process."""
    environ = without_settings(os.environ)
    if server is not None:
        environ["LOOPGRID_ENDPOINT"] = server.api
    if key is not None:
        environ["LOOPGRID_API_KEY"] = key
    return subprocess.run(
        [COMMAND, *words], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_first_key_is_made_on_a_closed_ledger_and_makes_the_others(tmp_path: Path):
    file = tmp_path / "ledger.duckdb"
    made = command("keys", "create", "--name", "boss", "--scope", "admin", "--ledger", str(file))
    boss = made.stdout.strip()
    assert boss.startswith("lg_"), made.stderr

    with running_server(tmp_path, ledger=file) as server:
        words = ("keys", "create", "--name", "reader", "--scope", "read", "--expires", "90d", "--json")
        reader = json.loads(command(*words, server=server, key=boss).stdout)
        assert command("decisions", "list", server=server, key=reader["key"]).returncode == 0

        turned = command("keys", "rotate", reader["key_id"], "--json", server=server, key=boss)
        newer = json.loads(turned.stdout)
        assert newer["rotated_from"] == reader["key_id"]
        assert newer["expires_at"] == reader["expires_at"]
        assert command("decisions", "list", server=server, key=reader["key"]).returncode == 2
        assert command("decisions", "list", server=server, key=newer["key"]).returncode == 0

        assert command("keys", "revoke", newer["key_id"], server=server, key=boss).returncode == 0
        assert command("decisions", "list", server=server, key=newer["key"]).returncode == 2
        listed = json.loads(command("keys", "list", "--json", server=server, key=boss).stdout)["items"]
        assert [key["status"] for key in listed] == ["active", "revoked", "revoked"]
        assert boss.split("_")[2] not in str(listed)

    again = json.loads(command("keys", "list", "--json", "--ledger", str(file)).stdout)["items"]
    assert again == listed


def test_an_old_key_can_be_kept_for_a_while(shared: House):
    body = {"old_valid_for_s": 3600}
    made = shared.ask("admin", "POST", f"/v1/keys/{shared.key_id('read')}/rotate", json=body).json()
    shared.keys["new"] = made["key"]

    assert shared.ask("read", "GET", "/v1/decisions").status_code == 200
    assert shared.ask("new", "GET", "/v1/decisions").status_code == 200


def test_a_running_server_without_keys_asks_for_them_from_the_first_on(server: RunningServer):
    house = House(server, {})
    assert house.ask("missing", "GET", "/v1/decisions").status_code == 200
    weak = house.ask("missing", "POST", "/v1/keys", json={"name": "x", "scopes": ["read"]})
    assert (weak.status_code, "first key" in weak.json()["detail"]) == (422, True)

    made = house.ask("missing", "POST", "/v1/keys", json={"name": "boss", "scopes": ["admin"]})
    house.keys["admin"] = made.json()["key"]

    assert house.ask("missing", "GET", "/v1/decisions").status_code == 401
    assert house.send("missing", traces(span())).status_code == 401
    assert house.export("missing", traces(span())) is grpc.StatusCode.UNAUTHENTICATED
    assert house.ask("admin", "DELETE", f"/v1/keys/{house.key_id('admin')}").status_code == 200
    assert house.ask("admin", "GET", "/v1/decisions").status_code == 401
    assert house.ask("missing", "GET", "/v1/decisions").status_code == 401


def test_an_unknown_key_or_scope_is_told(shared: House):
    assert shared.ask("admin", "DELETE", "/v1/keys/0123456789abcdef").status_code == 404
    refused = shared.ask("admin", "POST", "/v1/keys", json={"name": "x", "scopes": ["reed"]})
    assert (refused.status_code, "read" in refused.json()["detail"]) == (422, True)


def test_of_two_who_make_the_first_key_at_once_one_is_refused(tmp_path: Path):
    with keyring(tmp_path / "ledger.duckdb") as ring:
        outcomes: list[str] = []
        both = threading.Barrier(2)

        def make() -> None:
            both.wait()
            try:
                ring.create("boss", [Scope.ADMIN], only_as_first=True)
                outcomes.append("made")
            except KeyRefused:
                outcomes.append("refused")

        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["made", "refused"]


# Where a server without keys may listen


def test_without_keys_other_machines_are_not_let_in_unless_told(tmp_path: Path):
    ended = command(
        "serve", "--host", EVERYWHERE, "--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0",
        "--ledger", str(tmp_path / "a.duckdb"),
    )  # fmt: skip
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "loopgrid keys create --ledger" in ended.stderr

    with running(tmp_path, host=EVERYWHERE, insecure=True) as doors:
        assert doors.post("/v1/traces", traces(span())).status_code == 200


def test_with_a_key_a_server_listens_everywhere(tmp_path: Path):
    file = tmp_path / "ledger.duckdb"
    with keyring(file) as ring:
        ring.create("boss", [Scope.ADMIN])
    config = CollectorConfig(ledger=str(file), host=EVERYWHERE, port=0, otlp_http_port=0, otlp_grpc_port=0)
    with started(Server(config, None)) as addresses:
        refused = httpx.post(
            addresses.otlp_http + "/v1/traces", content=b"", headers=PROTOBUF, trust_env=False
        )
    assert refused.status_code == 401


def test_over_an_insecure_network_nobody_makes_the_first_key(tmp_path: Path):
    with running_server(tmp_path, arguments=["--host", EVERYWHERE, "--insecure"]) as server:
        made = House(server, {}).ask("missing", "POST", "/v1/keys", json={"name": "x", "scopes": ["admin"]})
    assert (made.status_code, "--ledger" in made.json()["detail"]) == (422, True)


@pytest.mark.parametrize("word", ["maybe", "2"])
def test_a_flag_is_true_or_false(word):
    with pytest.raises(Misconfigured, match="LOOPGRID_INSECURE"):
        CollectorConfig.from_env({"LOOPGRID_INSECURE": word})


# Every answer


def test_answers_carry_a_request_id_and_are_not_kept(shared: House):
    given = shared.ask("read", "GET", "/v1/decisions", headers={"x-request-id": "abc-1"})
    made = shared.ask("read", "GET", "/v1/decisions", headers={"x-request-id": "a b\u00ff".encode("latin-1")})
    refused = shared.ask("missing", "GET", "/v1/decisions")

    assert given.headers["x-request-id"] == "abc-1"
    assert len(made.headers["x-request-id"]) == 32
    for answer in (given, made, refused):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
