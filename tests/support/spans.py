"""Builders of OTLP requests for tests: small, explicit, deterministic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000


def any_value(value: Any) -> AnyValue:
    """A Python value as AnyValue; ``...`` is a value with no member set."""
    found = AnyValue()
    if value is ...:
        return found
    if isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    elif isinstance(value, str):
        found.string_value = value
    elif isinstance(value, bytes):
        found.bytes_value = value
    elif isinstance(value, Mapping):
        found.kvlist_value.SetInParent()
        found.kvlist_value.values.extend(attributes(value))
    else:
        found.array_value.SetInParent()
        found.array_value.values.extend(any_value(item) for item in value)
    return found


def attributes(pairs: Mapping[str, Any] | list[tuple[str, Any]]) -> list[KeyValue]:
    """Attributes from a mapping, or from pairs where keys repeat."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [KeyValue(key=key, value=any_value(value)) for key, value in items]


def span(number: int = 1, **changes: Any) -> Span:
    """A span with ids made from a number; ``attributes`` may be a mapping."""
    fields: dict[str, Any] = {
        "trace_id": number.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "name": "chat gpt-5-mini",
        "kind": 3,
        "start_time_unix_nano": START_NS + number,
        "end_time_unix_nano": START_NS + number + SECOND_NS,
    }
    fields.update(changes)
    fields["attributes"] = attributes(fields.get("attributes", {}))
    return Span(**fields)


def chat(number: int = 1, **more: Any) -> Span:
    """A model call as OTel GenAI instrumentations send it."""
    content = '[{"role":"user","parts":[{"type":"text","content":"ticket %d"}]}]' % number
    answer = (
        '[{"role":"assistant","parts":[{"type":"text","content":"answer %d"}],"finish_reason":"stop"}]'
        % number
    )
    return span(
        number,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.usage.input_tokens": 42,
            "gen_ai.usage.output_tokens": 17,
            "gen_ai.input.messages": content,
            "gen_ai.output.messages": answer,
            **more,
        },
    )


def traces(*spans: Span, service: str | None = "test-service", scope: str = "tests") -> bytes:
    """The spans as one ``ExportTraceServiceRequest`` body."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(attributes({} if service is None else {"service.name": service}))
    found = resource.scope_spans.add()
    found.scope.name = scope
    found.spans.extend(spans)
    return request.SerializeToString()


def logs(*records: LogRecord, service: str = "test-service") -> bytes:
    """The records as one ``ExportLogsServiceRequest`` body."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(attributes({"service.name": service}))
    resource.scope_logs.add().log_records.extend(records)
    return request.SerializeToString()


def log_record(number: int = 1, **changes: Any) -> LogRecord:
    """A log record on the span with the same number."""
    fields: dict[str, Any] = {
        "trace_id": number.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "time_unix_nano": START_NS + number,
        "event_name": "app.event",
    }
    fields.update(changes)
    fields["attributes"] = attributes(fields.get("attributes", {}))
    return LogRecord(**fields)
