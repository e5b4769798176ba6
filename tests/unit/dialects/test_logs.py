"""Log records that carry the content of a span."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pytest

from loopgrid_collector.dialects.normalise import LogFacts, normalise_logs
from tests.support.samples import attributes_of

DETAILS = "gen_ai.client.inference.operation.details"


def record(name, body=None, attributes=None):
    facts = LogFacts(
        event_name=pa.array([name], pa.string()),
        body_json=pa.array([None if body is None else orjson.dumps(body).decode()], pa.string()),
        resource_service=pa.array(["shop"], pa.string()),
    )
    columns = normalise_logs(attributes_of([attributes or {}]), facts)
    cells = {column: values[0].as_py() for column, values in columns.items()}
    return {
        name: orjson.loads(cells[name]) if cells[name] else None for name in ("input", "system", "output")
    }


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("gen_ai.system.message", "system"),
        ("gen_ai.user.message", "user"),
        ("gen_ai.assistant.message", "assistant"),
    ],
)
def test_a_message_event_adds_one_message_to_the_input(name, role):
    found = record(name, {"content": "hi"})

    assert found["input"] == [{"role": role, "parts": [{"type": "text", "content": "hi"}]}]
    assert found["output"] is None


def test_a_tool_message_answers_its_call():
    found = record("gen_ai.tool.message", {"content": "delivered", "id": "c1"})

    part = {"type": "tool_call_response", "id": "c1", "response": "delivered"}
    assert found["input"] == [{"role": "tool", "parts": [part]}]


def test_a_choice_adds_one_message_to_the_output():
    found = record("gen_ai.choice", {"index": 0, "finish_reason": "tool_calls", "message": {"content": "ok"}})

    assert found["output"] == [
        {"role": "assistant", "parts": [{"type": "text", "content": "ok"}], "finish_reason": "tool_call"}
    ]


def test_the_name_may_stand_in_an_attribute_and_the_body_may_be_json_text():
    found = record(None, '{"content": "hi", "role": "user"}', {"event.name": "gen_ai.user.message"})

    assert found["input"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_details_event_adds_messages_and_the_parts_of_system_instructions(as_text):
    message = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    parts = [{"type": "text", "content": "be kind"}]
    attributes = {
        "gen_ai.input.messages": message,
        "gen_ai.output.messages": message,
        "gen_ai.system_instructions": parts,
    }
    if as_text:
        attributes = {key: orjson.dumps(value).decode() for key, value in attributes.items()}

    assert record(DETAILS, None, attributes) == {"input": message, "system": parts, "output": message}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (None, "an ordinary line of an application"),
        ("gen_ai.evaluation.result", {"content": "x"}),
        ("gen_ai.user.message", None),
        ("gen_ai.user.message", 7),
        ("gen_ai.user.message", "not json"),
        (DETAILS, None),
    ],
)
def test_any_other_record_adds_nothing(name, body):
    assert record(name, body) == {"input": None, "system": None, "output": None}
