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
    )


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
    given = widths(columns, natural, console.width)
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


def _line(given: Mapping[int, int]) -> int:
    return sum(given.values()) + _GAP * (len(given) - 1)


def _cell(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(plain(value, one_line=True))
