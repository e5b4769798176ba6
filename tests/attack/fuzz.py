"""Bodies that no sender means, thrown at every door, path and coding. The same seed throws the same.

    python -m tests.attack.fuzz --bodies 100000

starts a server of its own, and prints what it answered and how much memory it held before and after.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import random
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import pyarrow as pa
import zstandard
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.support.server import running_server
from tests.support.spans import log_record, logs, span, traces

THREADS: Final = 4
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
METRICS: Final = ExportMetricsServiceRequest(
    resource_metrics=[{"scope_metrics": [{"metrics": [{"name": "tokens", "gauge": {}}]}]}]  # type: ignore[list-item]
).SerializeToString()
DEEP: Final = {
    "arrayValue": {"values": [{"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "1"}}]}}]}
}
SPAN: Final = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat",
    "kind": 3,
    "startTimeUnixNano": "1790000000000000000",
    "attributes": [{"key": "a", "value": {"doubleValue": 1.5}}, {"key": "b", "value": DEEP}],
    "events": [{"name": "e", "timeUnixNano": 5}],
    "links": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}],
}
VALUES: Final[dict[str, Any]] = {
    "gen_ai.operation.name": "chat",
    "list": [1, "x", True],
    "bytes": b"\xff",
}
SEEDS: Final[tuple[tuple[str, bytes], ...]] = (
    (PROTOBUF, traces(span(1, attributes=VALUES), span(2))),
    (PROTOBUF, logs(log_record(1))),
    (PROTOBUF, METRICS),
    (PROTOBUF, b""),
    (JSON, json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [SPAN, SPAN]}]}]}).encode()),
    (JSON, json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": DEEP}]}]}]}).encode()),
    (JSON, json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m"}]}]}]}).encode()),
    (JSON, b"{}"),
)
PATHS: Final = ("/v1/traces", "/v1/logs", "/v1/metrics", "/v1/traces/", "/v1/nothing", "/%ff", "//")
_PROTO: Final = "/opentelemetry.proto.collector"
SERVICES: Final = (
    f"{_PROTO}.trace.v1.TraceService/Export",
    f"{_PROTO}.logs.v1.LogsService/Export",
    f"{_PROTO}.metrics.v1.MetricsService/Export",
    "/no.Service/Export",
)
CODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "snappy": lambda body: bytes(pa.compress(body, codec="snappy", asbytes=True)),
    "br": bytes,
}
TOKENS: Final = (
    b"{}",
    b"[]",
    b"null",
    b"1e999",
    b"-0.0",
    b'"\\ud800"',
    b"\xff",
    b'"NaN"',
    b"[[[[[[[[",
    b"18446744073709551616",
)


def mutated(chance: random.Random, body: bytes) -> bytes:
    """The body with a few things wrong, or something else altogether."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(200))
    spoilt = bytearray(body)
    for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
        at = chance.randrange(len(spoilt) + 1)
        until = at + chance.randrange(12)
        match chance.randrange(6):
            case 0 if spoilt:
                spoilt[at % len(spoilt)] ^= 1 << chance.randrange(8)
            case 1:
                del spoilt[at:until]
            case 2:
                spoilt[at:at] = chance.randbytes(until - at)
            case 3:
                spoilt[at:at] = spoilt[at:until] * 3
            case 4:
                spoilt[at:until] = chance.choice(TOKENS)
            case _:
                del spoilt[at:]
    return bytes(spoilt)


@dataclass(frozen=True)
class Doors:
    """Where to throw: two HTTP ports and one gRPC port."""

    http: tuple[str, str]
    grpc: str


