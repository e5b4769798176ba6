"""In whatever order, batches and copies the parts of a trace arrive: the same decisions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.ledgers import House, house
from tests.support.spans import SECOND_NS, START_NS, span, traces

EMITTERS = Path(__file__).resolve().parents[1] / "data" / "emitters"
OF_ARRIVAL = {"recorded_at", "commit_id", "digest", "position", "content_salt"}

MIXED = ("semantic-kernel", "openinference-llama-index")
"""Content in logs and agents above calls; two spans for one call."""

Request = tuple[str, bytes]


def one_by_one(folder: Path) -> list[Request]:
    """Every span and log record of a folder as a request of its own, in the order sent."""
    found: list[Request] = []
    for path in sorted(folder.glob("*-traces.pb")):
        sent = ExportTraceServiceRequest.FromString(path.read_bytes())
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                for item in scope.spans:
                    alone = ExportTraceServiceRequest()
                    around = alone.resource_spans.add(resource=resource.resource)
                    around.scope_spans.add(scope=scope.scope).spans.append(item)
                    found.append(("traces", alone.SerializeToString()))
    for path in sorted(folder.glob("*-logs.pb")):
        logged = ExportLogsServiceRequest.FromString(path.read_bytes())
        for source in logged.resource_logs:
            for scope_logs in source.scope_logs:
                for record in scope_logs.log_records:
                    single = ExportLogsServiceRequest()
                    held = single.resource_logs.add(resource=source.resource)
                    held.scope_logs.add(scope=scope_logs.scope).log_records.append(record)
                    found.append(("logs", single.SerializeToString()))
    return found


def as_sent(parts: list[Request], _: random.Random) -> list[Request]:
    return parts


def parents_last_and_logs_first(parts: list[Request], _: random.Random) -> list[Request]:
    return parts[::-1]


def shuffled(parts: list[Request], chance: random.Random) -> list[Request]:
    return chance.sample(parts, len(parts))


def resent_in_other_batches(parts: list[Request], chance: random.Random) -> list[Request]:
    """Protobuf messages that follow one another are one message: two requests make a third."""
    again = [
        (signal, chance.choice([body for kind, body in parts if kind == signal]) + body)
        for signal, body in shuffled(parts, chance)
    ]
    return [*shuffled(parts, chance), *again]


ARRIVALS = (as_sent, parents_last_and_logs_first, shuffled, resent_in_other_batches)


def send(it: House, requests: list[Request]) -> None:
    for signal, body in requests:
        take = it.ingest.traces_blocking if signal == "traces" else it.ingest.logs_blocking
        assert take(body).rejected == 0


def decisions(it: House) -> list[dict[str, Any]]:
    names = [row[0] for row in it.rows("SELECT column_name FROM (DESCRIBE decisions)")]
    rows = it.rows("SELECT * FROM decisions ORDER BY decision_id")
    return [
        {name: cell for name, cell in zip(names, row, strict=True) if name not in OF_ARRIVAL} for row in rows
    ]


def test_the_order_of_arrival_changes_no_decision(tmp_path: Path) -> None:
    chance = random.Random(11)
    parts = [part for emitter in MIXED for part in one_by_one(EMITTERS / emitter)]
    seen = []
    for number, arrange in enumerate(ARRIVALS):
        with house(tmp_path, file=f"{number}.duckdb") as it:
            send(it, arrange(parts, chance))
            seen.append(decisions(it))

    assert len(seen[0]) > len(ARRIVALS)
    for other in seen[1:]:
        assert other == seen[0]


def of_three_services() -> list[Request]:
    """A decision, an agent, calls and a tool of one trace; the clock of one service is an hour slow."""
    decision = {"loopgrid.record.version": 1, "loopgrid.decision.type": "reply"}
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5}
    asked = '[{"role":"user","parts":[{"type":"text","content":"x"}]}]'
    placed = (
        ("shop", 1, 0, decision, 0),
        ("agents", 2, 1, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, -3_600),
        ("agents", 3, 2, {**call, "gen_ai.response.id": "r", "gen_ai.input.messages": asked}, -3_600),
        ("gateway", 4, 3, {**call, "gen_ai.response.id": "r"}, 0),
        ("gateway", 5, 2, call, 0),
        ("shop", 6, 1, {"gen_ai.operation.name": "execute_tool"}, 0),
        ("shop", 7, 0, call, 0),
    )
    return [
        (
            "traces",
            traces(
                span(
                    number,
                    trace_id=(1).to_bytes(16, "big"),
                    parent_span_id=parent.to_bytes(8, "big") if parent else b"",
                    start_time_unix_nano=START_NS + skew_s * SECOND_NS,
                    end_time_unix_nano=START_NS + (skew_s + 1) * SECOND_NS,
                    attributes=attributes,
                ),
                service=service,
                scope=service,
            ),
        )
        for service, number, parent, attributes, skew_s in placed
    ]


@pytest.mark.parametrize("seed", range(4))
def test_interleaved_services_with_slow_clocks_zero_ids_and_changed_copies_make_the_same_decisions(
    tmp_path: Path, seed: int
) -> None:
    """A changed copy never takes the place of what came first; an id of zeros costs itself alone."""
    chance = random.Random(seed)
    parts = of_three_services()
    changed = traces(span(7, trace_id=(1).to_bytes(16, "big"), name="another"))
    zero = traces(span(8, trace_id=bytes(16)), span(9, span_id=bytes(8)))
    seen = []
    for number, arrange in enumerate((as_sent, resent_in_other_batches)):
        with house(tmp_path, file=f"{number}.duckdb") as it:
            arranged = arrange(parts, chance)
            refused = it.ingest.traces_blocking(zero)
            send(it, arranged)
            conflict = it.ingest.traces_blocking(changed)
            seen.append(decisions(it))

            assert (refused.rejected, conflict.conflicts, conflict.stored) == (2, 1, 0)
            assert (it.count("conflicts"), it.count("quarantine"), it.count("spans")) == (1, 2, len(parts))

    assert seen[0] == seen[1]
    assert len(seen[0]) > 1


CALLS = {
    "agent-framework": 4,
    "openinference-llama-index": 5,
    "openinference-smolagents": 3,
    "semantic-kernel": 4,
    "vercel-7": 5,
}


@pytest.mark.parametrize(("emitter", "calls"), CALLS.items(), ids=CALLS)
def test_a_call_that_two_spans_tell_of_is_one_decision(tmp_path: Path, emitter: str, calls: int) -> None:
    with house(tmp_path) as it:
        send(it, one_by_one(EMITTERS / emitter))

        assert it.count("decisions") == calls
