"""What is known to be missing from a model call's record, as short codes.

===========================  ==================================================================
code                         meaning
===========================  ==================================================================
``attributes_dropped:<n>``   the sender dropped that many attributes
``events_dropped:<n>``       the sender dropped that many events, which may have held content
``scrubbed:<key>``           the value was a credential and was not stored (ADR 0007)
``content_off:<setting>``    nothing was captured; the setting turns it on. Messages that arrive
                             in log records make this void
``input_missing``            no input was captured, though capture is on
``output_missing``           an input was captured, and no output, though the call did not fail
``<field>:unparsable``       what should be JSON is not, as after a cut; it is kept as text
``<field>:truncated``        and it ends in the middle: the sender cut it
``<field>:defaults_left_out``  the source fills in values that nobody set; such values are left out
``masked:<field>``           the source hid the content
``elsewhere:<field>``        the source uploaded the content and sent a reference
``incomplete_stream``        the answer broke off, or nobody read it to its end
``end_unknown``              an answer began, and nothing on the span says that it came to its end
``kind_inferred``            nothing on the span says what it is; its messages do
``unknown_fields``           the sender wrote fields that this release does not know; they are kept
                             unread, as ``$unknown_fields``
``continued``                the provider holds the earlier part of the conversation
===========================  ==================================================================
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.dialects.arrow import TEXTS, Mask, containing, equal, missing
from loopgrid_collector.dialects.columns import Spans
from loopgrid_collector.dialects.content import Body
from loopgrid_collector.dialects.recognise import Recognised, capture_off
from loopgrid_collector.otlp.scrub import SCRUBBED, is_secret

CONTINUED: Final = "continued"
UNKNOWN_FIELDS: Final = "unknown_fields"
INCOMPLETE_STREAM: Final = "incomplete_stream"

_PREVIOUS_RESPONSE: Final = "gen_ai.request.previous_response.id"
_ELSEWHERE: Final = {
    "gen_ai.input.messages_ref": "elsewhere:input",
    "gen_ai.output.messages_ref": "elsewhere:output",
    "gen_ai.system_instructions_ref": "elsewhere:system",
    "gen_ai.tool.definitions_ref": "elsewhere:tools",
}
_FIRST_CHUNK_KEYS: Final = ("gen_ai.response.time_to_first_chunk", "ai.response.msToFirstChunk")
_FIRST_CHUNK_EVENT: Final = "First Token Stream Event"


def streamed(spans: Spans, stated: pa.StringArray) -> Mask:
    """Which answers came in pieces.

    Args:
        spans: the spans.
        stated: what the request says, ``true`` where it asked for a stream.
    """
    mask = equal(stated, "true")
    for key in _FIRST_CHUNK_KEYS:
        if key in spans.keys:
            mask |= spans.attributes.has(key)
    return mask | containing(spans.facts.events, _FIRST_CHUNK_EVENT)


def note_stream_losses(
    spans: Spans, calls: Mask, streams: Mask, output: Body, columns: dict[str, pa.Array]
) -> None:
    """Flag answers that broke off, or that nobody read to their end.

    A complete answer ends with a finish reason. One that ends with ``error`` after it began, a
    streamed one that ends with none, and a failed one that has a response id did not come to its end.
    One that has a response id and neither a finish reason nor a token count may or may not have.
    """
    reasons = columns["finish_reasons"]
    open_end = missing(reasons)
    broken = np.zeros(spans.rows, dtype=np.bool_)
    hits = np.flatnonzero(equal(reasons.flatten(), "error"))
    if len(hits):
        broken[pc.list_parent_indices(reasons).to_numpy()[hits]] = True
    answered = ~missing(columns["response_id"])
    uncounted = missing(columns["output_tokens"])
    began = answered | output.found
    silent = open_end & answered & uncounted
    incomplete = (
        (broken & (~spans.failed | streams | began))
        | (open_end & streams & (~spans.failed | began))
        | (silent & spans.failed)
    )
    for row in np.flatnonzero(calls & incomplete).tolist():
        spans.lose(row, INCOMPLETE_STREAM)
    for row in np.flatnonzero(calls & silent & ~incomplete).tolist():
        spans.lose(row, "end_unknown")


def note_content_losses(
    spans: Spans, recognised: Recognised, calls: Mask, source: Body, answer: Body
) -> None:
    """Flag model calls whose content is not there, with the reason where it is known."""
    for key, code in _ELSEWHERE.items():
        if key in spans.keys:
            for row in np.flatnonzero(calls & spans.attributes.has(key)).tolist():
                spans.lose(row, code)
    if _PREVIOUS_RESPONSE in spans.keys:
        for row in np.flatnonzero(calls & spans.attributes.has(_PREVIOUS_RESPONSE)).tolist():
            spans.lose(row, CONTINUED)
    saw, said = source.found, answer.found
    for row in np.flatnonzero(calls & ~(saw & said)).tolist():
        codes = spans.losses.get(row, [])
        if any(code.startswith(("masked:", "elsewhere:")) for code in codes):
            continue
        if saw[row]:
            if not spans.failed[row] and INCOMPLETE_STREAM not in codes:
                spans.lose(row, "output_missing")
        elif said[row]:
            spans.lose(row, "input_missing")
        else:
            spans.lose(row, capture_off(spans, row, recognised.dialect[row].as_py()))


def note_scrubbed(spans: Spans) -> None:
    """Flag spans of which a credential was not stored."""
    for key in spans.keys:
        if is_secret(key):
            for row in np.flatnonzero(equal(spans.attributes.text(key), SCRUBBED)).tolist():
                spans.lose(row, f"scrubbed:{key}")


def note_unknown(spans: Spans) -> None:
    """Flag spans that hold fields which nothing here reads."""
    if spans.facts.unknown_fields is not None:
        for row in np.flatnonzero(spans.facts.unknown_fields).tolist():
            spans.lose(row, UNKNOWN_FIELDS)


def note_dropped(spans: Spans, interesting: Mask) -> None:
    """Flag spans whose sender says that it dropped attributes or events."""
    events = np.asarray(spans.facts.dropped_events if spans.facts.dropped_events is not None else 0)
    for row in np.flatnonzero(interesting & (events > 0)).tolist():
        spans.lose(row, f"events_dropped:{events[row]}")
    dropped = np.asarray(spans.facts.dropped_attributes)
    for row in np.flatnonzero(interesting & (dropped > 0)).tolist():
        spans.lose(row, f"attributes_dropped:{dropped[row]}")


def lossiness(spans: Spans, stated: pa.ListArray) -> pa.ListArray:
    """The codes of each row, after those that the span states itself; null where there are none."""
    if not spans.losses:
        return stated
    cells = stated.to_pylist()
    for row, codes in spans.losses.items():
        said = cells[row] or []
        cells[row] = said + [code for code in codes if code not in said]
    return pa.array(cells, TEXTS)
