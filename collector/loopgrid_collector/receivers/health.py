"""Whether the doors take anything, for load balancers: one answer for HTTP and for gRPC."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from loopgrid_collector.receivers.signals import SIGNALS

SERVICE: Final = "grpc.health.v1.Health"


class State(Enum):
    """What the server can do for a sender now; the value is how ``/healthz`` says it."""

    READY = "ok"
    STOPPING = "stopping"
    STORAGE_TROUBLE = "storage trouble"


def handler(state: Callable[[], State]) -> grpc.GenericRpcHandler[Any, Any]:
    """``grpc.health.v1.Health/Check``. ``Watch`` is not offered; the protocol lets clients poll then.

    Args:
        state: asked at each check.
    """
    known = {"", *(signal.service for signal in SIGNALS)}

    async def check(
        request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "No such service; ask for one of OTLP or none.")
        kinds = health_pb2.HealthCheckResponse
        serving = state() is State.READY
        return kinds(status=kinds.SERVING if serving else kinds.NOT_SERVING)

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Check": method})
