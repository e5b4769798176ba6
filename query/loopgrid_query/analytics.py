"""Clients' SQL on the live ledger: one reading statement, bounded in time, rows, bytes and number.

Values come out as JSON can hold them: timestamps and dates as ISO text, decimals and integers beyond
64 bits as text, bytes as hex, non-finite numbers as null, JSON columns as their text.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import threading
from bisect import bisect_right
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

import duckdb
import pyarrow as pa

from loopgrid_collector.auth import Key
from loopgrid_collector.errors import Forbidden, ShuttingDown, StorageTrouble
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_query import jsontext, sql_guard, sql_late
from loopgrid_query.access import Asking
from loopgrid_query.errors import FieldError, QueryError, SqlBusy, SqlInvalid, SqlRefused, SqlTooCostly
from loopgrid_query.models import SqlRequest
from loopgrid_query.queries import Reader, text_of
from loopgrid_query.sql_guard import Catalogue
from loopgrid_query.sql_stream import Rows
from loopgrid_query.sql_turns import BUSY, Turns
from loopgrid_query.sql_watch import Watch, Watched, Why

_BATCH_ROWS: Final = 1024
# Arrow loses what these are: a bit string's length, a number's sign, a time's zone.
_UNTELLABLE: Final = re.compile(r"\b(BIT|BIGNUM|UHUGEINT|TIME WITH TIME ZONE)\b")
_SELECT: Final = duckdb.StatementType.SELECT
# The statement is right, but the database or its process is not: not the client's doing.
_SERVER_TROUBLE: Final = (duckdb.ConnectionException, duckdb.FatalException, duckdb.InternalException)


@dataclass(frozen=True, slots=True)
class SqlLimits:
    """What one statement may use, and how many may run.

    Attributes:
        seconds: until it is interrupted.
        rows: rows of an answer; more are cut off, and the answer says so.
        answer_bytes: bytes of an answer's values in memory; likewise.
        column_bytes: bytes of the values of an answer in columns (Arrow, Parquet), which is not held in
            memory; more are refused.
        statement_characters: length of its text.
        at_once: statements that run at the same time.
        waiting: statements that may wait for them.
        wait_seconds: how long a statement waits for one of the others to end.
        growth_bytes: how much the whole process may grow while a statement runs. More than
            DuckDB's own memory limit, which does not count everything.
    """

    seconds: float = 30.0
    rows: int = 10_000
    answer_bytes: int = 64 * 2**20
    column_bytes: int = 4 * 2**30
    statement_characters: int = 100_000
    at_once: int = 8
    waiting: int = 100
    wait_seconds: float = 5.0
    growth_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A statement that may run, and its syntax."""

    statement: duckdb.Statement
    syntax: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """Rows of a statement.

    Attributes:
        columns: name and DuckDB type of each column.
        rows: values that JSON can hold, in the order of the columns.
        truncated: there are more rows.
    """

    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    truncated: bool

    def record(self) -> dict[str, Any]:
        """The answer as JSON object."""
        columns = [{"name": name, "type": kind} for name, kind in self.columns]
        return {"columns": columns, "rows": self.rows, "truncated": self.truncated}

    def csv(self) -> str:
        """The answer as RFC 4180 text: a header, then the rows; null is an empty cell."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([name for name, _ in self.columns])
        writer.writerows([[_cell(value) for value in row] for row in self.rows])
        return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


class Analytics:
    """Runs clients' statements on one ledger."""

    def __init__(self, ledger: Ledger, reader: Reader, limits: SqlLimits) -> None:
        self._ledger = ledger
        self._reader = reader
        self._limits = limits
        self._running = threading.BoundedSemaphore(limits.at_once)
        self._watch = Watch(limits.growth_bytes)
        self.turns = Turns(limits.at_once, limits.waiting, limits.wait_seconds)

    @property
    def running(self) -> int:
        """Statements that run now."""
        return self._watch.running

    def run(self, request: SqlRequest, admins: frozenset[str] = frozenset()) -> SqlAnswer:
        """Run one statement.

        Args:
            request: the statement.
            admins: views that whoever asks may not read; lower case.

        Raises:
            Invalid: the request holds what is no Unicode text or no JSON number.
            SqlInvalid: it cannot run as it is written.
            SqlRefused: it does more than read the public views.
            SqlTooCostly: it took too long or too much memory, and was stopped.
            SqlBusy: too many others run.
            StorageTrouble: the ledger cannot be read right now.
        """
        with ExitStack() as held:
            cursor, statement = self._admitted(request, admins, held)
            try:
                return self._answer(cursor, statement, request.parameters)
            except _SERVER_TROUBLE as error:
                raise StorageTrouble(f"The ledger cannot be read right now: {error}") from error

    def check(self, statement: str, key: Key | None) -> None:
        """Whether somebody with a key may run a statement, which DuckDB's own door then does.

        Raises:
            Forbidden: they may not, or it cannot run; says why.
            StorageTrouble: the ledger cannot be read right now.
        """
        try:
            jsontext.check(statement, "query")
            with self._ledger.cursor() as cursor:
                self._allowed(cursor, statement, Asking(key).closed_views)
        except QueryError as error:
            raise Forbidden(str(error)) from error

    def rows(self, request: SqlRequest, admins: frozenset[str] = frozenset()) -> Rows:
        """The whole result of one statement, in columns, while it is read. To be closed.

        Raises:
            as ``run``, here or while it is read.
        """
        with ExitStack() as held:
            cursor, statement = self._admitted(request, admins, held)
            watched = held.enter_context(self._watch.over(cursor, self._limits.seconds))
            try:
                result = self._begun(cursor, statement, request.parameters)
                _check_tellable([(str(column[0]), str(column[1])) for column in result.description or ()])
                return Rows(
                    result,
                    held.pop_all(),
                    lambda error: self._explained(error, watched),
                    self._limits.column_bytes,
                )
            except _SERVER_TROUBLE as error:
                raise StorageTrouble(f"The ledger cannot be read right now: {error}") from error
            except duckdb.Error as error:
                raise self._explained(error, watched) from error

    def _admitted(
        self, request: SqlRequest, admins: frozenset[str], held: ExitStack
    ) -> tuple[duckdb.DuckDBPyConnection, _Allowed]:
        """A cursor and the statement that it may run; ``held`` gives them back."""
        jsontext.check(request.query, "query")
        jsontext.check(request.parameters, "parameters")
        if len(request.query) > self._limits.statement_characters:
            most = self._limits.statement_characters
            raise SqlInvalid.of(
                [FieldError("query", f"is longer than {most} characters; pass values as parameters")]
            )
        if not self._running.acquire(timeout=self._limits.wait_seconds):
            raise SqlBusy(BUSY)
        held.callback(self._running.release)
        try:
            cursor = held.enter_context(self._ledger.cursor())
            return cursor, self._allowed(cursor, request.query, admins)
        except _SERVER_TROUBLE as error:
            raise StorageTrouble(f"The ledger cannot be read right now: {error}") from error

    def _allowed(self, cursor: duckdb.DuckDBPyConnection, query: str, admins: frozenset[str]) -> _Allowed:
        try:
            statements = cursor.extract_statements(query)
        except _SERVER_TROUBLE:
            raise
        except duckdb.Error as error:
            raise SqlInvalid(str(error)) from error
        if not statements:
            raise SqlInvalid(f"There is no statement. {sql_guard.ALLOWED}")
        if len(statements) > 1:
            raise SqlRefused(f"This is more than one statement. {sql_guard.ALLOWED}")
        if statements[0].type != _SELECT:
            raise SqlRefused(f"{statements[0].type.name} is not allowed. {sql_guard.ALLOWED}")
        row = self._reader.row("syntax", statement=query)
        if row is None:
            raise AssertionError("a SELECT without FROM has one row")
        syntax = json.loads(row["syntax"])
        sql_guard.check(syntax, self._catalogue(admins))
        return _Allowed(statements[0], syntax)

    def _begun(
        self, cursor: duckdb.DuckDBPyConnection, allowed: _Allowed, parameters: Any
    ) -> duckdb.DuckDBPyConnection:
        """Run a statement up to its first rows."""
        late = None if parameters else sql_late.late(allowed.syntax)
        if late is not None:
            # Both halves see the same state; closing the cursor ends the transaction.
            cursor.begin()
            try:
                first = self._text(late.keys(self._syntax(text_of("late_keys"))))
                places = ", ".join(str(place) for (place,) in cursor.execute(first).fetchall()) or "NULL"
                rows = text_of("late_rows", ("filter_places",)).replace("{places}", places)
                return cursor.execute(self._text(late.rows(self._syntax(rows))))
            except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError):
                # The client is told of faults in the statement as it was written.
                cursor.rollback()
        return cursor.execute(allowed.statement, parameters)

    def _syntax(self, statement: str) -> dict[str, Any]:
        (row,) = self._reader.rows("syntax", {"statement": statement})
        syntax: dict[str, Any] = json.loads(row["syntax"])
        return syntax

    def _text(self, syntax: dict[str, Any]) -> str:
        (row,) = self._reader.rows("statement_of", {"syntax": json.dumps(syntax)})
        return str(row["statement"])

    def _catalogue(self, admins: frozenset[str]) -> Catalogue:
        rows = self._reader.rows("catalogue", {})
        return Catalogue(
            database=next(row["database"] for row in rows).lower(),
            views=frozenset(row["name"].lower() for row in rows if not row["internal"]) - admins,
            internal=frozenset(row["name"].lower() for row in rows if row["internal"]),
            admins=admins,
        )

    def _answer(self, cursor: duckdb.DuckDBPyConnection, statement: _Allowed, parameters: Any) -> SqlAnswer:
        with self._watch.over(cursor, self._limits.seconds) as watched:
            try:
                result = self._begun(cursor, statement, parameters)
                columns = [(str(column[0]), str(column[1])) for column in result.description or ()]
                _check_tellable(columns)
                rows, truncated = self._fetch(result)
            except _SERVER_TROUBLE:
                raise
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise self._explained(error, watched) from error
        return SqlAnswer(columns, rows, truncated)

    def _fetch(self, result: duckdb.DuckDBPyConnection) -> tuple[list[list[Any]], bool]:
        rows: list[list[Any]] = []
        size = 0
        for batch in result.to_arrow_reader(_BATCH_ROWS):
            size += batch.nbytes
            room = self._limits.answer_bytes - (size - batch.nbytes)
            fitting = _rows_within(batch, room)
            rows.extend(_told_rows(batch.slice(0, fitting)))
            if len(rows) > self._limits.rows:
                return rows[: self._limits.rows], True
            if fitting < batch.num_rows:
                return rows, True
        return rows, False

    def _explained(self, error: Exception, watched: Watched) -> SqlInvalid | SqlTooCostly | ShuttingDown:
        if watched.ended is Why.MEMORY:
            grown = self._limits.growth_bytes
            return SqlTooCostly(
                f"The statement was stopped, because the server grew by more than {grown} bytes while it "
                "ran. Read fewer columns or rows; if another statement was to blame, send this one again."
            )
        if watched.ended is Why.TIME:
            most = self._limits.seconds
            return SqlTooCostly(f"The statement was stopped after {most:g} s. Read fewer rows, or aggregate.")
        if isinstance(error, duckdb.OutOfMemoryException | pa.ArrowMemoryError):
            return SqlTooCostly("The statement needs more memory than there is. Read fewer columns or rows.")
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT Error" in str(error):
            # Not by our own timer: only a stop of the server ends statements otherwise.
            return ShuttingDown("The server is stopping; send the statement again when it is back.")
        return SqlInvalid(str(error))


