"""What a client's SQL statement may do: read the public views, and nothing else. Pure.

The ledger is opened without file or network access and with its settings locked, and a statement must
parse as one SELECT. That leaves functions with side effects (``force_checkpoint()``), functions that read
the ledger's own file (``read_blob`` may, because the database has it open), settings, and the tables
behind the views. So table functions are allowed by name, relations are the public views and the
statement's own, and scalar functions that change or wait are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loopgrid_collector.ledger.as_of_macros import MACRO_VIEWS
from loopgrid_query import sql_shapes
from loopgrid_query.errors import FieldError, QueryError, SqlInvalid, SqlRefused
from loopgrid_query.nearest import did_you_mean, nearest

ALLOWED: Final = (
    "Allowed is one statement that reads the public views: SELECT, FROM, WITH, VALUES, "
    "DESCRIBE, SUMMARIZE or SHOW TABLES."
)

TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "histogram",
        "histogram_values",
        "json_each",
        "json_tree",
        "range",
        "repeat",
        "repeat_row",
        "summary",
        "unnest",
    }
)
"""Table functions that read nothing but their arguments and the catalogue."""

MACROS: Final = frozenset(f"{view}_as_of" for view in MACRO_VIEWS)
"""The ledger's own table macros: public views as of a commit or a moment."""

REFUSED_FUNCTIONS: Final = frozenset(
    {
        # Change something that others see.
        "nextval",
        "setseed",
        "write_log",
        # Hold a thread for nothing.
        "pg_sleep",
        "sleep_ms",
        # Tell of the server rather than of the ledger, or run a statement that nobody has looked at.
        "currval",
        "current_setting",
        "getenv",
        "getvariable",
        "json_execute_serialized_sql",
        "json_serialize_plan",
    }
)
"""Scalar functions that a statement may not call."""

UNBOUNDED_FUNCTIONS: Final = frozenset({"range", "generate_series", "list_resize", "array_resize"})
"""Functions that make a list as long as a number says. DuckDB neither counts such a list against its memory
limit nor can be interrupted while it makes one, so a single call could take the server down. The table
functions of the same names, in FROM, make rows one after the other and are fine."""

MULTIPLYING_FUNCTIONS: Final = {"repeat": 1, "lpad": 1, "rpad": 1, "bitstring": 1, "bar": 3}
"""Functions that make a text or list as long as one of their arguments says, and which argument that is. It
must be written out, and the product over a statement, in which one may feed another, stays small."""

MAX_MULTIPLE: Final = 1_000_000

HARMLESS_VOLATILE: Final = frozenset(
    {
        "current_connection_id",
        "current_query",
        "current_query_id",
        "current_transaction_id",
        "error",
        "gen_random_uuid",
        "random",
        "stats",
        "uuid",
        "uuidv4",
        "uuidv7",
    }
)
"""Functions that DuckDB calls volatile and that change nothing. A test compares: a new one must be judged."""

_OF_THE_SERVER: Final = ("loopgrid_", "quack_")
"""How the names of functions begin that are there for DuckDB's own door, where it is open."""

_LISTINGS: Final = frozenset({"tables", "databases", "__show_tables_expanded"})
_CATALOGUE_SCHEMA: Final = "information_schema"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The relations there are.

    Attributes:
        database: name of the ledger's database.
        views: the public views, lower case.
        internal: names of relations that are not for clients, lower case.
        admins: views that only an admin may read, where somebody else asks; lower case, and not in ``views``.
    """

    database: str
    views: frozenset[str]
    internal: frozenset[str]
    admins: frozenset[str] = frozenset()


def check(syntax: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Refuse a statement that does more than read the public views.

    Args:
        syntax: what ``json_serialize_sql`` makes of it.
        catalogue: the relations there are.

    Raises:
        SqlInvalid: it does not parse, or names a relation that does not exist.
        SqlRefused: it does more.
    """
    if syntax["error"]:
        if syntax["error_type"] == "parser":
            raise SqlInvalid(str(syntax["error_message"]))
        raise SqlRefused(ALLOWED)
    if len(syntax["statements"]) != 1:
        raise SqlRefused(f"This is not one statement. {ALLOWED}")
    nodes = list(_nodes(syntax["statements"]))
    own = {name.lower() for node in nodes for name in _names_given(node)}
    hidden = sorted(own & catalogue.internal)
    if hidden:
        raise SqlRefused(
            f"A WITH clause may not be named {hidden[0]!r}, as a table of the database is; rename it."
        )
    for node in nodes:
        fault = _fault(node, own, catalogue)
        if fault is not None:
            raise fault
    _check_sizes(nodes)
    sql_shapes.check(nodes)


