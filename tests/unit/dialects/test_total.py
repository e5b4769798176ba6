"""Whatever is sent under the names that dialects know, every row comes out and all JSON parses."""

from __future__ import annotations

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopgrid_collector.dialects.catalogue import DIALECTS
from loopgrid_collector.dialects.normalise import COLUMNS, normalise_spans
from tests.support.samples import attributes_of, facts_for

JSON_COLUMNS = ("input", "output", "prompt_variables", "model_parameters", "metadata")


def known_keys():
    keys = {
        "llm.input_messages.0.message.role",
        "llm.output_messages.0.message.contents.0.message_content.type",
    }
    for dialect in DIALECTS:
        keys |= set(dialect.marks.keys) | {rule.key for rule in dialect.kinds}
        keys |= {source.key for sources in dialect.fields.values() for source in sources}
        for places in dialect.members.values():
            keys |= {place.key for place in places if place.key} | {
                key for place in places for key in place.keys
            }
            keys |= {f"{place.prefix}x" for place in places if place.prefix}
        contents = (*dialect.input, *dialect.output, *dialect.raw_input, *dialect.raw_output)
        for place in (*contents, *dialect.tools):
            keys |= (
                {place.key}
                if place.key
                else {f"{place.prefix}0.content", f"{place.prefix}1.tool_calls.0.name"}
            )
        keys |= set(dialect.system)
    return sorted(keys - {""})


words = st.sampled_from(
    (
        *("role", "parts", "content", "type", "text", "tool_calls", "function", "arguments", "messages"),
        *("choices", "message", "finish_reason", "output", "input", "model", "image_url", "tool_use"),
        *("tool_call", "tool_result", "name", "id", "value", "data", "source", "system", "stop_reason"),
    )
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=8) | words
)
values = st.recursive(
    scalars | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
json_text = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
).map(lambda value: orjson.dumps(value).decode())
kinds = st.sampled_from(
    (
        {"gen_ai.operation.name": "chat"},
        {"openinference.span.kind": "LLM"},
        {"langfuse.observation.type": "generation"},
        {"mlflow.spanType": '"LLM"'},
        {"ai.operationId": "ai.generateText.doGenerate"},
        {"loopgrid.record.version": 1},
        {"openinference.span.kind": "TOOL"},
        {},
    )
)
rows = st.builds(
    lambda kind, sent: {**sent, **kind},
    kinds,
    st.dictionaries(st.sampled_from(known_keys()), values | json_text, max_size=12),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sent=st.lists(rows, min_size=1, max_size=4), status=st.sampled_from((0, 1, 2)))
def test_any_attributes_become_whole_rows(sent, status):
    columns = normalise_spans(attributes_of(sent), facts_for(len(sent), status=status))

    assert tuple(columns) == COLUMNS
    assert {len(column) for column in columns.values()} == {len(sent)}
    for name in JSON_COLUMNS:
        for cell in columns[name].to_pylist():
            assert cell is None or orjson.loads(cell) is not Ellipsis
    for kind, reference in zip(columns["kind"].to_pylist(), columns["input_ref"].to_pylist(), strict=True):
        assert kind is not None
        assert reference is None or isinstance(reference, str)
