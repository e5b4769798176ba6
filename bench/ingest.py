"""How many LLM spans a second a real server takes durably, and how that compares with DuckDB itself.

    python bench/ingest.py --seconds 60
    python bench/ingest.py --compare http,grpc,json --seconds 20 --rounds 3
    python bench/ingest.py --rate 1000 --spans-per-request 10 --seconds 20
    python bench/ingest.py --spans-per-request 1 --connections 32 --seconds 20

A `loopgrid serve` of its own, a load generator of its own, a fresh ledger for every run. The rate counts
acknowledged spans; a run in which the ledger does not hold exactly those is no result. See
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bulk import rows_per_s, rows_per_s_as_it_comes, stored_rows
from generator import Job
from harness import Generator, Load, machine, serving, table
from llm_spans import ATTRIBUTES_PER_SPAN

TRANSPORTS: Final = ("http", "grpc", "json")


@dataclass(frozen=True)
class Run:
    """One load on one fresh ledger. Rates are spans, rows or requests a second.

    Attributes:
        ratio_to_plain: spans a second, to the rows a second of one bulk insert of the same rows into DuckDB
            as it comes, with no setting touched.
        ratio_to_bulk: the same with the ledger's settings.
        ratio_to_commits: the same with DuckDB committing each request's rows by themselves.
    """

    transport: str
    spans_per_s: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    refused: int
    server_cpu_us: float
    generator_cpu_us: float
    peak_mb: float
    ledger_bytes_per_span: float
    otlp_bytes_per_span: float
    plain_rows_per_s: float | None = None
    ratio_to_plain: float | None = None
    bulk_rows_per_s: float | None = None
    ratio_to_bulk: float | None = None
    commits_rows_per_s: float | None = None
    ratio_to_commits: float | None = None


def main() -> None:
    """All rounds, and the median of each figure."""
    options = _options()
    runs: dict[str, list[Run]] = {transport: [] for transport in options.compare}
    for number in range(options.rounds):
        for transport in options.compare:
            print(f"round {number + 1}, {transport} …", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
                runs[transport].append(measure(Path(folder), transport, options))
    medians = {transport: median(of) for transport, of in runs.items()}
    if options.json:
        print(json.dumps({"machine": machine(), "runs": [asdict(run) for run in medians.values()]}))
    else:
        print(as_table(medians, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--transport", choices=TRANSPORTS, default="http")
    parser.add_argument(
        "--compare", help="transports with commas between them: each is run in every round, in turn"
    )
    parser.add_argument("--seconds", type=float, default=20, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="the figures are the medians over them")
    parser.add_argument("--warm-up", type=float, default=3, help="seconds sent before each, not counted")
    parser.add_argument("--connections", type=int, default=4, help="each has one request under way")
    parser.add_argument("--spans-per-request", type=int, default=512)
    parser.add_argument("--rate", type=float, default=0, help="spans a second; 0 for as many as are answered")
    parser.add_argument(
        "--bulk-rows", type=int, default=100_000, help="rows of DuckDB's own inserts at most; 0 for none"
    )
    parser.add_argument("--folder", default=".", help="where the ledgers are made and removed again")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    options.compare = (options.compare or options.transport).split(",")
    if unknown := set(options.compare) - set(TRANSPORTS):
        parser.error(f"no such transport: {', '.join(sorted(unknown))}")
    if options.rate:
        # Not a full load, so there is nothing to hold against a bulk insert.
        options.bulk_rows = 0
    return options


def measure(folder: Path, transport: str, options: argparse.Namespace) -> Run:
    """Measure the server, then DuckDB with the rows that the server stored."""
    ledger = folder / "ledger.duckdb"
    job = Job(transport, options.connections, options.spans_per_request, options.rate)
    with Generator(job) as generator, serving(ledger) as server:
        load = generator.run(server, options.seconds, options.warm_up)
        stored = server.spans()
    if stored != load.accepted:
        sys.exit(f"{load.accepted} spans were acknowledged, but the ledger holds {stored}.")
    rates: dict[str, float] = {}
    if options.bulk_rows and options.spans_per_request > 1:
        rows = stored_rows(ledger, options.bulk_rows)
        rates = {
            "plain": rows_per_s_as_it_comes(folder / "plain.duckdb", rows),
            "bulk": rows_per_s(folder / "bulk.duckdb", rows, len(rows)),
            "commits": rows_per_s(folder / "small.duckdb", rows, options.spans_per_request),
        }
    return _run(transport, load, ledger.stat().st_size / stored, rates)


def _run(transport: str, load: Load, ledger_bytes: float, rates: dict[str, float]) -> Run:
    beside = {f"{name}_rows_per_s": rate for name, rate in rates.items()}
    beside |= {f"ratio_to_{name}": load.spans_per_s / rate for name, rate in rates.items()}
    return Run(
        transport=transport,
        spans_per_s=load.spans_per_s,
        requests_per_s=load.requests_per_s,
        p50_ms=load.percentile_ms(50),
        p99_ms=load.percentile_ms(99),
        worst_ms=max(load.latencies_s) * 1000,
        refused=load.refused,
        server_cpu_us=load.server_cpu_us,
        generator_cpu_us=load.generator_cpu_us,
        peak_mb=load.peak_mb,
        ledger_bytes_per_span=ledger_bytes,
        otlp_bytes_per_span=load.bytes_per_span,
        **beside,
    )


def median(runs: list[Run]) -> Run:
    """Each figure by itself; of what grows with bad luck, the worst."""
    figures = {name: [getattr(run, name) for run in runs] for name in Run.__dataclass_fields__}
    found = {
        name: None if values[0] is None else statistics.median(values)
        for name, values in figures.items()
        if name != "transport"
    }
    worst = {name: max(figures[name]) for name in ("worst_ms", "refused", "peak_mb")}
    return Run(transport=runs[0].transport, **{**found, **worst})


def as_table(medians: dict[str, Run], options: argparse.Namespace) -> str:
    """The results for people."""
    pace = f"{options.rate:,.0f} spans/s" if options.rate else "as many as are answered"
    rounds = f", medians of {options.rounds} rounds" if options.rounds > 1 else ""
    rows = [
        ("machine", machine()),
        (
            "load",
            (
                f"{options.connections} connections × {options.spans_per_request} spans, {pace}, "
                f"{options.seconds:g} s{rounds}"
            ),
        ),
    ]
    for run in medians.values():
        rows += _rows(run)
    if (http := medians.get("http")) is not None:
        rows += [
            (f"{name} / http", f"{run.spans_per_s / http.spans_per_s:.2f}")
            for name, run in medians.items()
            if name != "http"
        ]
    return table(rows)


def _rows(run: Run) -> list[tuple[str, str]]:
    share = run.ledger_bytes_per_span / run.otlp_bytes_per_span
    rows = [
        ("", ""),
        (
            run.transport,
            f"{run.spans_per_s:,.0f} spans/s, {run.requests_per_s:,.0f} requests/s durable, counted by SQL",
        ),
        ("  a span", f"{ATTRIBUTES_PER_SPAN} attributes, {run.otlp_bytes_per_span:,.0f} bytes on the wire"),
        (
            "  acknowledged after",
            f"p50 {run.p50_ms:,.1f} ms, p99 {run.p99_ms:,.1f} ms, worst {run.worst_ms:,.1f} ms",
        ),
        ("  refused and sent again", f"{run.refused:g} requests"),
        (
            "  processor time a span",
            f"server {run.server_cpu_us:,.1f} µs, load generator {run.generator_cpu_us:,.2f} µs",
        ),
        ("  server's peak memory", f"{run.peak_mb:,.0f} MB"),
        ("  ledger file", f"{run.ledger_bytes_per_span:,.0f} bytes a span, {share:.2f} of what came in"),
    ]
    for name, rate, ratio in (
        ("DuckDB as it comes, one bulk insert", run.plain_rows_per_s, run.ratio_to_plain),
        ("  the same with the ledger's settings", run.bulk_rows_per_s, run.ratio_to_bulk),
        ("  and a commit a request", run.commits_rows_per_s, run.ratio_to_commits),
    ):
        if rate is not None:
            rows.append((f"  {name}", f"{rate:,.0f} rows/s; we: {ratio:.2f}"))
    return rows


if __name__ == "__main__":
    main()
