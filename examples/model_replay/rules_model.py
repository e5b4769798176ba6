"""A model that needs no network: it sorts tickets by the rules in its system prompt.

It speaks OpenAI's chat completions on a port of its own, as any local model server does. It is no language
model: a rule is a line ``word -> label``, and the first rule whose word stands in the ticket decides.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NO_RULE = "unsorted"


def label(rules: str, ticket: str) -> str:
    """The label of the first rule whose word the ticket holds."""
    for line in rules.splitlines():
        word, arrow, found = (part.strip() for part in line.partition("->"))
        if arrow and word.lower() in ticket.lower():
            return found
    return NO_RULE


class Completions(BaseHTTPRequestHandler):
    """``POST /v1/chat/completions``."""

    def do_POST(self) -> None:
        """Answer one request."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {message["role"]: message["content"] for message in request["messages"]}
        answer: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": label(said["system"], said["user"])},
                }
            ],
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def server() -> ThreadingHTTPServer:
    """The model on a free port, not serving yet."""
    return ThreadingHTTPServer(("127.0.0.1", 0), Completions)
