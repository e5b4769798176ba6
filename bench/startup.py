"""How long a server takes to open a large ledger, and a ledger whose process was killed with a full log.

    python bench/startup.py --spans 2000000

The spans of the large ledger are generated inside of DuckDB: as many rows, keys and row groups as real
ones, with short texts, since a start never reads those. The log is filled through the ledger itself.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import duckdb

from llm_spans import Bodies
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.decoding import traces_append
from loopgrid_collector.ledger.ledger import Ledger

_ROWS_AT_ONCE: Final = 500_000
_SMALL_REQUEST_SPANS: Final = 20

_FILL: Final = """
INSERT INTO store.spans BY NAME
SELECT
    uuid() AS trace_id, CAST(hash(i) AS UBIGINT) AS span_id, 'chat' AS name, 3 AS span_kind,
    1760000000000000000 + i AS start_ns, 1760000000000000000 + i AS end_ns, 0 AS status_code,
    '{"gen_ai.request.model":"gpt-5-mini"}' AS attributes, '{}' AS resource, '{}' AS scope,
    i AS position, unhex(md5(i::VARCHAR)) AS salt, unhex(sha256(i::VARCHAR)) AS digest,
    now()::TIMESTAMP AS recorded_at, 1 AS commit_id, 1 AS mapping_version, 'inference' AS kind
FROM range($first, $beyond) AS numbers(i)
"""


def fill(path: Path, spans: int) -> None:
    """A ledger with so many spans, in one commit whose evidence is not sound."""
    config = CollectorConfig(ledger=str(path))
    Ledger.open(str(path), config).close()
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS ledger (ROW_GROUP_SIZE {config.row_group_rows}); USE ledger")
        for first in range(0, spans, _ROWS_AT_ONCE):
            beyond = min(first + _ROWS_AT_ONCE, spans)
            connection.execute(_FILL, {"first": first, "beyond": beyond})
            print(f"\r{beyond:,} spans", end="", file=sys.stderr)
        connection.execute(
            "INSERT INTO store.commits SELECT 1, 0, $spans, unhex(sha256('')), unhex(sha256('')), "
            "unhex(sha256('')), now()::TIMESTAMP",
            {"spans": spans},
        )
        connection.execute("CHECKPOINT ledger")
    print(file=sys.stderr)


def fill_log(path: Path, wal_bytes: int) -> None:
    """Small commits until the write-ahead log has that size, then the end of this process."""
    config = CollectorConfig(ledger=str(path), checkpoint_wal_bytes=2**40)
    ledger = Ledger.open(str(path), config)
    bodies = Bodies(_SMALL_REQUEST_SPANS, 32)
    log = path.with_name(path.name + ".wal")
    while not log.exists() or log.stat().st_size < wal_bytes:
        for future in [ledger.append(traces_append(bodies.next())) for _ in range(50)]:
            future.result()
    os.kill(os.getpid(), signal.SIGKILL)


def start(path: Path) -> None:
    """Open once and say how long it took, and how much memory the process has used by then."""
    before, cpu_before = time.perf_counter(), time.process_time()
    ledger = Ledger.open(str(path), CollectorConfig(ledger=str(path)))
    took_s, cpu_s = time.perf_counter() - before, time.process_time() - cpu_before
    # Not getrusage: its peak is inherited from the process that started this one.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    peak_mb = int(peak[1]) / 1024
    with ledger.cursor() as cursor:
        row = cursor.execute("SELECT count(*) FROM store.spans").fetchone()
    assert row is not None
    print(
        f"{row[0]:>12,} spans: open in {took_s:.2f} s ({cpu_s:.2f} s of processor time), "
        f"peak memory {peak_mb:,.0f} MB"
    )
    ledger.close()


def main() -> None:
    """Generate, and measure each start in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--spans", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, help="where to put the ledgers; kept if given")
    parser.add_argument("--wal-bytes", type=int, default=64 * 2**20)
    parser.add_argument("--step", choices=("fill-log", "start"), help=argparse.SUPPRESS)
    parser.add_argument("--ledger", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step == "start":
        start(given.ledger)
        return
    if given.step == "fill-log":
        fill_log(given.ledger, given.wal_bytes)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        large, killed = folder / f"large-{given.spans}.duckdb", folder / "killed.duckdb"
        again = [sys.executable, __file__, "--wal-bytes", str(given.wal_bytes), "--ledger"]
        if not large.exists():
            fill(large, given.spans)
        subprocess.run([*again, str(large), "--step", "start"], check=True)
        subprocess.run([*again, str(killed), "--step", "fill-log"], check=False)
        size = killed.with_name(killed.name + ".wal").stat().st_size
        print(f"killed with a log of {size / 2**20:,.0f} MiB:")
        subprocess.run([*again, str(killed), "--step", "start"], check=True)


if __name__ == "__main__":
    main()
