"""OTLP over HTTP: three POST routes, the same on its own port and on the API port.

The order of refusals is the order of cost: path, method, API key, content type, coding, declared length; only
then is the body read, counted, expanded and handed to ingest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from loopgrid_collector.audit import Access
from loopgrid_collector.auth import Scope as KeyScope
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import ShuttingDown, Unauthenticated, UnsupportedType
from loopgrid_collector.guard import CHALLENGE, Guard
from loopgrid_collector.ingest import Ingest, Receipt
from loopgrid_collector.otlp.services import services_of
from loopgrid_collector.receivers import answer, cors, limits
from loopgrid_collector.receivers.answer import Encoding
from loopgrid_collector.receivers.health import State
from loopgrid_collector.receivers.signals import SIGNALS, Signal
from loopgrid_collector.receivers.status import (
    MethodNotAllowed,
    SenderGone,
    SlowSender,
    UnknownPath,
    verdict,
)

INLINE_BYTES: Final = 64 * 2**10
"""Bodies up to this size are expanded and converted on the event loop: cheaper than a thread."""

LARGE_BODIES_AT_ONCE: Final = 2
"""Larger ones take turns in threads, which bounds what their unpacked forms add to the memory."""

JSON_BODIES_AT_ONCE: Final = 1
"""Large JSON bodies: parsing one stops the process, and its objects take several times its size."""


def otlp_routes(
    ingest: Ingest, config: CollectorConfig, guard: Guard, budget: limits.Budget | None = None
) -> list[BaseRoute]:
    """Routes of the three signals, each with and without a trailing slash: nobody is redirected.

    Args:
        ingest: where requests go.
        config: its limits.
        guard: who may send.
        budget: shared with other doors; by default one of its own.

    Raises:
        Misconfigured: an origin of ``cors_allowed_origins`` is none.
    """
    house = budget or limits.Budget(config.max_queued_bytes)
    turns = _Turns()
    endpoints = [
        (
            config.otlp_path_prefix + signal.path,
            cors.guarded(_Endpoint(signal, ingest, config, guard, house, turns), config),
        )
        for signal in SIGNALS
    ]
    return [Route(path + end, endpoint) for path, endpoint in endpoints for end in ("", "/")]


class _Turns:
    """Large bodies take turns, on all paths together."""

    def __init__(self) -> None:
        self.expanding = asyncio.Semaphore(LARGE_BODIES_AT_ONCE)
        self.converting = asyncio.Semaphore(JSON_BODIES_AT_ONCE)


def otlp_app(routes: Sequence[BaseRoute], state: Callable[[], State], prefix: str = "") -> ASGIApp:
    """The application of a port that speaks OTLP and nothing else, but for ``/healthz``.

    Args:
        routes: from ``otlp_routes``.
        state: what ``/healthz`` says; 200 if ready, else 503.
        prefix: what stands before the paths of the signals.
    """

    async def elsewhere(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz":
            now = state()
            told = b'{"status":"%s"}' % now.value.encode()
            await _send(send, 200 if now is State.READY else 503, Encoding.JSON, told)
        else:
            known = ", ".join(prefix + signal.path for signal in SIGNALS)
            nothing = UnknownPath(f"Nothing is here. OTLP is taken at {known}.")
            await _refuse(send, nothing, _answer_in(scope))

    return Router(routes, redirect_slashes=False, default=elsewhere)


class _Endpoint:
    """The ASGI application behind one signal's path."""

    def __init__(
        self,
        signal: Signal,
        ingest: Ingest,
        config: CollectorConfig,
        guard: Guard,
        budget: limits.Budget,
        turns: _Turns,
    ) -> None:
        self._signal = signal
        self._ingest = ingest
        self._guard = guard
        self._config = config
        self._budget = budget
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = _answer_in(scope)
        body = _Body(receive, self._config.body_read_timeout_s)
        try:
            result = await answer.outcome(self._accept(scope, body))
        except asyncio.CancelledError:
            # The grace period of a stop is over. Without an answer the transport would make this a
            # 500, and the sender would throw its data away.
            await _refuse(send, ShuttingDown("The server is stopping. Resend to the next one."), encoding)
            raise
        if isinstance(result, SenderGone):
            return
        if isinstance(result, Receipt):
            told = {answer.RECEIPT_HEADER: answer.receipt_field(result)}
            await _send(send, 200, encoding, answer.success(self._signal, result, encoding), told)
        else:
            # A sender that waits for "100 Continue" may or may not send its body after a refusal, so
            # what comes next on the connection could be either: it is not used again.
            waits = "expect" in Headers(scope=scope)
            unfinished = not body.complete and (body.begun or waits)
            self._budget.refusals.add(self._signal.path, result)
            await _refuse(send, result, encoding, linger=body if unfinished else None)

    async def _accept(self, scope: Scope, body: _Body) -> Receipt:
        if scope["method"] != "POST":
            raise MethodNotAllowed("OTLP requests are sent with POST.")
        headers = Headers(scope=scope)
        client = scope.get("client")
        attempt = Access("otlp_http", "POST", self._signal.path, None, address=client[0] if client else None)
        key = self._guard.admit(headers.get, KeyScope.INGEST, attempt)
        encoding = answer.encoding_of(headers.get("content-type", ""))
        if encoding is None:
            known = " or ".join(known.value for known in Encoding)
            raise UnsupportedType(f"Send {known} as Content-Type.")
        coding = limits.coding_of(headers.get("content-encoding", ""))
        most = self._config.max_body_bytes
        if encoding is Encoding.JSON:
            most = min(most, self._config.max_json_body_bytes)
        with self._budget.admission() as admission:
            content = await body.read(admission, coding, most, headers)
            if coding is not None:
                content = await self._expanded(content, coding, most, admission)
            if encoding is Encoding.JSON:
                content = await self._converted(content)
                admission.add(len(content))
            if key is not None and key.services:
                services = await asyncio.to_thread(services_of, content)
                self._guard.admit_services(key, services, attempt)
            return await self._signal.store(self._ingest, content)

    async def _expanded(
        self, wire: bytes, coding: limits.Coding, most: int, admission: limits.Admission
    ) -> bytes:
        inflation = limits.Inflation(wire, coding, most, admission)
        if len(wire) > INLINE_BYTES or not inflation.advance(INLINE_BYTES):
            async with self._turns.expanding:
                await asyncio.to_thread(inflation.advance)
        return inflation.body()

    async def _converted(self, content: bytes) -> bytes:
        if len(content) <= INLINE_BYTES:
            return self._signal.from_json(content)
        async with self._turns.converting:
            return await asyncio.to_thread(self._signal.from_json, content)


