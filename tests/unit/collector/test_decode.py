"""OTLP bytes become rows, or stand in quarantine; never anything third."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp.attributes import ABSENT, Attributes, Type
from loopgrid_collector.otlp.decode import MAX_REFUSED, decode_logs, decode_traces
from loopgrid_collector.otlp.envelope import MAX_ITEMS, MAX_SURROUNDINGS
from tests.support.spans import any_value, attributes, chat, log_record, logs, span, traces


def _bytes(number: int, **changes: Any) -> bytes:
    return span(number, **changes).SerializeToString()


def _field(number: int, payload: bytes) -> bytes:
    size, length = len(payload), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def decoded_attributes(pairs: Any) -> Any:
    batch = decode_traces(traces(span(attributes=pairs)))
    return json.loads(batch.columns["attributes"][0].as_py())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        ("", ""),
        ('quote " backslash \\ newline \n nul \x00 line separator \u2028', None),
        (True, True),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (0.1, 0.1),
        (math.nan, {"$double": "NaN"}),
        (-math.inf, {"$double": "-Infinity"}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (..., None),
        ([], []),
        ({}, {}),
        ([1, "a", [True], {"k": b"x"}], [1, "a", [True], {"k": {"$bytes": "eA=="}}]),
        ({"$bytes": "not bytes"}, {"$map": [["$bytes", "not bytes"]]}),
    ],
)
def test_every_attribute_value_survives_in_json(value: Any, shown: Any) -> None:
    expected = value if shown is None and value is not ... else shown

    assert {"key": expected} == decoded_attributes({"key": value})


def test_an_integer_and_a_double_of_the_same_size_stay_apart() -> None:
    batch = decode_traces(traces(span(attributes={"i": 1, "d": 1.0, "large": 1e300})))

    assert '{"i":1,"d":1.0,"large":1e+300}' == batch.columns["attributes"][0].as_py()


def test_duplicate_keys_are_kept_in_order() -> None:
    assert {"$map": [["k", 1], ["k", 2]]} == decoded_attributes([("k", 1), ("k", 2)])


def test_of_duplicate_keys_the_first_is_what_dialects_see() -> None:
    batch = decode_traces(traces(span(attributes=[("k", "first"), ("k", "second")])))

    assert ["first"] == batch.attributes.text("k").to_pylist()
    assert {"k": "first"} == batch.attributes.of_row(0)


def test_attributes_of_one_span_never_reach_another() -> None:
    batch = decode_traces(
        traces(span(1, attributes={"a": "x", "n": 5}), span(2), span(3, attributes={"a": "z", "b": True}))
    )

    assert ["x", None, "z"] == batch.attributes.text("a").to_pylist()
    assert [5, None, None] == batch.attributes.integer("n").to_pylist()
    assert [None, None, "true"] == batch.attributes.json_of("b").to_pylist()
    assert [True, False, True] == batch.attributes.has("a").tolist()
    assert [ABSENT, ABSENT, Type.BOOL] == batch.attributes.type_of("b").tolist()
    assert ["{}"] == batch.columns["attributes"].to_pylist()[1:2]


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        (5, 5),
        (5.0, 5),
        ("5", 5),
        (5.5, None),
        ("five", None),
        (True, None),
        ("9" * 18, int("9" * 18)),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_numbers_are_read_from_what_looks_like_a_number(value: Any, integer: int | None) -> None:
    batch = decode_traces(traces(span(attributes={"n": value})))

    assert [integer] == batch.attributes.integer("n").to_pylist()


def test_resource_scope_events_and_links_are_kept_whole() -> None:
    item = span(
        events=[{"name": "e", "time_unix_nano": 7, "attributes": attributes({"x": [1]})}],
        links=[{"trace_id": b"\x01" * 16, "span_id": b"\x02" * 8, "attributes": attributes({"y": "z"})}],
        trace_state="a=b",
        dropped_attributes_count=3,
    )

    columns = decode_traces(traces(item)).columns

    assert [{"name": "e", "time_ns": 7, "attributes": {"x": [1]}}] == json.loads(columns["events"][0].as_py())
    assert [{"trace_id": "01" * 16, "span_id": "02" * 8, "attributes": {"y": "z"}}] == json.loads(
        columns["links"][0].as_py()
    )
    assert {"attributes": {"service.name": "test-service"}} == json.loads(columns["resource"][0].as_py())
    assert "tests" == json.loads(columns["scope"][0].as_py())["name"]
    assert ["a=b"] == columns["trace_state"].to_pylist()
    assert [3] == columns["dropped_attributes"].to_pylist()


@pytest.mark.parametrize(
    "fault",
    [
        {"trace_id": b""},
        {"trace_id": bytes(16)},
        {"trace_id": b"short"},
        {"span_id": b""},
        {"span_id": bytes(8)},
        {"span_id": b"way too long"},
        {"parent_span_id": b"odd"},
    ],
)
def test_a_span_with_impossible_ids_is_refused_and_its_neighbours_are_not(fault: dict[str, bytes]) -> None:
    bad = span(2, **fault)

    batch = decode_traces(traces(span(1), bad, span(3)))

    assert 2 == batch.rows
    assert [bad.SerializeToString()] == [item.payload for item in batch.refused]
    assert next(iter(fault)) in batch.refused[0].reason


def test_invalid_utf8_costs_only_its_own_span() -> None:
    broken = _bytes(2, name="NAME").replace(b"NAME", b"\xff\xfe\xfd\xfc")
    body = _field(1, _field(2, b"".join(_field(2, item) for item in (_bytes(1), broken, _bytes(3)))))

    batch = decode_traces(body)

    assert 2 == batch.rows
    assert [("unreadable", broken)] == [(item.reason_code, item.payload) for item in batch.refused]


def test_a_value_nested_beyond_the_parser_costs_only_its_own_span() -> None:
    value = any_value("bottom").SerializeToString()
    for _ in range(200):
        value = _field(5, _field(1, value))
    deep = _bytes(2) + _field(9, _field(1, b"deep") + _field(2, value))
    body = _field(1, _field(2, b"".join(_field(2, item) for item in (_bytes(1), deep, _bytes(3)))))

    batch = decode_traces(body)

    assert 2 == batch.rows
    assert [("unreadable", deep)] == [(item.reason_code, item.payload) for item in batch.refused]


@pytest.mark.parametrize(
    "body", [b"hello world", b'{"resourceSpans":[]}', traces(span())[:-3], b"\x0a\x05abc"]
)
def test_what_is_not_otlp_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_traces(body)


def test_an_empty_request_holds_nothing() -> None:
    assert 0 == decode_traces(b"").rows
    assert 0 == decode_logs(b"").rows


def test_extreme_times_and_sizes_are_stored_as_sent() -> None:
    many = {f"key.{number}": number for number in range(10_000)}

    batch = decode_traces(
        traces(
            span(1, start_time_unix_nano=0, end_time_unix_nano=2**64 - 1, name="n" * 2**20, attributes=many)
        )
    )

    assert [0] == batch.columns["start_ns"].to_pylist()
    assert [2**64 - 1] == batch.columns["end_ns"].to_pylist()
    assert 2**20 == len(batch.columns["name"][0].as_py())
    assert many == json.loads(batch.columns["attributes"][0].as_py())


def test_log_records_keep_body_event_name_and_absent_ids() -> None:
    batch = decode_logs(
        logs(
            log_record(1, body=any_value({"content": "hi"}), attributes={"a": 1}),
            log_record(2, trace_id=b"", span_id=b"", event_name="", body=any_value("")),
            log_record(3, trace_id=bytes(16)),
        )
    )

    assert ['{"content":"hi"}', '""', None] == batch.columns["body"].to_pylist()
    assert ["app.event", None, "app.event"] == batch.columns["event_name"].to_pylist()
    assert [False, True, True] == batch.columns["trace_id"].is_null().to_pylist()


def test_selection_by_prefix_needs_something_after_the_prefix() -> None:
    batch = decode_traces(traces(span(1, attributes={"a.": 1, "a.b": 2}), span(2, attributes={"a.": 1})))

    assert ["a.b"] == batch.attributes.keys_with_prefix("a.")
    assert [True, False] == batch.attributes.rows_with_prefix("a.").tolist()


def test_a_batch_without_any_attribute_has_empty_objects() -> None:
    batch = decode_traces(traces(span(1), span(2)))

    assert ["{}", "{}"] == batch.columns["attributes"].to_pylist()
    assert isinstance(batch.attributes, Attributes)
    assert [None, None] == batch.attributes.text("anything").to_pylist()


def test_each_row_comes_with_its_own_bytes() -> None:
    items = [chat(number) for number in range(1, 4)]

    batch = decode_traces(traces(*items))

    assert [item.SerializeToString() for item in items] == batch.payloads.to_pylist()


def test_invalid_utf8_inside_a_log_body_costs_only_its_own_record() -> None:
    body = logs(log_record(1), log_record(2, body=any_value({"k": "AAAA"})), log_record(3))

    batch = decode_logs(body.replace(b"AAAA", b"A\xff\xffA"))

    assert 2 == batch.rows
    assert ["unreadable"] == [item.reason_code for item in batch.refused]


def test_invalid_utf8_inside_an_event_costs_only_its_own_span() -> None:
    event = {"name": "e", "attributes": attributes({"k": ["AAAA"]})}
    body = traces(span(1), span(2, events=[event]), span(3))

    batch = decode_traces(body.replace(b"AAAA", b"A\xff\xffA"))

    assert 2 == batch.rows
    assert ["unreadable"] == [item.reason_code for item in batch.refused]


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * (MAX_SURROUNDINGS + 1),
        _field(1, b"\x12\x00" * (MAX_SURROUNDINGS + 1)),
        _field(1, b"\x12\x02\x12\x00" * (MAX_SURROUNDINGS + 1)),
        _field(1, _field(2, b"\x12\x00" * (MAX_ITEMS + 1))),
        _field(1, _field(2, b"\x12\x00" * (MAX_REFUSED + 1))),
    ],
    ids=["resources", "scopes", "scopes with an item", "items", "refusals"],
)
def test_a_request_of_countless_empty_messages_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_traces(body)
