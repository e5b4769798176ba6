"""Attribute text is what a JSON encoder would write, whatever the characters."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loopgrid_collector.otlp import values
from loopgrid_collector.otlp.decode import decode_traces
from tests.support.spans import any_value, span, traces

text = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ['"', "\\", '\\"', "\n", "\x00", "\x1f\x20", '{"a":"b\\n"}', "\u2028", "é", "🧾"]
)
scalar = text | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=8)
anything = st.recursive(
    scalar | st.just(...),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)
attributes = st.lists(st.tuples(text.filter(bool), anything), max_size=6)


@given(st.lists(attributes, max_size=5))
def test_vectorised_and_single_encoding_agree(spans: list[list[tuple[str, Any]]]) -> None:
    request = traces(*(span(number, attributes=pairs) for number, pairs in enumerate(spans, 1)))

    written = decode_traces(request).columns["attributes"].to_pylist() if spans else []

    assert written == [
        values.map_json((key, values.any_value_json(any_value(value))) for key, value in pairs)
        for pairs in spans
    ]
    for line in written:
        json.loads(line)
