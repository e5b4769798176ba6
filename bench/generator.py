"""The load generator: a process of its own that costs the two cores as little as it can.

Every request lies ready in a buffer with its head; ids and times are overwritten in place and the buffer
goes to a plain socket in one piece. Of an answer only the status and the length are read. Started by
``harness.Generator``: a job comes as one line of JSON on standard input, ``ready`` goes out, then the
address and the times come in, and at the end one line with what the connections saw goes out.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from typing import Final, Protocol

import http2
from llm_spans import Template, Templates

DIFFERENT_SPANS: Final = 8_192
"""Spans encoded in full, over all connections together: their texts come round again after as many."""

TIMEOUT_S: Final = 60.0
_OK: Final = 200
_RETRY: Final = frozenset({429, 503})
_ANSWER_BYTES: Final = 64 * 2**10


@dataclass(frozen=True)
class Job:
    """What to send.

    Attributes:
        transport: ``http``, ``grpc`` or ``json``.
        connections: each has one request under way.
        spans: spans of a request.
        rate: spans a second over all connections; 0 for as many as are answered.
    """

    transport: str
    connections: int
    spans: int
    rate: float = 0.0


@dataclass
class Seen:
    """What the connections saw. Times are of the system's monotonic clock, in seconds."""

    bytes_per_span: float = 0.0
    refused: int = 0
    acknowledged_at: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


class Refused(Exception):
    """The server asked to come again."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"come again in {after_s:g} s")
        self.after_s = after_s


class Connection(Protocol):
    """Sends one request at a time."""

    def send(self, number: int) -> None:
        """Send a request and wait for its acknowledgement.

        Raises:
            Refused: nothing of it was stored.
        """


class HttpConnection:
    """HTTP/1.1 on a plain socket."""

    def __init__(self, address: str, bodies: list[Template], content_type: str) -> None:
        self._address = address
        self._content_type = content_type
        self._requests = cycle([self._request(body) for body in bodies])
        self._answer = bytearray(_ANSWER_BYTES)
        self._socket = connected(address)

    def send(self, number: int) -> None:
        request = next(self._requests)
        request.renew(number)
        self._socket.sendall(request.body)
        status, head, content = self._answered()
        if status == _OK and content in {b"", b"{}"}:
            return
        if status not in _RETRY:
            raise http2.Broken(f"the server answered {status}: {content[:200]!r}")
        raise Refused(float(_field(head, b"retry-after") or 1))

    def _request(self, body: Template) -> Template:
        head = (
            f"POST /v1/traces HTTP/1.1\r\nHost: {self._address}\r\nContent-Type: {self._content_type}\r\n"
            f"Content-Length: {len(body.body)}\r\n\r\n"
        ).encode("ascii")
        return body.moved(len(head), bytearray(head + body.body))

    def _answered(self) -> tuple[int, bytes, bytes]:
        view, size, end = memoryview(self._answer), 0, -1
        while end < 0:
            size += received(self._socket, view[size:])
            end = self._answer.find(b"\r\n\r\n", 0, size)
        head = bytes(view[:end]).lower()
        whole = end + 4 + int(_field(head, b"content-length") or 0)
        while size < whole:
            size += received(self._socket, view[size:whole])
        return int(head[9:12]), head, bytes(view[end + 4 : whole])


class GrpcConnection:
    """A unary gRPC call at a time on an HTTP/2 connection of its own."""

    def __init__(self, address: str, bodies: list[Template]) -> None:
        self._channel = http2.Channel(connected(address), address)
        self._calls = cycle([body.moved(http2.PREFIX_BYTES, http2.prefixed(body.body)) for body in bodies])

    def send(self, number: int) -> None:
        call = next(self._calls)
        call.renew(number)
        if not self._channel.run(call.body):
            raise Refused(1.0)


def connected(address: str) -> socket.socket:
    """A TCP connection to ``host:port``; an answer must come within ``TIMEOUT_S``."""
    host, _, port = address.rpartition(":")
    opened = socket.create_connection((host, int(port)))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # By the kernel: Python's own timeout makes every socket non-blocking, and each send a poll and a send.
    seconds = int(TIMEOUT_S).to_bytes(8, sys.byteorder) + bytes(8)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
    return opened


def received(opened: socket.socket, view: memoryview) -> int:
    """Bytes that came; the end of the connection ends the run."""
    size = opened.recv_into(view)
    if not size:
        raise http2.Broken("the server closed the connection")
    return size


def _field(head: bytes, name: bytes) -> bytes:
    found = head.find(b"\r\n" + name + b":")
    if found < 0:
        return b""
    start = found + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _bodies(job: Job) -> list[list[Template]]:
    """Templates for each connection."""
    make = Templates(job.spans)
    one = make.json if job.transport == "json" else make.protobuf
    each = max(2, DIFFERENT_SPANS // (job.connections * job.spans))
    return [[one() for _ in range(each)] for _ in range(job.connections)]


def _connection(job: Job, address: str, bodies: list[Template]) -> Connection:
    if job.transport == "grpc":
        return GrpcConnection(address, bodies)
    kind = "application/json" if job.transport == "json" else "application/x-protobuf"
    return HttpConnection(address, bodies, kind)


def _due(job: Job, place: int, begin: float) -> Iterator[float]:
    """When a connection's requests are due; with a rate the connections take turns."""
    if not job.rate:
        while True:
            yield 0.0
    interval = job.spans / job.rate
    for number in count():
        yield begin + (number * job.connections + place) * interval


