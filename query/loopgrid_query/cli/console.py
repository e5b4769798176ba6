"""What commands print with: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopgrid_query.cli.gist import plain

_WIDTH_WITHOUT_TERMINAL = 160
_GAP = 2
"""Characters between two columns: one of padding, one of rule."""


def stdout() -> Console:
    """A console for data. Made anew each time, so that it writes to the stdout of the moment."""
    return _console(stderr=False)


def stderr() -> Console:
    """A console for progress, notes and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A pipe has no width; the usual fallback of 80 would cut what nobody looks at on a screen.
    unknown = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=_WIDTH_WITHOUT_TERMINAL if unknown else None,
        # A line that a program looks for is one line.
        soft_wrap=unknown,
    )


def print_table(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
    """Prints rows under their headings: on a terminal as a table that fits it, elsewhere in full.

    What reads a pipe gets every column and every character: one line a row, tabs between the values (of
    which none holds a tab or a line's end), no colour.
    """
    if console.is_terminal:
        console.print(table(console, columns, rows))
        return
    _print_tabbed(console, [column.name for column in columns])
    for row in rows:
        _print_tabbed(console, [_cell(value).plain for value in row])


def print_sheet(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    """Prints names and values below each other; long values are folded on a terminal, and there alone."""
    if console.is_terminal:
        console.print(sheet(lines))
        return
    told = [(plain(name, one_line=True), plain(value)) for name, value in lines]
    indent = max((cell_len(name) for name, _ in told), default=0) + _GAP
    for name, value in told:
        padded = name + " " * (indent - cell_len(name))
        console.file.write((padded + value.replace("\n", "\n" + " " * indent)).rstrip() + "\n")


class Arrivals:
    """A table that grows at its end while its rows arrive. Widths are fixed before the first row is known."""

    def __init__(self, console: Console, columns: Sequence[Column]) -> None:
        self._console = console
        self._columns = columns
        self._begun = False

    def add(self, rows: Iterable[Sequence[str | Text]]) -> None:
        """Prints rows at once, the headings before the first."""
        if self._console.is_terminal:
            natural = [column.least if column.whole else self._console.width for column in self._columns]
            cells = [[_cell(value) for value in row] for row in rows]
            drawn = _drawn(self._columns, widths(self._columns, natural, self._console.width), cells)
            drawn.show_header = not self._begun
            self._console.print(drawn)
        else:
            if not self._begun:
                _print_tabbed(self._console, [column.name for column in self._columns])
            for row in rows:
                _print_tabbed(self._console, [_cell(value).plain for value in row])
        self._begun = True
        self._console.file.flush()


def print_json(value: Any) -> None:
    """Prints a value on stdout as indented JSON."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_json_line(value: Any) -> None:
    """Prints a value on stdout as one line of JSON, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Column:
    """A table column.

    Attributes:
        name: its heading.
        least: characters it needs to be of use; where they do not fit, the column is left out.
        whole: never shortened (ids). Folded only where the terminal is narrower than the id.
        right: aligned to the right (numbers).
    """

    name: str
    least: int = 10
    whole: bool = False
    right: bool = False


def widths(columns: Sequence[Column], natural: Sequence[int], width: int) -> dict[int, int]:
    """Characters for each column that fits into `width`, by position.

    Earlier columns matter more, and the first always stays. What is left over goes to the columns
    that lack least, so that one long text does not starve the others.

    Args:
        columns: all columns.
        natural: characters that each would take if there were no limit.
        width: characters of a line.
    """
    floors = [
        wanted if column.whole else min(wanted, max(column.least, cell_len(column.name)))
        for column, wanted in zip(columns, natural, strict=True)
    ]
    given: dict[int, int] = {0: min(floors[0], width)}
    for position in range(1, len(columns)):
        if _line(given) + _GAP + floors[position] <= width:
            given[position] = floors[position]
    waiting = sorted(given, key=lambda position: natural[position] - given[position])
    for served, position in enumerate(waiting):
        share = (width - _line(given)) // (len(waiting) - served)
        given[position] += min(natural[position] - given[position], share)
    return given


def table(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table as wide as the console at most: columns are left out, then cells shortened."""
    cells = [[_cell(value) for value in row] for row in rows]
    natural = [
        max([cell_len(column.name), *(row[position].cell_len for row in cells)])
        for position, column in enumerate(columns)
    ]
    return _drawn(columns, widths(columns, natural, console.width), cells)


def _drawn(columns: Sequence[Column], given: Mapping[int, int], cells: Iterable[Sequence[Text]]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for position, width in sorted(given.items()):
        column = columns[position]
        drawn.add_column(
            column.name,
            width=width,
            no_wrap=not column.whole,
            overflow="fold" if column.whole else "ellipsis",
            justify="right" if column.right else "left",
        )
    for row in cells:
        drawn.add_row(*(row[position] for position in sorted(given)))
    return drawn


def sheet(lines: Iterable[tuple[str, str]]) -> Table:
    """Names and values below each other; long values are folded, nothing is left out."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in lines:
        drawn.add_row(plain(name, one_line=True), plain(value))
    return drawn


def _print_tabbed(console: Console, cells: Iterable[str]) -> None:
    console.file.write("\t".join(cells) + "\n")


def _line(given: Mapping[int, int]) -> int:
    return sum(given.values()) + _GAP * (len(given) - 1)


def _cell(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(plain(value, one_line=True))
