"""Messages that arrive in log records instead of on the span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from loopgrid_collector.dialects import forms, messages
from loopgrid_collector.dialects.parsers import UnreadableError, write_json
from loopgrid_collector.otlp import values
from loopgrid_collector.otlp.attributes import Attributes

_EVENT_NAME_KEY: Final = "event.name"
"""Where older emitters put the name of the event."""

_CONTENT_EVENTS: Final = frozenset({messages.DETAILS_EVENT, messages.CHOICE_EVENT, *messages.EVENT_ROLES})


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What normalising needs to know of log records beside their attributes; one entry per row.

    Attributes:
        event_name: null where the record names none.
        body_json: the body as lossless JSON text; null where there is none.
        resource_service: ``service.name`` of the resource; null where absent.
    """

    event_name: pa.StringArray
    body_json: pa.StringArray
    resource_service: pa.StringArray


class Contribution:
    """What some log records add to the content of their spans, one cell per record."""

    def __init__(self, rows: int) -> None:
        self.input: list[str | None] = [None] * rows
        self.system: list[str | None] = [None] * rows
        self.output: list[str | None] = [None] * rows


def contributions(attributes: Attributes, facts: LogFacts) -> Contribution:
    """Read the records that are GenAI content events; all others contribute nothing.

    ``input`` and ``output`` are lists of messages, ``system`` is the list of parts that belong into a
    system message in front of the input.
    """
    found = Contribution(attributes.rows)
    older = attributes.text(_EVENT_NAME_KEY).to_pylist()
    for row, (name, old) in enumerate(zip(facts.event_name.to_pylist(), older, strict=True)):
        event = name or old
        if event not in _CONTENT_EVENTS:
            continue
        if event == messages.DETAILS_EVENT:
            _details(found, row, attributes.of_row(row))
            continue
        body = facts.body_json[row].as_py()
        value = values.from_json(body) if body is not None else attributes.of_row(row)
        message = messages.of_event(event, value)
        if message is not None:
            cells = found.output if event == messages.CHOICE_EVENT else found.input
            cells[row] = _written([message])
    return found


def _details(found: Contribution, row: int, attributes: Mapping[str, Any]) -> None:
    found.input[row] = _messages(attributes.get("gen_ai.input.messages"), "user")
    found.output[row] = _messages(attributes.get("gen_ai.output.messages"), "assistant")
    parts = forms.instruction_parts(attributes.get("gen_ai.system_instructions"))
    found.system[row] = _written(parts) if parts else None


def _messages(value: Any, role: str) -> str | None:
    listed = forms.listed(value)
    built = messages.messages(listed, role)
    return _written(built) if messages.has_parts(built) else None


def _written(value: Any) -> str | None:
    try:
        return write_json(value)
    except UnreadableError:
        # The record itself is stored whole; only the join into the span does without it.
        return None