class _Body:
    """A request's body, read at most once.

    Attributes:
        begun: whether any of it was asked for.
        complete: whether all of it has arrived.
    """

    def __init__(self, receive: Receive, timeout_s: float) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self.begun = False
        self.complete = False

    async def read(
        self, admission: limits.Admission, coding: limits.Coding | None, max_body_bytes: int, headers: Headers
    ) -> bytes:
        """All of it, as it came over the wire.

        Raises:
            TooLarge: it is over the limit whatever it expands to; the rest is not read.
            Overloaded: the house is full.
            SlowSender: it took too long to arrive.
            SenderGone: it hung up.
        """
        self.begun = True
        most = limits.max_wire_bytes(coding, max_body_bytes)
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise limits.too_large(max_body_bytes)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self.complete:
                    chunk = await self._next()
                    size += len(chunk)
                    if size > most:
                        raise limits.too_large(max_body_bytes)
                    admission.add(len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            raise SlowSender(
                f"The body did not arrive within {self._timeout_s:g} seconds. Resend it, in smaller batches."
            ) from None
        return b"".join(chunks)

    async def discard(self) -> None:
        """Read the rest into nothing, for as long as a sender may take to send a body."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self.complete:
                    await self._next()
        except (TimeoutError, SenderGone):
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise SenderGone("The sender hung up in the middle of its body.")
        self.complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def _answer_in(scope: Scope) -> Encoding:
    return answer.encoding_of(Headers(scope=scope).get("content-type", "")) or Encoding.JSON


async def _refuse(send: Send, error: Exception, encoding: Encoding, linger: _Body | None = None) -> None:
    told = verdict(error)
    headers = {}
    if told.retry_after_s is not None:
        headers["retry-after"] = str(told.retry_after_s)
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = "POST"
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = CHALLENGE
    await _send(send, told.http, encoding, answer.refusal(told, encoding), headers, linger)


async def _send(
    send: Send,
    http: int,
    encoding: Encoding,
    body: bytes,
    headers: dict[str, str] | None = None,
    linger: _Body | None = None,
) -> None:
    """Send a whole response.

    With ``linger``, the sender is still talking. The answer goes out at once, but the connection closes
    only after the rest of the body has been read away: closed earlier, it would be reset, and the sender
    would see a broken connection, which it retries, in place of the answer.
    """
    fields = {"content-type": encoding.value, "content-length": str(len(body)), **(headers or {})}
    if linger is not None:
        fields["connection"] = "close"
    pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": http, "headers": pairs})
    if linger is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await linger.discard()
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": False})
