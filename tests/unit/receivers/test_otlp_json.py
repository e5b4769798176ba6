"""OTLP/JSON, notation by notation: read exactly, or refused with the place named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp import json_decode
from loopgrid_collector.otlp.decode import decode_logs, decode_traces
from loopgrid_collector.otlp.envelope import cut


def body_with(span: object) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def read(body: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(json_decode.traces(body))


def read_span(span: object) -> Span:
    return read(body_with(span)).resource_spans[0].scope_spans[0].spans[0]


def read_value(value: object):
    return read_span({"attributes": [{"key": "k", "value": value}]}).attributes[0].value


def refusal(body: bytes) -> str:
    """Why the whole request is refused."""
    with pytest.raises(Undecodable) as refused:
        json_decode.traces(body)
    return refused.value.message


def span_refusal(body: bytes) -> str:
    """Why the one span of a request that is taken is refused."""
    (item,) = cut([json_decode.traces(body)]).items.to_pylist()
    assert item.startswith(json_decode.REFUSED_MARK)
    reason = json_decode.why_refused("traces", item.removeprefix(json_decode.REFUSED_MARK))
    assert reason is not None
    return reason


@pytest.mark.parametrize("text", ["0af7651916cd43dd8448eb211c80319c", "0AF7651916CD43DD8448EB211C80319C"])
def test_ids_are_hexadecimal_in_either_case(text):
    assert read_span({"traceId": text}).trace_id == bytes.fromhex("0af7651916cd43dd8448eb211c80319c")


def test_an_empty_id_is_an_absent_one():
    assert read_span({"parentSpanId": ""}).parent_span_id == b""


@pytest.mark.parametrize(
    "wrong", ["CvdlGRbNQ92ESOshHIAxnA==", "0af", "zz" * 16, " af7651916cd43dd8448eb211c80319c", 7, ["00"]]
)
def test_an_id_that_is_not_hexadecimal_is_refused_by_name_and_never_stored_as_other_bytes(wrong):
    message = span_refusal(body_with({"traceId": wrong}))

    assert message.startswith("traceId: expected")
    assert str(wrong) not in message


def test_an_id_of_the_wrong_length_passes_as_it_is_so_that_ingest_refuses_its_span_alone():
    assert read_span({"spanId": "abcd"}).span_id == b"\xab\xcd"


def test_ids_of_links_and_logs_are_hexadecimal_too():
    link = read_span({"links": [{"traceId": "ab" * 16, "spanId": "cd" * 8}]}).links[0]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "ef" * 16}]}]}]}
    record = ExportLogsServiceRequest.FromString(json_decode.logs(json.dumps(logs).encode()))

    assert (link.trace_id.hex(), link.span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert record.resource_logs[0].scope_logs[0].log_records[0].trace_id.hex() == "ef" * 16


@pytest.mark.parametrize("number", [0, 1, 2**53 + 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("notation", [str, int])
def test_64_bit_integers_are_exact_as_strings_and_as_numbers(number, notation):
    assert read_value({"intValue": notation(number)}).int_value == number


@pytest.mark.parametrize("notation", [str, int])
def test_times_reach_to_the_last_unsigned_nanosecond(notation):
    assert read_span({"endTimeUnixNano": notation(2**64 - 1)}).end_time_unix_nano == 2**64 - 1


@pytest.mark.parametrize(("notation", "number"), [(1.0, 1), ("1e3", 1000), ("1.0", 1), (b"1e3", 1000)])
def test_an_integer_may_be_written_as_a_float_without_a_fraction(notation, number):
    body = body_with({"attributes": [{"key": "k", "value": {"intValue": "HERE"}}]})
    text = notation if isinstance(notation, bytes) else json.dumps(notation).encode()

    value = read(body.replace(b'"HERE"', text)).resource_spans[0].scope_spans[0].spans[0].attributes[0].value

    assert value.int_value == number


@pytest.mark.parametrize(
    "wrong",
    [1.5, "1.5", 2**63, str(2**63), -(2**63) - 1, 2**64, 1e17, "", "abc", "1_000", "٣", "1e9999", True, []],
)
def test_an_integer_that_cannot_be_stored_exactly_is_refused(wrong):
    message = span_refusal(body_with({"attributes": [{"key": "k", "value": {"intValue": wrong}}]}))

    assert "attributes[0].value.intValue: " in message


def test_an_enum_is_an_integer_known_or_not_or_a_name():
    assert read_span({"kind": 3}).kind == Span.SPAN_KIND_CLIENT
    assert read_span({"kind": 77}).kind == 77
    assert read_span({"kind": "SPAN_KIND_CLIENT"}).kind == Span.SPAN_KIND_CLIENT


def test_an_unknown_name_of_an_enum_is_refused_with_the_nearest_one():
    message = span_refusal(body_with({"kind": "SPAN_KIND_CLEINT"}))

    assert "kind: not a name of SpanKind; did you mean SPAN_KIND_CLIENT?" in message


def test_snake_case_names_are_read_like_camel_case_ones():
    span = {"trace_id": "ab" * 16, "start_time_unix_nano": "5"}

    assert read_span(span) == read_span({"traceId": "ab" * 16, "startTimeUnixNano": "5"})


def test_unknown_fields_are_no_reason_to_refuse_at_any_level():
    unknown = {"tomorrow": [{"traceId": "not hexadecimal", "deep": {"er": [None, 1.5]}}]}
    body = {
        "resourceSpans": [
            {
                "scopeSpans": [{"spans": [{"name": "n", **unknown}], "scope": unknown, **unknown}],
                "resource": unknown,
                **unknown,
            }
        ],
        **unknown,
    }
    known = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "n"}], "scope": {}}], "resource": {}}]}

    found = read(json.dumps(body).encode())
    found.DiscardUnknownFields()

    assert found == read(json.dumps(known).encode())


def test_null_means_absent():
    span = {"traceId": None, "attributes": None, "status": None, "name": None, "kind": None}

    assert read_span(span) == read_span({})


def test_null_empty_and_absent_values_are_told_apart():
    attributes = [{"key": "absent"}, {"key": "null", "value": None}, {"key": "empty", "value": {}}]
    held = [pair.HasField("value") for pair in read_span({"attributes": attributes}).attributes]

    assert held == [False, False, True]


def test_null_inside_an_array_value_is_an_empty_value():
    values = read_value({"arrayValue": {"values": [None, {"intValue": 1}]}}).array_value.values

    assert [value.WhichOneof("value") for value in values] == [None, "int_value"]


@pytest.mark.parametrize("text", ["+/8=", "-_8=", "+/8", "-_8"])
def test_bytes_are_base64_of_either_alphabet_with_or_without_padding(text):
    assert read_value({"bytesValue": text}).bytes_value == b"\xfb\xff"


@pytest.mark.parametrize("wrong", ["a", "a b=", "é", 5])
def test_bytes_that_are_not_base64_are_refused(wrong):
    assert "expected base64" in span_refusal(
        body_with({"attributes": [{"key": "k", "value": {"bytesValue": wrong}}]})
    )


def test_doubles_keep_what_json_numbers_cannot_say():
    assert math.isnan(read_value({"doubleValue": "NaN"}).double_value)
    assert read_value({"doubleValue": "Infinity"}).double_value == math.inf
    assert read_value({"doubleValue": "-Infinity"}).double_value == -math.inf
    assert math.copysign(1, read_value({"doubleValue": -0.0}).double_value) == -1
    assert read_value({"doubleValue": "2.5"}).double_value == 2.5
    assert read_value({"doubleValue": 3}).double_value == 3.0


@pytest.mark.parametrize("wrong", ['"1e400"', '"nan"', '"inf"', "true"])
def test_a_double_out_of_range_or_not_a_number_is_refused(wrong):
    body = body_with({"attributes": [{"key": "k", "value": {"doubleValue": "HERE"}}]})

    assert "doubleValue: " in span_refusal(body.replace(b'"HERE"', wrong.encode()))


@pytest.mark.parametrize("wrong", ["1e400", "NaN", "Infinity"])
def test_a_number_that_json_has_not_got_makes_the_body_no_json(wrong):
    body = body_with({"attributes": [{"key": "k", "value": {"doubleValue": "HERE"}}]})

    assert "not JSON" in refusal(body.replace(b'"HERE"', wrong.encode()))
    assert "not JSON" in refusal(body.replace(b'"HERE"', wrong.encode() + b',"a":"\\ud800"'))


def test_two_members_of_a_choice_are_refused():
    message = span_refusal(
        body_with({"attributes": [{"key": "k", "value": {"stringValue": "a", "intValue": "1"}}]})
    )

    assert "attributes[0].value: only one of string_value and int_value can be set" in message


def test_of_a_key_that_occurs_twice_the_last_one_counts():
    body = body_with({"name": "HERE"}).replace(b'"name": "HERE"', b'"name": "first", "name": "last"')

    assert read(body).resource_spans[0].scope_spans[0].spans[0].name == "last"


def test_a_byte_order_mark_and_an_escaped_nul_are_tolerated():
    assert (
        read(b"\xef\xbb\xbf" + body_with({"name": "a\x00b"})).resource_spans[0].scope_spans[0].spans[0].name
        == "a\x00b"
    )


@pytest.mark.parametrize("wrong", [b'"\\ud800"', b'"\xff"'])
def test_text_that_is_not_unicode_costs_its_own_span_only(wrong):
    good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "é"}
    spans = [good, {**good, "spanId": "ef" * 8, "name": "HERE"}]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    batch = decode_traces(json_decode.traces(body.replace(b'"HERE"', wrong)))

    assert batch.columns["name"].to_pylist() == ["é"]
    assert [item.reason.partition(":")[0] for item in batch.refused] == ["name"]


@pytest.mark.parametrize("wrong", [b'"\\ud800"', b'"\xff"'])
def test_text_that_is_not_unicode_outside_of_a_span_is_refused(wrong):
    body = b'{"resourceSpans":[{"schemaUrl":HERE,"scopeSpans":[]}]}'

    assert "resourceSpans[0].schemaUrl: expected text" in refusal(body.replace(b"HERE", wrong))


@pytest.mark.parametrize("levels", [1, 10, 47])
def test_values_nest_as_deep_as_the_protobuf_runtime_reads_them(levels):
    assert read(nested(levels)).resource_spans


@pytest.mark.parametrize("levels", [48, 100, 200])
def test_values_nested_deeper_cost_their_own_span(levels):
    assert "nested deeper than 100 messages" in span_refusal(nested(levels))


@pytest.mark.parametrize("levels", [10_000, 1_000_000])
def test_values_nested_deeper_than_json_is_read_are_refused(levels):
    assert "not JSON" in refusal(nested(levels))


@pytest.mark.parametrize("item", [{"traceId": "not hexadecimal"}, None, "x", 5, []])
def test_an_item_that_does_not_fit_is_kept_as_its_json_and_costs_no_neighbour(item):
    good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "timeUnixNano": "1"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [good, item, good]}]}]}
    batch = decode_traces(json_decode.traces(json.dumps(body).encode()))
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [good, item, good]}]}]}
    records = decode_logs(json_decode.logs(json.dumps(body).encode()))

    assert (batch.rows, records.rows) == (2, 2)
    assert [json.loads(refused.payload) for refused in batch.refused + records.refused] == [item, item]


@pytest.mark.parametrize(
    "lists", [[[None] * 10_001], [[None]] * 10_001], ids=["in one list", "in as many lists"]
)
def test_more_misfits_than_a_sender_can_mean_are_refused_as_a_whole(lists):
    body = {"resourceSpans": [{"scopeSpans": [{"spans": spans} for spans in lists]}]}

    assert "not OTLP/JSON" in refusal(json.dumps(body).encode())


def test_the_mark_of_a_refused_item_in_front_of_anything_else_makes_an_unreadable_item():
    pretended = json_decode.REFUSED_MARK + b"{}"
    request = bytes((0x0A, len(pretended) + 4, 0x12, len(pretended) + 2, 0x12, len(pretended))) + pretended
    (refused,) = decode_traces(request).refused

    assert (refused.reason_code, refused.payload) == ("unreadable", pretended)


def nested(levels: int) -> bytes:
    opening, closing = '{"arrayValue":{"values":[', "]}}"
    value = opening * levels + '{"stringValue":"x"}' + closing * levels
    return body_with({"attributes": [{"key": "k", "value": "HERE"}]}).replace(b'"HERE"', value.encode())


@pytest.mark.parametrize("wrong", [b"", b" ", b"{", b"{}{}", b"not json", b"\x00\x01"])
def test_a_body_that_is_not_json_is_refused(wrong):
    assert "The body is not JSON: " in refusal(wrong)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "the body: expected an object, found a list"),
        ({"resourceSpans": {}}, "resourceSpans: expected a list, found an object"),
        ({"resourceSpans": [None]}, "resourceSpans[0]: expected an object, found null"),
        (
            {"resourceSpans": [{"scopeSpans": [{"spans": "x"}]}]},
            "resourceSpans[0].scopeSpans[0].spans: expected a list, found a string",
        ),
        (
            {"resourceSpans": [{"resource": {"attributes": [{"key": 5}]}}]},
            "resourceSpans[0].resource.attributes[0].key: expected a string, found a number",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_place(document, place):
    assert place in refusal(json.dumps(document).encode())


def test_an_empty_object_is_an_empty_request():
    assert json_decode.traces(b"{}") == b""
    assert json_decode.logs(b"{}") == b""
    assert json_decode.metrics(b"{}") == b""


KINDS: dict[str, tuple[Callable[[bytes], bytes], type[Message]]] = {
    "traces": (json_decode.traces, ExportTraceServiceRequest),
    "logs": (json_decode.logs, ExportLogsServiceRequest),
    "metrics": (json_decode.metrics, ExportMetricsServiceRequest),
}


def test_every_captured_sample_reads_from_json_as_it_does_from_protobuf(repository):
    compared = 0
    for path in sorted((repository / "tests" / "data" / "otlp-samples").rglob("*-*.json")):
        binary = path.with_suffix(".pb")
        if not binary.exists():
            continue
        reader, kind = KINDS[path.stem.partition("-")[2]]
        assert kind.FromString(reader(path.read_bytes())).SerializeToString(deterministic=True) == (
            kind.FromString(binary.read_bytes()).SerializeToString(deterministic=True)
        ), path.name
        compared += 1

    assert compared > 200
