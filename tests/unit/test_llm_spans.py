"""The requests that benchmarks send: overwritten in place, they are sound requests of new spans."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loopgrid_collector.otlp import json_decode

SPANS = 3


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_renewed_request_has_new_ids_and_times_and_the_same_texts(
    encoding: str, repository: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(repository / "bench"))
    from llm_spans import ATTRIBUTES_PER_SPAN, Templates

    def spans(body: bytes) -> list[Span]:
        request = ExportTraceServiceRequest.FromString(
            json_decode.traces(body) if encoding == "json" else body
        )
        return list(request.resource_spans[0].scope_spans[0].spans)

    make = Templates(SPANS)
    plain = make.json() if encoding == "json" else make.protobuf()
    before = spans(bytes(plain.body))
    behind_a_head = plain.moved(5, bytearray(5) + plain.body)
    behind_a_head.renew(7)
    after = spans(bytes(behind_a_head.body[5:]))

    assert [span.attributes for span in after] == [span.attributes for span in before]
    assert {len(span.attributes) for span in after} == {ATTRIBUTES_PER_SPAN}
    assert len({(span.trace_id, span.span_id) for span in (*before, *after)}) == 2 * SPANS
    assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in after)
    assert [span.start_time_unix_nano - before[0].start_time_unix_nano for span in after] == [
        (7 * SPANS + place) * 1000 for place in range(SPANS)
    ]
    assert {span.end_time_unix_nano - span.start_time_unix_nano for span in after} == {10**9}
