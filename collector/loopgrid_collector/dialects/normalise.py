"""Spans and log records of any dialect to the columns of the decision record.

Laws:

* Pure, and total: whatever was sent, every row comes out, and what could not be read says so.
* Precedence is per field: dialects fill what those before them left open (``catalogue``).
* Absent stays absent. Nothing here has a default.
* The result depends on the row alone, so that any mapping can be made anew from what was received;
  ``MAPPING_VERSION`` grows with every change of a result.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid.schema import Kind
from loopgrid_collector.dialects import catalogue, parsers
from loopgrid_collector.dialects.agents import agent_names
from loopgrid_collector.dialects.arrow import TEXT, Mask, missing, only_where
from loopgrid_collector.dialects.columns import Promoter, SpanFacts, Spans
from loopgrid_collector.dialects.content import Body, ContentReader
from loopgrid_collector.dialects.failures import failures
from loopgrid_collector.dialects.logs import LogFacts, contributions
from loopgrid_collector.dialects.losses import (
    CONTINUED,
    lossiness,
    note_content_losses,
    note_dropped,
    note_scrubbed,
    note_stream_losses,
    note_unknown,
    streamed,
)
from loopgrid_collector.dialects.recognise import Recognised, recognise
from loopgrid_collector.otlp.attributes import Attributes

__all__ = ["MAPPING_VERSION", "LogFacts", "SpanFacts", "normalise_logs", "normalise_spans"]

MAPPING_VERSION: Final = 5
"""Version of the mapping from attributes to the decision record."""

_TEXTS: Final = {
    field: catalogue.sources(field)
    for field in (
        "decision_type",
        "prompt_name",
        "prompt_version",
        "prompt_template",
        "model_provider",
        "model_name",
        "model_response_name",
        "response_id",
        "error_type",
        "error_message",
        "session_id",
        "user_id",
        "agent_name",
        "function",
        "replay_id",
        "replay_of",
        "producer_id",
        "streamed",
    )
}
_INTEGERS: Final = {
    field: catalogue.sources(field)
    for field in (
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "producer_seq",
        "record_version",
    )
}
_LISTS: Final = {field: catalogue.sources(field) for field in ("finish_reasons", "tags", "lossiness")}
_OBJECTS: Final = {
    field: catalogue.members(field) for field in ("prompt_variables", "model_parameters", "metadata")
}

_OF_DECISIONS: Final = ("prompt_name", "prompt_version", "prompt_template", "prompt_variables")
"""Context hands these down to every span inside it; they say something about decisions only."""

_COUNTED_ONCE: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
"""Agents repeat the totals of the calls inside them under the same names."""

COLUMNS: Final = (
    "mapping_version",
    "kind",
    "dialect",
    "decision_type",
    "service_name",
    "input",
    "input_ref",
    "system_ref",
    "output",
    "output_ref",
    "prompt_name",
    "prompt_version",
    "prompt_template",
    "prompt_variables",
    "model_provider",
    "model_name",
    "model_response_name",
    "model_parameters",
    "tools",
    "tools_ref",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "finish_reasons",
    "response_id",
    "error_type",
    "error_message",
    "session_id",
    "user_id",
    "agent_name",
    "function",
    "tags",
    "metadata",
    "replay_id",
    "replay_of",
    "replayability",
    "lossiness",
    "producer_id",
    "producer_seq",
    "record_version",
)
"""The columns of ``store.spans`` that a mapping fills, in the table's order."""


