"""Expressions that a statement may not be built of, because nothing stops them once they run. Pure.

DuckDB looks for an interrupt between vectors. What happens inside one, it neither interrupts nor counts
against its memory limit: a lambda within a lambda, a list that a window collects for each row, a text whose
every character is replaced by a page (docs/adr/0016 has what was measured). Each of these has a bounded form,
and the refusal names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from loopgrid_query.errors import SqlRefused

UNSTOPPABLE_FUNCTIONS: Final = frozenset(
    {
        "array_cross_join",
        "array_reduce",
        "damerau_levenshtein",
        "editdist3",
        "jaro_similarity",
        "jaro_winkler_similarity",
        "levenshtein",
        "list_reduce",
        "reduce",
    }
)
"""Functions whose work grows with the square of one value's length; a single call can take hours."""

AMPLIFYING_FUNCTIONS: Final = {
    "array_aggr": 2,
    "array_aggregate": 2,
    "array_to_string": 1,
    "group_concat": 1,
    "list_aggr": 2,
    "list_aggregate": 2,
    "listagg": 1,
    "regexp_replace": 2,
    "replace": 2,
    "string_agg": 1,
}
"""Functions that put one of their arguments in many times, and which argument that is. It must be
written out."""

MAX_AMPLIFIER_CHARACTERS: Final = 100

WINDOW_AGGREGATES: Final = frozenset(
    {
        *("any_value", "arg_max", "arg_min", "argmax", "argmin", "avg", "bit_and", "bit_or", "bit_xor"),
        *("bool_and", "bool_or", "corr", "count", "count_if", "count_star", "countif", "covar_pop"),
        *("covar_samp", "favg", "first", "fsum", "last", "mad", "max", "max_by", "mean", "median", "min"),
        *("min_by", "mode", "product", "quantile", "quantile_cont", "quantile_disc", "skewness", "stddev"),
        *("stddev_pop", "stddev_samp", "sum", "var_pop", "var_samp", "variance"),
    }
)
"""Aggregates that keep one value however many rows they see, so that a window over them stays small."""

_OF_TWO: Final = frozenset(
    {"arg_max", "arg_min", "argmax", "argmin", "max_by", "min_by", "corr", "covar_pop", "covar_samp"}
)
_PADDED: Final = re.compile(r"\d{4,}|\*|\{[^}]*\{")


def check(nodes: list[Mapping[str, Any]]) -> None:
    """Refuse what cannot be stopped.

    Args:
        nodes: every node of a statement's syntax.

    Raises:
        SqlRefused: there is some of it; the message says what can be written instead.
    """
    for node in nodes:
        kind = node.get("class")
        if kind == "WINDOW" and node.get("type") == "WINDOW_AGGREGATE":
            _check_window(node)
        elif kind == "LAMBDA":
            _check_lambda(node)
        elif kind == "FUNCTION":
            _check_function(node)


def _check_window(node: Mapping[str, Any]) -> None:
    called = str(node["function_name"]).lower()
    most = 2 if called in _OF_TWO or called.startswith("quantile") else 1
    if called not in WINDOW_AGGREGATES or len(node["children"]) > most:
        raise SqlRefused(
            f"{called}() over a window would keep a list for every row, which nothing can stop; use GROUP "
            "BY, or an aggregate that gives one value, such as sum() or max() with one argument."
        )


def _check_lambda(node: Mapping[str, Any]) -> None:
    given = {column["column_names"][0].lower() for column in _parts(node["lhs"]) if "column_names" in column}
    for part in _parts(node["expr"]):
        names = part.get("column_names")
        outside = names is not None and names[0].lower() not in given
        if outside or part.get("class") in {"LAMBDA", "PARAMETER", "SUBQUERY"}:
            raise SqlRefused(
                "A lambda or list comprehension may use its own variables and written-out values only: no "
                "column, parameter, subquery or second lambda, because nothing can stop it. Use unnest() and "
                "a join instead."
            )


def _check_function(node: Mapping[str, Any]) -> None:
    called, arguments = str(node["function_name"]).lower(), node["children"]
    if called in UNSTOPPABLE_FUNCTIONS:
        raise SqlRefused(
            f"{called}() can take hours for two long texts or one long list, and nothing can stop it; use "
            "jaccard() to compare texts, and an aggregate after unnest() to fold a list."
        )
    place = AMPLIFYING_FUNCTIONS.get(called)
    if place is not None and len(arguments) > place:
        text = _written_text(arguments[place])
        if text is None or len(text) > MAX_AMPLIFIER_CHARACTERS:
            raise SqlRefused(
                f"The text that {called}() puts in must be written out, and is at most "
                f"{MAX_AMPLIFIER_CHARACTERS} characters long."
            )
    if called in {"format", "printf"} and arguments:
        text = _written_text(arguments[0])
        if text is None or _PADDED.search(text):
            raise SqlRefused(
                f"The pattern of {called}() must be written out, with widths below 1000 written in it."
            )


def _written_text(argument: Any) -> str | None:
    value = argument.get("value") if isinstance(argument, dict) else None
    text = value.get("value") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _parts(syntax: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [syntax]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
