"""Whatever an OTLP message holds, writing it as OTLP/JSON and reading it back gives the same message.

Members that OTLP does not know today come along as unknown fields.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import struct
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp import json_decode
from loopgrid_collector.otlp.decode import decode_traces
from tests.support.spans import span, traces

READERS = {
    ExportTraceServiceRequest: json_decode.traces,
    ExportLogsServiceRequest: json_decode.logs,
    ExportMetricsServiceRequest: json_decode.metrics,
}
NEW = {"nested": [1, {"traceId": "!"}]}
IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
DEEPEST = 12

SCALARS = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=12),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=12),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    # JSON has one NaN; what the others carry besides is pinned below.
    FieldDescriptor.TYPE_DOUBLE: st.floats().map(lambda number: math.nan if math.isnan(number) else number),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(0, 5),
}
LONG = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
}


@st.composite
def contents(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> dict[str, Any]:
    """What a message's constructor takes, with some of its fields set, at most one of each choice."""
    chosen: dict[str, Any] = {}
    choices: set[str] = set()
    # Two fields in five on average: enough to meet all of them, few enough to stay small.
    for field in descriptor.fields:
        choice = field.containing_oneof.name if field.containing_oneof else None
        wanted = depth < 4 and field.message_type is not None and choice is None
        if choice in choices or not (wanted or draw(st.integers(0, 4)) < 2):
            continue
        if field.message_type is not None and depth >= DEEPEST:
            continue
        one = value_of(field, depth)
        chosen[field.name] = draw(st.lists(one, max_size=2) if field.is_repeated else one)
        choices |= {choice} if choice else set()
    return chosen


def value_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return contents(field.message_type, depth + 1)
    if field.name in IDS:
        return st.one_of(st.just(b""), st.binary(min_size=IDS[field.name], max_size=IDS[field.name]))
    return SCALARS[field.type]


class Writer:
    """Writes OTLP/JSON, choosing freely among the notations that it allows."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.messages = 0

    def message(self, descriptor: Descriptor, fields: dict[str, Any]) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, value in fields.items():
            field = descriptor.fields_by_name[name]
            key = self._either(field.json_name, field.name)
            written[key] = (
                [self._one(field, item) for item in value] if field.is_repeated else self._one(field, value)
            )
        written[self._either("somethingNew", "schema_of_tomorrow")] = NEW
        self.messages += 1
        return written

    def _either(self, *notations: Any) -> Any:
        return self._draw(st.sampled_from(notations))

    def _one(self, field: FieldDescriptor, value: Any) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, value)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._hexadecimal(value) if field.name in IDS else self._base64(value)
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return self._double(value)
        if field.enum_type is not None:
            known = field.enum_type.values_by_number.get(value)
            return self._either(value, known.name) if known else value
        if field.type in LONG:
            return self._either(value, str(value))
        return value

    def _hexadecimal(self, value: bytes) -> str:
        return str(self._either(value.hex(), value.hex().upper()))

    def _base64(self, value: bytes) -> str:
        text = self._either(base64.b64encode(value), base64.urlsafe_b64encode(value)).decode()
        return str(self._either(text, text.rstrip("=")))

    def _double(self, value: float) -> Any:
        if math.isfinite(value):
            return self._either(value, repr(value))
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


@pytest.mark.parametrize("kind", tuple(READERS))
@settings(max_examples=60)
@given(data=st.data())
def test_a_message_written_as_otlp_json_reads_back_as_itself(kind, data):
    fields = data.draw(contents(kind.DESCRIPTOR))
    writer = Writer(data.draw)
    document = writer.message(kind.DESCRIPTOR, fields)

    converted = READERS[kind](json.dumps(document).encode())

    assert converted.count(json.dumps(NEW, separators=(",", ":")).encode()) == writer.messages
    read = kind.FromString(converted)
    read.DiscardUnknownFields()
    assert canonical(read) == canonical(kind(**fields))


def test_a_nan_with_a_payload_travels_as_protobuf_and_becomes_the_plain_nan_in_json():
    """JSON's "NaN" has no room for the payload: only protobuf keeps it, and the ledger's text is the same."""
    (payload,) = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))
    sent = traces(span(attributes=[("odd", payload)]))
    document = json_format.MessageToDict(ExportTraceServiceRequest.FromString(sent))
    (written,) = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    written |= {"traceId": "1" * 32, "spanId": "1" * 16}

    read = json_decode.traces(json.dumps(document).encode())

    assert struct.pack("<d", payload) in sent
    assert struct.pack("<d", payload) not in read
    assert struct.pack("<d", math.nan) in read
    (stored,), (read_back,) = (decode_traces(body).columns["attributes"].to_pylist() for body in (sent, read))
    assert stored == read_back == '{"odd":{"$double":"NaN"}}'


def canonical(message):
    # NaN differs from itself, and so would two equal messages that hold one.
    return message.SerializeToString(deterministic=True)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=8), st.sampled_from(("traceId", "attributes", "value", "intValue"))),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(value=json_values, wrapped=st.booleans())
def test_any_other_json_is_read_or_refused_as_undecodable_and_nothing_else(value, wrapped):
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]} if wrapped else value

    refuses_only_politely(json.dumps(document).encode())


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_as_undecodable_and_nothing_else(body):
    refuses_only_politely(body)


def refuses_only_politely(body: bytes) -> None:
    with contextlib.suppress(Undecodable):
        decode_traces(json_decode.traces(body))
