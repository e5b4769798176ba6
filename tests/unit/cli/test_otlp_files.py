"""Reading OTLP requests from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loopgrid_query.cli.otlp_files import (
    JSON,
    PROTOBUF,
    Refusal,
    Request,
    Signal,
    count_protobuf_records,
    find_files,
    read_requests,
)

SPANS = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a"}, {"name": "b"}]}]}]}
LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"severityText": "INFO"}]}]}]}


def lines(*requests: object) -> str:
    return "".join(json.dumps(request) + "\n" for request in requests)


def test_a_pretty_printed_json_file_is_one_request_sent_byte_for_byte(tmp_path: Path):
    file = tmp_path / "one.json"
    file.write_text(json.dumps(SPANS, indent=2))
    (request,) = read_requests(file)
    assert request == Request(str(file), Signal.TRACES, JSON, file.read_bytes(), 2, len(file.read_bytes()))


@pytest.mark.parametrize("name", ["many.jsonl", "many.json"])
def test_each_json_line_is_a_request_with_its_own_signal_and_line_number(tmp_path: Path, name: str):
    file = tmp_path / name
    file.write_text(lines(SPANS, LOGS))
    first, second = read_requests(file)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.where, first.signal, first.records) == (f"{file}:1", Signal.TRACES, 2)
    assert (second.where, second.signal, second.records) == (f"{file}:2", Signal.LOGS, 1)


def test_a_bad_line_is_refused_by_its_number_and_reading_goes_on(tmp_path: Path):
    file = tmp_path / "mixed.jsonl"
    file.write_text(lines(SPANS) + "{broken\n\n" + lines({"resourceThings": []}, LOGS))
    found = list(read_requests(file))
    assert [type(item) for item in found] == [Request, Refusal, Refusal, Request]
    assert [item.where for item in found] == [f"{file}:{number}" for number in (1, 2, 4, 5)]


def test_protobuf_says_its_signal_by_file_name(tmp_path: Path):
    file = tmp_path / "01-traces.pb"
    file.write_bytes(sample())
    (request,) = read_requests(file)
    assert isinstance(request, Request)
    assert (request.signal, request.content_type, request.records) == (Signal.TRACES, PROTOBUF, 3)


def test_protobuf_without_a_telling_name_needs_the_signal(tmp_path: Path):
    file = tmp_path / "payload.binpb"
    file.write_bytes(sample())
    (refusal,) = read_requests(file)
    assert isinstance(refusal, Refusal)
    assert "--signal" in refusal.reason
    (request,) = read_requests(file, Signal.TRACES)
    assert isinstance(request, Request)


def test_a_signal_given_wins_over_the_file_name(tmp_path: Path):
    file = tmp_path / "logs-of-traces.pb"
    file.write_bytes(sample())
    (request,) = read_requests(file, Signal.TRACES)
    assert isinstance(request, Request)
    assert request.signal is Signal.TRACES


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.jsonl", None),
        ("notes.txt", b"hello"),
        ("x-traces.pb", b"\x0a\xff\xff\xff\xff"),
        ("e.json", b""),
    ],
)
def test_a_file_that_holds_no_request_is_refused_by_name(tmp_path: Path, name: str, content: bytes | None):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    (refusal,) = read_requests(file)
    assert isinstance(refusal, Refusal)
    assert refusal.where == str(file)


def test_folders_are_searched_and_only_their_otlp_files_taken(tmp_path: Path):
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    for name in ("a-traces.pb", "b.json", "c.jsonl", "README.md"):
        (inner / name).touch()
    found = find_files([tmp_path, inner / "b.json"])
    assert [file.name for file in found] == ["a-traces.pb", "b.json", "c.jsonl"]


def test_records_are_counted_even_where_their_content_is_broken():
    whole = sample()
    assert count_protobuf_records(whole.replace(b"span-name", b"span-\xff\xfe!!")) == 3


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_request_cut_off_is_not_counted(cut: int):
    whole = sample()
    assert count_protobuf_records(whole[: len(whole) - cut]) is None


def sample() -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(3):
        scope.spans.add(name="span-name", trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=1)
    return request.SerializeToString()
