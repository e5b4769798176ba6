"""How long a decision by its id takes over the API, while spans arrive at half of what the server can take.

    python bench/reads.py --seconds 20

First the server is filled at full load, which also tells what half of it is; then one reader asks for
decisions spread over that ledger, one after the other on one connection, with and without the load.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from generator import Job
from harness import Generator, Server, machine, percentile, serving, table, verdict

CONNECTIONS: Final = 4
MOST_MS: Final = 50.0
"""The aim for the slowest hundredth of the reads at half load."""

_IDS: Final = 1000
_PAUSE_S: Final = 0.01
_SETTLE_S: Final = 1.0
_OK: Final = 200


def main() -> None:
    """Fill, read, and read under load."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20, help="length of each of the two measurements")
    parser.add_argument("--fill-seconds", type=float, default=10, help="length of the full load before them")
    parser.add_argument("--spans-per-request", type=int, default=512)
    parser.add_argument("--rate", type=float, help="spans a second; by default half of the full load")
    parser.add_argument("--folder", default=".", help="where the ledger is made and removed again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        print(table(measure(Path(folder), options)))


def measure(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """What is to be printed."""
    with serving(folder / "ledger.duckdb") as server:
        with Generator(Job("http", CONNECTIONS, options.spans_per_request)) as generator:
            full = generator.run(server, options.fill_seconds)
        rate = options.rate or full.spans_per_s / 2
        stored = server.spans()
        ids = decision_ids(server, stored)
        with Generator(Job("http", CONNECTIONS, options.spans_per_request, rate)) as generator:
            idle = read(server.api, ids, options.seconds)
            began, until = generator.start(server, options.seconds, _SETTLE_S)
            time.sleep(began - time.monotonic())
            busy = read(server.api, ids, until - time.monotonic())
            seen = generator.seen()
    got = sum(began < at <= until for at in seen.acknowledged_at) * options.spans_per_request
    return [
        ("machine", machine()),
        ("ledger", f"{stored:,} spans, taken in at {full.spans_per_s:,.0f} spans/s"),
        ("reads without load", told(idle)),
        ("reads under load", told(busy)),
        ("  the load", f"{got / options.seconds:,.0f} spans/s of {rate:,.0f} wanted"),
        ("  its acknowledgements", told(seen.latencies_s)),
        (f"p99 under load < {MOST_MS:g} ms", verdict(passed=percentile(busy, 99) * 1000 < MOST_MS)),
    ]


def decision_ids(server: Server, stored: int) -> list[str]:
    """Ids of decisions from all over the ledger, in no order."""
    share = max(1, stored // _IDS)
    rows = server.sql(f"SELECT decision_id FROM decisions WHERE hash(span_id) % {share} = 0 LIMIT {_IDS}")
    ids = [str(row[0]) for row in rows]
    if not ids:
        sys.exit("The ledger holds no decision to read.")
    random.Random(1).shuffle(ids)
    return ids


def read(api: str, ids: Sequence[str], seconds: float) -> list[float]:
    """Ask for one decision after the other, with a short pause between them; seconds that each took."""
    connection = http.client.HTTPConnection(api, timeout=60)
    taken: list[float] = []
    until = time.monotonic() + seconds
    while not taken or time.monotonic() < until:
        begun = time.monotonic()
        connection.request("GET", f"/v1/decisions/{ids[len(taken) % len(ids)]}")
        answer = connection.getresponse()
        content = answer.read()
        taken.append(time.monotonic() - begun)
        if answer.status != _OK:
            sys.exit(f"The server answered {answer.status}: {content[:200]!r}")
        time.sleep(_PAUSE_S)
    connection.close()
    return taken


def told(taken: Sequence[float]) -> str:
    """Durations for people."""
    p50, p99 = (percentile(taken, percent) * 1000 for percent in (50, 99))
    return f"p50 {p50:,.1f} ms, p99 {p99:,.1f} ms, worst {max(taken) * 1000:,.1f} ms ({len(taken):,})"


if __name__ == "__main__":
    main()
