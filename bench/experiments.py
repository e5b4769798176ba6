"""An experiment of a thousand replays through a provider that takes 50 ms, 32 at once, all of it recorded.

    PYTHONPATH=. python bench/experiments.py

The provider is bench/provider.py, a process on the same cores that costs next to nothing. The ideal is what
it alone would take: items ÷ concurrency × latency. Beside it, in the same run, what the library that carries
the calls takes for them and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import any_llm
import urllib3

from harness import Server, machine, serving, table, verdict
from loopgrid import LoopGrid
from tests.support.spans import chat, traces
from tests.support.tickets import providers

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


@contextmanager
def provider(latency_ms: float) -> Iterator[str]:
    """A provider of its own; its base URL."""
    script = Path(__file__).with_name("provider.py")
    command = [sys.executable, str(script), "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def calls_alone(base_url: str, items: int, concurrency: int) -> float:
    """Seconds that so many calls take through the library that the server uses, with nothing recorded."""
    client = any_llm.AnyLLM.create_openai_compatible(name="bench", api_base=base_url, api_key="none")
    places = asyncio.Semaphore(concurrency)

    async def ask(number: int) -> None:
        async with places:
            message = {"role": "user", "content": f"ticket {number}"}
            await client.acompletion(model="better", messages=[message], reasoning_effort=None)

    await asyncio.gather(*(ask(number) for number in range(2 * concurrency)))
    began = time.monotonic()
    await asyncio.gather(*(ask(number) for number in range(items)))
    return time.monotonic() - began


def main() -> int:
    """Exit code 0: figures belong to a machine."""
    parser = argparse.ArgumentParser(description="Measure an experiment through a slow provider.")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--folder", help="where the ledger lies meanwhile")
    options = parser.parse_args()

    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        provider(options.latency_ms) as base_url,
    ):
        alone = asyncio.run(calls_alone(base_url, options.items, options.concurrency))
        environ = providers(Path(name), base_url, calls=options.concurrency)
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
        ("the library's calls alone", f"{alone:.1f} s"),
        ("times the ideal", f"{took / ideal:.1f}"),
        ("server's processor time a replay", f"{used / options.items * 1000:.1f} ms"),
        ("machine", machine()),
        ("bounds", verdict(passed=took <= MOST_TIMES_IDEAL * ideal)),
    ]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
