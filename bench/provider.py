"""A provider of OpenAI's protocol that answers after a while and costs next to nothing: one bare loop.

    python bench/provider.py --latency-ms 50

Prints its base URL, and answers until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from typing import Final, cast

import orjson
import uvloop

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"


def completion(body: bytes) -> bytes:
    """The answer to a request: one sentence, and what it is said to have used."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": orjson.loads(body)["model"],
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "right"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14},
    }
    return orjson.dumps(answer)


class _Connection(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole, later."""
        self._received += data
        while (end := self._received.find(_END)) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + len(_END) + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + len(_END) : whole], self._received[whole:]
            asyncio.get_running_loop().call_later(self._latency_s, self._answer, completion(body))

    def _answer(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


async def serve(latency_s: float) -> None:
    """Answer for ever."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(latency_s), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description="Answer like a provider, after a while.")
    parser.add_argument("--latency-ms", type=float, default=50.0)
    uvloop.run(serve(parser.parse_args().latency_ms / 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
