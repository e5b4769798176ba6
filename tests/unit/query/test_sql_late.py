"""Which of clients' statements are run in two, so that only the answer's content is read."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from loopgrid_query.sql_late import late


def syntax(statement: str) -> Any:
    ((found,),) = duckdb.execute("SELECT json_serialize_sql($1)", [statement]).fetchall()
    return json.loads(found)


def text(made: Any) -> str:
    ((found,),) = duckdb.execute(
        "SELECT json_deserialize_sql(CAST($1 AS JSON))", [json.dumps(made)]
    ).fetchall()
    return str(found)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM decisions ORDER BY started_at DESC LIMIT 10",
        "SELECT decision_id, input FROM decisions ORDER BY started_at DESC LIMIT 10",
        "SELECT Output AS o FROM main.Decisions ORDER BY Started_At LIMIT 10",
        "SELECT d.input->>'$.text' FROM decisions d WHERE d.kind = 'tool' ORDER BY d.started_at LIMIT 1",
        "SELECT * EXCLUDE (tags) FROM decisions ORDER BY duration_ms DESC NULLS LAST, kind LIMIT 5 OFFSET 5",
        "SELECT output FROM decisions WHERE lower(service_name) LIKE 'a%' ORDER BY started_at LIMIT 3",
        "FROM decisions WHERE (metadata->>'tier') IN ('a', 'b') ORDER BY started_at LIMIT 10",
    ],
)
def test_the_content_of_the_first_few_decisions_is_read_last(statement):
    assert late(syntax(statement)) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT decision_id FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions LIMIT 10",
        "SELECT input FROM decisions ORDER BY started_at",
        "SELECT input FROM decisions ORDER BY started_at LIMIT 100 OFFSET 1",
        "SELECT input FROM decisions ORDER BY started_at LIMIT 0",
        "SELECT input FROM decisions ORDER BY started_at LIMIT 10%",
        "SELECT input FROM decisions ORDER BY started_at LIMIT (SELECT 1)",
        "SELECT input FROM decisions ORDER BY input LIMIT 10",
        "SELECT input FROM decisions WHERE output IS NULL ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions WHERE kind = (SELECT max(kind) FROM steps) ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions WHERE random() < 0.5 ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions WHERE kind = $kind ORDER BY started_at LIMIT 10",
        "SELECT input, started_at FROM decisions ORDER BY 2 LIMIT 10",
        "SELECT input FROM decisions ORDER BY ALL LIMIT 10",
        "SELECT input AS started_at FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT * REPLACE (kind AS started_at) FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT * RENAME (kind AS started_at) FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT COLUMNS('put') FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT DISTINCT input FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT max(input) FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT input, row_number() OVER () FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT input, (SELECT count(*) FROM decisions) FROM decisions ORDER BY started_at LIMIT 10",
        "SELECT input, count(*) FROM decisions GROUP BY ALL ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions QUALIFY true ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions USING SAMPLE 5 ROWS ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions TABLESAMPLE 10% ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions AS d(started_at) ORDER BY started_at LIMIT 10",
        "WITH decisions AS (SELECT 1 AS input, 2 AS d) SELECT input FROM decisions ORDER BY d LIMIT 10",
        "SELECT a.input FROM decisions a, decisions b ORDER BY a.started_at LIMIT 10",
        "SELECT input FROM steps ORDER BY started_at LIMIT 10",
        "SELECT input FROM decisions UNION ALL SELECT input FROM decisions ORDER BY 1 LIMIT 10",
        "VALUES (1) ORDER BY 1 LIMIT 1",
        "DESCRIBE decisions",
    ],
)
def test_any_other_statement_runs_as_it_is_written(statement):
    assert late(syntax(statement)) is None


def test_the_first_half_reads_no_content_and_the_second_what_the_first_found():
    found = late(
        syntax("SELECT input FROM decisions WHERE kind = 'decision' ORDER BY started_at LIMIT 4 OFFSET 3")
    )

    assert found is not None
    assert text(found.keys(syntax("SELECT place_key FROM store.completed_rows"))) == (
        "SELECT place_key FROM store.completed_rows AS decisions WHERE (kind = 'decision') "
        "ORDER BY started_at LIMIT 7"
    )
    assert text(found.rows(syntax("SELECT * FROM (SELECT 1 AS input) AS decisions"))) == (
        'SELECT "input" FROM (SELECT 1 AS "input") AS decisions ORDER BY started_at LIMIT 4 OFFSET 3'
    )
