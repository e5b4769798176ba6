"""Steps and tool calls of a decorated decision, as the server shows them."""

from __future__ import annotations

import json

import pytest

import loopgrid
from loopgrid import LoopGrid

pytestmark = pytest.mark.integration


@loopgrid.tool(effect="irreversible", name="pay_back", call_id="call")
def pay(order: int, call: str) -> dict[str, str]:
    return {"paid": str(order)}


@loopgrid.step("look up")
def look_up(order: int) -> dict[str, int]:
    return {"order": order}


@loopgrid.decision("refund")
def refund(order: int) -> str:
    loopgrid.current().key("order", order)
    look_up(order)
    pay(order, call="call_7")
    return "done"


def test_a_step_is_of_kind_other_and_a_tool_call_of_kind_tool_and_both_belong_to_the_decision(server):
    loopgrid.configure(endpoint=server.api, service_name="desk")
    refund(4711)
    assert loopgrid.flush()

    with LoopGrid(endpoint=server.api) as grid:
        (decision,) = grid.list_decisions(metadata={"order": "4711"})["items"]
        rows = grid.sql(
            "SELECT s.kind, s.dialect, s.input, s.output, s.owner_decision_id, "
            "p.attributes->>'$.\"loopgrid.tool.effect\"', p.attributes->>'$.\"gen_ai.tool.call.id\"' "
            "FROM steps s JOIN spans p ON s.decision_id = p.trace_id || '-' || p.span_id "
            "ORDER BY s.started_at"
        )["rows"]
        (producer,) = grid.sql("SELECT received, missing FROM producers")["rows"]

    step, tool = rows
    assert step[:2] == ["other", "loopgrid"]
    assert tool[:2] == ["tool", "loopgrid"]
    assert [as_json(step[2]), as_json(step[3])] == [{"order": 4711}, {"order": 4711}]
    assert [as_json(tool[2]), as_json(tool[3])] == [{"order": 4711}, {"paid": "4711"}]
    assert [step[4], tool[4]] == [decision["decision_id"]] * 2
    assert tool[5:] == ["irreversible", "call_7"]
    assert producer == [3, 0], "steps count in the producer's sequence"


def as_json(value):
    return json.loads(value) if isinstance(value, str) else value
