"""Statements that are run in two answer what they answer in one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from tests.contract.rest import Api, problem, running_api

DECISIONS = 40


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server with some decisions, of which one is marked and some have a call inside."""
    with running_api(tmp_path_factory.mktemp("late")) as running:
        begun = datetime(2026, 3, 1, 10, tzinfo=UTC)
        for number in range(DECISIONS):
            made = running.record(
                input={"message": f"message {number}"},
                output=[number],
                service_name=f"service-{number % 3}",
                metadata={"tier": "gold" if number % 2 else "tin"},
                started_at=(begun + timedelta(seconds=number * 7 % DECISIONS)).isoformat(),
                duration_ms=number,
            )
        running.client.post(f"/v1/decisions/{made['decision_id']}/incorrect", json={"reason": "wrong"})
        running.decorated()
        yield running


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM decisions ORDER BY started_at DESC LIMIT 10",
        "SELECT decision_id, input, output FROM decisions ORDER BY started_at LIMIT 7 OFFSET 5",
        "SELECT d.input->>'$.message' AS said FROM decisions AS d WHERE (metadata->>'tier') = 'gold' "  # noqa: ISC004
        "AND d.service_name = 'service-1' ORDER BY d.duration_ms LIMIT 9",
        "SELECT * EXCLUDE (digest) FROM decisions WHERE incorrect ORDER BY started_at DESC LIMIT 10",
        "SELECT output FROM decisions WHERE service_name = 'nobody' ORDER BY started_at LIMIT 10",
        "SELECT * FROM decisions WHERE started_at IS NOT NULL ORDER BY started_at DESC LIMIT 100",
        "SELECT input, CAST(output AS VARCHAR) FROM main.decisions ORDER BY model_name, decision_id LIMIT 50",
    ],
)
def test_the_answer_is_the_same(api, statement):
    # Around a statement, DuckDB runs it as it is written.
    written = api.sql(f"SELECT * FROM ({statement})").json()  # noqa: S608 - statements of ours
    found = api.sql(statement).json()
    columns = {"accept": "application/vnd.apache.arrow.stream"}
    arrow = api.client.post("/v1/sql", json={"query": statement}, headers=columns)

    assert "rows" in found
    assert found == written
    assert pa.ipc.open_stream(arrow.content).read_all().num_rows == len(written["rows"])


def test_a_fault_is_told_of_the_statement_as_it_was_written(api):
    refused = api.sql("SELECT input, nothing FROM decisions ORDER BY started_at LIMIT 10")

    detail = problem(refused, 400)["detail"]
    assert "nothing" in detail
    assert "place_key" not in detail


def test_what_the_view_does_not_show_cannot_be_had_this_way(api):
    for column in ("place_key", "start_key"):
        problem(api.sql("SELECT input, " + column + " FROM decisions ORDER BY kind LIMIT 1"), 400)  # noqa: S608 - ours
        problem(api.sql("SELECT input FROM decisions ORDER BY " + column + " LIMIT 1"), 400)  # noqa: S608 - ours
