"""Another DuckDB process attaches the live ledger: it reads the views, and can do nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.rest import Api, running_api

CLIENT = Path(__file__).with_name("quack_client.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(api: Api, key: str, *statements: str) -> list[Any]:
    """What a DuckDB in a process of its own gets: rows, or the first line of the error, per statement."""
    done = subprocess.run(
        [sys.executable, str(CLIENT), str(api.quack), key, *statements],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answers: list[Any] = json.loads(done.stdout)
    return answers


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def new_key(api: Api, scopes: list[str], by: str = "") -> dict[str, str]:
    made = api.client.post(
        "/v1/keys", json={"name": "-".join(scopes), "scopes": scopes}, headers=bearer(by) if by else {}
    )
    assert made.status_code == 201, made.text
    return dict(made.json())


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("keyless"), quack=True, quack_port=free_port()) as api:
        api.record(input="hello", output="hi", service_name="a")
        yield api


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, str]]:
    with running_api(tmp_path_factory.mktemp("keyed"), quack=True, quack_port=free_port()) as api:
        admin = new_key(api, ["admin"])["key"]
        yield api, admin


def test_it_joins_views_while_data_streams_in(keyless):
    enough = threading.Event()

    def record() -> None:
        while not enough.is_set():
            decision_id = keyless.record(input="hello", output="hi")["decision_id"]
            body = {"reason": "no", "marked_by": "ann"}
            keyless.client.post(f"/v1/decisions/{decision_id}/incorrect", json=body)

    streaming = threading.Thread(target=record)
    streaming.start()
    try:
        joined = "SELECT count(*) FROM decisions AS d JOIN marks AS m ON m.decision_id = d.decision_id"
        first, again, local, pushed = ask(
            keyless,
            "none",
            f"FROM r.query('{joined}')",
            f"FROM r.query('{joined}')",
            "FROM r.decisions AS d JOIN (VALUES ('a')) AS own(a) ON a = service_name SELECT count(*) > 0",
            "FROM r.query('SELECT count(*) > 0 FROM decisions_as_of(1)')",
        )
    finally:
        enough.set()
        streaming.join()

    assert not isinstance(first, str), first
    assert 0 <= first[0][0] <= again[0][0]
    assert (local, pushed) == ([[True]], [[True]])


WRITES = (
    "CREATE TABLE r.main.x (a INTEGER)",
    "INSERT INTO r.store.commits VALUES (1, 1, 1, NULL, NULL, NULL, NULL)",
    "DROP VIEW r.main.decisions",
)
REFUSED = (
    "DELETE FROM ledger.store.spans",
    "SELECT salt FROM ledger.store.spans",
    "CALL quack_stop('quack:localhost:1')",
    "FROM quack_stop('quack:localhost:1')",
    "FROM quack_serve('quack:localhost:1')",
    "FROM quack_active_connections()",
    "FROM quack_query('quack:localhost:1', 'SELECT 1')",
    "SELECT loopgrid_quack_admit('a', 'b', 'c')",
    "FROM read_text('/etc/passwd')",
    "COPY decisions TO 'x.csv'",
    "ATTACH ':memory:' AS x",
    "SET memory_limit = '10GB'",
    "BEGIN TRANSACTION",
    "LOAD httpfs",
    "SELECT 1; SELECT 2",
)


def test_what_does_more_than_read_is_refused(keyless):
    before = keyless.everything()
    pushed = [f"FROM r.query('{remote.replace(chr(39), chr(39) * 2)}')" for remote in REFUSED]

    refused = ask(keyless, "none", *WRITES, *pushed)

    assert [answer for answer in refused if "Authorization failed" not in answer] == []
    assert keyless.everything() == before
    assert ask(keyless, "none", "FROM r.query('SELECT 1')") == [[[1]]]


def test_keys_are_taken_and_refused_as_at_the_other_doors(keyed):
    api, admin = keyed
    reader, sender = new_key(api, ["read"], admin), new_key(api, ["ingest"], admin)
    revoked = new_key(api, ["read"], admin)
    assert api.client.delete(f"/v1/keys/{revoked['key_id']}", headers=bearer(admin)).is_success

    assert ask(api, reader["key"], "SELECT count(*) FROM r.query('SELECT 1 FROM decisions')") == [[[0]]]
    for bad in (sender["key"], revoked["key"], "lg_wrong_wrong"):
        (refused,) = ask(api, bad, "SELECT 1")
        assert refused.startswith("attach: ")
        assert "Authentication failed" in refused

    rows = seen(api, admin, 4)
    assert {(row["key_id"], row["status"]) for row in rows} >= {
        (reader["key_id"], 200), (sender["key_id"], 403), (None, 401),
    }  # fmt: skip


def test_a_key_that_is_revoked_ends_a_session_that_it_began(keyed):
    api, admin = keyed
    made = new_key(api, ["read"], admin)
    with subprocess.Popen(
        [sys.executable, str(CLIENT), str(api.quack), made["key"], "--wait", "FROM r.query('SELECT 1')"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.readline() == "attached\n"
        assert api.client.delete(f"/v1/keys/{made['key_id']}", headers=bearer(admin)).is_success
        out, _ = client.communicate("\n", timeout=60)

    assert "Authorization failed" in json.loads(out)[0]


@pytest.mark.parametrize("view", ["keys", "access_log"])
def test_views_of_admins_are_closed_to_others(keyed, view):
    api, admin = keyed
    reader = new_key(api, ["read"], admin)["key"]

    assert "Authorization failed" in ask(api, reader, f"FROM r.{view} SELECT count(*)")[0]
    assert ask(api, admin, f"FROM r.{view} SELECT count(*) >= 0") == [[[True]]]


def seen(api: Api, admin: str, least: int) -> list[dict[str, object]]:
    tick = threading.Event()
    query = "SELECT key_id, status FROM access_log WHERE door = 'quack'"
    for _ in range(500):
        answer = api.sql(query, authorization=f"Bearer {admin}").json()
        if len(answer["rows"]) >= least:
            return [dict(zip(("key_id", "status"), row, strict=True)) for row in answer["rows"]]
        tick.wait(0.02)
    raise AssertionError(answer)
