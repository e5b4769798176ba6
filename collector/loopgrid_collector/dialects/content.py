"""Which attribute holds the content of a span, and in what words.

Laws:

* Content that stands whole in one attribute, in canonical words, is referred to and never copied.
* Content that had to be put together is copied, with what was explicitly null left out.
* Content that should be JSON and is not stays what it is, a text, and the row says so.
* Null, the empty text and the empty list mean "not captured", never "empty prompt".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.dialects import forms, messages
from loopgrid_collector.dialects.columns import Mask, Spans
from loopgrid_collector.dialects.messages import Message
from loopgrid_collector.dialects.parsers import UnreadableError, read_json, write_json
from loopgrid_collector.dialects.table import Content
from loopgrid_collector.otlp import values

MASKED: Final = "__REDACTED__"
"""What OpenInference writes in place of content that it was told to hide."""

_NOTHING: Final = frozenset({"", "[]", "{}", "null", '""'})
_RESERVED: Final = '{"$'
"""How a lossless JSON object begins that stands for something JSON lacks."""


class Body:
    """Content of one field: per row a copy, or the attribute that holds it, or neither.

    Attributes:
        field: ``input`` or ``output``.
        copies: JSON text.
        refs: attribute keys.
        reasons: row → finish reasons that the messages themselves state.
    """

    def __init__(self, field: str, rows: int) -> None:
        self.field = field
        self.copies: list[str | None] = [None] * rows
        self.refs: list[str | None] = [None] * rows
        self.reasons: dict[int, list[Any]] = {}

    def found(self) -> Mask:
        """Which rows have any."""
        pairs = zip(self.copies, self.refs, strict=True)
        return np.array([copy is not None or ref is not None for copy, ref in pairs], dtype=np.bool_)


class ContentReader:
    """Finds the content of spans.

    Args:
        spans: the spans.
        speaks: which spans speak a dialect.
        calls: which spans are model calls.
    """

    def __init__(self, spans: Spans, speaks: Callable[[str], Mask], calls: Mask) -> None:
        self._spans = spans
        self._speaks = speaks
        self._calls = calls
        self._preambles: dict[int, list[Message]] = {}
        self._eventful = self._rows_with_content_events()

    def _rows_with_content_events(self) -> Mask:
        events = self._spans.facts.events
        if events.null_count == len(events):
            return np.zeros(self._spans.rows, dtype=np.bool_)
        mask: Mask = (
            pc.match_substring(events, '"gen_ai.').fill_null(value=False).to_numpy(zero_copy_only=False)
        )
        return mask

    def instructions(self, keys: Iterable[str]) -> list[str | None]:
        """Per model call, the attribute that holds system instructions as a list of parts.

        Instructions of any other form are kept, and put in front by ``messages``.
        """
        refs: list[str | None] = [None] * self._spans.rows
        for key in keys:
            for row, (text, is_text) in self._spans.texts(key).items():
                if not self._calls[row] or refs[row] or text.strip() in _NOTHING:
                    continue
                value = self._decode("system", row, text, is_text=is_text)
                if messages.is_canonical_parts(value) and self._referable(row, text, is_text=is_text):
                    refs[row] = key
                else:
                    self._preambles.setdefault(row, forms.instructions(value))
        return refs

    def tools(self, keys: Iterable[str], wanted: Mask) -> list[str | None]:
        """Per span, the attribute that holds the tool definitions."""
        refs: list[str | None] = [None] * self._spans.rows
        for key in keys:
            for row, (text, is_text) in self._spans.texts(key).items():
                if not wanted[row] or refs[row] or text.strip() in _NOTHING:
                    continue
                try:
                    read_json(text)
                except UnreadableError:
                    self._spans.lose(row, "tools:unparsable")
                    continue
                if self._referable(row, text, is_text=is_text):
                    refs[row] = key
        return refs

    def messages(self, body: Body, places: Sequence[Content]) -> None:
        """Fill the body of model calls."""
        pending = self._calls.copy()
        for place in places:
            rows = np.flatnonzero(pending & self._holds(place)).tolist() if pending.any() else []
            for row in rows:
                if self._read(body, place, row):
                    pending[row] = False
        if body.field == "input":
            for row, preamble in self._preambles.items():
                if pending[row] and preamble:
                    body.copies[row] = write_json(preamble)

    def values(self, body: Body, places: Sequence[Content]) -> None:
        """Fill the body of every other span: whatever JSON it recorded."""
        pending = ~self._calls
        for place in places:
            if place.key not in self._spans.keys:
                continue
            for row in np.flatnonzero(pending & self._holds(place)).tolist():
                text, is_text = self._spans.texts(place.key)[row]
                if text in _NOTHING:
                    continue
                pending[row] = False
                if is_text and self._is_plain(place, row):
                    body.copies[row] = write_json(text)
                    continue
                value = self._decode(body.field, row, text, is_text=is_text)
                if value is not text and self._referable(row, text, is_text=is_text):
                    body.refs[row] = place.key
                else:
                    body.copies[row] = self._copy(body.field, row, value, text)

    def _holds(self, place: Content) -> Mask:
        spans = self._spans
        if place.event:
            mask = self._eventful
        elif place.key:
            if place.key not in spans.keys:
                return np.zeros(spans.rows, dtype=np.bool_)
            mask = spans.attributes.has(place.key)
        else:
            mask = spans.attributes.rows_with_prefix(place.prefix)
        return mask & self._speaks(place.only) if place.only is not None else mask

    def _read(self, body: Body, place: Content, row: int) -> bool:
        if place.form == "messages":
            return self._read_messages(body, place.key, row)
        if place.form == "document":
            return self._read_document(body, place, row)
        output = body.field == "output"
        if place.event:
            found = forms.events(self._spans.events(row), output=output)
        elif place.form == "vercel_answer":
            found = forms.vercel_answer(self._spans.row(row))
        elif place.form == "openinference":
            found = forms.openinference(self._spans.row(row), place.prefix)
        else:
            found = forms.traceloop(self._spans.row(row), place.prefix, "assistant" if output else "user")
        return self._assembled(body, row, found)

    def _read_messages(self, body: Body, key: str, row: int) -> bool:
        text, is_text = self._spans.texts(key)[row]
        if text.strip() in _NOTHING:
            return False
        value = self._decode(body.field, row, text, is_text=is_text)
        if value is text:
            body.copies[row] = write_json(text)
            return True
        if (
            row not in self._preambles
            and messages.is_canonical_messages(value)
            and self._referable(row, text, is_text=is_text)
        ):
            body.refs[row] = key
            if body.field == "output":
                body.reasons[row] = [message.get("finish_reason") for message in value]
            return True
        default = "assistant" if body.field == "output" else "user"
        found = messages.messages(value if isinstance(value, list) else [value], default)
        return self._assembled(body, row, found)

    def _read_document(self, body: Body, place: Content, row: int) -> bool:
        text, is_text = self._spans.texts(place.key)[row]
        if text == MASKED:
            self._spans.lose(row, f"masked:{body.field}")
            return False
        if text.strip() in _NOTHING:
            return False
        if is_text and self._is_plain(place, row):
            value: Any = text
        else:
            value = self._decode(body.field, row, text, is_text=is_text, must=False)
        if body.field == "output":
            return self._assembled(body, row, forms.response(value, text if is_text else None))
        return self._assembled(body, row, forms.request(value))

    def _assembled(self, body: Body, row: int, found: list[Message]) -> bool:
        if not messages.has_parts(found):
            return False
        if body.field == "input":
            found = self._preambles.get(row, []) + found
        else:
            body.reasons[row] = [message.get("finish_reason") for message in found]
        body.copies[row] = self._copy(body.field, row, found, None)
        return True

    def _is_plain(self, place: Content, row: int) -> bool:
        if place.plain_where is None:
            return False
        key, wanted = place.plain_where
        found = self._spans.texts(key).get(row)
        return found is not None and found[0] == wanted

    def _referable(self, row: int, text: str, *, is_text: bool) -> bool:
        """Whether a reader who follows the attribute's name finds exactly this."""
        return not self._spans.repeated_keys[row] and (is_text or _RESERVED not in text)

    def _decode(self, field: str, row: int, text: str, *, is_text: bool, must: bool = True) -> Any:
        """The value; the text itself (the same object) where it is not JSON.

        Args:
            field: what it is, for the code of the loss.
            row: the span.
            text: what the attribute holds.
            is_text: whether that was text, or else a map or list in lossless JSON.
            must: whether any text that is not JSON is a loss, or only one that begins as if it were.
        """
        if not is_text:
            return values.from_json(text)
        try:
            return read_json(text)
        except UnreadableError:
            if must or text.lstrip().startswith(("[", "{")):
                self._spans.lose(row, f"{field}:unparsable")
            return text

    def _copy(self, field: str, row: int, value: Any, text: str | None) -> str:
        try:
            return write_json(value)
        except UnreadableError:
            self._spans.lose(row, f"{field}:unparsable")
            return write_json(text if text is not None else repr(value))


def column(cells: Sequence[str | None]) -> pa.StringArray:
    """A text column."""
    return pa.array(cells, pa.string())
