"""What a client's statement may do, decided on its syntax."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from loopgrid_query import sql_guard
from loopgrid_query.errors import SqlInvalid, SqlRefused

CATALOGUE = sql_guard.Catalogue(
    database="ledger",
    views=frozenset({"decisions", "spans"}),
    internal=frozenset({"duckdb_settings", "pg_settings", "duckdb_databases", "pragma_database_list"}),
)


@pytest.fixture(scope="module")
def parser():
    connection = duckdb.connect()
    yield connection
    connection.close()


def checked(parser: duckdb.DuckDBPyConnection, statement: str) -> None:
    row = parser.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    assert row is not None
    syntax: dict[str, Any] = json.loads(row[0])
    sql_guard.check(syntax, CATALOGUE)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "FROM decisions",
        "SELECT * FROM Decisions AS d JOIN main.spans USING (trace_id)",
        "SELECT * FROM ledger.decisions, ledger.main.spans",
        "WITH spans AS (SELECT 1), own AS MATERIALIZED (FROM spans) SELECT * FROM own",
        "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 3) FROM n",
        "VALUES (1), (2)",
        "DESCRIBE decisions",
        "DESCRIBE SELECT * FROM decisions",
        "SUMMARIZE decisions",
        "SHOW TABLES",
        "SHOW ALL TABLES",
        "SHOW DATABASES",
        "SELECT * FROM (DESCRIBE decisions)",
        "PIVOT decisions ON kind IN ('decision') USING count(*)",
        "SELECT unnest([1, 2])",
        "SELECT repeat('ab', 3), lpad('x', 5, ' ')",
        "SELECT * FROM range(3), unnest([1]), json_each('{}')",
        "SELECT column_name FROM information_schema.columns",
        "SELECT row_number() OVER (ORDER BY started_at) FROM decisions QUALIFY true",
        "SELECT now(), uuid(), random()",
        "SELECT $a + $b",
        "SELECT ? + ?",
    ],
)
def test_statements_that_read_the_public_views_pass(parser, statement):
    checked(parser, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO decisions VALUES (1)",
        "UPDATE spans SET name = ''",
        "DELETE FROM spans",
        "DROP VIEW decisions",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE MACRO f() AS 1",
        "ALTER TABLE spans RENAME TO x",
        "ATTACH ':memory:' AS x",
        "DETACH ledger",
        "COPY decisions TO 'x.csv'",
        "EXPORT DATABASE 'x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "PRAGMA table_info('decisions')",
        "PRAGMA enable_profiling",
        "SET threads = 1",
        "SET VARIABLE x = 1",
        "RESET threads",
        "USE memory",
        "CALL force_checkpoint()",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "PREPARE x AS SELECT 1",
        "EXECUTE x",
        "EXPLAIN ANALYZE INSERT INTO spans VALUES (1)",
        "PIVOT decisions ON kind USING count(*)",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused(parser, statement):
    with pytest.raises(SqlRefused, match="Allowed is one statement"):
        checked(parser, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM force_checkpoint()",
        "SELECT * FROM checkpoint()",
        "SELECT * FROM FORCE_CHECKPOINT()",
        "SELECT * FROM system.main.force_checkpoint()",
        "SELECT * FROM read_text('x')",
        "SELECT * FROM read_blob('x')",
        "SELECT * FROM read_csv('x')",
        "SELECT * FROM read_duckdb('x')",
        "SELECT * FROM parquet_scan('x')",
        "SELECT * FROM glob('*')",
        "SELECT * FROM sniff_csv('x')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('decisions')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_databases()",
        "SELECT * FROM duckdb_logs()",
        "SELECT * FROM enable_logging()",
        "SELECT * FROM truncate_duckdb_logs()",
        "SELECT * FROM disable_profiling()",
        "SELECT * FROM pragma_storage_info('spans')",
        "SELECT * FROM seq_scan('spans')",
        "SELECT (SELECT count(*) FROM read_text('x'))",
        "SELECT * FROM decisions WHERE EXISTS (FROM read_text('x'))",
        "WITH a AS (FROM read_text('x')) SELECT 1",
        "DESCRIBE SELECT * FROM read_text('x')",
        "SUMMARIZE FROM read_text('x')",
        "SELECT * FROM decisions ORDER BY (SELECT 1 FROM read_text('x'))",
        "SELECT getvariable('x')",
        "SELECT current_setting('threads')",
        "SELECT nextval('x')",
        "SELECT setseed(0.5)",
        "SELECT write_log('x')",
        "SELECT sleep_ms(10)",
        "SELECT list_transform([1], lambda x: nextval('s'))",
        "SELECT * FROM range(getvariable('x'))",
        "SELECT * FROM store.spans",
        "SELECT * FROM ledger.store.spans",
        "SELECT * FROM system.main.duckdb_settings",
        "SELECT * FROM temp.decisions",
        "SELECT * FROM pg_catalog.pg_settings",
        "SELECT * FROM pg_settings",
        "SELECT * FROM duckdb_databases",
        "SELECT * FROM pragma_database_list",
        "DESCRIBE store.spans",
        "SUMMARIZE store.spans",
        "SHOW pg_settings",
        "WITH duckdb_databases AS (SELECT 1) SELECT * FROM duckdb_databases",
        "SELECT * FROM (WITH PG_Settings AS (SELECT 1) SELECT 1), pg_settings",
        "SELECT * FROM (WITH spans AS (SELECT 1) FROM spans), store.spans",
    ],
)
def test_a_select_that_reaches_further_is_refused(parser, statement):
    with pytest.raises(SqlRefused):
        checked(parser, statement)


@pytest.mark.parametrize(
    ("statement", "suggestion"),
    [("FROM decision", "decisions"), ("SELECT * FROM main.span", "spans"), ("FROM 'secrets.csv'", None)],
)
def test_a_relation_that_does_not_exist_is_named_with_the_nearest(parser, statement, suggestion):
    with pytest.raises(SqlInvalid) as refused:
        checked(parser, statement)

    assert refused.value.errors[0].suggestion == suggestion


def test_a_name_given_by_with_hides_nothing_outside_of_it(parser):
    with pytest.raises(SqlRefused):
        checked(parser, "WITH own AS (SELECT 1) SELECT * FROM own, store.spans")


def test_a_statement_that_does_not_parse_says_where(parser):
    with pytest.raises(SqlInvalid, match="selec"):
        checked(parser, "selec 1")


def test_every_function_that_duckdb_calls_volatile_has_been_judged(parser):
    """A new version with a new function that does something must not slip in unseen."""
    volatile = parser.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE function_type IN ('scalar', 'aggregate') AND (stability = 'VOLATILE' OR has_side_effects)"
    ).fetchall()

    assert {name for (name,) in volatile} - sql_guard.REFUSED_FUNCTIONS == sql_guard.HARMLESS_VOLATILE


def test_allowed_table_functions_exist(parser):
    known = parser.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE function_type IN ('table', 'table_macro')"
    ).fetchall()

    assert {name for (name,) in known} >= sql_guard.TABLE_FUNCTIONS


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT range(1000000000)",
        "SELECT length(generate_series(1, 1000000000))",
        "SELECT unnest(range(1000000000))",
        "SELECT list_resize([1], 1000000000)",
        "SELECT repeat('a', 1000000000)",
        "SELECT repeat(repeat('a', 100000), 100000)",
        "WITH a AS (SELECT repeat('a', 100000) AS x) SELECT lpad(x, 100000, ' ') FROM a",
        "SELECT repeat('a', i) FROM range(10) AS t(i)",
        "SELECT bar(1, 0, 1, 1000000000)",
    ],
)
def test_a_call_that_could_make_one_value_larger_than_the_server_is_refused(parser, statement):
    with pytest.raises(SqlRefused):
        checked(parser, statement)
