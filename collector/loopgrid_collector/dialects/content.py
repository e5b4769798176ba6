"""Which attribute holds the content of a span, and in what words.

Laws:

* Content that stands whole in one attribute, in canonical words, is referred to and never copied.
* Content that had to be put together is copied, with what was explicitly null left out.
* Content that should be JSON and is not stays what it is, a text, and the row says so.
* Of messages, null, the empty text and the empty list mean "not captured", never "empty prompt". Of
  anything else an empty value is a value: a function without arguments saw ``{}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson

from loopgrid_collector.dialects import forms, messages, tools
from loopgrid_collector.dialects.arrow import Mask, containing
from loopgrid_collector.dialects.columns import RESERVED, Spans, follow
from loopgrid_collector.dialects.messages import Message
from loopgrid_collector.dialects.parsers import UnreadableError, read_json, write_json
from loopgrid_collector.dialects.table import Content
from loopgrid_collector.otlp import values

MASKED: Final = "__REDACTED__"
"""What OpenInference writes in place of content that it was told to hide."""

_NOTHING: Final = frozenset({"", "[]", "{}", "null", '""'})


def _cut(text: str) -> bool:
    """Whether text begins as JSON and does not end as it began."""
    closing = {"[": "]", "{": "}"}.get(text.lstrip()[:1])
    return closing is not None and not text.rstrip().endswith(closing)


class Body:
    """Content of one field: per row a copy, or the attribute that holds it, or neither.

    Attributes:
        field: ``input`` or ``output``.
        copies: JSON text.
        refs: attribute keys.
    """

    def __init__(self, field: str, rows: int) -> None:
        self.field = field
        self.copies: list[str | None] = [None] * rows
        self.refs: list[str | None] = [None] * rows

    @cached_property
    def found(self) -> Mask:
        """Which rows have any; asked for when the body is filled."""
        pairs = zip(self.copies, self.refs, strict=True)
        return np.array([copy is not None or ref is not None for copy, ref in pairs], dtype=np.bool_)


class ContentReader:
    """Finds the content of spans.

    Args:
        spans: the spans.
        speaks: dialect → which spans speak it.
        calls: which spans are model calls.
    """

    def __init__(self, spans: Spans, speaks: Mapping[str, Mask], calls: Mask) -> None:
        self._spans = spans
        self._speaks = speaks
        self._calls = calls
        self._preambles: dict[int, list[Message]] = {}
        self._eventful = containing(spans.facts.events, '"gen_ai.')
        self._any_eventful = bool(self._eventful.any())

    def instructions(self, keys: Iterable[str]) -> list[str | None]:
        """Per model call, the attribute that holds system instructions as a list of parts.

        Instructions of any other form are kept, and put in front by ``messages``.
        """
        refs: list[str | None] = [None] * self._spans.rows
        calls, irregular = self._calls.tolist(), self._spans.irregular
        for key in keys:
            for row, (text, is_text) in self._spans.texts(key).items():
                if not calls[row] or refs[row]:
                    continue
                if is_text and row not in irregular and messages.are_plain_parts(text):
                    refs[row] = key
                    continue
                if text.strip() in _NOTHING:
                    continue
                value, exact = self._decode("system", row, text, is_text=is_text, must=False)
                if exact and messages.is_canonical_parts(value):
                    refs[row] = key
                else:
                    self._preambles.setdefault(row, forms.instructions(value))
        return refs

    def tools(self, places: Sequence[Content], wanted: Mask) -> tuple[list[str | None], list[str | None]]:
        """Per span, the tool definitions: a copy in canonical words, or the attribute that holds them so."""
        copies: list[str | None] = [None] * self._spans.rows
        refs: list[str | None] = [None] * self._spans.rows
        pending = wanted.copy()
        for place in places:
            for row in self._rows(pending, place):
                if place.prefix:
                    found = tools.flattened(self._spans.under(place.prefix)[row], place.prefix)
                elif place.path:
                    found = tools.definitions(follow(self._spans.document(place.key, row), place.path))
                else:
                    text, is_text = self._spans.texts(place.key)[row]
                    if text.strip() in _NOTHING:
                        continue
                    value, exact = self._decode("tools", row, text, is_text=is_text)
                    if exact and tools.is_canonical_tools(value):
                        refs[row], pending[row] = place.key, False
                        continue
                    found = [value] if value is text else tools.definitions(value)
                if found:
                    copies[row], pending[row] = self._copy("tools", row, found, None), False
        return copies, refs

    def messages(self, body: Body, places: Sequence[Content]) -> None:
        """Fill the body of model calls."""
        pending = self._calls.copy()
        for place in places:
            if not pending.any():
                break
            rows = self._rows(pending, place)
            if rows:
                pending[self._read_all(body, place, rows)] = False
        if body.field == "input":
            for row, preamble in self._preambles.items():
                if pending[row] and preamble:
                    body.copies[row] = write_json(preamble)

    def values(self, body: Body, places: Sequence[Content]) -> None:
        """Fill the body of every other span: whatever JSON it recorded."""
        pending = ~self._calls
        if not pending.any():
            return
        for place in places:
            if place.key not in self._spans.keys:
                continue
            for row in self._rows(pending, place):
                text, is_text = self._spans.texts(place.key)[row]
                if text == ("" if is_text else "null"):
                    continue
                pending[row] = False
                if is_text and self._is_plain(place, row):
                    body.copies[row] = write_json(text)
                    continue
                value, exact = self._decode(body.field, row, text, is_text=is_text, must=False)
                if exact:
                    body.refs[row] = place.key
                else:
                    body.copies[row] = self._copy(body.field, row, value, text)

    def _rows(self, pending: Mask, place: Content) -> list[int]:
        """The pending rows that have something there; that most places are empty costs little."""
        spans = self._spans
        if place.event:
            if not self._any_eventful:
                return []
            mask = self._eventful
        elif place.key:
            if place.key not in spans.keys:
                return []
            mask = spans.attributes.has(place.key)
        else:
            if not spans.attributes.keys_with_prefix(place.prefix):
                return []
            mask = spans.attributes.rows_with_prefix(place.prefix)
        mask = pending & mask
        if place.only is not None:
            mask &= self._speaks[place.only]
        rows: list[int] = np.flatnonzero(mask).tolist()
        return rows

    def _read_all(self, body: Body, place: Content, rows: list[int]) -> list[int]:
        """Read the content of some rows, and say in which of them there was any."""
        if place.form == "messages":
            rest = self._refer(body, place.key, rows)
            if not rest:
                return rows
            empty = {row for row in rest if not self._read_messages(body, place.key, row)}
            return [row for row in rows if row not in empty]
        return [row for row in rows if self._read(body, place, row)]

    def _refer(self, body: Body, key: str, rows: list[int]) -> list[int]:
        """Refer to what can be kept word for word, and give back the rows where more is to be done.

        Nearly all spans of today end here, so that this loop does nothing but check.
        """
        texts, irregular, preambles = self._spans.texts(key), self._spans.irregular, self._preambles
        refs, rest = body.refs, []
        for row in rows:
            text, is_text = texts[row]
            movable = is_text and row not in irregular
            if movable and row not in preambles and messages.are_plain_messages(text):
                refs[row] = key
                continue
            try:
                value = orjson.loads(text) if movable else None
            except orjson.JSONDecodeError:
                value = None
            if value is None or row in preambles or not messages.is_canonical_messages(value):
                rest.append(row)
                continue
            refs[row] = key
        return rest

    def _read(self, body: Body, place: Content, row: int) -> bool:
        if place.form == "document":
            return self._read_document(body, place, row)
        output = body.field == "output"
        if place.event:
            bedrock = place.form == "bedrock_events"
            found = forms.events(self._spans.events(row), output=output, bedrock=bedrock)
        elif place.form == "listed_events":
            found = forms.listed_events(self._spans.document(place.key, row), output=output)
        elif place.form == "vercel_answer":
            found = forms.vercel_answer(self._spans.under(place.prefix)[row])
        elif place.form == "openinference":
            found = forms.openinference(self._spans.under(place.prefix)[row], place.prefix)
        else:
            found = forms.flattened(
                self._spans.under(place.prefix)[row], place.prefix, "assistant" if output else "user"
            )
        return self._assembled(body, row, found)

    def _read_messages(self, body: Body, key: str, row: int) -> bool:
        text, is_text = self._spans.texts(key)[row]
        if text.strip() in _NOTHING:
            return False
        value, exact = self._decode(body.field, row, text, is_text=is_text)
        if value is text:
            body.copies[row] = write_json(text)
            return True
        if exact and row not in self._preambles and messages.is_canonical_messages(value):
            body.refs[row] = key
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
            value, _ = self._decode(body.field, row, text, is_text=is_text, must=False)
        if body.field == "output":
            return self._assembled(body, row, forms.response(value, text if is_text else None))
        return self._assembled(body, row, forms.request(value))

    def _assembled(self, body: Body, row: int, found: list[Message]) -> bool:
        if not messages.has_parts(found):
            return False
        if body.field == "input":
            found = self._preambles.get(row, []) + found
        body.copies[row] = self._copy(body.field, row, found, None)
        return True

    def _is_plain(self, place: Content, row: int) -> bool:
        if place.plain or place.plain_where is None:
            return place.plain
        key, wanted = place.plain_where
        found = self._spans.texts(key).get(row)
        return found is not None and found[0] == wanted

    def _decode(
        self, field: str, row: int, text: str, *, is_text: bool, must: bool = True
    ) -> tuple[Any, bool]:
        """The value, and whether a reader who follows the attribute's name finds exactly that.

        The value of text that is not JSON is the text itself, the same object.

        Args:
            field: what it is, for the code of the loss.
            row: the span.
            text: what the attribute holds.
            is_text: whether that was text, or else a map or list in lossless JSON.
            must: whether any text that is not JSON is a loss, or only one that begins as if it were.
        """
        exact = row not in self._spans.irregular
        if not is_text:
            return values.from_json(text), exact and RESERVED not in text
        try:
            return orjson.loads(text), exact
        except orjson.JSONDecodeError:
            pass
        try:
            return read_json(text), False
        except UnreadableError:
            if must or text.lstrip().startswith(("[", "{")):
                self._spans.lose(row, f"{field}:unparsable")
                if _cut(text):
                    self._spans.lose(row, f"{field}:truncated")
            return text, False

    def _copy(self, field: str, row: int, value: Any, text: str | None) -> str:
        try:
            return write_json(value)
        except UnreadableError:
            self._spans.lose(row, f"{field}:unparsable")
            return write_json(text if text is not None else repr(value))