def _nodes(syntax: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [syntax]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _names_given(node: Mapping[str, Any]) -> Iterator[str]:
    """Names that a WITH clause gives to its parts."""
    clauses = node.get("cte_map")
    if isinstance(clauses, dict):
        yield from (entry["key"] for entry in clauses["map"])
    if isinstance(node.get("cte_name"), str):
        yield node["cte_name"]


def _fault(node: Mapping[str, Any], own: set[str], catalogue: Catalogue) -> QueryError | None:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        return _relation_fault(node, own, catalogue)
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS | MACROS:
            return SqlRefused(f"The table function {name}() is not allowed. {ALLOWED}")
    if kind == "SHOW_REF" and node.get("query") is None:
        name = str(node["table_name"]).strip('"').lower()
        if name in catalogue.admins:
            return _closed(name, catalogue)
        if name not in _LISTINGS | catalogue.views:
            return SqlRefused(f"SHOW {name} is not allowed. {ALLOWED}")
    called = node.get("function_name")
    if isinstance(called, str) and (
        called.lower() in REFUSED_FUNCTIONS or called.lower().startswith(_OF_THE_SERVER)
    ):
        return SqlRefused(f"The function {called.lower()}() is not allowed. {ALLOWED}")
    return None


def _check_sizes(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse calls that can make one value larger than the server.

    Raises:
        SqlRefused: there is one.
    """
    in_from = {id(node["function"]) for node in nodes if node.get("type") == "TABLE_FUNCTION"}
    product = 1
    for node in nodes:
        called = str(node.get("function_name", "")).lower()
        if id(node) in in_from:
            continue
        if called in UNBOUNDED_FUNCTIONS:
            raise SqlRefused(
                f"{called}() makes a list of any length at once, which nothing can stop; in FROM it makes "
                "rows one by one, and is fine."
            )
        place = MULTIPLYING_FUNCTIONS.get(called)
        arguments = node.get("children", ())
        if place is not None and len(arguments) > place:
            times = _written_number(arguments[place])
            product *= max(1, times) if times is not None else MAX_MULTIPLE + 1
            if product > MAX_MULTIPLE:
                raise SqlRefused(
                    f"The length that {called}() is given must be a number written out, and all such lengths "
                    f"in a statement, multiplied, at most {MAX_MULTIPLE}."
                )


def _written_number(argument: Any) -> int | None:
    value = argument.get("value") if isinstance(argument, dict) else None
    number = value.get("value") if isinstance(value, dict) else None
    return number if isinstance(number, int) else None


def _closed(name: str, catalogue: Catalogue) -> QueryError:
    if name in catalogue.admins:
        return SqlRefused(f"The view {name} needs an API key with the scope admin.")
    return SqlRefused(f"{name} is not a public view. {ALLOWED}")


def _relation_fault(node: Mapping[str, Any], own: set[str], catalogue: Catalogue) -> QueryError | None:
    name, schema, database = (
        str(node[part]).lower() for part in ("table_name", "schema_name", "catalog_name")
    )
    if schema == _CATALOGUE_SCHEMA and database in {"", catalogue.database}:
        return None
    if not schema and not database and name in own:
        return None
    # DuckDB reads `a.b` as database or schema, whichever there is.
    if schema not in {"", "main", catalogue.database} or database not in {"", catalogue.database}:
        return SqlRefused(f"{schema or database}.{name} is not a public view. {ALLOWED}")
    if name in catalogue.views:
        return None
    if name in catalogue.admins | catalogue.internal:
        return _closed(name, catalogue)
    hint = did_you_mean(name, catalogue.views)
    return SqlInvalid.of(
        [FieldError("query", f"there is no view {name!r}; {hint}", nearest(name, catalogue.views))]
    )
