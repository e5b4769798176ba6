"""What distinguishes traces, logs and metrics at the doors. Everything else there treats them alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

from loopgrid_collector.ingest import Ingest, Receipt
from loopgrid_collector.otlp import json_decode


@dataclass(frozen=True, slots=True)
class Signal:
    """One OTLP signal.

    Attributes:
        path: of OTLP/HTTP.
        service: full name of the gRPC service whose method is ``Export``.
        from_json: OTLP/JSON request bytes → protobuf request bytes; raises ``Undecodable``.
        store: hands protobuf request bytes to ingest.
        response: the message that answers.
        rejected: field of the response's ``partial_success`` that counts what was not stored.
    """

    path: str
    service: str
    from_json: Callable[[bytes], bytes]
    store: Callable[[Ingest, bytes], Awaitable[Receipt]]
    response: type[Message]
    rejected: str


SIGNALS: Final = (
    Signal(
        path="/v1/traces",
        service="opentelemetry.proto.collector.trace.v1.TraceService",
        from_json=json_decode.traces,
        store=lambda ingest, body: ingest.traces(body),
        response=trace_pb.ExportTraceServiceResponse,
        rejected="rejected_spans",
    ),
    Signal(
        path="/v1/logs",
        service="opentelemetry.proto.collector.logs.v1.LogsService",
        from_json=json_decode.logs,
        store=lambda ingest, body: ingest.logs(body),
        response=logs_pb.ExportLogsServiceResponse,
        rejected="rejected_log_records",
    ),
    Signal(
        path="/v1/metrics",
        service="opentelemetry.proto.collector.metrics.v1.MetricsService",
        from_json=json_decode.metrics,
        store=lambda ingest, body: ingest.metrics(body),
        response=metrics_pb.ExportMetricsServiceResponse,
        rejected="rejected_data_points",
    ),
)
