"""HTTP connections that cannot be held for nothing: uvicorn's protocol with a clock and a count.

uvicorn limits neither the time nor the bytes that a request's head may take nor, with an answer that OTLP
senders understand, the number of connections; and it hangs up on a sender that closes its own direction.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Undecodable
from loopgrid_collector.receivers import answer
from loopgrid_collector.receivers.answer import Encoding
from loopgrid_collector.receivers.status import verdict

MAX_HEAD_BYTES: Final = 64 * 2**10
"""Bytes of a request's head; what came in one read with the byte that ends it is not counted."""

_BODY: Final = (
    b'{"code":14,"message":"The server has as many connections as it takes. Resend later, or raise '
    b'LOOPGRID_MAX_CONNECTIONS."}'
)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)
_LONG_HEAD: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Connections:
    """Makes the connections of one port.

    Attributes:
        max_open: how many there may be.
        header_read_timeout_s: seconds for a request's head.
    """

    max_open: int
    header_read_timeout_s: float

    @classmethod
    def of(cls, config: CollectorConfig) -> Connections:
        """As configured."""
        return cls(config.max_connections, config.header_read_timeout_s)

    def __call__(self, **arguments: Any) -> asyncio.Protocol:
        """A connection, as uvicorn asks for one."""
        return _Connection(self, arguments)


class _Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: Connections, arguments: dict[str, Any]) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._head_due: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_open:
            # Answered unasked: the sender reads it as the answer to what it is about to send, and a
            # 503 with a delay is one that it obeys.
            transport.write(_FULL)
            transport.close()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._head_due is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_LONG_HEAD)
                self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a sender that says it is done and waits: a whole request as ever, half of one with 400."""
        # uvicorn has none before the first request, whatever it declares.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        # TLS cannot be closed in one direction only.
        if cycle is None or cycle.response_complete or self.transport.get_extra_info("sslcontext"):
            return False
        if cycle.more_body:
            if not cycle.response_started and not self.pipeline:
                self.transport.write(self._cut_short())
            return False
        cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _await_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(self._limits.header_read_timeout_s, self.transport.close)

    def _head_came(self) -> None:
        self._head_bytes = 0
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _cut_short(self) -> bytes:
        said = dict(self.headers).get(b"content-type", b"").decode("latin-1")
        encoding = answer.encoding_of(said) or Encoding.JSON
        told = verdict(Undecodable("The body ended before the length that its head states."))
        body = answer.refusal(told, encoding)
        head = (
            f"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: {encoding.value}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body
