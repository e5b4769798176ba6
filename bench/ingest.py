"""How many LLM spans a second a real server takes durably, and how that compares with DuckDB itself.

    python bench/ingest.py --seconds 20

A `loopgrid serve` of its own, OTLP over HTTP, several connections. The rate counts what the ledger holds
afterwards. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa

from llm_spans import ATTRIBUTES_PER_SPAN, Bodies
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.ledger.ledger import Ledger

SPANS_PER_REQUEST = 512
TEMPLATES = 32
HTTP_OK = 200
RETRY = {429, 503}
OUR_VARIABLES = ("LOOPGRID_", "OTEL_")


@dataclass
class Sent:
    """What one connection saw."""

    accepted: int = 0
    refused: int = 0
    acknowledged_at: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """One run. Rates are spans (rows) a second."""

    machine: str
    seconds: float
    connections: int
    bytes_per_span: float
    spans_stored: int
    spans_per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    retries: int
    ledger_bytes_per_span: float
    server_peak_mb: float | None
    duckdb_rows: int
    duckdb_bulk_rows_per_s: float
    ratio_to_bulk: float
    duckdb_512_row_commits_per_s: float
    ratio_to_512_row_commits: float


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20, help="length of the measurement")
    parser.add_argument("--warm-up", type=float, default=3, help="seconds sent before it, not counted")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--bulk-rows", type=int, default=150_000, help="rows of DuckDB's own insert, at most")
    parser.add_argument("--folder", default=".", help="where the ledger is made and removed again")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        result = run(Path(folder), options)
    print(json.dumps(asdict(result)) if options.json else as_table(result))


def run(folder: Path, options: argparse.Namespace) -> Result:
    """Measure the server, then DuckDB with the rows that the server stored."""
    bodies = Bodies(SPANS_PER_REQUEST, TEMPLATES)
    ledger = folder / "ledger.duckdb"
    with serving(ledger) as (addresses, process):
        sent, began, ended = load(addresses["otlp_http"], bodies, options)
        stored = count_spans(addresses["api"])
        peak_mb = peak_memory_mb(process.pid)
    accepted = sum(connection.accepted for connection in sent)
    if stored != accepted:
        sys.exit(f"{accepted} spans were acknowledged, but the ledger holds {stored}.")
    measured = [
        latency
        for connection in sent
        for at, latency in zip(connection.acknowledged_at, connection.latencies_s, strict=True)
        if at > began
    ]
    rate = len(measured) * SPANS_PER_REQUEST / (ended - began)
    rows = stored_rows(ledger, options.bulk_rows)
    bulk = duckdb_rate(folder / "bulk.duckdb", rows, len(rows))
    small = duckdb_rate(folder / "small.duckdb", rows, SPANS_PER_REQUEST)
    percentiles = statistics.quantiles(measured, n=100, method="inclusive")
    return Result(
        machine=machine(),
        seconds=round(ended - began, 1),
        connections=options.connections,
        bytes_per_span=round(bodies.bytes_per_span),
        spans_stored=stored,
        spans_per_s=round(rate),
        p50_ms=round(percentiles[49] * 1000, 1),
        p99_ms=round(percentiles[98] * 1000, 1),
        worst_ms=round(max(measured) * 1000, 1),
        retries=sum(connection.refused for connection in sent),
        ledger_bytes_per_span=round(ledger.stat().st_size / stored),
        server_peak_mb=peak_mb,
        duckdb_rows=len(rows),
        duckdb_bulk_rows_per_s=round(bulk),
        ratio_to_bulk=round(rate / bulk, 2),
        duckdb_512_row_commits_per_s=round(small),
        ratio_to_512_row_commits=round(rate / small, 2),
    )


@contextmanager
def serving(ledger: Path) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """A real server on free ports; it must end cleanly."""
    command = shutil.which("loopgrid", path=str(Path(sys.executable).parent)) or "loopgrid"
    ports = ("--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")
    environ = {name: text for name, text in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    with subprocess.Popen(
        [command, "serve", "--json", "--ledger", str(ledger), *ports],
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("The server did not start.")
        try:
            yield json.loads(line), process
        finally:
            process.send_signal(signal.SIGTERM)
    if process.returncode != 0:
        sys.exit(f"The server ended with code {process.returncode}.")


def load(url: str, bodies: Bodies, options: argparse.Namespace) -> tuple[list[Sent], float, float]:
    """Send until the time is up; what each connection saw, and when counting began and ended."""
    address = urlsplit(url).netloc
    sent = [Sent() for _ in range(options.connections)]
    began = time.monotonic() + options.warm_up
    until = began + options.seconds
    threads = [
        threading.Thread(target=send_until, args=(until, address, bodies, connection)) for connection in sent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent, began, max(connection.acknowledged_at[-1] for connection in sent)


def send_until(until: float, address: str, bodies: Bodies, sent: Sent) -> None:
    """One connection: a request, its answer, the next request. A refused one is sent again."""
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"Content-Type": "application/x-protobuf"}
    while time.monotonic() < until:
        body = bodies.next()
        begun = time.monotonic()
        while True:
            connection.request("POST", "/v1/traces", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == HTTP_OK and not content:
                break
            if answer.status not in RETRY:
                sys.exit(f"The server answered {answer.status}: {content[:200]!r}")
            sent.refused += 1
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        now = time.monotonic()
        sent.accepted += SPANS_PER_REQUEST
        sent.acknowledged_at.append(now)
        sent.latencies_s.append(now - begun)
    connection.close()


def count_spans(api: str) -> int:
    """How many spans the server shows to SQL."""
    connection = http.client.HTTPConnection(urlsplit(api).netloc, timeout=60)
    body = json.dumps({"query": "SELECT count(*) FROM spans"})
    connection.request("POST", "/v1/sql", body, {"Content-Type": "application/json"})
    rows: list[list[int]] = json.load(connection.getresponse())["rows"]
    connection.close()
    return rows[0][0]


def stored_rows(ledger: Path, most: int) -> pa.Table:
    """The rows as the server stored them, in memory."""
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(f"SELECT * FROM store.spans LIMIT {most}").to_arrow_table()


def duckdb_rate(path: Path, rows: pa.Table, rows_per_commit: int) -> float:
    """Rows a second that DuckDB inserts durably, with the ledger's settings and the final checkpoint."""
    config = CollectorConfig(ledger=str(path))
    # A ledger made and closed again has the same schema and nothing in it.
    Ledger.open(str(path), config).close()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {config.duckdb_threads}")
        connection.execute(f"SET memory_limit = '{config.duckdb_memory}'")
        connection.execute("SET checkpoint_threshold = '1TB'")
        connection.execute(f"ATTACH '{path}' AS bulk (ROW_GROUP_SIZE {config.row_group_rows})")
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


