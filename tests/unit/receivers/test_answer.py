"""Response bodies: empty on success, counts on partial success, a Status on refusal."""

from __future__ import annotations

import json

import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from loopgrid_collector.errors import Overloaded, Undecodable
from loopgrid_collector.ingest import Receipt
from loopgrid_collector.receivers import answer
from loopgrid_collector.receivers.answer import Encoding
from loopgrid_collector.receivers.signals import SIGNALS
from loopgrid_collector.receivers.status import verdict

TRACES, LOGS, METRICS = SIGNALS


@pytest.mark.parametrize("signal", SIGNALS)
def test_success_is_an_empty_message(signal):
    assert answer.success(signal, Receipt(stored=3), Encoding.PROTOBUF) == b""
    assert answer.success(signal, Receipt(stored=3), Encoding.JSON) == b"{}"


def test_what_was_rejected_is_counted_with_its_reason():
    receipt = Receipt(stored=1, rejected=2, message="two ids were zero")

    traces = ExportTraceServiceResponse.FromString(answer.success(TRACES, receipt, Encoding.PROTOBUF))
    logs = ExportLogsServiceResponse.FromString(answer.success(LOGS, receipt, Encoding.PROTOBUF))
    told = json.loads(answer.success(METRICS, receipt, Encoding.JSON))

    assert traces.partial_success.rejected_spans == 2
    assert traces.partial_success.error_message == "two ids were zero"
    assert logs.partial_success.rejected_log_records == 2
    assert told == {"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "two ids were zero"}}


def test_advice_comes_with_a_count_of_zero():
    told = json.loads(answer.success(TRACES, Receipt(stored=1, message="note this"), Encoding.JSON))

    assert told == {"partialSuccess": {"errorMessage": "note this"}}


def test_a_long_message_is_cut():
    body = answer.success(TRACES, Receipt(rejected=1, message="x" * 10_000), Encoding.PROTOBUF)

    assert len(body) < 2_100


def test_an_invalid_request_is_told_what_is_wrong():
    body = answer.refusal(verdict(Undecodable("not OTLP")), Encoding.PROTOBUF)
    status = status_pb2.Status.FromString(body)
    detail = error_details_pb2.BadRequest()

    assert (status.code, status.message) == (3, "not OTLP")
    assert status.details[0].Unpack(detail)
    assert detail.field_violations[0].description == "not OTLP"


def test_a_retryable_refusal_carries_its_delay():
    told = json.loads(answer.refusal(verdict(Overloaded("busy")), Encoding.JSON))

    assert told == {
        "code": 14,
        "message": "busy",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}],
    }


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("application/x-protobuf", Encoding.PROTOBUF),
        ("application/x-protobuf;foo=bar", Encoding.PROTOBUF),
        ("APPLICATION/JSON", Encoding.JSON),
        ("application/json; charset=utf-8", Encoding.JSON),
        ("application/protobuf", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_the_encoding_is_the_media_type_without_case_and_parameters(header, encoding):
    assert answer.encoding_of(header) is encoding
