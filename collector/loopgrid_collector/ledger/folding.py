"""When to fold the write-ahead log into the file: before its rows are more than one row group.

Rows that a checkpoint writes begin a row group of their own. One checkpoint for every full row group writes
each row once and takes some 35 ms; where groups stay partly filled, later checkpoints merge three into two
and take four times as long, and nothing is committed meanwhile (docs/adr/0022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loopgrid_collector.ledger.records import Append

_TABLES: Final = ("spans", "logs", "entries")


class RowGroups:
    """Counts the rows of each table that stand in the log alone."""

    def __init__(self, row_group_rows: int) -> None:
        """The log is empty.

        Args:
            row_group_rows: rows of one row group.
        """
        self._most = row_group_rows
        self._rows = dict.fromkeys(_TABLES, 0)

    def are_full_with(self, appends: Sequence[Append]) -> bool:
        """Whether a commit of these would leave more than one row group of some table in the log.

        Never of a commit that is a row group or more: that goes past the log.
        """
        adds = _rows_of(appends)
        return any(
            rows > 0 and adds[name] < self._most < rows + adds[name] for name, rows in self._rows.items()
        )

    def add(self, appends: Sequence[Append]) -> None:
        """They were handed to a commit. One that fails makes the next fold come early, and nothing else."""
        for name, rows in _rows_of(appends).items():
            if rows < self._most:
                self._rows[name] += rows

    def folded(self) -> None:
        """The log is in the file."""
        self._rows = dict.fromkeys(_TABLES, 0)


def _rows_of(appends: Sequence[Append]) -> dict[str, int]:
    tables = {name: [getattr(append, name) for append in appends] for name in _TABLES}
    return {name: sum(len(table) for table in found if table is not None) for name, found in tables.items()}
