"""How long a server takes to start on a large ledger, and after it was killed with a full write-ahead log.

    python bench/startup.py --spans 10000000
    python bench/startup.py --spans 2000000 --rows received

The large ledger is generated inside of DuckDB: as many rows, keys and row groups as real ones. With
`--rows short` their texts are a few bytes, since a start reads keys only; with `--rows received` they are
those of received spans, each many times under new ids, about 1.2 KB a row. Then small requests are
committed to it until its log is as long as it gets, and their process is killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from bulk import stored_rows
from harness import machine, serving, table, verdict
from llm_spans import Bodies
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.decoding import traces_append
from loopgrid_collector.ledger.ledger import Ledger

MOST_S: Final = 5.0
MOST_AFTER_KILL_S: Final = 15.0

_ROWS_AT_ONCE: Final = 500_000
_RECEIVED_REQUESTS: Final = 32
_REQUEST_SPANS: Final = 512
_SMALL_REQUEST_SPANS: Final = 20
_REQUESTS_AT_ONCE: Final = 50

_SHORT: Final = """
SELECT
    uuid() AS trace_id, CAST(hash(i) AS UBIGINT) AS span_id, 'chat' AS name, 3 AS span_kind,
    1760000000000000000 + i AS start_ns, 1760000000000000000 + i AS end_ns, 0 AS status_code,
    '{"gen_ai.request.model":"gpt-5-mini"}' AS attributes, '{}' AS resource, '{}' AS scope,
    i AS position, unhex(md5(i::VARCHAR)) AS salt, unhex(sha256(i::VARCHAR)) AS digest,
    now()::TIMESTAMP AS recorded_at, 1 AS commit_id, 1 AS mapping_version, 'inference' AS kind
FROM range($first, $beyond) AS numbers(i)
"""
_RECEIVED: Final = """
SELECT received.* REPLACE (
    uuid() AS trace_id, CAST(hash(i) AS UBIGINT) AS span_id, 1760000000000000000 + i AS start_ns,
    1760000001000000000 + i AS end_ns, i AS position, unhex(md5(i::VARCHAR)) AS salt,
    unhex(sha256(i::VARCHAR)) AS digest, 1 AS commit_id
)
FROM range($first, $beyond) AS numbers(i)
JOIN memory.received AS received ON received.position = i % $received
"""


def fill(path: Path, spans: int, rows: str) -> None:
    """A ledger with so many spans, in one commit whose evidence is not sound."""
    config = CollectorConfig(ledger=str(path))
    Ledger.open(str(path), config).close()
    with duckdb.connect() as connection:
        select, more = _SHORT, {}
        if rows == "received":
            requests = min(_RECEIVED_REQUESTS, max(1, spans // _REQUEST_SPANS))
            connection.register("received_rows", _received(path.with_name("received.duckdb"), requests))
            connection.execute("CREATE TABLE memory.received AS SELECT * FROM received_rows")
            select, more = _RECEIVED, {"received": requests * _REQUEST_SPANS}
        connection.execute(f"SET threads = {config.duckdb_threads}")
        connection.execute(f"ATTACH '{path}' AS ledger (ROW_GROUP_SIZE {config.row_group_rows}); USE ledger")
        for first in range(0, spans, _ROWS_AT_ONCE):
            beyond = min(first + _ROWS_AT_ONCE, spans)
            insert = f"INSERT INTO store.spans BY NAME {select}"
            connection.execute(insert, {"first": first, "beyond": beyond, **more})
            print(f"\r{beyond:,} spans", end="", file=sys.stderr)
        connection.execute(
            "INSERT INTO store.commits SELECT 1, 0, $spans, unhex(sha256('')), unhex(sha256('')), "
            "unhex(sha256('')), now()::TIMESTAMP",
            {"spans": spans},
        )
        connection.execute("CHECKPOINT ledger")
    print(file=sys.stderr)


def _received(path: Path, requests: int) -> object:
    """Rows as the ledger stores them."""
    bodies = Bodies(_REQUEST_SPANS, requests)
    ledger = Ledger.open(str(path), CollectorConfig(ledger=str(path)))
    for _ in range(requests):
        ledger.append(traces_append(bodies.next())).result()
    ledger.close()
    rows = stored_rows(path, requests * _REQUEST_SPANS)
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    return rows


def fill_log(path: Path, wal_bytes: int) -> None:
    """Small commits until the write-ahead log has that size, then the end of this process."""
    config = CollectorConfig(ledger=str(path), checkpoint_wal_bytes=2**40)
    ledger = Ledger.open(str(path), config)
    bodies = Bodies(_SMALL_REQUEST_SPANS, 32)
    log = log_of(path)
    while not log.exists() or log.stat().st_size < wal_bytes:
        for future in [ledger.append(traces_append(bodies.next())) for _ in range(_REQUESTS_AT_ONCE)]:
            future.result()
    os.kill(os.getpid(), signal.SIGKILL)


def log_of(path: Path) -> Path:
    """The write-ahead log of a ledger."""
    return path.with_name(path.name + ".wal")


def start(path: Path, most_s: float) -> list[tuple[str, str]]:
    """Start a server on it, and say how long it took until it took requests."""
    log_bytes = log_of(path).stat().st_size if log_of(path).exists() else 0
    file_bytes = path.stat().st_size
    with serving(path) as server:
        cpu_s, peak_mb = server.cpu_s(), server.rss_mb()
        spans = server.spans()
    what = f"after kill -9, log of {log_bytes / 2**20:,.0f} MiB" if log_bytes else "stopped cleanly"
    return [
        (what, f"{spans:,} spans, {file_bytes / 2**30:,.1f} GiB"),
        (
            "  ready after",
            f"{server.ready_s:.2f} s, {cpu_s:.2f} s of processor time, {peak_mb:,.0f} MB resident",
        ),
        (f"  < {most_s:g} s", verdict(passed=server.ready_s < most_s)),
    ]


@contextmanager
def large_ledger(options: argparse.Namespace) -> Iterator[Path]:
    """The ledger to start on, made where there is none."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        path: Path = options.ledger or Path(folder) / "large.duckdb"
        if not path.exists():
            fill(path, options.spans, options.rows)
        yield path


def main() -> None:
    """The large ledger, and the same after a kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--rows", choices=("short", "received"), default="short")
    parser.add_argument("--wal-bytes", type=int, default=CollectorConfig().checkpoint_wal_bytes)
    parser.add_argument("--ledger", type=Path, help="the large ledger; made if absent, kept for the next run")
    parser.add_argument("--folder", default=".", help="where ledgers are made and removed again")
    parser.add_argument("--fill-log", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill_log:
        fill_log(options.ledger, options.wal_bytes)
    with large_ledger(options) as path:
        rows = [("machine", machine()), *start(path, MOST_S)]
        again = [sys.executable, __file__, "--fill-log", "--wal-bytes", str(options.wal_bytes)]
        killed = subprocess.run([*again, "--ledger", str(path)], check=False)
        if killed.returncode != -signal.SIGKILL:
            sys.exit(f"The log could not be filled: code {killed.returncode}.")
        rows += start(path, MOST_AFTER_KILL_S)
    print(table(rows))


if __name__ == "__main__":
    main()
