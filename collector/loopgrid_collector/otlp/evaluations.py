"""Judgement as OpenTelemetry log records, one `gen_ai.evaluation.result` for each thing said. Pure.

The same row gives the same bytes, whenever it leaves: a receiver that has it already can tell.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from loopgrid.schema import JudgementKey, Key, parse_decision_id

EVENTS: Final = frozenset(
    {"mark", "approval", "correction", "agreement", "dispute", "withdrawal", "adjudication"}
)
"""Types of entries that leave."""

REVIEW: Final = "human_review"
_SAYS: Final[Mapping[str, tuple[str, str, float | None]]] = {
    "mark": (REVIEW, "incorrect", 0.0),
    "approval": (REVIEW, "correct", 1.0),
    # Whoever corrects may leave open how bad the output was, so there is no score.
    "correction": (REVIEW, "corrected", None),
    # These speak of what somebody said. Under a name of their own they are in nobody's average.
    "agreement": (f"{REVIEW}.agreement", "agreed", None),
    "dispute": (f"{REVIEW}.dispute", "disputed", None),
    "withdrawal": (f"{REVIEW}.withdrawal", "withdrawn", None),
    "adjudication": (f"{REVIEW}.adjudication", "adjudicated", None),
}
_SCOPE: Final = "loopgrid.judgement"
_SERVICE: Final = "loopgrid"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def request_of(rows: Sequence[Mapping[str, Any]], ledger_id: str) -> ExportLogsServiceRequest:
    """Rows of the view ``judgements`` as one request to a backend's ``/v1/logs``.

    Args:
        rows: what was said; ``output`` as JSON text, ``recorded_at`` in UTC.
        ledger_id: the ledger that holds it.
    """
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(
        [_pair(Key.SERVICE_NAME, _SERVICE), _pair(JudgementKey.LEDGER_ID, ledger_id)]
    )
    scope = resource.scope_logs.add()
    scope.scope.name = _SCOPE
    scope.log_records.extend(map(_record, rows))
    return request


def json_line(request: ExportLogsServiceRequest) -> bytes:
    """A request as OTLP/JSON on one line, ids in hexadecimal, with the line's end."""
    found = MessageToDict(request)
    for resource in found.get("resourceLogs", ()):
        for scope in resource.get("scopeLogs", ()):
            for record in scope.get("logRecords", ()):
                for name in ("traceId", "spanId"):
                    record[name] = base64.b64decode(record[name]).hex()
    return orjson.dumps(found) + b"\n"


def _record(row: Mapping[str, Any]) -> LogRecord:
    trace_id, span_id = parse_decision_id(row["decision_id"])
    name, label, score = _SAYS[row["event"]]
    elapsed = row["recorded_at"].replace(tzinfo=UTC) - _EPOCH
    time_ns = ((elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds) * 1000
    said = {
        JudgementKey.NAME: name,
        JudgementKey.LABEL: label,
        JudgementKey.VALUE: score,
        JudgementKey.EXPLANATION: row["reason"],
        JudgementKey.EVALUATOR_TYPE: "human",
        JudgementKey.EVALUATOR_ID: row["said_by"],
        JudgementKey.DECISION_ID: row["decision_id"],
        JudgementKey.JUDGEMENT_ID: row["judgement_id"],
        JudgementKey.JUDGEMENT_EVENT: row["event"],
        JudgementKey.SUBJECT_ID: row["subject_id"],
        JudgementKey.CATEGORY: row["category"],
        JudgementKey.SEVERITY: row["severity"],
        JudgementKey.POSITION: row["position"],
        JudgementKey.CORRECTION_OUTPUT: row["output"],
    }
    return LogRecord(
        time_unix_nano=time_ns,
        observed_time_unix_nano=time_ns,
        event_name=JudgementKey.EVALUATION_EVENT,
        trace_id=trace_id.to_bytes(16, "big"),
        span_id=span_id.to_bytes(8, "big"),
        attributes=[_pair(key, value) for key, value in said.items() if value is not None],
    )


def _pair(key: str, value: str | float) -> KeyValue:
    match value:
        case str():
            return KeyValue(key=key, value=AnyValue(string_value=value))
        case int():
            return KeyValue(key=key, value=AnyValue(int_value=value))
        case _:
            return KeyValue(key=key, value=AnyValue(double_value=value))