def machine() -> str:
    """What it ran on, as far as the system says."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} × {processor}, {memory_gb:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    )


def peak_memory_mb(process_id: int) -> float | None:
    """The server's peak resident memory, where the system tells it (Linux)."""
    status = Path(f"/proc/{process_id}/status")
    if not status.exists():
        return None
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024)


def as_table(result: Result) -> str:
    """The result for people."""
    rows: list[tuple[str, Any]] = [
        ("machine", result.machine),
        ("load", f"{result.connections} connections × {SPANS_PER_REQUEST} spans, {result.seconds:.0f} s"),
        ("a span", f"{ATTRIBUTES_PER_SPAN} attributes, {result.bytes_per_span:.0f} bytes of OTLP"),
        ("", ""),
        (
            "durable in the ledger",
            f"{result.spans_per_s:,.0f} spans/s   ({result.spans_stored:,} counted by SQL)",
        ),
        ("acknowledged after", f"p50 {result.p50_ms} ms, p99 {result.p99_ms} ms, worst {result.worst_ms} ms"),
        ("refused and sent again", f"{result.retries} requests"),
        ("ledger file", f"{result.ledger_bytes_per_span:,.0f} bytes a span"),
        ("server's peak memory", f"{result.server_peak_mb or 0:,.0f} MB"),
        ("", ""),
        (
            "DuckDB bulk insert",
            f"{result.duckdb_bulk_rows_per_s:,.0f} rows/s   ({result.duckdb_rows:,} of the same rows)",
        ),
        ("  LoopGrid / that", f"{result.ratio_to_bulk}"),
        ("DuckDB, 512 rows a commit", f"{result.duckdb_512_row_commits_per_s:,.0f} rows/s"),
        ("  LoopGrid / that", f"{result.ratio_to_512_row_commits}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


if __name__ == "__main__":
    main()
