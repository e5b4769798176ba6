"""Why decisions cannot be replayed exactly, by service and dialect."""

from __future__ import annotations

import pytest

from tests.support import samples
from tests.support.ledgers import house
from tests.support.spans import span, traces

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.request.temperature": 0.0,
    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]',
    "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "ho"}]}]',
}
DECIDED = {
    "loopgrid.record.version": 1,
    "loopgrid.decision.input": '{"message": "I was"}',
    "loopgrid.decision.output": '"yes"',
    "code.function.name": "app.reply",
}
OPEN = "SELECT reason FROM replayability ORDER BY reason"


def without(attributes, *keys):
    return {key: value for key, value in attributes.items() if key not in keys}


@pytest.mark.parametrize(
    ("attributes", "reasons"),
    [
        (CHAT, ["model_not_pinned"]),
        ({**CHAT, "gen_ai.response.model": "m-2026-01-01"}, ["model_alias", "model_not_pinned"]),
        ({**CHAT, "gen_ai.response.model": "m"}, ["model_not_pinned"]),
        (without(CHAT, "gen_ai.request.temperature"), ["model_not_pinned", "parameters_missing"]),
        (without(CHAT, "gen_ai.request.model"), ["model_unknown"]),
        ({**CHAT, "gen_ai.request.previous_response.id": "r"}, ["server_side_conversation"]),
        (without(CHAT, "gen_ai.input.messages", "gen_ai.output.messages"), ["content_off"]),
        (without(CHAT, "gen_ai.input.messages"), ["input_missing"]),
        ({**CHAT, "gen_ai.response.finish_reasons": ["tool_calls"]}, ["model_not_pinned", "tools_missing"]),
        (
            {
                **without(CHAT, "gen_ai.input.messages"),
                "gen_ai.input.messages_ref": "s3://there",
            },
            ["content_elsewhere", "input_missing"],
        ),
        (DECIDED, ["code_not_recorded"]),
        (without(DECIDED, "code.function.name"), ["function_unknown"]),
        ({**DECIDED, "gen_ai.prompt.name": "p"}, ["code_not_recorded", "template_missing"]),
        ({**DECIDED, "loopgrid.capture.lossiness": ["input.message:truncated:20"]}, ["input_truncated"]),
        ({**DECIDED, "loopgrid.capture.lossiness": ["input:not_bound"]}, ["input_incomplete"]),
        ({**DECIDED, "loopgrid.capture.lossiness": ["input.message:redacted"]}, ["redacted"]),
    ],
)
def test_each_thing_that_is_missing_is_a_reason(tmp_path, attributes, reasons):
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(span(1, attributes=attributes)))

        assert [reason for (reason,) in it.rows(OPEN)] == reasons


def test_a_share_is_of_the_decisions_of_that_service_and_dialect(tmp_path):
    spans = [span(number, attributes=CHAT) for number in (1, 2, 3)]
    spans.append(span(4, attributes=without(CHAT, "gen_ai.request.model")))
    spans.append(span(5, attributes=DECIDED))
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(*spans))

        found = it.rows(
            "SELECT dialect, replayability, reason, decisions, share FROM replayability ORDER BY ALL"
        )

    assert found == [
        ("genai", "approximate", "model_not_pinned", 3, 0.75),
        ("genai", "none", "model_unknown", 1, 0.25),
        ("loopgrid", "rebuildable", "code_not_recorded", 1, 1.0),
    ]


def test_every_decision_of_every_instrumentation_has_a_reason_that_is_known(tmp_path):
    with house(tmp_path) as it:
        for folder in [*samples.folders("*/*/*"), *samples.folders("otel-sdk-*/truncated-attr")]:
            for body in samples.bodies(folder, "traces"):
                it.ingest.traces_blocking(body)
            for body in samples.bodies(folder, "logs"):
                it.ingest.logs_blocking(body)
        judged = it.rows("SELECT service_name, dialect, replayability, count(*) FROM decisions GROUP BY ALL")
        reasons = it.rows("SELECT service_name, dialect, replayability, reason, decisions FROM replayability")

    assert len({dialect for _, dialect, _, _ in judged}) > 8
    assert {reason for *_, reason, _ in reasons} >= {"content_off", "model_alias", "input_truncated"}
    for *group, decisions in judged:
        counted = [found for *place, _, found in reasons if place == group]
        assert sum(counted) >= decisions >= max(counted), group
    assert [found for found in reasons if found[3] == "unknown"] == []
