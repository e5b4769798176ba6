"""OTLP over gRPC: three ``Export`` methods that take a message's raw bytes.

Raw, because the protobuf runtime would answer INTERNAL for a message it cannot read and refuse a whole
request for one bad span; ingest knows better. The library enforces the size limit itself, after
decompression (gzip, deflate), with RESOURCE_EXHAUSTED and no RetryInfo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.ingest import Ingest, Receipt
from loopgrid_collector.receivers import answer, limits, sockets
from loopgrid_collector.receivers.answer import Encoding
from loopgrid_collector.receivers.signals import SIGNALS, Signal
from loopgrid_collector.receivers.status import verdict

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS: Final = "grpc-status-details-bin"


class GrpcDoor:
    """The gRPC server of the three signals."""

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_body_bytes),
                # A second server on the same port must fail, not share it.
                ("grpc.so_reuseport", 0),
            ]
        )

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
        probes, addresses, _ = sockets.bind(self._config.host, self._config.otlp_grpc_port, flag)
        sockets.close(probes)
        port = self._config.otlp_grpc_port
        for address in addresses:
            try:
                port = self._server.add_insecure_port(address.listening_on(port))
            except RuntimeError as error:
                raise sockets.port_taken(port, flag) from error
        return addresses[0].with_port(port)

    async def start(self, ingest: Ingest, budget: limits.Budget) -> None:
        """Serve."""
        self._server.add_generic_rpc_handlers(_handlers(ingest, budget))
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new requests, and give those under way ``grace_s`` seconds."""
        await self._server.stop(grace_s)


def _handlers(ingest: Ingest, budget: limits.Budget) -> Sequence[grpc.GenericRpcHandler[bytes, bytes]]:
    return [
        grpc.method_handlers_generic_handler(
            signal.service,
            {"Export": grpc.unary_unary_rpc_method_handler(_Service(signal, ingest, budget).export)},
        )
        for signal in SIGNALS
    ]


class _Service:
    """The gRPC service of one signal."""

    def __init__(self, signal: Signal, ingest: Ingest, budget: limits.Budget) -> None:
        self._signal = signal
        self._ingest = ingest
        self._budget = budget

    async def export(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        result = await answer.outcome(self._accept(body))
        if isinstance(result, Receipt):
            return answer.success(self._signal, result, Encoding.PROTOBUF)
        told = verdict(result)
        status = answer.rpc_status(told)
        await context.abort(_CODES[told.code], status.message, ((_DETAILS, status.SerializeToString()),))
        raise AssertionError("abort raises")

    async def _accept(self, body: bytes) -> Receipt:
        with self._budget.admission() as admission:
            admission.add(len(body))
            return await self._signal.store(self._ingest, body)
