"""The package's SQL: named, described, and about the public views only."""

from __future__ import annotations

import json
import re

import duckdb
import pytest

from loopgrid_query.queries import Query, load_queries

PUBLIC = set(
    "decisions steps marks corrections ground_truth replays experiments spans events producers quarantine "
    "conflicts commits prices judgements ground_truth_majority ground_truth_adjudicated outcomes "
    "reviews review_items review_answers replayability cohorts cohort_decisions experiment_items "
    "schedules".split()
)
STATEMENTS = [query for query in load_queries().values() if query.sql.startswith("SELECT")]


def by_name(query: Query) -> str:
    return query.name


@pytest.mark.parametrize("query", STATEMENTS, ids=by_name)
def test_a_statement_says_in_one_line_what_it_is_for(query):
    assert query.description.endswith(".")
    assert len(query.description) <= 110


@pytest.mark.parametrize("query", STATEMENTS, ids=by_name)
def test_a_statement_only_reads_and_only_views(query):
    sql = query.sql.replace("{filters}", "true").replace("{truth}", "SELECT * FROM ground_truth")
    sql = sql.replace("{places}", "$place_0")
    row = duckdb.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None
    syntax = row[0]

    assert not json.loads(syntax)["error"]
    read = set(re.findall(r'"table_name":"(\w+)"', syntax)) - {"above", "page"}
    views = {name.removeprefix("as_of_main_") for name in read}
    assert {name for name in views if not name.endswith("_rows")} <= PUBLIC


def test_no_statement_is_without_a_user():
    """A name that no code asks for would be SQL that nobody runs and no test sees."""
    from pathlib import Path

    import loopgrid_query

    folder = Path(loopgrid_query.__file__).parent
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    built = re.compile(
        r"(filter|review_sample|batch)_\w+|decision_(marks|corrections|replays)|mark|correction"
    )
    unused = [name for name in load_queries() if f'"{name}"' not in code and not built.fullmatch(name)]

    assert unused == []
