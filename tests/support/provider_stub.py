"""A model provider on a real socket, OpenAI-compatible or Anthropic's, that answers as it is told to.

What it computes depends on what it reads, so that a test sees whether the request arrived whole. Every
request is kept, with its headers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        path: where it came to.
        headers: by lower-case name.
        body: its JSON.
    """

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is answered.

    Attributes:
        status: HTTP status.
        body: bytes of the body; JSON of a value that is none.
        headers: beside the usual ones; they take their place where they have the same name.
        cut: bytes of the body that are sent before the connection closes; None for all of them.
        held: what is waited for before anything is sent.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    held: threading.Event | None = None


Behaviour = Callable[[Asked], Reply]


def words(body: Mapping[str, Any]) -> int:
    """Words of text that a request holds in its messages and its system instructions."""
    said: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name in {"content", "text", "system", "messages"}:
                    walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        elif isinstance(value, str):
            said.extend(value.split())

    walk(body)
    return len(said)


def answered(asked: Asked, **message: Any) -> Reply:
    """The usual answer, in the shape of the door that was knocked at."""
    read = words(asked.body)
    said = f"I read {read} words."
    if asked.path.endswith("/messages"):
        return Reply(
            body={
                "id": "msg_stub",
                "type": "message",
                "role": "assistant",
                "model": asked.body["model"],
                "content": [{"type": "text", "text": said}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": read, "output_tokens": 4, "cache_read_input_tokens": 3},
            }
        )
    choices = [
        {
            "index": index,
            "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
            "message": {"role": "assistant", "content": said, **message},
        }
        for index in range(asked.body.get("n") or 1)
    ]
    usage = {
        "prompt_tokens": read,
        "completion_tokens": 4,
        "total_tokens": read + 4,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    return Reply(
        body={
            "id": "chatcmpl-stub",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": asked.body["model"] + "-2026-10-01",
            "choices": choices,
            "usage": usage,
        }
    )


def refusal(status: int, message: str, **headers: str) -> Reply:
    """An error as providers write it; ``_`` in the names of headers stands for ``-``."""
    return Reply(
        status,
        {"error": {"message": message, "type": "stub_error", "code": f"code_{status}", "param": None}},
        {name.replace("_", "-"): text for name, text in headers.items()},
    )


class Provider:
    """The provider while it serves.

    Attributes:
        base_url: where it is reached; ends in ``/v1``.
        asked: the requests so far, in the order they came.
    """

    def __init__(self) -> None:
        self.base_url = ""
        self.asked: list[Asked] = []
        self._next: list[Behaviour] = []
        self._usual: Behaviour = answered
        self._lock = threading.Lock()

    def then(self, *behaviours: Behaviour | Reply) -> None:
        """Answer the next requests like this, one each, and those after them as usual."""
        with self._lock:
            self._next = [_behaviour(each) for each in behaviours]

    def always(self, behaviour: Behaviour | Reply) -> None:
        """Answer every request like this."""
        with self._lock:
            self._usual = _behaviour(behaviour)

    def again(self) -> None:
        """Forget what was asked, and answer as usual."""
        with self._lock:
            self.asked.clear()
            self._next, self._usual = [], answered

    def reply(self, asked: Asked) -> Reply:
        """What one request is answered."""
        with self._lock:
            self.asked.append(asked)
            behaviour = self._next.pop(0) if self._next else self._usual
        return behaviour(asked)


def _behaviour(given: Behaviour | Reply) -> Behaviour:
    if isinstance(given, Reply):
        reply = given
        return lambda _: reply
    return given


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): text for name, text in self.headers.items()}
            reply = provider.reply(Asked(self.path, headers, body))
            if reply.held is not None:
                reply.held.wait(timeout=60)
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            sent = {"Content-Type": "application/json", "Content-Length": str(len(data))}
            self.send_response(reply.status)
            for name, text in {**sent, **reply.headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data if reply.cut is None else data[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class's name
            """Say nothing."""

        def handle(self) -> None:
            # A client that gave up waiting has closed its end.
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Many connections at once wait their turn.
    request_queue_size = 512


@contextmanager
def provider_stub() -> Iterator[Provider]:
    """Serve for the length of a block."""
    provider = Provider()
    server = _Server(("127.0.0.1", 0), _handler(provider))
    provider.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
