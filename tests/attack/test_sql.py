"""Attacks on /v1/sql: each is refused or stopped, and the server goes on as if nothing had been."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loopgrid_query.analytics import SqlLimits
from tests.contract.rest import Api, problem, running_api

CORPUS = tomllib.loads(Path(__file__).with_name("sql_corpus.toml").read_text(encoding="utf-8"))


def attacks(outcome: str) -> list[str]:
    return [statement for group in CORPUS[outcome].values() for statement in group]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all attacks, with tight limits."""
    limits = SqlLimits(seconds=0.5, rows=100, answer_bytes=2**20, growth_bytes=600 * 2**20)
    with running_api(tmp_path_factory.mktemp("attack"), limits, duckdb_memory="300MB") as running:
        yield running


def assert_unharmed(api: Api) -> None:
    assert api.client.get("/healthz").status_code == 200
    assert api.record(input="after the attack")["decision_id"]
    assert api.sql("SELECT count(*) > 0 FROM decisions").json()["rows"] == [[True]]
    assert not api.services.analytics.running


@pytest.mark.parametrize("statement", attacks("refused"))
def test_what_does_more_than_read_is_refused(api, statement):
    assert problem(api.sql(statement), 403)["type"].endswith("sql-refused")


@pytest.mark.parametrize("statement", attacks("invalid"))
def test_what_duckdb_does_not_take_is_400(api, statement):
    assert problem(api.sql(statement), 400)["type"].endswith("sql-invalid")


def test_after_all_refusals_nothing_changed_and_the_server_records_and_answers(api):
    before = api.everything()

    for statement in attacks("refused") + attacks("invalid"):
        api.sql(statement)

    assert api.everything() == before
    assert_unharmed(api)


@pytest.mark.parametrize("statement", attacks("stopped"))
def test_what_would_not_end_is_stopped_and_its_thread_is_free_again(api, statement):
    stopped = problem(api.sql(statement), 400)

    assert stopped["type"].endswith("sql-too-costly")
    assert_unharmed(api)


@pytest.mark.parametrize("statement", attacks("cut"))
def test_what_is_too_large_is_cut_and_says_so(api, statement):
    assert api.sql(statement).json()["truncated"] is True
    assert_unharmed(api)


def test_statements_that_wait_their_turn_hold_up_nobody_else(tmp_path):
    """More than the threads that all other requests share."""
    endless = "SELECT count(*) FROM range(1000000000000)"
    with (
        running_api(tmp_path, SqlLimits(seconds=3, at_once=1, waiting=200, wait_seconds=3)) as api,
        ThreadPoolExecutor(60) as pool,
    ):
        recorded = api.record(input="hello")["decision_id"]
        waiting = [pool.submit(api.sql, endless) for _ in range(60)]
        until_waiting(api, 59)

        answer = api.client.get(f"/v1/decisions/{recorded}")

        assert answer.status_code == 200
        assert not any(each.done() for each in waiting)
        assert {each.result().status_code for each in waiting} <= {400, 503}


def until_waiting(api: Api, statements: int) -> None:
    tick = threading.Event()
    for _ in range(2000):
        if api.services.analytics.turns.waiting >= statements:
            return
        tick.wait(0.01)
    raise AssertionError(f"only {api.services.analytics.turns.waiting} statements wait")
