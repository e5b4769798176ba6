"""DuckDB's own insert of the rows that the server stored: the measure that machine and noise share."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pyarrow as pa

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.ledger.ledger import Ledger


def stored_rows(ledger: Path, most: int) -> pa.Table:
    """The rows as the server stored them, in memory; the server must have ended."""
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(f"SELECT * FROM store.spans LIMIT {most}").to_arrow_table()


def rows_per_s_as_it_comes(path: Path, rows: pa.Table) -> float:
    """Rows a second of one bulk insert into a DuckDB file with no setting touched, checkpoint included."""
    with duckdb.connect(str(path)) as connection:
        connection.register("batch", rows)
        connection.execute("CREATE TABLE spans AS SELECT * FROM batch LIMIT 0")
        connection.execute("CHECKPOINT")
        begun = time.monotonic()
        connection.execute("INSERT INTO spans SELECT * FROM batch")
        connection.execute("CHECKPOINT")
        taken = time.monotonic() - begun
    return len(rows) / taken


def rows_per_s(path: Path, rows: pa.Table, rows_per_commit: int) -> float:
    """Rows a second that DuckDB inserts durably, with the ledger's settings and the final checkpoint."""
    config = CollectorConfig(ledger=str(path))
    # A ledger made and closed again has the same schema and nothing in it.
    Ledger.open(str(path), config).close()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {config.duckdb_threads}")
        connection.execute(f"SET memory_limit = '{config.duckdb_memory}'")
        connection.execute("SET checkpoint_threshold = '1TB'")
        connection.execute(
            f"ATTACH '{path}' AS bulk (ROW_GROUP_SIZE {config.row_group_rows}, STORAGE_VERSION 'v1.5.0')"
        )
        begun = time.monotonic()
        for start in range(0, len(rows), rows_per_commit):
            batch = rows.slice(start, rows_per_commit)
            connection.register("batch", batch)
            connection.execute("INSERT INTO bulk.store.spans BY NAME SELECT * FROM batch")
            wal = path.with_name(path.name + ".wal")
            if wal.exists() and wal.stat().st_size > config.checkpoint_wal_bytes:
                connection.execute("CHECKPOINT bulk")
        connection.execute("CHECKPOINT bulk")
        taken = time.monotonic() - begun
    return len(rows) / taken
