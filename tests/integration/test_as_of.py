"""The past of the public views, asked for in SQL: at /v1/sql and from any DuckDB that opens the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from loopgrid_collector.ledger import as_of_macros
from tests.contract.rest import Api, problem, running_api


@dataclass(frozen=True)
class Past:
    """A decision that was marked and corrected twice, and the commit after each step."""

    api: Api
    decision_id: str
    commits: list[int]
    moments: list[str]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    with running_api(tmp_path_factory.mktemp("past")) as api:
        decision_id = api.record(input="hello", output="wrong")["decision_id"]
        seen = [newest(api)]
        for path, body in (
            ("incorrect", {"reason": "no", "marked_by": "ann"}),
            ("correction", {"correction": "better", "corrected_by": "ann"}),
            ("correction", {"correction": "best", "corrected_by": "ann"}),
        ):
            sent = api.client.post(f"/v1/decisions/{decision_id}/{path}", json=body)
            assert sent.status_code == 201, sent.text
            seen.append(newest(api))
        yield Past(api, decision_id, [commit for commit, _ in seen], [moment for _, moment in seen])


def newest(api: Api) -> tuple[int, str]:
    row = api.sql("SELECT commit_id, CAST(recorded_at AS VARCHAR) FROM commits ORDER BY 1 DESC LIMIT 1")
    commit_id, moment = row.json()["rows"][0]
    return commit_id, moment


STATES = "SELECT incorrect, corrected FROM decisions_as_of(?)"
TRUTHS = "SELECT CAST(output AS VARCHAR) FROM ground_truth_as_of(?)"


@pytest.mark.parametrize("by", ["commits", "moments"])
def test_what_was_known_then_is_what_comes_back(past, by):
    points = getattr(past, by)

    assert [past.api.sql(STATES, [point]).json()["rows"] for point in points] == [
        [[False, False]], [[True, False]], [[True, True]], [[True, True]],
    ]  # fmt: skip
    assert [past.api.sql(TRUTHS, [point]).json()["rows"] for point in points] == [
        [], [], [['"better"']], [['"best"']],
    ]  # fmt: skip


def test_before_the_first_commit_there_was_nothing(past):
    assert past.api.sql("FROM decisions_as_of('2000-01-01')").json()["rows"] == []


def test_a_moment_with_an_offset_is_that_moment(past):
    moment = past.moments[1]
    with_offset = f"(TIMESTAMP '{moment}' + INTERVAL 5 HOUR)::VARCHAR || '+05'"

    assert past.api.sql(f"SELECT count(*) FROM marks_as_of({with_offset})").json()["rows"] == [[1]]  # noqa: S608 - ours


@pytest.mark.parametrize("view", as_of_macros.MACRO_VIEWS)
def test_as_of_now_a_view_is_what_it_is(past, view):
    now = past.api.sql(f"FROM {view}").json()
    then = past.api.sql(f"FROM {view}_as_of({past.commits[-1]})").json()

    assert then == now


@pytest.mark.parametrize("moment", ["NULL", "'yesterday'", "-1", "1.5"])
def test_what_is_no_moment_is_refused(past, moment):
    problem(past.api.sql(f"FROM marks_as_of({moment})"), 400)


def test_a_macro_opens_no_closed_view(past):
    closed = problem(past.api.sql("FROM marks_as_of((SELECT count(*) FROM store.spans))"), 403)

    assert "store.spans" in closed["detail"]
    assert problem(past.api.sql("FROM access_log_as_of(1)"), 403)


def test_another_duckdb_reads_the_past_from_the_file(tmp_path: Path):
    with running_api(tmp_path) as api:
        api.record(input="hello")
        commit_id, _ = newest(api)
    with duckdb.connect() as other:
        other.execute(f"ATTACH '{tmp_path / 'ledger.duckdb'}' AS mine (READ_ONLY)")
        other.execute("USE mine")

        assert other.execute(f"SELECT count(*) FROM decisions_as_of({commit_id})").fetchone() == (1,)  # noqa: S608 - ours
        assert other.execute("SELECT count(*) FROM decisions_as_of(0)").fetchone() == (0,)
