"""A small OpenAI-compatible endpoint on a real socket: chat completions with a computed answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = [word for message in request["messages"] for word in str(message["content"]).split()]
        answer = {
            "id": "chatcmpl-stub",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": request["model"] + "-2025-08-07",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": f"I read {len(words)} words."},
                }
            ],
            "usage": {"prompt_tokens": len(words), "completion_tokens": 4, "total_tokens": len(words) + 4},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class's name
        """Say nothing."""


@contextmanager
def openai_stub() -> Iterator[str]:
    """Serve for the length of a block; yields the base URL that ends in ``/v1``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
