"""What went wrong, where a failed span does not say it in ``error.type``."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.dialects.arrow import TEXT, missing, only_where
from loopgrid_collector.dialects.columns import Spans

_STATUS_PATTERNS: Final = (
    # `RateLimitError: Error code: 429 …`, as instrumentations write an exception.
    re.compile(r"([A-Za-z_][\w.]*)(?=:\s)"),
    # `Error code: 429 - …`, as the providers' own clients write a refused request.
    re.compile(r"Error code: (\d{3})\b"),
)
_HTTP_STATUS: Final = "http.response.status_code"


def failures(
    spans: Spans, types: pa.StringArray, messages: pa.StringArray
) -> tuple[pa.StringArray, pa.StringArray]:
    """Complete error types and messages of failed spans.

    Type: ``error.type``, else the type of the last exception event, else what the status message
    begins with, else the HTTP status. Message: the status message, else what a table found, else the
    message of the exception event.
    """
    messages = pc.coalesce(only_where(spans.failed, spans.facts.status_message), messages)
    rows = np.flatnonzero(spans.failed & (missing(types) | missing(messages))).tolist()
    if not rows:
        return types, messages
    type_cells, message_cells = types.to_pylist(), messages.to_pylist()
    for row in rows:
        exception = _exception(spans, row)
        if type_cells[row] is None:
            type_cells[row] = _text(exception.get("exception.type")) or _from_status(spans, row)
        if message_cells[row] is None:
            message_cells[row] = _text(exception.get("exception.message"))
    return pa.array(type_cells, TEXT), pa.array(message_cells, TEXT)


def _exception(spans: Spans, row: int) -> dict[str, Any]:
    found = [event["attributes"] for event in spans.events(row) if event["name"] == "exception"]
    return found[-1] if found else {}


def _from_status(spans: Spans, row: int) -> str | None:
    message = spans.facts.status_message[row].as_py() or ""
    for pattern in _STATUS_PATTERNS:
        match = pattern.match(message)
        if match:
            return match[1]
    code = spans.texts(_HTTP_STATUS).get(row)
    return code[0] if code else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
