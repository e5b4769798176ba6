"""Clients' SQL that asks for the content of the first few decisions in some order. Pure.

DuckDB puts together the content of every decision before it looks which of them come first. So such a
statement is run in two: the first finds where the decisions of its answer lie, without content, and the
second is the statement itself over these alone. Only where both together are certain to say what the
statement says; a statement of any other shape runs as it is written.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_ROWS: Final = 100
"""Rows of an answer up to which it is worth it: each is looked up where it lies."""

VIEW: Final = "decisions"

DEAR: Final = frozenset({"input", "output", "tools", "cost_usd", "replayability"})
"""Columns of the view for which each decision's whole content is read; the first statement reads none."""

NARROW: Final = frozenset(
    {
        *("decision_id", "trace_id", "span_id", "parent_span_id", "kind", "dialect", "decision_type"),
        *("service_name", "status", "prompt_name", "prompt_version", "model_provider", "model_name"),
        *("model_response_name", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("reasoning_tokens", "finish_reasons", "response_id", "error_type", "session_id", "user_id"),
        *(
            "agent_name",
            "function",
            "tags",
            "metadata",
            "started_at",
            "duration_ms",
            "incorrect",
            "corrected",
        ),
        *("replay_id", "replay_of", "producer_id", "producer_seq", "recorded_at", "commit_id"),
    }
)
"""Columns of the view that a statement may choose and order its decisions by."""

_FUNCTIONS: Final = frozenset(
    {
        *("->", "->>", "+", "-", "*", "/", "//", "%", "||", "~~", "!~~", "~~*", "!~~*", "abs", "concat"),
        *("contains", "date_trunc", "datetrunc", "json_extract", "json_extract_string", "json_array_length"),
        *("left", "len", "length", "list_contains", "lower", "ltrim", "prefix", "right", "round", "rtrim"),
        *("starts_with", "strftime", "strlen", "substr", "substring", "suffix", "trim", "upper"),
    }
)
"""Functions of one row that give the same again; an aggregate looks no different in the syntax."""

_EXPRESSIONS: Final = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR"}
)

Syntax = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Late:
    """A statement that can be run in two.

    Attributes:
        syntax: the statement, as ``json_serialize_sql`` tells it.
    """

    syntax: Syntax

    def keys(self, source: Syntax) -> Syntax:
        """The first statement.

        Args:
            source: syntax of one that selects the keys of all decisions.
        """
        made = copy.deepcopy(self.syntax)
        node = _node(made)
        of_keys = _node(source)
        limit = node["modifiers"][1]
        limit["limit"]["value"]["value"] = _number(limit["limit"]) + _number(limit["offset"], 0)
        limit["offset"] = None
        node["select_list"] = of_keys["select_list"]
        node["from_table"] = self._named(of_keys["from_table"])
        return made

    def rows(self, source: Syntax) -> Syntax:
        """The second statement.

        Args:
            source: syntax of one that selects from the decisions that the first one found.
        """
        made = copy.deepcopy(self.syntax)
        node = _node(made)
        node["from_table"] = self._named(_node(source)["from_table"])
        node["where_clause"] = None
        return made

    def _named(self, table: Syntax) -> Syntax:
        return {**table, "alias": _node(self.syntax)["from_table"]["alias"] or VIEW}


def late(syntax: Syntax) -> Late | None:
    """How to run a statement in two; None where it is to run as it is written.

    Args:
        syntax: what ``json_serialize_sql`` makes of it.
    """
    node = _node(syntax)
    if node.get("type") != "SELECT_NODE" or not _is_plain(node) or not _is_first_few(node["modifiers"]):
        return None
    orders = [order["expression"] for order in node["modifiers"][0]["orders"]]
    own = node["from_table"]["alias"].lower() or VIEW
    choosing = [*orders, *([node["where_clause"]] if node["where_clause"] else ())]
    used = _columns(choosing, own)
    if used is None or not used <= NARROW or any(order["class"] == "CONSTANT" for order in orders):
        return None
    listed = node["select_list"]
    if any(item["alias"].lower() in used for item in listed) or not all(map(_is_of_one_row, listed)):
        return None
    wanted = {names[-1].lower() for item in listed for names in _names(item)}
    everything = any(item["class"] == "STAR" for item in listed)
    return Late(syntax) if everything or wanted & DEAR else None


def _node(syntax: Mapping[str, Any]) -> Syntax:
    node: Syntax = syntax["statements"][0]["node"]
    return node


def _is_plain(node: Mapping[str, Any]) -> bool:
    """Whether it selects from the view alone, a row for a row."""
    table = node["from_table"]
    return (
        table.get("type") == "BASE_TABLE"
        and table["table_name"].lower() == VIEW
        and table["schema_name"].lower() in {"", "main"}
        and not any(table.get(each) for each in ("catalog_name", "sample", "column_name_alias", "at_clause"))
        and not any(node[each] for each in ("group_expressions", "group_sets", "having", "sample", "qualify"))
        and not node["cte_map"]["map"]
        and node["aggregate_handling"] == "STANDARD_HANDLING"
    )


def _is_first_few(modifiers: list[Mapping[str, Any]]) -> bool:
    if [each["type"] for each in modifiers] != ["ORDER_MODIFIER", "LIMIT_MODIFIER"]:
        return False
    rows = _number(modifiers[1]["limit"], -1)
    before = _number(modifiers[1]["offset"], 0)
    return rows > 0 and before >= 0 and rows + before <= MAX_ROWS


def _number(expression: Mapping[str, Any] | None, nothing: int = -1) -> int:
    """A written-out whole number; -1 for anything else."""
    if expression is None:
        return nothing
    value = expression.get("value") or {}
    whole = value.get("value") if expression["class"] == "CONSTANT" else None
    return whole if isinstance(whole, int) and not isinstance(whole, bool) else -1


def _parts(syntax: Any) -> Iterator[Mapping[str, Any]]:
    """Every expression of a piece of syntax."""
    if isinstance(syntax, dict):
        if "class" in syntax:
            yield syntax
        for value in syntax.values():
            yield from _parts(value)
    elif isinstance(syntax, list):
        for value in syntax:
            yield from _parts(value)


def _names(syntax: Any) -> Iterator[list[str]]:
    return (part["column_names"] for part in _parts(syntax) if part["class"] == "COLUMN_REF")


def _columns(expressions: list[Any], own: str) -> set[str] | None:
    """The columns that some expressions use; None where they are more than choosing by columns."""
    if not all(_is_harmless(part) for part in _parts(expressions)):
        return None
    names = [[step.lower() for step in each] for each in _names(expressions)]
    if any(each[:-1] not in ([], [own]) for each in names):
        return None
    return {each[-1] for each in names}


def _is_harmless(part: Mapping[str, Any]) -> bool:
    if part["class"] == "FUNCTION":
        return not part["schema"] and part["function_name"].lower() in _FUNCTIONS and not part["distinct"]
    return part["class"] in _EXPRESSIONS


def _is_of_one_row(item: Mapping[str, Any]) -> bool:
    """Whether a column of the answer depends on its row alone."""
    if item["class"] == "STAR":
        return not (item["replace_list"] or item["rename_list"] or item["columns"] or item["expr"])
    return all(_is_harmless(part) for part in _parts(item))
