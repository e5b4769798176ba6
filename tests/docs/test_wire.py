"""The table of the wire's cases names tests that exist, and leaves no row out silently."""

from __future__ import annotations

import ast
import re

from loopgrid.schema import JudgementKey
from tests.docs import markdown

PAGE = markdown.REPOSITORY / "docs" / "spec" / "wire.md"
ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+) \| (.+) \| (.*)\|$", re.MULTILINE)
ROWS = {"E": 14, "C": 7, "B": 14, "J": 17, "P": 7, "R": 9, "G": 7, "S": 9, "L": 4}
"""How many cases each group has."""

WITHOUT_A_TEST = re.compile(r"not offered|never|not asked|no credentials|no quota|dropped")
"""What a row says that has nothing to show."""


def rows() -> dict[str, tuple[str, list[str]]]:
    """Row → what happens, and the tests named."""
    found = ROW.findall(PAGE.read_text("utf-8"))
    return {row: (what, re.findall(r"`([^`]+::[^`]+)`", tests)) for row, _, what, tests in found}


def test_every_case_has_its_row():
    assert list(rows()) == [
        f"{group}{number}" for group, most in ROWS.items() for number in range(1, most + 1)
    ]


def test_every_test_that_the_table_names_exists():
    missing = []
    for row, (_, tests) in rows().items():
        for test in tests:
            path, _, name = test.partition("::")
            file = markdown.REPOSITORY / path
            names = {
                node.name
                for node in ast.walk(ast.parse(file.read_text("utf-8")))
                if isinstance(node, ast.FunctionDef)
            }
            if name not in names:
                missing.append(f"{row}: {test}")

    assert missing == []


def test_a_row_without_a_test_says_that_there_is_nothing_to_show():
    assert [
        row for row, (what, tests) in rows().items() if not tests and not WITHOUT_A_TEST.search(what)
    ] == []


def test_every_name_of_judgement_on_the_wire_is_on_the_page():
    names = [name for key, name in vars(JudgementKey).items() if key.isupper()]
    page = PAGE.read_text("utf-8")

    assert [name for name in names if f"`{name}`" not in page] == []
    assert len(names) > 10
