"""An experiment of a thousand replays through a provider that takes 50 ms, 32 at once, all of it recorded.

    PYTHONPATH=. python bench/experiments.py

The provider is the stub of the tests, on the same machine: its processor time counts, too. The ideal is what
the provider alone would take: items ÷ concurrency × latency.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import urllib3

from harness import Server, machine, serving, table, verdict
from loopgrid import LoopGrid
from tests.support.provider_stub import Asked, Reply, provider_stub
from tests.support.spans import chat, traces
from tests.support.tickets import providers, reads_tickets

MOST_TIMES_IDEAL: Final = 1.5
_AT_ONCE: Final = 500


def record(server: Server, items: int) -> None:
    """Model calls, as an instrumentation sends them."""
    headers = {"Content-Type": "application/x-protobuf"}
    for first in range(1, items + 1, _AT_ONCE):
        body = b"".join(traces(chat(number)) for number in range(first, min(first + _AT_ONCE, items + 1)))
        answer = urllib3.request("POST", f"http://{server.otlp_http}/v1/traces", body=body, headers=headers)
        assert answer.status == 200, answer.data


def run(grid: LoopGrid, concurrency: int) -> float:
    """Seconds of one experiment over everything on record, from its request to its end."""
    began = time.monotonic()
    made = grid.create_experiment(
        decisions={"filters": {}},
        overrides={"model": {"name": "better"}},
        control_share=0.0,
        concurrency=concurrency,
    )
    while (now := grid.get_experiment(made.experiment_id)).status == "running":
        time.sleep(0.1)
    took = time.monotonic() - began
    assert (now.status, now.progress.completed) == ("completed", now.progress["items"]), now
    return took


def main() -> int:
    """Exit code 0: figures belong to a machine."""
    parser = argparse.ArgumentParser(description="Measure an experiment through a slow provider.")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--folder", help="where the ledger lies meanwhile")
    options = parser.parse_args()

    def slowly(asked: Asked) -> Reply:
        time.sleep(options.latency_ms / 1000)
        return reads_tickets(asked)

    with tempfile.TemporaryDirectory(dir=options.folder) as name, provider_stub() as stub:
        stub.always(slowly)
        environ = providers(Path(name), stub.base_url, calls=options.concurrency)
        with serving(Path(name) / "experiments.duckdb", environ) as server:
            grid = LoopGrid(endpoint=f"http://{server.api}")
            # The first calls load the provider's library.
            record(server, 2 * options.concurrency)
            run(grid, options.concurrency)
            record(server, options.items)
            before = server.cpu_s()
            took = run(grid, options.concurrency)
            used = server.cpu_s() - before
            grid.close()
    ideal = options.items / options.concurrency * options.latency_ms / 1000
    rows = [
        (f"{options.items} replays, {options.concurrency} at once", f"{took:.1f} s"),
        ("ideal", f"{ideal:.1f} s"),
        ("times the ideal", f"{took / ideal:.1f}"),
        ("server's processor time a replay", f"{used / options.items * 1000:.1f} ms"),
        ("machine", machine()),
        ("bounds", verdict(passed=took <= MOST_TIMES_IDEAL * ideal)),
    ]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
