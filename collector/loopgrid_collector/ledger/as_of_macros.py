"""Table macros that show a public view as of a commit or a moment. Pure.

They are made from the text of the views, so that what a view says now and what it said then cannot differ in
anything but the rows: each view that it builds on stands in the macro once more, over the tables without what
came later. Names in them are those of ``as_of``: ``store.<name>`` is ``as_of_store_<name>``.
"""

from __future__ import annotations

import re
from typing import Final

from loopgrid_collector.ledger.statements import parse, text_of

MACRO_VIEWS: Final = ("decisions", "steps", "marks", "corrections", "ground_truth", "replays")
"""Views whose past can be asked for: ``<view>_as_of(moment)``."""

TABLES: Final = ("commits", "spans", "logs", "entries", "refused", "renormalised")
"""Tables whose rows belong to commits."""

STATEMENTS: Final = parse(text_of("as_of.sql"))
_NAME: Final = re.compile(r"\b(store|main)\.(\w+)")
_COMMENT: Final = re.compile(r"^\s*--.*$", re.MULTILINE)
_VIEW: Final = re.compile(r"\bOR REPLACE VIEW (store|main)\.(\w+) AS\s(.*?);\s*(?=CREATE|\Z)", re.DOTALL)

_Key = tuple[str, str]


def renamed(views: str) -> str:
    """The text of views or of their bodies, with the names that they have as of a commit."""
    return _NAME.sub(r"as_of_\1_\2", _COMMENT.sub("", views))


def macros(views: str) -> str:
    """Statements that define the macros.

    Args:
        views: the text of the views; where one is defined twice, the later one counts.
    """
    bodies = {(schema, name): body for schema, name, body in _VIEW.findall(_COMMENT.sub("", views))}
    return "\n".join(_macro(view, bodies) for view in MACRO_VIEWS)


def _macro(view: str, bodies: dict[_Key, str]) -> str:
    parts: dict[_Key, str] = {}
    _collect(("main", view), bodies, parts)
    body = ",\n".join(_comment_free(part) for part in parts.values())
    return _comment_free(STATEMENTS["macro_as_of"]).format(view=view, parts=body)


def _collect(key: _Key, bodies: dict[_Key, str], parts: dict[_Key, str]) -> None:
    """A view after everything that it builds on."""
    if key in parts:
        return
    schema, name = key
    if key not in bodies:
        if name not in TABLES:
            raise ValueError(f"{schema}.{name} is neither a view nor a table whose rows belong to commits.")
        parts[key] = STATEMENTS["macro_table"].format(table=name)
        return
    for below in _NAME.findall(bodies[key]):
        _collect(below, bodies, parts)
    parts[key] = STATEMENTS["macro_view"].format(schema=schema, view=name, body=renamed(bodies[key]))


def _comment_free(text: str) -> str:
    return _COMMENT.sub("", text).strip()
