"""Named SQL from the files in ``statements/``, and the one place that runs it.

Every SQL statement of this package stands there. They read the public views, the ledger's look-up views
(names that end in _rows, docs/spec/ledger.md) and the catalogue's list of views, and write nothing.
``-- name: <name>`` begins a statement, the comment under it says what it is for. ``{filters}`` stands for
conditions joined by AND, each of them a statement named ``filter_…``; ``{places}`` for a list of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import duckdb

from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger.ledger import Ledger

Row = dict[str, Any]

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
# What says that the ledger, and not the statement, is in trouble.
TROUBLE: Final = (
    duckdb.ConnectionException,
    duckdb.FatalException,
    duckdb.InterruptException,
    duckdb.IOException,
    duckdb.OutOfMemoryException,
)


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement, or one condition of a statement.

    Attributes:
        name: how code asks for it.
        description: what it is for, one line; may be empty for a condition that says it itself.
        sql: the text, without a semicolon.
    """

    name: str
    description: str
    sql: str


@cache
def load_queries() -> Mapping[str, Query]:
    """Every query of the package by name.

    Raises:
        ValueError: two queries have the same name.
    """
    queries: dict[str, Query] = {}
    for file in sorted(files(__package__).joinpath("statements").iterdir(), key=lambda file: file.name):
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in queries:
                raise ValueError(f"Two queries are named {name!r}; the second one stands in {file.name}.")
            queries[name] = _query(name, body)
    return queries


def _query(name: str, body: str) -> Query:
    lines = body.strip().splitlines()
    comments = [line for line in lines if line.startswith("--")]
    description = " ".join(line.removeprefix("--").strip() for line in comments)
    sql = "\n".join(line for line in lines if not line.startswith("--"))
    return Query(name, description, sql.rstrip().rstrip(";"))


class Reader:
    """Runs named queries on the live ledger. Safe to use from many threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written, as far as known; None where it can."""
        return self._ledger.trouble

    def rows(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        conditions: Sequence[str] = ("filter_all",),
        places: Sequence[int] = (),
    ) -> list[Row]:
        """The rows of a query, as dictionaries by column.

        Args:
            name: a query of the package.
            parameters: values by name.
            conditions: what stands for ``{filters}``: names of ``filter_…`` queries, or
                ``name:number`` for one that is used several times.
            places: what stands for ``{places}``.

        Raises:
            StorageTrouble: the ledger cannot be read right now.
        """
        sql = text_of(name, conditions)
        if places:
            named = {f"place_{number}": place for number, place in enumerate(places)}
            sql = sql.replace("{places}", ", ".join("$" + each for each in named))
            parameters = {**parameters, **named}
        try:
            with self._ledger.cursor() as cursor:
                # Arrow, because DuckDB's own rows need a time zone package that Arrow does not.
                table = cursor.execute(sql, dict(parameters)).to_arrow_table()
        except TROUBLE as error:
            raise StorageTrouble(f"The ledger cannot be read right now: {error}") from error
        return list(table.to_pylist())

    def row(self, name: str, **parameters: Any) -> Row | None:
        """The first row of a query, or ``None``. Raises as ``rows``."""
        return next(iter(self.rows(name, parameters)), None)


def text_of(name: str, conditions: Sequence[str] = ("filter_all",)) -> str:
    """The text of a query, its ``{filters}`` filled in with conditions as ``Reader.rows`` takes them."""
    sql = load_queries()[name].sql
    return (
        sql.replace("{filters}", "\n  AND ".join(map(_condition, conditions))) if "{filters}" in sql else sql
    )


def _condition(name: str) -> str:
    name, _, number = name.partition(":")
    return load_queries()[name].sql.replace("{n}", number)
