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

from harness import Server, machine, percentile, serving
from llm_spans import Calls

TRACE_SPANS: Final = 1000
"""Spans of the one large trace."""

SPANS_PER_REQUEST: Final = 500
"""While the ledger is filled."""

ARRIVING_PER_REQUEST: Final = 50
_TEMPLATES: Final = 16
_FILLERS: Final = 3
_TIMEOUT_S: Final = 600
_WIDTH: Final = 46
_PAGE: Final = 50
_MOST_PER_PAGE: Final = 500
_OK: Final = 200
_BAD_REQUEST: Final = 400
_ARROW_END: Final = bytes.fromhex("ffffffff00000000")
_TRACE: Final = bytes.fromhex("7ace" * 8)
_ROOT: Final = (1).to_bytes(8, "big")
_FIRST_NS: Final = 1_750_000_000_000_000_000
_PIECE_BYTES: Final = 2**20
_GROUPING: Final = "SELECT model_name, count(*), sum(output_tokens) FROM decisions GROUP BY ALL"
_ANALYSIS: Final = (
    "SELECT sum(length(CAST(input AS VARCHAR)) + length(CAST(output AS VARCHAR))) FROM decisions"
)
_NUMBERS: Final = (
    "SELECT decision_id, started_at, duration_ms, service_name, model_name, user_id, input_tokens, "
    "output_tokens, status FROM decisions"
)
_RESULTS: Final = (
    ("numbers and names", _NUMBERS + " LIMIT {rows}"),
    # No LIMIT, for which DuckDB would hold it all in memory.
    ("all that was received", "SELECT * FROM spans WHERE position < {rows}"),
)


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
    parser.add_argument("--busy", type=float, default=30, help="seconds of an analysis that reads everything")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the results in Arrow")
    parser.add_argument("--keep", type=Path, help="a ledger file to make, or to use again")
    parser.add_argument("--folder", default=".", help="where the ledger is made and removed again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        for name, value in measure(options.keep or Path(folder) / "ledger.duckdb", options):
            print(f"{name:<{_WIDTH}}{value}", flush=True)


def measure(ledger: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """What is to be printed, as it becomes known."""
    yield "machine", machine()
    with serving(ledger) as server:
        fill(server, Calls(SPANS_PER_REQUEST, _TEMPLATES, server.spans()), options.decisions)
        calls = Calls(ARRIVING_PER_REQUEST, _TEMPLATES, server.spans())
        client = Client(server.api)
        yield "ledger", f"{server.spans():,} spans, {ledger.stat().st_size / 2**30:.1f} GB"
        with arriving(server, calls, options.rate) as took:
            yield from asked(client, options)
            yield from carried(client, options.rows)
            failed, slowest = crowd(server, options.clients)
            yield (
                f"{options.clients} clients at once",
                f"{failed} failed, the slowest answer took {slowest:.1f} s",
            )
        yield f"{options.rate:,.0f} spans/s arriving meanwhile", f"acknowledged after {told(took)}"
        with arriving(server, calls, options.rate) as took:
            busy(client, options.busy)
        yield "the same during an analysis of all content", f"acknowledged after {told(took)}"


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
    yield question(f"page {options.pages:,}", page(cursor=cursor_of(client, options.pages)))
    root = f"{_TRACE.hex()}-{_ROOT.hex()}"
    yield question(f"trace of {TRACE_SPANS:,} spans", lambda: client.get(f"/v1/decisions/{root}/trace", {}))
    yield question("decision by id, the root of these", lambda: client.get(f"/v1/decisions/{root}", {}))
    some = f"SELECT decision_id FROM decisions USING SAMPLE reservoir({4 * options.repeats} ROWS)"
    ids = iter([row[0] for row in client.sql(some)["rows"]])
    yield question(
        "decision by id, any", lambda: client.get(f"/v1/decisions/{next(ids)}", {}), 4 * options.repeats
    )
    yield question("grouping of all decisions", lambda: client.sql(_GROUPING), min(options.repeats, 10))


def cursor_of(client: Client, page: int) -> str:
    """Where that page of 50 begins; walked in larger steps."""
    before, cursor = (page - 1) * _PAGE, None
    while before:
        step = min(before, _MOST_PER_PAGE)
        words = {"limit": str(step)} if cursor is None else {"limit": str(step), "cursor": cursor}
        cursor = client.get("/v1/decisions", words)["next_cursor"]
        if cursor is None:
            sys.exit("The ledger has fewer pages than that.")
        before -= step
    if cursor is None:
        sys.exit("Ask for a page behind the first.")
    return str(cursor)


def carried(client: Client, rows: int) -> Iterator[tuple[str, str]]:
    """Results of many rows in Arrow, and how fast they came; the first of two is not counted."""
    for name, query in _RESULTS:
        for _ in range(2):
            begun = time.monotonic()
            megabytes = client.arrow(query.format(rows=rows)) / 1e6
            rate = megabytes / (time.monotonic() - begun)
        yield f"Arrow, {rows:,} rows: {name}", f"{rate:,.0f} MB/s ({megabytes:,.0f} MB)"


def busy(client: Client, seconds: float) -> None:
    """Let the server read all content, and again, for so long; it stops a statement that takes too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = client.sql(_ANALYSIS, also=(_BAD_REQUEST,))
        if "rows" not in answer and not answer["type"].endswith("sql-too-costly"):
            sys.exit(f"The server refused {_ANALYSIS!r}: {answer}")


class Client:
    """One connection to the API."""

    def __init__(self, api: str) -> None:
        self._connection = http.client.HTTPConnection(api, timeout=_TIMEOUT_S)

    def get(self, path: str, words: Mapping[str, str]) -> Any:
        """An answer's document."""
        return self._ask("GET", f"{path}?{urlencode(words)}" if words else path)

    def sql(self, query: str, also: Sequence[int] = ()) -> Any:
        """Columns and rows; or a problem, where its status is one of these."""
        return self._ask("POST", "/v1/sql", json.dumps({"query": query}), also)

    def arrow(self, query: str) -> int:
        """Bytes of the result as an Arrow stream, which must be whole."""
        headers = {"Content-Type": "application/json", "Accept": "application/vnd.apache.arrow.stream"}
        self._connection.request("POST", "/v1/sql", json.dumps({"query": query}), headers)
        answer = self._connection.getresponse()
        if answer.status != _OK:
            sys.exit(f"The server answered {answer.status} to {query!r}: {answer.read()[:200]!r}")
        size, end = 0, b""
        while piece := answer.read(_PIECE_BYTES):
            size += len(piece)
            end = (end + piece[-len(_ARROW_END) :])[-len(_ARROW_END) :]
        if end != _ARROW_END:
            sys.exit(f"The result of {query!r} broke off after {size:,} bytes.")
        return size

    def _ask(self, method: str, path: str, body: str | None = None, also: Sequence[int] = ()) -> Any:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != _OK and answer.status not in also:
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