class Thrower:
    """One sender with connections of its own. ``answers`` counts what came back."""

    def __init__(self, doors: Doors, seed: int) -> None:
        self._chance = random.Random(seed)
        self._doors = doors
        self._open: dict[str, http.client.HTTPConnection] = {}
        self.answers: Counter[str] = Counter()

    def throw(self, bodies: int) -> Counter[str]:
        """So many bodies."""
        with grpc.insecure_channel(self._doors.grpc) as channel:
            for _ in range(bodies):
                content_type, seed = self._chance.choice(SEEDS)
                body = mutated(self._chance, seed)
                if self._chance.random() < 0.25:
                    self.answers["gRPC " + self._called(channel, body)] += 1
                elif self._chance.random() < 0.05:
                    self.answers["raw " + self._raw(body)] += 1
                else:
                    self.answers["HTTP " + self._posted(content_type, body)] += 1
        for connection in self._open.values():
            connection.close()
        return self.answers

    def _called(self, channel: grpc.Channel, body: bytes) -> str:
        call: Any = channel.unary_unary(self._chance.choice(SERVICES), None, None)
        compression = self._chance.choice(tuple(grpc.Compression))
        try:
            call(body, timeout=60, compression=compression)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code.name
        return "OK"

    def _posted(self, content_type: str, body: bytes) -> str:
        coding = self._chance.choice(tuple(CODINGS))
        wire = CODINGS[coding](body)
        if self._chance.random() < 0.3:
            wire = mutated(self._chance, wire)
        if self._chance.random() < 0.05:
            content_type = self._chance.choice((PROTOBUF, JSON, "text/plain", ""))
        headers = {"Content-Type": content_type, "Content-Encoding": coding}
        method = "POST" if self._chance.random() < 0.97 else self._chance.choice(("GET", "PUT", "OPTIONS"))
        address = self._chance.choice(self._doors.http)
        connection = self._open.setdefault(address, http.client.HTTPConnection(address, timeout=60))
        connection.request(method, self._chance.choice(PATHS), wire, headers)
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)

    def _raw(self, body: bytes) -> str:
        """A request whose head is wrong too. No answer is an answer."""
        fields = f"Host: t\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        head = f"POST /v1/traces HTTP/1.1\r\n{fields}\r\n"
        with closing(http.client.HTTPConnection(self._doors.http[0], timeout=60)) as connection:
            connection.connect()
            try:
                connection.sock.sendall(mutated(self._chance, head.encode()) + body)
                connection.sock.shutdown(1)
                answer = connection.sock.recv(1_000)
            except ConnectionError:
                return "closed"
        status = answer[9:12].decode("ascii", "replace") if answer.startswith(b"HTTP/1.1 ") else ""
        return status or "closed"


def failures(answers: Counter[str]) -> dict[str, int]:
    """The answers that no body may cause: any 5xx but 503, and gRPC's codes for a defect."""
    return {
        answer: count
        for answer, count in answers.items()
        if (answer.split()[1].startswith("5") and not answer.endswith(" 503"))
        or answer.split()[1] in {"INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED"}
    }


def throw_all(doors: Doors, bodies: int, seed: int) -> Counter[str]:
    """Throw from several threads; all that came back."""
    with ThreadPoolExecutor(THREADS) as pool:
        throwers = [Thrower(doors, seed * THREADS + number) for number in range(THREADS)]
        return sum(pool.map(lambda thrower: thrower.throw(bodies // THREADS), throwers), Counter())


def resident_mb(pid: int) -> float:
    """Memory of a process now (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextmanager
def server() -> Iterator[tuple[Doors, int]]:
    """A server process of its own and its number."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, running_server(Path(folder)) as running:
        addresses = (urlsplit(running.otlp_http).netloc, urlsplit(running.api).netloc)
        yield Doors(addresses, running.otlp_grpc), running.process.pid


def main() -> None:
    """Throw and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rounds, answers = 10, Counter[str]()
    with server() as (doors, pid):
        print(f"{'bodies':>8} {'seconds':>8} {'memory':>9}")
        began = time.monotonic()
        for number in range(rounds):
            answers += throw_all(doors, options.bodies // rounds, options.seed * rounds + number)
            spent = time.monotonic() - began
            print(f"{answers.total():>8} {spent:>8.0f} {resident_mb(pid):>6.0f} MB", flush=True)
    for answer, count in sorted(answers.items()):
        print(f"{answer:<28} {count:>8}")
    if failures(answers):
        sys.exit(f"These must not be: {failures(answers)}")


if __name__ == "__main__":
    main()
