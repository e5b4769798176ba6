"""``loopgrid sql``: ask the ledger anything, read-only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from loopgrid_query.cli import profiles
from loopgrid_query.cli.connection import AsJson, Connection, Endpoint, client
from loopgrid_query.cli.console import Column, print_json, print_sheet, print_table, stderr, stdout, table
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.gist import compact, whole

_OK = 200
_LEAST_TEXT = 10
"""Characters of a text column that are worth a place in a table."""
_HASHES = frozenset({"digest", "root", "previous", "chain", "replay_of"})
_TEXTS = ("VARCHAR", "JSON", "BLOB", "[]", "STRUCT", "MAP")
_NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL")


def sql(
    query: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT over the public views; - reads stdin; without it a session begins.",
            show_default=False,
        ),
    ] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run a read-only query over the ledger.

    The views are decisions, steps, marks, corrections, judgements, ground_truth,
    ground_truth_majority, ground_truth_adjudicated, outcomes, replays, experiments, experiment_items,
    cohorts, cohort_decisions, schedules, spans, events, producers,
    unfinished, quarantine, conflicts, commits, possible_duplicates, aggregates,
    evaluations, prices, costs, replayability, reviews, review_items, review_answers, keys and
    access_log.
    Rows wider than the terminal are printed one below the other; a pipe gets a line a row, with tabs.
    """
    if as_json and as_csv:
        raise CliError("--json and --csv exclude each other; give one of them.")
    if query is None:
        _session(endpoint, flags=as_json or as_csv)
        return
    text = sys.stdin.read() if query == "-" else query
    if as_csv:
        sys.stdout.write(_csv(endpoint, text))
        return
    result = client(endpoint).sql(text)
    if as_json:
        print_json(result)
        return
    _print_result(result)


def _session(endpoint: str | None, *, flags: bool) -> None:
    if flags or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CliError("give a query, or - to read one from stdin; a session needs a terminal and no flags.")
    # prompt_toolkit takes a tenth of a second to load, and most commands never need it.
    from loopgrid_query.cli.sql_shell import shell

    shell(client(endpoint).sql, _show, profiles.server(endpoint, os.environ).endpoint)


def _show(result: Mapping[str, Any], sheets: bool) -> None:
    if sheets:
        _print_sheets(stdout(), result)
    else:
        _print_result(result)


def _csv(endpoint: str | None, query: str) -> str:
    with Connection(endpoint) as connection:
        answer = connection.post(
            "/v1/sql",
            json.dumps({"query": query}).encode(),
            content_type="application/json",
            accept="text/csv",
        )
    text = answer.body.decode("utf-8", errors="replace")
    if answer.status == _OK:
        if answer.headers.get("LoopGrid-Truncated") == "true":
            _note_truncated(len(text.splitlines()) - 1)
        return text
    try:
        raise CliError(str(json.loads(text)["detail"]))
    except (ValueError, KeyError, TypeError):
        raise CliError(
            f"the server answered HTTP {answer.status}: is that the API port, by default 8000?"
        ) from None


def _print_result(result: Mapping[str, Any]) -> None:
    out, heads = stdout(), result["columns"]
    rows = [[compact(value) for value in row] for row in result["rows"]]
    columns = [_column(column, [row[position] for row in rows]) for position, column in enumerate(heads)]
    if not out.is_terminal or len(table(out, columns, rows).columns) == len(columns):
        print_table(out, columns, rows)
    else:
        _print_sheets(out, result)
    if result.get("truncated"):
        _note_truncated(len(rows))


def _column(head: Mapping[str, str], cells: list[str]) -> Column:
    """A column of the answer: only texts may be shortened, and ids and hashes are none."""
    name, kind = head["name"], head["type"].upper()
    widest = max(map(cell_len, [name, *cells]))
    is_id = name.endswith("_id") or name in _HASHES
    uncut = is_id or not any(text in kind for text in _TEXTS)
    right = not is_id and any(number in kind for number in _NUMBERS)
    return Column(name, least=widest if uncut else min(widest, _LEAST_TEXT), whole=uncut, right=right)


def _print_sheets(out: Console, result: Mapping[str, Any]) -> None:
    """One row below the other, for rows that are wider than the terminal."""
    names = [column["name"] for column in result["columns"]]
    for number, row in enumerate(result["rows"], start=1):
        out.print(Text(f"row {number}", "dim"))
        print_sheet(out, zip(names, map(whole, row), strict=True))


def _note_truncated(rows: int) -> None:
    stderr().print(f"Only the first {rows} rows; narrow the query or page with LIMIT and OFFSET.")
