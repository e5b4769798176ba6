"""The captured OTLP payloads, read as the collector reads them, and what they must come to.

``Call`` is the record of one span with its content looked up and joined, in the words of
``docs/spec/decision-record.md``: the form in which two instrumentations of one call can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loopgrid_collector.dialects.normalise import LogFacts, SpanFacts, normalise_logs, normalise_spans
from loopgrid_collector.otlp import values
from loopgrid_collector.otlp.attributes import Attributes
from loopgrid_collector.otlp.decode import Batch, decode_logs, decode_traces

SAMPLES = Path(__file__).resolve().parent.parent / "data" / "otlp-samples"

SYSTEM = "You are a support triage assistant. Reply with JSON only."
USER = "Ticket 4711: The blender arrived broken and I want my money back."
ANSWER = '{"label": "refund", "confidence": 0.91}'

SpanKey = tuple[bytes, int]


@dataclass(frozen=True)
class Call:
    """One span: its columns, and its content put together from span and log records."""

    name: str
    columns: dict[str, Any]
    input: Any
    output: Any
    tools: Any

    def __getattr__(self, column: str) -> Any:
        try:
            return self.columns[column]
        except KeyError:
            raise AttributeError(column) from None

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Role and text of each text part that the call saw."""
        return _texts(self.input)

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Role and text of each text part that the call answered."""
        return _texts(self.output)

    @property
    def tool_calls(self) -> list[tuple[str, Any]]:
        """Name and arguments of each tool call in the answer."""
        return [
            (part["name"], part["arguments"])
            for message in self.output or []
            for part in message["parts"]
            if part["type"] == "tool_call"
        ]


def _texts(messages: Any) -> list[tuple[str, str]]:
    return [
        (message["role"], part["content"])
        for message in messages or []
        for part in message["parts"]
        if part["type"] == "text"
    ]


def without_nulls(value: Any) -> Any:
    """A JSON value without its null members: some emitters write them, others leave them out."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def folders(pattern: str) -> list[Path]:
    """Case folders that match a pattern such as ``genai-openai-*/span-only/chat``."""
    found = sorted(folder for folder in SAMPLES.glob(pattern) if folder.is_dir())
    assert found, f"no sample matches {pattern}"
    return found


def bodies(folder: Path, signal: str) -> list[bytes]:
    """The request bodies of one case and signal, in the order they were sent."""
    return [path.read_bytes() for path in sorted(folder.glob(f"*-{signal}.pb"))]


def span_facts(batch: Batch) -> SpanFacts:
    """What the dialects need to know of decoded spans."""
    return SpanFacts(
        name=batch.columns["name"],
        status_code=batch.columns["status_code"].to_numpy(zero_copy_only=False),
        status_message=batch.columns["status_message"],
        scope_name=batch.scope_name,
        events=batch.columns["events"],
        resource_service=batch.service_name,
        dropped_attributes=batch.columns["dropped_attributes"].fill_null(0).to_numpy(zero_copy_only=False),
    )


def log_facts(batch: Batch) -> LogFacts:
    """What the dialects need to know of decoded log records."""
    return LogFacts(
        event_name=batch.columns["event_name"],
        body_json=batch.columns["body"],
        resource_service=batch.service_name,
    )


def load(folder: Path) -> list[Call]:
    """Every span of one case, in the order sent, with what its log records add."""
    added = _log_content(folder)
    calls = []
    for body in bodies(folder, "traces"):
        batch = decode_traces(body)
        assert batch.refused == []
        calls += read_calls(batch.attributes, span_facts(batch), _keys(batch), added)
    return calls


