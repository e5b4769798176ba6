"""OTLP over gRPC: three ``Export`` methods that take a message's raw bytes, and the health check.

Raw, because the protobuf runtime would answer INTERNAL for a message it cannot read and refuse a whole
request for one bad span; ingest knows better. The library enforces the size limit itself, after
decompression (gzip, deflate), with RESOURCE_EXHAUSTED and no RetryInfo.

A message is counted only after the library has it in memory. So the methods are declared as taking a
stream, which is the same on the wire but hands a call over before its message is read: one call too many
is refused unread, and one message that does not come is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from loopgrid_collector.audit import Access
from loopgrid_collector.auth import Scope
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured, Overloaded
from loopgrid_collector.guard import Guard
from loopgrid_collector.ingest import Ingest, Receipt
from loopgrid_collector.otlp.services import services_of
from loopgrid_collector.receivers import answer, health, limits, sockets
from loopgrid_collector.receivers.answer import Encoding
from loopgrid_collector.receivers.signals import SIGNALS, Signal
from loopgrid_collector.receivers.status import SenderGone, SlowSender, verdict
from loopgrid_collector.receivers.tls import Tls

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_SOCKET_VARIABLE: Final = "LOOPGRID_OTLP_GRPC_SOCKET"
_DETAILS: Final = "grpc-status-details-bin"


class GrpcDoor:
    """The gRPC server of the three signals."""

    def __init__(self, config: CollectorConfig, tls: Tls | None = None) -> None:
        self._config = config
        self._tls = tls
        self._server = grpc.aio.server(options=_options(config))

    def bind(self, flag: str) -> str:
        """Take the port.

        Args:
            flag: the command-line flag that chooses the port, for the error message.

        Returns:
            ``host:port`` for clients to connect to.

        Raises:
            PortTaken: another process has it.
            Misconfigured: the host is not this machine's.
        """
        # Asked with a plain socket first: its error says what is wrong, the library's does not.
        config = self._config
        probes, addresses, _ = sockets.bind(config.host, config.otlp_grpc_port, flag, config.ip_family)
        sockets.close(probes)
        port = self._config.otlp_grpc_port
        for address in addresses:
            try:
                port = self._listen(address.listening_on(port))
            except RuntimeError as error:
                raise sockets.port_taken(port, flag) from error
        if config.otlp_grpc_socket:
            # The library would take away the file of a live server.
            sockets.free_path(config.otlp_grpc_socket, _SOCKET_VARIABLE)
            try:
                self._listen(f"unix:{config.otlp_grpc_socket}")
            except RuntimeError as error:
                raise Misconfigured(
                    f"Cannot listen on {config.otlp_grpc_socket!r}. "
                    f"Choose another path with {_SOCKET_VARIABLE}."
                ) from error
        return addresses[0].with_port(port)

    async def start(
        self, ingest: Ingest, guard: Guard, budget: limits.Budget, state: Callable[[], health.State]
    ) -> None:
        """Serve; ``state`` answers health checks, which need no key."""
        turns = _Turns(self._config)
        handlers = _handlers(ingest, guard, budget, turns)
        self._server.add_generic_rpc_handlers([*handlers, health.handler(state)])
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new requests, and give those under way ``grace_s`` seconds."""
        await self._server.stop(grace_s)

    def _listen(self, where: str) -> int:
        if self._tls is None:
            return self._server.add_insecure_port(where)
        return self._server.add_secure_port(where, self._tls.grpc_credentials())


def _options(config: CollectorConfig) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", config.max_body_bytes),
        # A second server on the same port must fail, not share it.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(config.grpc_min_ping_interval_s)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(config.grpc_min_ping_interval_s)),
    ]
    if config.grpc_max_connection_age_s:
        options += [
            ("grpc.max_connection_age_ms", _ms(config.grpc_max_connection_age_s)),
            ("grpc.max_connection_age_grace_ms", _ms(config.grpc_max_connection_age_grace_s)),
        ]
    if config.grpc_max_connection_idle_s:
        options.append(("grpc.max_connection_idle_ms", _ms(config.grpc_max_connection_idle_s)))
    return options


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class _Turns:
    """How many calls there may be, and how long one may take to send its message."""

    def __init__(self, config: CollectorConfig) -> None:
        self._most = config.max_grpc_requests
        self._under_way = 0
        self.read_timeout_s = config.body_read_timeout_s

    def __enter__(self) -> None:
        if self._under_way >= self._most:
            raise Overloaded(
                f"The server has {self._most} gRPC requests under way, and that is its limit. Resend later, "
                "or raise LOOPGRID_MAX_GRPC_REQUESTS."
            )
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        self._under_way -= 1


def _handlers(
    ingest: Ingest, guard: Guard, budget: limits.Budget, turns: _Turns
) -> Sequence[grpc.GenericRpcHandler[bytes, bytes]]:
    return [
        grpc.method_handlers_generic_handler(
            signal.service,
            {"Export": grpc.stream_unary_rpc_method_handler(service.export)},
        )
        for signal in SIGNALS
        for service in [_Service(signal, ingest, guard, budget, turns)]
    ]


class _Service:
    """The gRPC service of one signal."""

    def __init__(
        self, signal: Signal, ingest: Ingest, guard: Guard, budget: limits.Budget, turns: _Turns
    ) -> None:
        self._signal = signal
        self._ingest = ingest
        self._guard = guard
        self._budget = budget
        self._turns = turns

    async def export(self, _messages: object, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        result = await answer.outcome(self._accept(context))
        if isinstance(result, Receipt):
            return answer.success(self._signal, result, Encoding.PROTOBUF)
        self._budget.refusals.add(self._signal.path, result)
        told = verdict(result)
        status = answer.rpc_status(told)
        await context.abort(_CODES[told.code], status.message, ((_DETAILS, status.SerializeToString()),))
        raise AssertionError("abort raises")

    async def _accept(self, context: grpc.aio.ServicerContext[Any, Any]) -> Receipt:
        attempt = Access("otlp_grpc", "Export", self._signal.service, None, address=_address(context))
        key = self._guard.admit(_header(context), Scope.INGEST, attempt)
        with self._turns, self._budget.admission() as admission:
            body = await self._message(context)
            admission.add(len(body))
            if key is not None and key.services:
                services = await asyncio.to_thread(services_of, body)
                self._guard.admit_services(key, services, attempt)
            return await self._signal.store(self._ingest, body)

    async def _message(self, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            async with asyncio.timeout(self._turns.read_timeout_s):
                body = await context.read()
        except TimeoutError:
            raise SlowSender(
                f"The message did not arrive within {self._turns.read_timeout_s:g} seconds. "
                "Resend it, in smaller batches."
            ) from None
        if not isinstance(body, bytes):
            raise SenderGone("The call ended before its message.")
        return body


def _header(context: grpc.aio.ServicerContext[Any, Any]) -> Callable[[str], str | None]:
    sent = dict(context.invocation_metadata() or ())

    def header(name: str) -> str | None:
        value = sent.get(name)
        return value if isinstance(value, str) else None

    return header


def _address(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Without its port, as over HTTP."""
    _, _, place = context.peer().partition(":")
    return place.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]") or place
