"""What people said, read back from the ledger as it is on record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger.as_of import ledger_id
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.statements import QUERIES


def judgements_of(
    ledger: Ledger, commit_id: int, entry_ids: Sequence[str]
) -> tuple[list[dict[str, Any]], str]:
    """Rows of the view ``judgements`` that a commit holds, and the id of the ledger.

    Args:
        ledger: where they are.
        commit_id: the commit.
        entry_ids: which of its entries are meant.

    Raises:
        StorageTrouble: the ledger cannot be read right now.
    """
    asked = {"commit_id": commit_id, "entry_ids": list(entry_ids)}
    try:
        with ledger.cursor() as cursor:
            rows = cursor.execute(QUERIES["judgements_of_commit"], asked).to_arrow_table().to_pylist()
            return rows, ledger_id(cursor)
    except duckdb.Error as error:
        raise StorageTrouble(f"The ledger cannot be read right now: {error}") from error
