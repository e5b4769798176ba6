"""A decision told to the API becomes one span in our own dialect."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from loopgrid.schema import Key
from loopgrid_query.errors import Invalid
from loopgrid_query.spans import DecisionSpan, decision_attributes


def sent(**changed: Any) -> tuple[ExportTraceServiceRequest, Span]:
    given = {"trace_id": 1, "span_id": 2, "name": "t", "attributes": {}, "start_ns": 5, **changed}
    request = ExportTraceServiceRequest.FromString(DecisionSpan(**given).request())
    return request, request.resource_spans[0].scope_spans[0].spans[0]


def test_only_what_is_known_becomes_an_attribute():
    assert set(decision_attributes({"decision_type": "t"})) == {Key.RECORD_VERSION, Key.DECISION_TYPE}


def test_null_is_recorded_and_absence_is_not():
    assert decision_attributes({"input": None})[Key.DECISION_INPUT] == "null"
    assert Key.DECISION_OUTPUT not in decision_attributes({"input": None})


def test_content_is_json_text_as_people_write_it():
    assert decision_attributes({"output": {"é": [1, 2.5, True]}})[Key.DECISION_OUTPUT] == '{"é":[1,2.5,true]}'


def test_parameters_go_where_opentelemetry_names_them_and_the_others_together():
    attributes = decision_attributes(
        {
            "model": {
                "parameters": {
                    "temperature": 0.2,
                    "stop_sequences": ["a"],
                    "logit_bias": {"1": 2},
                    "seed": None,
                }
            }
        }
    )

    assert attributes["gen_ai.request.temperature"] == 0.2
    assert attributes["gen_ai.request.stop_sequences"] == ["a"]
    assert attributes[Key.MODEL_PARAMETERS] == '{"logit_bias":{"1":2},"seed":null}'


def test_prompt_variables_are_text():
    attributes = decision_attributes({"prompt": {"variables": {"a": "x", "n": 3, "o": {"b": 1}}}})

    assert attributes[Key.PROMPT_VARIABLE_PREFIX + "a"] == "x"
    assert attributes[Key.PROMPT_VARIABLE_PREFIX + "n"] == "3"
    assert attributes[Key.PROMPT_VARIABLE_PREFIX + "o"] == '{"b":1}'


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"input": {"a": float("nan")}}, "input"),
        ({"output": [float("-inf")]}, "output"),
        ({"output": "\ud800"}, "output"),
        ({"output": {"\udfff": 1}}, "output"),
        ({"input": deep(101)}, "input"),
        ({"input": 2**64}, "input"),
        ({"metadata": {"k": deep(21)}}, "metadata.k"),
        ({"session_id": "\ud800"}, "session.id"),
        ({"prompt": {"variables": {"\ud800": "x"}}}, "gen_ai.prompt.variable.\ud800"),
        ({"metadata": {"\ud800": 1}}, "loopgrid.metadata.\ud800"),
    ],
)
def test_what_neither_json_nor_unicode_nor_the_ledger_can_hold_is_refused_by_name(fields, place):
    with pytest.raises(Invalid) as refused:
        decision_attributes(fields)

    assert refused.value.errors[0].field == place


def test_a_span_without_a_duration_says_so_by_having_no_end():
    _, span = sent()

    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (5, 0)


def test_nobody_says_that_a_decision_went_well_unless_it_failed():
    assert sent()[1].status.code == Status.STATUS_CODE_UNSET
    assert sent(failed=True, failure="boom")[1].status == Status(
        code=Status.STATUS_CODE_ERROR, message="boom"
    )


def test_a_service_that_is_not_named_is_not_invented():
    assert not sent()[0].resource_spans[0].resource.attributes
    (attribute,) = sent(service_name="s")[0].resource_spans[0].resource.attributes
    assert (attribute.key, attribute.value.string_value) == (Key.SERVICE_NAME, "s")


def test_a_replay_is_linked_to_the_decision_it_replays():
    (link,) = sent(replay_of=(3, 4))[1].links

    assert (link.trace_id, link.span_id) == ((3).to_bytes(16, "big"), (4).to_bytes(8, "big"))
    assert link.attributes[0].key == Key.LINK_TYPE


def test_every_json_value_has_its_otlp_value():
    values = {"n": None, "b": True, "i": 3, "f": 2.5, "s": "", "l": [1], "o": {"x": "y"}}
    _, span = sent(attributes=values)

    assert {item.key: item.value.WhichOneof("value") for item in span.attributes} == {
        "n": None,
        "b": "bool_value",
        "i": "int_value",
        "f": "double_value",
        "s": "string_value",
        "l": "array_value",
        "o": "kvlist_value",
    }


def test_an_integer_that_otlp_has_no_room_for_is_refused():
    with pytest.raises(Invalid, match="64 bits"):
        sent(attributes={"k": 2**63})
