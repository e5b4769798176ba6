"""Tables fit the terminal; ids stay whole."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from loopgrid_query.cli.console import Column, table, widths

ID = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
COLUMNS = [
    Column("decision_id", least=49, whole=True),
    Column("output", least=14),
    Column("model", least=12),
]


def drawn(width: int, cells: tuple[str, str, str] = (ID, "word " * 40, "模型" * 30)) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(table(console, COLUMNS, [cells]))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [49, 60, 80, 100, 200])
def test_an_id_is_printed_whole(width):
    assert ID in drawn(width)


@pytest.mark.parametrize("width", [20, 30, 48])
def test_a_terminal_narrower_than_the_id_folds_it_and_loses_nothing(width):
    assert ID in "".join(line.strip() for line in drawn(width).splitlines()[2:])


@given(width=st.integers(20, 220), text=st.text(max_size=80))
def test_no_line_is_wider_than_the_terminal(width, text):
    assert max(cell_len(line) for line in drawn(width, (ID, text, text)).splitlines()) <= width


def test_columns_that_do_not_fit_are_left_out_least_important_first():
    natural = [49, 200, 60]
    assert sorted(widths(COLUMNS, natural, 200)) == [0, 1, 2]
    assert sorted(widths(COLUMNS, natural, 70)) == [0, 1]
    assert sorted(widths(COLUMNS, natural, 63)) == [0, 2]
    assert widths(COLUMNS, natural, 10) == {0: 10}


def test_what_is_left_over_goes_to_the_column_that_lacks_least_first():
    assert widths(COLUMNS, [49, 200, 20], 103) == {0: 49, 1: 30, 2: 20}