def normalise_spans(attributes: Attributes, facts: SpanFacts) -> dict[str, pa.Array]:
    """The decision record's columns for some spans, one entry per row and named as in ``COLUMNS``."""
    spans = Spans(attributes, facts)
    recognised = recognise(spans)
    calls = recognised.are(Kind.INFERENCE)
    decisive = calls | recognised.are(Kind.DECISION)

    promoter = Promoter(spans, recognised.speaks, calls)
    columns: dict[str, pa.Array] = {field: promoter.text(places) for field, places in _TEXTS.items()}
    columns |= {field: promoter.integer(places) for field, places in _INTEGERS.items()}
    columns |= {field: promoter.texts(places) for field, places in _LISTS.items()}
    for field, members in _OBJECTS.items():
        columns[field] = promoter.members(field, members, catalogue.MEMBER_NAMES.get(field, {}))
    columns["error_type"], columns["error_message"] = failures(
        spans, columns["error_type"], columns["error_message"]
    )
    columns["agent_name"] = agent_names(spans, columns["agent_name"])
    for field in _OF_DECISIONS:
        columns[field] = only_where(decisive, columns[field])
    counted = decisive | recognised.are(Kind.EMBEDDING)
    for field in _COUNTED_ONCE:
        columns[field] = only_where(counted, columns[field])
    columns["function"] = only_where(recognised.are(Kind.DECISION), columns["function"])

    body, answer = _content(spans, recognised, columns, calls, decisive)
    columns["finish_reasons"] = _complete_reasons(spans, columns["finish_reasons"], calls, answer)
    note_stream_losses(spans, calls, streamed(spans, columns.pop("streamed")), answer, columns)
    note_content_losses(spans, recognised, calls, body, answer)
    note_dropped(spans, decisive)
    note_scrubbed(spans)
    note_unknown(spans)

    columns["mapping_version"] = pa.array(np.full(spans.rows, MAPPING_VERSION, dtype=np.int32))
    columns["kind"] = recognised.kind
    columns["dialect"] = recognised.dialect
    columns["service_name"] = facts.resource_service
    columns["replayability"] = _replayability(spans, recognised, columns, body)
    columns["lossiness"] = lossiness(spans, columns["lossiness"])
    return {name: columns[name] for name in COLUMNS}


def normalise_logs(attributes: Attributes, facts: LogFacts) -> dict[str, pa.Array]:
    """The columns of ``store.logs`` that a mapping fills: what each record adds to its span's content."""
    found = contributions(attributes, facts)
    return {
        "mapping_version": pa.array(np.full(attributes.rows, MAPPING_VERSION, dtype=np.int32)),
        "service_name": facts.resource_service,
        "input": pa.array(found.input, TEXT),
        "system": pa.array(found.system, TEXT),
        "output": pa.array(found.output, TEXT),
    }


def _content(
    spans: Spans, recognised: Recognised, columns: dict[str, pa.Array], calls: Mask, decisive: Mask
) -> tuple[Body, Body]:
    reader = ContentReader(spans, recognised.speaks, calls)
    columns["system_ref"] = pa.array(reader.instructions(catalogue.SYSTEM), TEXT)
    copies, refs = reader.tools(catalogue.TOOLS, decisive)
    columns["tools"], columns["tools_ref"] = pa.array(copies, TEXT), pa.array(refs, TEXT)
    body, answer = Body("input", spans.rows), Body("output", spans.rows)
    for filled, places, raw in (
        (body, catalogue.INPUT, catalogue.RAW_INPUT),
        (answer, catalogue.OUTPUT, catalogue.RAW_OUTPUT),
    ):
        reader.messages(filled, places)
        reader.values(filled, raw)
        columns[filled.field] = pa.array(filled.copies, TEXT)
        columns[f"{filled.field}_ref"] = pa.array(filled.refs, TEXT)
    return body, answer


def _complete_reasons(spans: Spans, reasons: pa.ListArray, calls: Mask, answer: Body) -> pa.ListArray:
    """Finish reasons that only the output messages state."""
    rows = np.flatnonzero(calls & answer.found & missing(reasons)).tolist()
    if not rows:
        return reasons
    cells = reasons.to_pylist()
    for row in rows:
        copy, reference = answer.copies[row], answer.refs[row]
        messages = parsers.read_json(copy) if copy is not None else spans.document(reference or "", row)
        if isinstance(messages, list):
            cells[row] = parsers.finish_reasons([message.get("finish_reason") for message in messages])
    return pa.array(cells, reasons.type)


def _replayability(
    spans: Spans, recognised: Recognised, columns: dict[str, pa.Array], body: Body
) -> pa.StringArray:
    """Whether a decision's function can run again, or a call's messages can be sent again."""
    saw = body.found
    named, modelled = ~missing(columns["function"]), ~missing(columns["model_name"])
    whole = saw & (np.asarray(spans.facts.dropped_attributes) == 0)
    callable_again = saw.copy()
    for row, codes in spans.losses.items():
        if CONTINUED in codes or "input:unparsable" in codes:
            whole[row] = callable_again[row] = False
    said = columns["lossiness"]
    torn = pc.starts_with(pc.list_flatten(said), "input").fill_null(False)  # noqa: FBT003 - pyarrow takes it by position only
    callable_again[pc.list_parent_indices(said).filter(torn)] = False
    grade = np.zeros(spans.rows, dtype=np.int8)
    grade[recognised.are(Kind.INFERENCE) & whole & modelled] = 1
    grade[recognised.are(Kind.DECISION) & callable_again & named] = 2
    return pa.array(("none", "approximate", "rebuildable"), TEXT).take(pa.array(grade))
