"""Rows of the public views as the API's JSON objects. Pure: the shape follows ``loopgrid.schema``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from loopgrid.schema import FIELDS
from loopgrid_query import jsontext

Record = dict[str, Any]
ReadJson = Callable[[str | None], Any]

_JSON_COLUMNS: Final = frozenset(
    {"overrides", "output", "input", "patch", "outcome", "evaluation", "history"}
)


def decision_record(row: Mapping[str, Any], json: ReadJson = jsontext.stored) -> Record:
    """A row of the view ``decisions`` as the decision's JSON object, every field of the schema in it.

    Args:
        row: the row by column.
        json: what becomes of the text of a JSON column; by default it is passed on as it stands.
    """
    record: Record = {}
    for field in FIELDS:
        value = row[field.column]
        *parents, leaf = field.path.split(".")
        place = record
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = json(value) if field.sql_type == "JSON" else value
    return record


def entry_record(row: Mapping[str, Any], json: ReadJson = jsontext.stored) -> Record:
    """A row about a decision (mark, correction, ground truth, replay, span of a trace) as JSON object."""
    return {column: json(value) if column in _JSON_COLUMNS else value for column, value in row.items()}


def parsed(text: str | None) -> Any:
    """A JSON column's value, for code that looks into it; ``None`` where there is none."""
    return None if text is None else jsontext.parse(text)