def _work(
    job: Job,
    place: int,
    begin: float,
    until: float,
    connection: Connection,
    numbers: Iterator[int],
    seen: Seen,
) -> None:
    """One connection until the time is up. What is refused is sent again, and counts from its first try.

    With a rate, a request that is due while the one before it still waits counts from when it was due.
    """
    free_at = begin
    for due in _due(job, place, begin):
        now = time.monotonic()
        if due > now:
            time.sleep(min(due, until) - now if due < until else max(0.0, until - now))
            now = time.monotonic()
        if now >= until:
            return
        begun = due if due and free_at > due else now
        number = next(numbers)
        while True:
            try:
                connection.send(number)
            except Refused as refused:
                if time.monotonic() > until + TIMEOUT_S:
                    raise http2.Broken("the server refuses everything") from refused
                seen.refused += 1
                time.sleep(refused.after_s)
            else:
                break
        free_at = time.monotonic()
        seen.acknowledged_at.append(free_at)
        seen.latencies_s.append(free_at - begun)


def _fail(failed: threading.ExceptHookArgs) -> None:
    """A connection that failed ends the whole run: a figure of the others would mean nothing."""
    print(f"The load generator failed: {failed.exc_value!r}", file=sys.stderr, flush=True)
    os._exit(1)


def main() -> None:
    """One job."""
    threading.excepthook = _fail
    job = Job(**json.loads(sys.stdin.readline()))
    bodies = _bodies(job)
    print("ready", flush=True)
    order = json.loads(sys.stdin.readline())
    begin, began, until = order["begin"], order["began"], order["until"]
    connections = [_connection(job, order["address"], each) for each in bodies]
    size = sum(len(body.body) for each in bodies for body in each)
    per_span = size / (sum(map(len, bodies)) * job.spans)
    seen = [Seen() for _ in connections]
    numbers = count()
    threads = [
        threading.Thread(target=_work, args=(job, place, begin, until, connection, numbers, seen[place]))
        for place, connection in enumerate(connections)
    ]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, began - time.monotonic()))
    cpu_s = time.process_time()
    time.sleep(max(0.0, until - time.monotonic()))
    cpu_s = time.process_time() - cpu_s
    for thread in threads:
        thread.join()
    pairs = sorted(pair for each in seen for pair in zip(each.acknowledged_at, each.latencies_s, strict=True))
    whole = Seen(
        bytes_per_span=per_span,
        refused=sum(each.refused for each in seen),
        acknowledged_at=[at for at, _ in pairs],
        latencies_s=[latency for _, latency in pairs],
        cpu_s=cpu_s,
    )
    print(json.dumps(asdict(whole)), flush=True)


if __name__ == "__main__":
    main()
