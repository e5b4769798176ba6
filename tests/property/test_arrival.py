"""In whatever order, batches and copies the parts of a trace arrive: the same decisions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.ledgers import House, house

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
                for span in scope.spans:
                    alone = ExportTraceServiceRequest()
                    around = alone.resource_spans.add(resource=resource.resource)
                    around.scope_spans.add(scope=scope.scope).spans.append(span)
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
