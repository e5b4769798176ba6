"""What recording costs the calling thread, and whether everything arrives: side by side, in one run.

    PYTHONPATH=. python bench/emit.py [--long]

Rounds alternate between the sides after a warm-up; medians count. The hand-written span is the stock SDK's
`TracerProvider` without a processor, so that nobody pays for exporting here but us: the
decision is measured with its spool and its shipper at work, against a collector that is up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from opentelemetry.sdk.trace import TracerProvider

import loopgrid
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.server import running_server

TEXT = "x" * 1000
CALLS = 2000
ROUNDS = 15
BURST = 20_000
IMPORTS = 15

tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bench")


def bare(text: str) -> str:
    """The function as it was written."""
    return text


decorated = loopgrid.decision("noop")(bare)


def by_hand(text: str) -> str:
    """The same attributes, as somebody writes them with OpenTelemetry."""
    with tracer.start_as_current_span("noop") as span:
        span.set_attribute("code.function.name", "__main__.bare")
        span.set_attribute("loopgrid.decision.input", text)
        span.set_attribute("loopgrid.record.version", 1)
        span.set_attribute("loopgrid.decision.type", "noop")
        span.set_attribute("loopgrid.producer.id", "00000000-0000-4000-8000-000000000000")
        span.set_attribute("loopgrid.producer.seq", 1)
        output = bare(text)
        span.set_attribute("loopgrid.decision.output", output)
    return output


def microseconds(call: Callable[[str], str], calls: int = CALLS) -> float:
    """One call, averaged over many. CPU time of this thread: what the caller pays, whoever else runs."""
    begin = time.thread_time_ns()
    for _ in range(calls):
        call(TEXT)
    return (time.thread_time_ns() - begin) / calls / 1000


def calling_thread() -> None:
    """Decorated against hand-written; disabled against bare."""
    times: dict[str, list[float]] = {"decorated": [], "by hand": []}
    with OtlpReceiver() as receiver, tempfile.TemporaryDirectory() as folder:
        loopgrid.configure(endpoint=receiver.url, spool_dir=folder)
        microseconds(decorated)
        microseconds(by_hand)
        for _ in range(ROUNDS):
            times["decorated"].append(microseconds(decorated))
            loopgrid.flush(30)
            times["by hand"].append(microseconds(by_hand))
        loopgrid.shutdown()
    ours, theirs = (statistics.median(times[side]) for side in ("decorated", "by hand"))
    print(f"decorated no-op {ours:.1f} µs, hand-written span {theirs:.1f} µs: {ours / theirs:.2f}x")
    loopgrid.configure(disabled=True)
    microseconds(decorated)
    off = statistics.median(
        microseconds(decorated, 50_000) - microseconds(bare, 50_000) for _ in range(ROUNDS)
    )
    print(f"disabled: {off:.2f} µs over the bare function")


def bursts() -> None:
    """20,000 decisions as fast as one process can, and all of them in the ledger of a real server."""

    async def one() -> None:
        decorated(TEXT)

    async def many() -> None:
        for _ in range(BURST // 1000):
            await asyncio.gather(*(one() for _ in range(1000)))

    def threads() -> None:
        def work() -> None:
            for _ in range(BURST // 16):
                decorated(TEXT)

        workers = [threading.Thread(target=work) for _ in range(16)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def plain() -> None:
        for _ in range(BURST):
            decorated(TEXT)

    burst: tuple[tuple[str, Callable[[], object]], ...] = (
        ("one thread", plain),
        ("16 threads", threads),
        ("1,000 tasks", lambda: asyncio.run(many())),
    )
    for name, run in burst:
        with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
            loopgrid.configure(endpoint=server.api, spool_dir=f"{folder}/spool")
            begin = time.perf_counter()
            run()
            emitted = time.perf_counter() - begin
            arrived = loopgrid.flush(120)
            total = time.perf_counter() - begin
            loopgrid.shutdown()
            server.stop()
            with duckdb.connect(str(server.ledger), read_only=True) as ledger:
                row = ledger.execute("SELECT count(*) FROM store.spans WHERE kind = 'decision'").fetchone()
        print(f"{name}: {BURST:,} emitted in {emitted:.2f} s, flush {arrived} after {total:.2f} s, "
              f"{row[0] if row else 0:,} in the ledger")  # fmt: skip


def imports() -> None:
    """`import loopgrid` against what OpenTelemetry's SDK costs anyway."""
    times: dict[str, list[float]] = {"loopgrid": [], "opentelemetry.sdk.trace": []}
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(IMPORTS + 1):
        for name, measured in times.items():
            # As an installed package is imported: compiled. The first round compiles and is not counted.
            program = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                env=environ)  # fmt: skip
            measured.append(float(done.stdout) * 1000)
    ours, theirs = (statistics.median(measured[1:]) for measured in times.values())
    print(f"import loopgrid {ours:.0f} ms, opentelemetry.sdk.trace {theirs:.0f} ms: {ours / theirs:.2f}x")


def memory(decisions: int = 1_000_000) -> None:
    """Resident memory while a million decisions meet a collector that is down."""
    with tempfile.TemporaryDirectory() as folder:
        loopgrid.configure(
            endpoint="http://127.0.0.1:9",
            spool_dir=folder,
            when_full="drop",
            delivery=loopgrid.DeliveryLimits(max_spool_bytes=256 * 2**20),
        )
        for step in range(10):
            for _ in range(decisions // 10):
                decorated(TEXT)
            disk = sum(path.stat().st_size for path in Path(folder).rglob("*.seg"))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{(step + 1) * decisions // 10:>9,} decisions: peak memory {peak:.0f} MB, "
                f"spool {disk / 2**20:.0f} MB"
            )
        print(loopgrid.counters())
        loopgrid.shutdown(0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--long", action="store_true", help="also a million decisions with the collector down"
    )
    options = parser.parse_args()
    calling_thread()
    bursts()
    imports()
    if options.long:
        memory()


if __name__ == "__main__":
    main()
