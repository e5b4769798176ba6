"""An OTLP/HTTP receiver on a real socket that keeps what it gets and answers as it is told.

It stands for any collector: it decodes protobuf requests, answers 200 unless a scripted answer is waiting,
and never looks at what the spans mean. Other paths get scripted answers only, or 404.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer. While `release` is not set, the request is left hanging."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    release: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came, but for its gzip."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span of an acknowledged request, in Python values."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    status: str
    message: str
    links: list[tuple[str, str, dict[str, Any]]]
    dropped_attributes: int

    @property
    def decision_id(self) -> str:
        """`<trace_id>-<span_id>`."""
        return f"{self.trace_id}-{self.span_id}"

    @property
    def input(self) -> Any:
        """The recorded input, read from its JSON."""
        return json.loads(self.attributes["loopgrid.decision.input"])

    @property
    def output(self) -> Any:
        """The recorded output, read from its JSON."""
        return json.loads(self.attributes["loopgrid.decision.output"])

    @property
    def losses(self) -> list[str]:
        """What the record says is missing from it."""
        return list(self.attributes.get("loopgrid.capture.lossiness", []))


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One log record of an acknowledged request."""

    name: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class OtlpReceiver:
    """The receiver; `with OtlpReceiver() as receiver` starts it on a free port and stops it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._script: deque[Answer] = deque()
        self.requests: list[Request] = []
        self.spans: list[ReceivedSpan] = []
        self.events: list[ReceivedEvent] = []
        self.arrived = threading.Semaphore(0)
        """Released once per request, before it is answered."""
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def script(self, *answers: Answer) -> None:
        """Answer the next requests like this, in order; then 200 again."""
        with self._lock:
            self._script.extend(answers)

    def forget_script(self) -> None:
        """Answer 200 from now on."""
        with self._lock:
            self._script.clear()

    def __enter__(self) -> Self:
        """Start serving."""
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving and cut every connection."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, request: Request) -> Answer:
        """Keep a request and say how to answer it."""
        with self._lock:
            self.requests.append(request)
            scripted = self._script.popleft() if self._script else None
        self.arrived.release()
        if scripted is not None and scripted.release is not None:
            scripted.release.wait(30)
        answer = scripted or Answer(200 if request.path in {"/v1/traces", "/v1/logs"} else 404)
        if answer.status == 200 and request.path == "/v1/traces":
            with self._lock:
                self.spans.extend(spans_of(request.body))
        if answer.status == 200 and request.path == "/v1/logs":
            with self._lock:
                self.events.extend(_events(request.body))
        return answer


class _Server(ThreadingHTTPServer):
    # Threads are joined on close, so that no test leaves one behind.
    daemon_threads = False
    block_on_close = True

    def __init__(self, receiver: OtlpReceiver) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # HTTP/1.0 closes after each answer: no connection outlives the test that made it.
    protocol_version = "HTTP/1.0"
    timeout = 30

    def do_POST(self) -> None:
        self._take()

    def do_GET(self) -> None:
        self._take()

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer = self.server.receiver.take(Request(self.command, self.path, dict(self.headers), body))
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
        except (BrokenPipeError, ConnectionResetError):
            # The client gave up waiting, as some tests want it to.
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Stay silent: the requests are kept."""


def partial_success(rejected: int, message: str = "not today") -> Answer:
    """200, with some of the spans rejected."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return Answer(200, body=response.SerializeToString())


def spans_of(body: bytes) -> list[ReceivedSpan]:
    """The spans of an export request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _received(span, _values(of_resource.resource.attributes))
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _events(body: bytes) -> list[ReceivedEvent]:
    request = ExportLogsServiceRequest.FromString(body)
    return [
        ReceivedEvent(
            record.event_name, record.trace_id.hex(), record.span_id.hex(), _values(record.attributes)
        )
        for of_resource in request.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]


def _received(span: Span, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        resource=resource,
        status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
        message=span.status.message,
        links=[(link.trace_id.hex(), link.span_id.hex(), _values(link.attributes)) for link in span.links],
        dropped_attributes=span.dropped_attributes_count,
    )


def _values(pairs: Any) -> dict[str, Any]:
    entries: list[KeyValue] = list(pairs)
    assert len({entry.key for entry in entries}) == len(entries), "an attribute was sent twice"
    return {entry.key: _value(entry.value) for entry in entries}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _values(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
