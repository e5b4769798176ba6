"""The page of the views says what a real ledger shows: every view, column, type, in order."""

from __future__ import annotations

import re

import duckdb
import pytest

from loopgrid import schema
from tests.docs import markdown
from tests.support import generated

PAGE = markdown.REPOSITORY / "docs" / "spec" / "views.md"
SECTION = re.compile(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| `([^`]+)` \| (.+?) \| `([^`]+)` \|$", re.MULTILINE)

SECTIONS = dict(SECTION.findall(PAGE.read_text("utf-8")))
COLUMNS = [(view, *row) for view, text in SECTIONS.items() for row in ROW.findall(text)]
"""View, column, type, meaning, example."""


def test_the_page_names_every_column_of_every_view_with_its_type_and_in_order():
    told: dict[str, list[tuple[str, str]]] = {view: [] for view in SECTIONS}
    for view, column, kind, _, _ in COLUMNS:
        told[view].append((column, kind))
    real: dict[str, list[tuple[str, str]]] = {}
    for view, column, kind in generated.view_columns():
        real.setdefault(view, []).append((column, kind))

    assert told.keys() == real.keys()
    assert {view: told[view] for view in told if told[view] != real[view]} == {}


def test_every_line_of_a_table_is_read_and_every_view_says_what_a_row_is():
    for view, text in SECTIONS.items():
        assert text.startswith("One row per "), view
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(ROW.findall(text)), view


def test_a_decisions_columns_mean_what_the_decision_record_says():
    plain = re.compile(r" \(\[how\].*?\)\)| \(docs/spec/ledger.md\)")
    told = {column: plain.sub("", meaning) for view, column, _, meaning, _ in COLUMNS if view == "decisions"}

    assert told == {field.column: plain.sub("", field.meaning) for field in schema.FIELDS}


@pytest.mark.parametrize(
    ("kind", "example"),
    [pytest.param(kind, example, id=f"{view}.{column}") for view, column, kind, _, example in COLUMNS],
)
def test_every_example_is_a_value_of_its_columns_type(kind, example):
    with duckdb.connect() as connection:
        read = connection.execute(f"SELECT TRY_CAST($1 AS {kind})", [example]).fetchone()

    assert read is not None
    assert read[0] is not None


def test_the_index_names_every_section():
    index = re.findall(r"\[(\w+)\]\(#(\w+)\)", PAGE.read_text("utf-8"))

    assert index == [(view, view) for view in SECTIONS]
