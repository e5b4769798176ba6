"""What an existing OpenTelemetry pipeline gives: recorded payloads of real instrumentations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

INSTRUMENTATIONS: Final = {
    "OTel GenAI (openai)": "genai-openai-*",
    "OTel openai-v2": "openai-v2-*",
    "OpenInference": "openinference-*",
    "Traceloop": "traceloop-*",
    "anthropic SDK": "anthropic-sdk-*",
}
"""Instrumentation to the sample folders that it wrote."""

QUERY: Final = """
    SELECT trace_id, dialect, model_name, input, output, input_tokens, output_tokens
    FROM decisions WHERE kind = 'inference' ORDER BY started_at
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The decisions of one instrumentation: how many, and one with everything in it."""

    instrumentation: str
    dialects: str
    decisions: int
    example: Mapping[str, Any]


def sample_files(samples: Path) -> dict[str, list[Path]]:
    """The protobuf payloads of each instrumentation.

    Metrics are left out: they hold no decision.
    """
    return {
        name: [
            file
            for folder in sorted(samples.glob(pattern))
            for file in sorted(folder.rglob("*.pb"))
            if "metrics" not in file.name
        ]
        for name, pattern in INSTRUMENTATIONS.items()
    }


def traces_of(files: Iterable[Path]) -> set[str]:
    """The trace ids in these payloads, lower-case hex."""
    return {
        span.trace_id.hex()
        for file in files
        if "traces" in file.name
        for resource in ExportTraceServiceRequest.FromString(file.read_bytes()).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def seen_by_instrumentation(files: Mapping[str, list[Path]], answer: Mapping[str, Any]) -> list[Seen]:
    """Groups the rows of `QUERY` by the instrumentation whose payload brought them."""
    owner = {trace: name for name, paths in files.items() for trace in traces_of(paths)}
    names = [column["name"] for column in answer["columns"]]
    decisions = defaultdict(list)
    for row in answer["rows"]:
        decision = dict(zip(names, row, strict=True))
        if decision["trace_id"] in owner:
            decisions[owner[decision["trace_id"]]].append(decision)
    return [
        Seen(
            name,
            ", ".join(sorted({one["dialect"] for one in found})),
            len(found),
            max(found, key=_completeness),
        )
        for name in files
        if (found := decisions[name])
    ]


def parsed(value: Any) -> Any:
    """A JSON column's value: SQL answers may carry it as text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _completeness(decision: Mapping[str, Any]) -> int:
    return sum(value is not None for value in decision.values())
