"""How long lists, pages, traces and a grouping take over the API on a large ledger, while spans arrive.

    python bench/query.py --decisions 1000000

The ledger is filled through the door that everything comes through; ``--keep FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from harness import Server, machine, percentile, serving, table
from llm_spans import Calls

TRACE_SPANS: Final = 1000
"""Spans of the one large trace."""

SPANS_PER_REQUEST: Final = 500
_TEMPLATES: Final = 16
_FILLERS: Final = 3
_TIMEOUT_S: Final = 600
_OK: Final = 200
_TRACE: Final = bytes.fromhex("7ace" * 8)
_ROOT: Final = (1).to_bytes(8, "big")
_FIRST_NS: Final = 1_750_000_000_000_000_000
_GROUPING: Final = "SELECT model_name, count(*), sum(output_tokens) FROM decisions GROUP BY ALL"


def main() -> None:
    """Fill, and measure under load."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--decisions", type=int, default=200_000, help="decisions in the ledger")
    parser.add_argument("--rate", type=float, default=1000, help="spans a second that arrive meanwhile")
    parser.add_argument("--repeats", type=int, default=30, help="how often each question is asked")
    parser.add_argument(
        "--pages", type=int, default=1000, help="number of the page that is far from the first"
    )
    parser.add_argument("--clients", type=int, default=200, help="clients that ask at once")
    parser.add_argument("--keep", type=Path, help="a ledger file to make, or to use again")
    parser.add_argument("--folder", default=".", help="where the ledger is made and removed again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        print(table(measure(options.keep or Path(folder) / "ledger.duckdb", options)))


def measure(ledger: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """What is to be printed."""
    with serving(ledger) as server:
        calls = Calls(SPANS_PER_REQUEST, _TEMPLATES)
        fill(server, calls, options.decisions)
        client = Client(server.api)
        with arriving(server, calls, options.rate) as took:
            figures = [*asked(client, options)]
            failed, slowest = crowd(server, options.clients)
        stored = server.spans()
    return [
        ("machine", machine()),
        ("ledger", f"{stored:,} spans, {ledger.stat().st_size / 2**30:.1f} GB"),
        *figures,
        (f"{options.clients} clients at once", f"{failed} failed, the slowest answer took {slowest:.1f} s"),
        ("arriving meanwhile", f"{options.rate:,.0f} spans/s wanted; answered in {told(took)}"),
    ]


def asked(client: Client, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Each question and how long its answers took."""
    whole = client.get("/v1/decisions", {})
    user = whole["items"][0]["user_id"]

    def question(name: str, ask: Callable[[], Any], repeats: int = options.repeats) -> tuple[str, str]:
        return name, told([timed(ask) for _ in range(repeats)])

    def page(**words: str) -> Callable[[], Any]:
        return lambda: client.get("/v1/decisions", words)

    yield question("first page of 50", page())
    yield question("first page of one service and model", page(service_name="bench", model="gpt-5-mini"))
    yield question("first page of one user", page(user_id=user))
    yield question("first page that holds a word", page(q="blender"))
    cursor = whole["next_cursor"]
    for _ in range(options.pages - 2):
        if cursor is None:
            sys.exit("The ledger has fewer pages than that.")
        cursor = client.get("/v1/decisions", {"cursor": cursor})["next_cursor"]
    yield question(f"page {options.pages:,}", page(cursor=cursor))
    root = f"{_TRACE.hex()}-{_ROOT.hex()}"
    yield question(f"trace of {TRACE_SPANS:,} spans", lambda: client.get(f"/v1/decisions/{root}/trace", {}))
    yield question("decision by id", lambda: client.get(f"/v1/decisions/{root}", {}))
    yield question("grouping of all decisions", lambda: client.sql(_GROUPING), min(options.repeats, 10))


class Client:
    """One connection to the API."""

    def __init__(self, api: str) -> None:
        self._connection = http.client.HTTPConnection(api, timeout=_TIMEOUT_S)

    def get(self, path: str, words: Mapping[str, str]) -> Any:
        """An answer's document."""
        return self._ask("GET", f"{path}?{urlencode(words)}" if words else path)

    def sql(self, query: str) -> Any:
        """Columns and rows."""
        return self._ask("POST", "/v1/sql", json.dumps({"query": query}))

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != _OK:
            sys.exit(f"The server answered {answer.status} to {path}: {content[:200]!r}")
        return json.loads(content)


def fill(server: Server, calls: Calls, decisions: int) -> None:
    """Add decisions until there are so many, and the large trace where it is not there yet."""
    lacking = decisions - server.spans()
    if lacking <= 0:
        return
    send(server.otlp_http, large_trace().SerializeToString())
    lock = threading.Lock()
    bodies = iter(range(-(-lacking // SPANS_PER_REQUEST)))

    def work() -> None:
        while True:
            with lock:
                if next(bodies, None) is None:
                    return
                body = calls.next()
            send(server.otlp_http, body)

    with ThreadPoolExecutor(_FILLERS) as pool:
        for done in [pool.submit(work) for _ in range(_FILLERS)]:
            done.result()


def large_trace() -> ExportTraceServiceRequest:
    """One decision with a thousand spans: steps below steps, and model calls below those."""
    spans = [_span(number) for number in range(1, TRACE_SPANS + 1)]
    resource = Resource(attributes=[_attribute("service.name", "bench")])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
    )


def _span(number: int) -> Span:
    values = {"loopgrid.decision.type": "agent_run"} if number == 1 else {"gen_ai.operation.name": "chat"}
    if number > 1:
        values |= {"gen_ai.request.model": "gpt-5-mini", "gen_ai.response.id": f"one-{number}"}
    values |= {"gen_ai.input.messages": json.dumps([{"role": "user", "parts": [_text("in " * 300)]}])}
    values |= {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [_text("out " * 300)]}])}
    return Span(
        trace_id=_TRACE,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=b"" if number == 1 else _ROOT,
        name="run" if number == 1 else "chat",
        start_time_unix_nano=_FIRST_NS + number * 10**6,
        end_time_unix_nano=_FIRST_NS + 2 * 10**9 + number,
        attributes=[_attribute(key, value) for key, value in values.items()],
    )


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def send(address: str, body: bytes) -> None:
    """Hand a request in; waits and comes again when told to."""
    while True:
        connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status == _OK:
            return
        time.sleep(float(answer.headers.get("Retry-After", "1")))


@contextmanager
def arriving(server: Server, calls: Calls, rate: float) -> Iterator[list[float]]:
    """Spans arrive at that rate; seconds that each request took to be acknowledged."""
    took: list[float] = []
    enough = threading.Event()
    size = SPANS_PER_REQUEST

    def work() -> None:
        due = time.monotonic()
        while not enough.wait(max(0.0, due - time.monotonic())):
            took.append(timed(lambda: send(server.otlp_http, calls.next())))
            due += size / rate

    sender = threading.Thread(target=work)
    if rate:
        sender.start()
    try:
        yield took
    finally:
        enough.set()
        if rate:
            sender.join()


def crowd(server: Server, clients: int) -> tuple[int, float]:
    """Many clients ask for a page at once, three times each; failures, and the slowest answer's seconds."""
    together = threading.Barrier(clients)

    def work(_: int) -> tuple[int, float]:
        connection = http.client.HTTPConnection(server.api, timeout=_TIMEOUT_S)
        together.wait()
        failed, slowest = 0, 0.0
        for _ in range(3):
            begun = time.monotonic()
            try:
                connection.request("GET", "/v1/decisions?limit=50")
                answer = connection.getresponse()
                answer.read()
                failed += answer.status != _OK
            except OSError:
                failed += 1
            slowest = max(slowest, time.monotonic() - begun)
        connection.close()
        return failed, slowest

    with ThreadPoolExecutor(clients) as pool:
        seen = list(pool.map(work, range(clients)))
    return sum(failed for failed, _ in seen), max(slowest for _, slowest in seen)


def timed(ask: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    begun = time.monotonic()
    ask()
    return time.monotonic() - begun


def told(taken: Sequence[float]) -> str:
    """Durations for people."""
    if not taken:
        return "nothing"
    p50, p99 = (percentile(taken, percent) * 1000 for percent in (50, 99))
    return f"p50 {p50:,.1f} ms, p99 {p99:,.1f} ms ({len(taken):,})"


if __name__ == "__main__":
    main()
