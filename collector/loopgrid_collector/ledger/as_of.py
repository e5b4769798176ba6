"""The ledger's views as they were at a commit, for one reader.

Every row of the ledger carries its commit and none is ever changed, so a past state is the same views over
tables that leave out what came later. They are temporary views of one cursor: nothing is written to the
ledger, no long transaction keeps a checkpoint waiting, and the same commit always gives the same rows.

``store.<name>`` is read as ``as_of_store_<name>`` there, ``main.<name>`` as ``as_of_main_<name>``.
"""

from __future__ import annotations

import duckdb

from loopgrid_collector.errors import LedgerForeign
from loopgrid_collector.ledger.as_of_macros import STATEMENTS, TABLES, renamed
from loopgrid_collector.ledger.opening import CATALOG
from loopgrid_collector.ledger.statements import OVERLAY, QUERIES, VIEWS


def show_as_of(cursor: duckdb.DuckDBPyConnection, commit_id: int) -> None:
    """Give a cursor the views as of a commit.

    Args:
        cursor: a reader of the ledger; the views end with it.
        commit_id: the newest commit whose rows they show.
    """
    overlaid = cursor.execute(QUERIES["has_overlay"]).fetchone()
    views = VIEWS + OVERLAY if overlaid and overlaid[0] else VIEWS
    tables = "\n".join(
        STATEMENTS["table_as_of"].format(table=table, catalog=CATALOG, commit_id=int(commit_id))
        for table in TABLES
    )
    cursor.execute(tables + renamed(views).replace("REPLACE VIEW", "REPLACE TEMP VIEW"))


def ledger_id(cursor: duckdb.DuckDBPyConnection) -> str:
    """Which ledger a reader reads.

    Raises:
        LedgerForeign: its own description is missing.
    """
    row = cursor.execute(QUERIES["ledger_identity"]).fetchone()
    if row is None:
        raise LedgerForeign("The ledger's own description is missing; restore the file from a backup.")
    return str(row[0])