def _check_tellable(columns: list[tuple[str, str]]) -> None:
    for name, kind in columns:
        # What stands in quotes is a name, of an enum's value or a struct's member.
        found = _UNTELLABLE.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", kind))
        if found is not None:
            raise SqlInvalid(
                f"Column {name!r} is of type {kind}, which JSON cannot hold; CAST it to VARCHAR."
            )


def _rows_within(batch: pa.RecordBatch, room: int) -> int:
    """How many of the first rows take no more than so many bytes."""
    if batch.nbytes <= room:
        return int(batch.num_rows)
    sizes = range(1, batch.num_rows + 1)
    return bisect_right(sizes, room, key=lambda rows: batch.slice(0, rows).nbytes)


def _told_rows(batch: pa.RecordBatch) -> list[list[Any]]:
    columns = [_told_column(column) for column in batch.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _told_column(column: pa.Array) -> list[Any]:
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError) as error:
        # Python's moments know no nanoseconds and no infinity; Arrow can write the former.
        if not (pa.types.is_timestamp(column.type) and column.type.unit == "ns"):
            message = "The result holds a moment beyond the calendar, or finer than microseconds"
            raise SqlInvalid(f"{message}; CAST it to VARCHAR.") from error
        texts = column.cast(pa.string()).to_pylist()
        values = [None if text is None else text.replace(" ", "T") for text in texts]
    return [_told(value) for value in values]


_TEXTS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...]] = (
    ((str, bool, int, type(None)), lambda value: value),
    (float, lambda value: value if math.isfinite(value) else None),
    (datetime, lambda value: value.isoformat().replace("+00:00", "Z")),
    ((date, time), lambda value: value.isoformat()),
    (bytes, lambda value: value.hex()),
    (pa.MonthDayNano, lambda value: f"{value.months} months {value.days} days {value.nanoseconds / 1e9:g} s"),
    (dict, lambda value: {str(name): _told(member) for name, member in value.items()}),
    ((list, tuple), lambda value: [_told(member) for member in value]),
)


def _told(value: Any) -> Any:
    """A value as JSON can hold it; decimals and what else there is become text."""
    return next((tell(value) for kinds, tell in _TEXTS if isinstance(value, kinds)), str(value))
