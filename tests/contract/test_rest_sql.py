"""SQL over REST: it reads the public views, within limits, and nothing else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loopgrid_query.analytics import SqlLimits
from tests.contract.rest import Api, problem, running_api


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all claims of this module, with one decision and tight limits."""
    folder = tmp_path_factory.mktemp("sql")
    with running_api(
        folder, SqlLimits(seconds=2, rows=100, answer_bytes=2**20, column_bytes=2**22, wait_seconds=0.01)
    ) as running:
        running.record(input={"message": "hello"}, output=[1], usage={"input_tokens": 3}, service_name="a")
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that stops every statement after a moment."""
    with running_api(tmp_path_factory.mktemp("hasty"), SqlLimits(seconds=0.3)) as running:
        yield running


def test_rows_come_with_the_names_and_types_of_their_columns(api):
    found = api.sql("SELECT kind, input_tokens, input, tags FROM decisions").json()

    assert found == {
        "columns": [
            {"name": "kind", "type": "VARCHAR"},
            {"name": "input_tokens", "type": "BIGINT"},
            {"name": "input", "type": "JSON"},
            {"name": "tags", "type": "VARCHAR[]"},
        ],
        "rows": [["decision", 3, '{"message":"hello"}', None]],
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("9007199254740993", 9007199254740993),
        ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"),
        ("1.50::DECIMAL(9, 2)", "1.50"),
        ("'nan'::DOUBLE", None),
        ("'-infinity'::DOUBLE", None),
        ("TIMESTAMP '2026-03-01 10:00:00.5'", "2026-03-01T10:00:00.500000"),
        ("TIMESTAMPTZ '2026-03-01 10:00:00Z'", "2026-03-01T10:00:00Z"),
        ("TIMESTAMP_NS '2026-03-01 10:00:00.123456789'", "2026-03-01T10:00:00.123456789"),
        ("DATE '2026-03-01'", "2026-03-01"),
        ("TIME '10:00:00'", "10:00:00"),
        ("INTERVAL 36 HOUR", "0 months 0 days 129600 s"),
        ("'\\xAA\\x00'::BLOB", "aa00"),
        (
            "{'a': [1.5::DECIMAL(2, 1), NULL], 'b': DATE '2026-03-01'}",
            {"a": ["1.5", None], "b": "2026-03-01"},
        ),
        ("MAP {'a': 1}", [["a", 1]]),
        ("'b'::ENUM('a', 'b')", "b"),
        ("'11111111-1111-1111-1111-111111111111'::UUID", "11111111-1111-1111-1111-111111111111"),
        ("'é𝄞'", "é𝄞"),
        ("true", True),
        ("NULL", None),
    ],
)
def test_every_value_comes_out_as_json_can_hold_it(api, expression, value):
    answer = api.sql(f"SELECT {expression} AS x")

    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [[value]]


@pytest.mark.parametrize(
    "expression",
    ["'101'::BIT", "10::BIGNUM", "'10:00:00+02'::TIMETZ", "'infinity'::TIMESTAMP", "[1::UHUGEINT]"],
)
def test_what_json_cannot_hold_is_refused_rather_than_bent(api, expression):
    assert "CAST it to VARCHAR" in problem(api.sql(f"SELECT {expression} AS x"), 400)["detail"]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("SELECT ?::INT + ?::INT", [1, 2]),
        ("SELECT $2::INT + $1::INT", [1, 2]),
        ("SELECT $a::INT + $b::INT", {"a": 1, "b": 2}),
    ],
)
def test_parameters_are_passed_by_place_or_name(api, query, parameters):
    assert api.sql(query, parameters).json()["rows"] == [[3]]


def test_a_parameter_is_a_value_and_never_sql(api):
    rows = api.sql("SELECT count(*) FROM decisions WHERE service_name = ?", ["a' OR true --"]).json()["rows"]

    assert rows == [[0]]


@pytest.mark.parametrize(
    ("query", "parameters"), [("SELECT ?", []), ("SELECT 1", [1]), ("SELECT $a", {"b": 1})]
)
def test_parameters_that_do_not_fit_are_400(api, query, parameters):
    problem(api.sql(query, parameters), 400)


def test_csv_has_a_header_and_quotes_what_must_be_quoted(api):
    query = "SELECT 'a,\"b\"\n' AS x, NULL AS y, true AS z, ['nan'::DOUBLE, 1] AS l, 'inf'::DOUBLE AS i"
    answer = api.sql(query, accept="text/csv")

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["loopgrid-truncated"] == "false"
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["x", "y", "z", "l", "i"],
        ['a,"b"\n', "", "true", "[null, 1.0]", ""],
    ]


def test_a_media_type_we_do_not_write_is_406(api):
    problem(api.sql("SELECT 1", accept="image/png"), 406)


@pytest.mark.parametrize(("rows", "truncated"), [(99, False), (100, False), (101, True), (10**12, True)])
def test_too_many_rows_are_cut_off_and_the_answer_says_so(api, rows, truncated):
    found = api.sql("SELECT range FROM range(?::BIGINT)", [rows]).json()

    assert (len(found["rows"]), found["truncated"]) == (min(rows, 100), truncated)


def test_too_many_bytes_are_cut_off_and_the_answer_says_so(api):
    found = api.sql("SELECT repeat('x', 100_000) FROM range(50)").json()

    assert (len(found["rows"]), found["truncated"]) == (10, True)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM range(1000000000000)",
        "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
        "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "SELECT range FROM range(1000000000000) WHERE range < 0",
    ],
)
def test_a_statement_that_does_not_end_is_stopped_and_the_server_answers_on(hasty, query):
    stopped = problem(hasty.sql(query), 400)

    assert stopped["type"].endswith("sql-too-costly")
    assert hasty.client.get("/readyz").status_code == 200


def test_more_statements_than_may_run_at_once_are_503_and_say_when_to_come_back(api):
    running = api.services.analytics._running
    taken = [running.acquire(blocking=False) for _ in range(SqlLimits().at_once)]
    try:
        answer = api.sql("SELECT 1")
    finally:
        running.release(len(taken))

    assert all(taken)
    problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert api.sql("SELECT 1").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO marks SELECT * FROM marks",
        "DELETE FROM store.spans",
        "UPDATE store.spans SET name = ''",
        "DROP VIEW decisions",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "ATTACH ':memory:' AS x",
        "COPY decisions TO 'x.csv'",
        "EXPORT DATABASE 'x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "SET VARIABLE x = 1",
        "PRAGMA database_list",
        "CHECKPOINT",
        "CALL force_checkpoint()",
        "BEGIN",
        "USE memory",
        "EXPLAIN ANALYZE DELETE FROM store.spans",
        "SELECT 1; DELETE FROM store.spans",
        "SELECT * FROM force_checkpoint()",
        "SELECT * FROM read_blob('ledger.duckdb')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM query('SELECT 1')",
        "SELECT getvariable('x')",
        "SELECT salt FROM store.spans",
        "SELECT * FROM ledger.store.entries",
        "SELECT * FROM pg_settings",
    ],
)
def test_a_statement_that_does_more_than_read_the_views_is_refused_and_changes_nothing(api, query):
    before = api.everything()

    refused = api.sql(query)

    assert "Allowed is one statement" in problem(refused, 403)["detail"]
    assert api.everything() == before


@pytest.mark.parametrize(
    "query",
    [
        "selec 1",
        "SELECT",
        "SELECT nothing FROM decisions",
        "SELECT 1/",
        "SELECT error('boom')",
        "\u0000",
        ";",
        "-- nothing",
    ],
)
def test_a_statement_that_cannot_run_is_400_and_says_why(api, query):
    problem(api.sql(query), 400)


@pytest.mark.parametrize(
    ("query", "parameters"), [("SELECT '\ud800'", None), ("SELECT ?", ["\ud800"]), ("SELECT ?", [2**64])]
)
def test_what_is_no_text_or_number_is_422(api, query, parameters):
    body = json.dumps({"query": query, "parameters": parameters})

    problem(api.client.post("/v1/sql", content=body, headers={"content-type": "application/json"}), 422)


def test_an_unknown_view_is_400_and_suggests_the_nearest(api):
    assert problem(api.sql("FROM decision"), 400)["errors"][0]["suggestion"] == "decisions"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + "1+" * 20_000 + "1",
        "SELECT * FROM " + "(SELECT * FROM " * 5_000 + "decisions" + ")" * 5_000,
        "SELECT '" + "x" * 200_000 + "'",
    ],
)
def test_a_statement_too_deep_or_too_long_is_400(api, query):
    problem(api.sql(query), 400)
    assert api.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "query", ["SHOW TABLES", "DESCRIBE decisions", "SUMMARIZE decisions", "FROM ledger.decisions"]
)
def test_the_views_can_be_explored(api, query):
    assert api.sql(query).json()["rows"]


def test_no_variable_of_the_server_can_be_read_as_a_table(api):
    """DuckDB's Python module can read its caller's data frames by name; ours must not."""
    for name in ("rows", "batch", "statements", "columns", "result"):
        problem(api.sql("FROM " + name), 400)


ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
COLUMNS = "SELECT range AS n, 'x' || range AS text, NULL::DOUBLE AS empty FROM range(5000)"


def in_columns(api: Api, query: str, media_type: str) -> httpx.Response:
    return api.client.post("/v1/sql", json={"query": query}, headers={"accept": media_type})


def test_an_arrow_stream_holds_every_row_whatever_the_limit_of_json(api):
    answer = in_columns(api, COLUMNS, ARROW)

    table = pa.ipc.open_stream(answer.content).read_all()
    assert answer.headers["content-type"] == ARROW
    assert (table.num_rows, table.column_names) == (5000, ["n", "text", "empty"])
    assert table.column("n").to_pylist() == list(range(5000))


def test_a_parquet_file_holds_the_same(api):
    table = pq.read_table(io.BytesIO(in_columns(api, COLUMNS, PARQUET).content))

    assert table.equals(pa.ipc.open_stream(in_columns(api, COLUMNS, ARROW).content).read_all())


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_an_empty_result_in_columns_has_its_schema(api, media_type):
    content = in_columns(api, "SELECT decision_id FROM decisions WHERE false", media_type).content

    if media_type == ARROW:
        table = pa.ipc.open_stream(content).read_all()
    else:
        table = pq.read_table(io.BytesIO(content))
    assert (table.num_rows, table.column_names) == (0, ["decision_id"])


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_what_may_not_run_may_not_run_in_columns_either(api, media_type):
    assert in_columns(api, "DROP VIEW decisions", media_type).status_code == 403
    assert in_columns(api, "SELECT 1 / 'x'", media_type).status_code == 400
    assert in_columns(api, "SELECT '1010'::BIT", media_type).status_code == 400


def test_a_result_that_outgrows_its_limit_breaks_off_loudly(api):
    large = "SELECT range, repeat('x', 1000) AS text, '[]'::JSON AS content FROM range(100000)"

    with pytest.raises(httpx.RemoteProtocolError):
        in_columns(api, large, ARROW)
    refused = problem(in_columns(api, large, PARQUET), 400)
    assert "larger than" in refused["detail"]


def test_a_stream_that_ended_or_broke_off_gives_its_place_back(api):
    for _ in range(2 * SqlLimits().at_once):
        with api.client.stream(
            "POST", "/v1/sql", json={"query": COLUMNS}, headers={"accept": ARROW}
        ) as answer:
            next(answer.iter_raw())

    assert in_columns(api, "SELECT 1 AS one", ARROW).status_code == 200
