"""What load balancers are told, over HTTP and over gRPC, while the server is well, in trouble, stopping."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.server import Server
from tests.contract.doors import Doors
from tests.support.spans import span, traces

TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"


def health(target: str, service: str = "") -> int:
    with grpc.insecure_channel(target) as channel:
        answer: HealthCheckResponse = HealthStub(channel).Check(
            HealthCheckRequest(service=service), timeout=20
        )
    return int(answer.status)


@pytest.mark.parametrize("service", ["", TRACES])
def test_a_ready_server_is_serving(doors: Doors, service):
    assert health(doors.addresses.otlp_grpc, service) == HealthCheckResponse.SERVING


def test_an_unknown_service_is_not_found(doors: Doors):
    with pytest.raises(grpc.RpcError) as refused:
        health(doors.addresses.otlp_grpc, "nobody")

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_trouble_with_the_storage_shows_and_passes_though_nobody_sends_anything(doors: Doors):
    with doors.ledger.cursor() as cursor:
        cursor.execute("ALTER TABLE store.spans RENAME TO lost")
    assert doors.post("/v1/traces", traces(span(1))).status_code == 503

    answer = doors.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "storage trouble"})
    assert health(doors.addresses.otlp_grpc) == HealthCheckResponse.NOT_SERVING

    with doors.ledger.cursor() as cursor:
        cursor.execute("ALTER TABLE store.lost RENAME TO spans")
    while doors.client.get("/healthz").status_code != 200:
        pass
    assert health(doors.addresses.otlp_grpc) == HealthCheckResponse.SERVING


def test_a_stopping_server_says_so_on_open_connections(tmp_path):
    config = CollectorConfig(
        ledger=str(tmp_path / "test.duckdb"), port=0, otlp_http_port=0, otlp_grpc_port=0, shutdown_grace_s=1
    )

    async def ask_while_it_stops() -> tuple[list[int], httpx.Response]:
        server = Server(config, None)
        addresses = await server.start()
        async with (
            grpc.aio.insecure_channel(addresses.otlp_grpc) as channel,
            httpx.AsyncClient(base_url=addresses.otlp_http, trust_env=False) as client,
        ):
            stub = HealthStub(channel)
            before = await stub.Check(HealthCheckRequest())
            # The first thing that a stop does; what follows it would close this connection.
            server._stopping = True
            after, page = await stub.Check(HealthCheckRequest()), await client.get("/healthz")
        await server.stop()
        return [before.status, after.status], page

    statuses, page = asyncio.run(ask_while_it_stops())

    assert statuses == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]
    assert (page.status_code, page.json()) == (503, {"status": "stopping"})
