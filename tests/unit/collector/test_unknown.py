"""Fields that OTLP has not got today: stored as they came, beside what is read, and told."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loopgrid_collector.otlp import decode, envelope, json_decode, unknown
from loopgrid_collector.otlp.decode import decode_logs, decode_traces
from loopgrid_collector.otlp.stored import attributes_of_json
from loopgrid_collector.otlp.unknown import MEMBER
from tests.support.ledgers import house
from tests.support.spans import chat, log_record, logs, span, traces

# Field 1000, a number: 7. Field 1001, a text.
NEW = b"\xc0\x3e\x07" + b"\xca\x3e\x03abc"
KEPT = {"$bytes": base64.b64encode(NEW).decode()}


def with_new(message: Any) -> Any:
    message.MergeFromString(NEW)
    return message


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def kept_of(body: bytes, column: str = "attributes", row: int = 0) -> Any:
    text = decode_traces(body).columns[column][row].as_py()
    return json.loads(text).get(MEMBER)


def request_of(*spans: Any) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(traces(*spans))


def test_unknown_fields_of_a_span_are_kept_as_they_came_and_its_neighbours_have_none():
    batch = decode_traces(traces(span(1), with_new(span(2, attributes={"a": 1})), span(3)))
    stored = [json.loads(text) for text in batch.columns["attributes"].to_pylist()]

    assert stored == [{}, {MEMBER: [{"at": "", "protobuf": KEPT}], "a": 1}, {}]
    assert batch.unknown.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("place", "inner"),
    [
        ("attributes[0]", lambda item: item.attributes.add(key="k")),
        ("attributes[0].value", lambda item: item.attributes.add(key="k").value),
        (
            "attributes[0].value.arrayValue.values[0]",
            lambda item: item.attributes.add(key="k").value.array_value.values.add(),
        ),
        (
            "attributes[0].value.kvlistValue.values[0].value",
            lambda item: item.attributes.add(key="k").value.kvlist_value.values.add(key="l").value,
        ),
        ("events[0]", lambda item: item.events.add(name="e")),
        ("links[0]", lambda item: item.links.add(trace_id=b"1" * 16, span_id=b"2" * 8)),
        ("status", lambda item: item.status),
    ],
)
def test_what_is_kept_says_where_in_the_span_it_stood(place, inner):
    item = span(1)
    with_new(inner(item))

    assert kept_of(traces(item)) == [{"at": place, "protobuf": KEPT}]


def test_texts_by_index_which_only_profiles_have_are_kept_as_unknown():
    item = span(1)
    item.attributes.add(key="k").value.string_value_strindex = 5

    (found,) = kept_of(traces(item))

    assert found["at"] == "attributes[0].value"
    assert base64.b64decode(found["protobuf"]["$bytes"]) == item.attributes[0].value.SerializeToString()


def test_unknown_fields_of_resource_and_scope_and_beside_them_stand_in_their_json():
    request = request_of(span(1))
    (resource_spans,) = request.resource_spans
    (scope_spans,) = resource_spans.scope_spans
    for message in (resource_spans, resource_spans.resource, scope_spans, scope_spans.scope):
        with_new(message)
    body = request.SerializeToString()
    both = [{"at": "", "around_protobuf": KEPT}, {"at": "", "protobuf": KEPT}]

    assert kept_of(body, "resource") == both
    assert kept_of(body, "scope") == both
    assert kept_of(body) is None
    assert decode_traces(body).unknown.tolist() == [True]


def test_unknown_members_of_json_are_kept_as_json():
    new = {"tomorrow": [{"deep": {"er": [None, 1.5, "ä"]}}]}
    one = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        **new,
        "status": new,
        "attributes": [{"key": "k", **new}],
    }
    body = {
        "resourceSpans": [
            {"resource": new, **new, "scopeSpans": [{"scope": new, **new, "spans": [one]}], "schemaUrl": "u"}
        ]
    }
    written = json_decode.traces(json.dumps(body).encode())
    both = [{"at": "", "around_json": new}, {"at": "", "json": new}]

    assert kept_of(written) == [
        {"at": "attributes[0]", "json": new},
        {"at": "status", "json": new},
        {"at": "", "json": new},
    ]
    assert kept_of(written, "resource") == kept_of(written, "scope") == both


def test_unknown_fields_of_a_log_record_are_kept_too():
    record = with_new(log_record())

    batch = decode_logs(logs(record))

    assert json.loads(batch.columns["attributes"][0].as_py())[MEMBER] == [{"at": "", "protobuf": KEPT}]


def test_a_known_field_that_is_written_out_though_it_is_zero_is_not_unknown():
    # The runtime leaves zeros out, so it is put in by hand: dropped_attributes_count 0.
    body = _field(2, span(1).SerializeToString() + b"\x50\x00")

    assert kept_of(_field(1, _field(2, body))) is None


@pytest.mark.parametrize(
    "value", [-1, 2**63 - 1, 127, 128, 2**14, 2**21, "x" * 127, "x" * 128, "", [], {}, ..., b""]
)
def test_spans_whose_fields_are_all_known_are_not_looked_at_twice(value):
    item = chat(1, key=value, others=[value, {"k": value}])
    item.MergeFrom(Span(kind=Span.SPAN_KIND_CLIENT, flags=1, dropped_events_count=300))
    item.status.message = "m" * 200
    items = envelope.cut([traces(item)]).items

    suspects, indexed = unknown.suspects_among(decode._SPAN.array_to_record_batch(items), items)

    assert not suspects.any()
    assert not indexed.any()


def test_attributes_are_read_back_without_what_is_kept_beside_them():
    batch = decode_traces(traces(with_new(span(1, attributes=[("a", 1), ("a", 2)]))))
    text = batch.columns["attributes"][0].as_py()

    assert json.loads(text) == {MEMBER: [{"at": "", "protobuf": KEPT}], "$map": [["a", 1], ["a", 2]]}
    assert attributes_of_json([text]).objects().to_pylist() == ['{"$map":[["a",1],["a",2]]}']


def test_a_decision_says_that_it_holds_what_nobody_reads_and_a_resend_is_a_duplicate(tmp_path):
    body = traces(with_new(chat(1)), chat(2))

    with house(tmp_path) as it:
        it.ingest.traces_blocking(body)
        again = it.ingest.traces_blocking(body)
        changed = it.ingest.traces_blocking(traces(chat(1)))
        found = it.rows("SELECT lossiness FROM decisions ORDER BY decision_id")

    assert ["unknown_fields" in (codes or []) for (codes,) in found] == [True, False]
    assert (again.duplicates, changed.conflicts) == (2, 1)
