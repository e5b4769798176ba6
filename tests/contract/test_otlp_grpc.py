"""OTLP over gRPC against the real server and a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from tests.contract.doors import Doors, running
from tests.support.spans import log_record, logs, span, traces

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
def channel(doors: Doors) -> Iterator[grpc.Channel]:
    """A connection to the gRPC port."""
    with grpc.insecure_channel(doors.addresses.otlp_grpc) as found:
        yield found


def export(channel: grpc.Channel, body: bytes, method: str = EXPORT, **options) -> bytes:
    """One call with raw bytes, as no generated stub would send them."""
    call: Any = channel.unary_unary(method, None, None)
    answer: bytes = call(body, timeout=20, **options)
    return answer


def refusal(
    channel: grpc.Channel, body: bytes, method: str = EXPORT
) -> tuple[grpc.StatusCode, status_pb2.Status | None]:
    """The code of a refused call, and its Status where it has one."""
    with pytest.raises(grpc.RpcError) as refused:
        export(channel, body, method)
    error: Any = refused.value
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    return error.code(), status_pb2.Status.FromString(details) if details else None


def test_each_service_takes_its_signal_and_the_ledger_has_it_at_once(doors: Doors, channel):
    spans = ExportTraceServiceRequest.FromString(traces(span(1), span(2)))
    records = ExportLogsServiceRequest.FromString(logs(log_record(1)))

    answer = TraceServiceStub(channel).Export(spans, timeout=20)
    LogsServiceStub(channel).Export(records, timeout=20)
    MetricsServiceStub(channel).Export(ExportMetricsServiceRequest(), timeout=20)

    assert not answer.HasField("partial_success")
    assert (doors.count("spans"), doors.count("events")) == (2, 1)


def test_an_empty_request_is_a_success(channel):
    assert export(channel, b"") == b""


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_read(doors: Doors, channel, compression):
    export(channel, traces(span(1)), compression=compression)

    assert doors.count("spans") == 1


def test_metadata_of_any_kind_does_no_harm(channel):
    metadata = (("authorization", "Bearer x"), ("some-bin", b"\x00\xff"))

    assert export(channel, traces(span(1)), metadata=metadata) == b""


def test_a_service_that_is_not_there_is_unimplemented_and_the_connection_stays_usable(channel):
    profiles = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"

    assert refusal(channel, b"", profiles) == (grpc.StatusCode.UNIMPLEMENTED, None)
    assert export(channel, b"") == b""


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_message_of_exactly_the_limit_passes_and_one_byte_more_is_refused_for_good(tmp_path, compression):
    body = traces(span(1, name="x" * 5_000))
    with (
        running(tmp_path, max_body_bytes=len(body)) as doors,
        grpc.insecure_channel(doors.addresses.otlp_grpc) as channel,
    ):
        assert export(channel, body, compression=compression) == b""
        code, status = refusal(channel, traces(span(1, name="x" * 5_001)))

        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status is None


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"not otlp at all", b"\x0a\x7f"])
def test_a_message_that_is_not_otlp_is_an_invalid_argument(channel, body):
    code, status = refusal(channel, body)
    detail = error_details_pb2.BadRequest()

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert status is not None
    assert status.code == 3
    assert status.details[0].Unpack(detail)
    assert detail.field_violations[0].description == status.message != ""


def test_one_bad_span_costs_no_neighbour_and_is_counted_in_the_answer(doors: Doors, channel):
    answer = export(channel, traces(span(1), span(2, span_id=b"")))
    told = ExportTraceServiceResponse.FromString(answer).partial_success

    assert told.rejected_spans == 1
    assert "span_id must be 8 bytes" in told.error_message
    assert (doors.count("spans"), doors.count("quarantine")) == (1, 1)


def test_a_closed_ledger_is_unavailable_with_a_delay(doors: Doors, channel):
    doors.ledger.close()
    code, status = refusal(channel, traces(span(1)))
    retry = error_details_pb2.RetryInfo()

    assert code is grpc.StatusCode.UNAVAILABLE
    assert status is not None
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_ipv6_is_served(tmp_path):
    with running(tmp_path, host="::1") as doors, grpc.insecure_channel(doors.addresses.otlp_grpc) as channel:
        assert doors.addresses.otlp_grpc.startswith("[::1]:")
        assert export(channel, traces(span(1))) == b""