def read_calls(
    attributes: Attributes,
    facts: SpanFacts,
    keys: list[SpanKey] | None = None,
    added: dict[SpanKey, dict[str, list[Any]]] | None = None,
) -> list[Call]:
    """Normalise spans and look their content up."""
    columns = normalise_spans(attributes, facts)
    cells = {name: column.to_pylist() for name, column in columns.items()}
    objects = attributes.objects().to_pylist()
    names = facts.name.to_pylist()
    calls = []
    for row, name in enumerate(names):
        record = {column: values_[row] for column, values_ in cells.items()}
        logs = (added or {}).get(keys[row], {}) if keys else {}
        received = orjson.loads(objects[row])
        calls.append(
            Call(
                name,
                record,
                _with_system(
                    _content(record["input"], record["input_ref"], received, logs.get("input")),
                    _content(None, record["system_ref"], received, logs.get("system")),
                ),
                _content(record["output"], record["output_ref"], received, logs.get("output")),
                _content(record["tools"], record["tools_ref"], received, None),
            )
        )
    return calls


def inferences(folder: Path) -> list[Call]:
    """The model calls of one case."""
    return [call for call in load(folder) if call.kind == "inference"]


def _content(copy: str | None, ref: str | None, received: dict[str, Any], logged: list[Any] | None) -> Any:
    if copy is not None:
        assert ref is None
        return orjson.loads(copy)
    if ref is not None:
        held = received[ref]
        return orjson.loads(held) if isinstance(held, str) else held
    return logged or None


def _with_system(messages: Any, parts: Any) -> Any:
    if not parts:
        return messages
    return [{"role": "system", "parts": parts}, *(messages or [])]


def _keys(batch: Batch) -> list[SpanKey]:
    traces = batch.columns["trace_id"].storage.to_pylist()
    return list(zip(traces, batch.columns["span_id"].to_pylist(), strict=True))


def _log_content(folder: Path) -> dict[SpanKey, dict[str, list[Any]]]:
    added: dict[SpanKey, dict[str, list[Any]]] = {}
    for body in bodies(folder, "logs"):
        batch = decode_logs(body)
        columns = normalise_logs(batch.attributes, log_facts(batch))
        for row, key in enumerate(_keys(batch)):
            for name in ("input", "system", "output"):
                cell = columns[name][row].as_py()
                if cell is not None:
                    added.setdefault(key, {}).setdefault(name, []).extend(orjson.loads(cell))
    return added


def attributes_of(rows: list[dict[str, Any]]) -> Attributes:
    """Attributes built from Python values, as a sender would have sent them."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for position, row in enumerate(rows, 1):
        span = scope.spans.add(trace_id=position.to_bytes(16, "big"), span_id=position.to_bytes(8, "big"))
        for key, value in row.items():
            _set(span.attributes.add(key=key).value, value)
    batch = decode_traces(request.SerializeToString())
    assert batch.refused == []
    return batch.attributes


def _set(target: Any, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, list):
        target.array_value.SetInParent()
        for item in value:
            _set(target.array_value.values.add(), item)
    elif isinstance(value, dict):
        target.kvlist_value.SetInParent()
        for key, item in value.items():
            _set(target.kvlist_value.values.add(key=key).value, item)


def facts_for(
    rows: int,
    *,
    scope: str = "",
    status: int = 0,
    message: str | None = None,
    events: list[dict[str, Any]] | None = None,
    dropped: int = 0,
) -> SpanFacts:
    """The same facts for every row."""
    said = None if events is None else orjson.dumps([{"time_ns": 1, **event} for event in events]).decode()
    return SpanFacts(
        name=pa.array(["span"] * rows, pa.string()),
        status_code=np.full(rows, status, dtype=np.int32),
        status_message=pa.array([message] * rows, pa.string()),
        scope_name=pa.array([scope] * rows, pa.string()),
        events=pa.array([said] * rows, pa.string()),
        resource_service=pa.array(["shop"] * rows, pa.string()),
        dropped_attributes=np.full(rows, dropped, dtype=np.int64),
    )


def span(attributes: dict[str, Any], **facts: Any) -> Call:
    """One span with these attributes, normalised."""
    return read_calls(attributes_of([attributes]), facts_for(1, **facts))[0]


def revived(text: str) -> Any:
    """The Python value of lossless JSON text."""
    return values.from_json(text)
