"""Attribute keys to columns: one pass per key, no loop over spans.

The only rows looked at one by one are those of model calls whose field stands inside a JSON
document, and they are looked at once per document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.dialects import parsers
from loopgrid_collector.dialects.arrow import (
    COMMA,
    TEXT,
    TEXTS,
    Mask,
    containing,
    equal,
    joined,
    map_distinct,
    missing,
    only_where,
    without_empty,
)
from loopgrid_collector.dialects.parsers import UnreadableError, plain_json, read_json, write_json
from loopgrid_collector.dialects.table import Members, Source
from loopgrid_collector.otlp import values
from loopgrid_collector.otlp.attributes import Attributes, Type

Rows = npt.NDArray[np.int64]

RESERVED: Final = '{"$'
"""How a lossless JSON object begins that stands for something JSON lacks."""

_COUNTABLE_PAIRS: Final = 1 << 22
"""(row, key) pairs up to which counting them is quicker than sorting them."""


@dataclass(frozen=True, slots=True)
class SpanFacts:
    """What normalising needs to know of spans beside their attributes; one entry per row.

    Attributes:
        name: span name.
        status_code: 0 unset, 1 ok, 2 error.
        status_message: null where there is none.
        scope_name: name of the instrumentation scope.
        events: JSON list of ``{"name", "time_ns", "attributes"}``; null where there are none.
        resource_service: ``service.name`` of the resource; null where absent.
        dropped_attributes: how many attributes the sender says it dropped.
        dropped_events: how many events it says it dropped.
        unknown_fields: whether it came with fields that nothing here reads.
    """

    name: pa.StringArray
    status_code: npt.NDArray[np.int32]
    status_message: pa.StringArray
    scope_name: pa.StringArray
    events: pa.StringArray
    resource_service: pa.StringArray
    dropped_attributes: npt.NDArray[np.int64]
    dropped_events: npt.NDArray[np.int64] | None = None
    unknown_fields: Mask | None = None


class Spans:
    """Attributes and facts of some spans, with everything read from them kept for the next reader.

    Attributes:
        attributes: the spans' attributes.
        facts: the rest.
        rows: how many spans.
        keys: the attribute keys that occur.
        losses: row → codes of what is known to be missing.
    """

    def __init__(self, attributes: Attributes, facts: SpanFacts) -> None:
        self.attributes = attributes
        self.facts = facts
        self.rows = attributes.rows
        self.keys = frozenset(attributes.keys)
        self.losses: dict[int, list[str]] = {}
        self._texts: dict[str, dict[int, tuple[str, bool]]] = {}
        self._documents: dict[tuple[str, int], Any] = {}
        self._events: dict[int, list[dict[str, Any]]] = {}
        self._under: dict[str, dict[int, dict[str, Any]]] = {}

    def lose(self, row: int, code: str) -> None:
        """Note that something is missing from a row."""
        codes = self.losses.setdefault(row, [])
        if code not in codes:
            codes.append(code)

    @cached_property
    def failed(self) -> Mask:
        """Which spans ended in an error."""
        return np.array(self.facts.status_code == _STATUS_ERROR, dtype=np.bool_)

    @cached_property
    def has_empty_texts(self) -> bool:
        """Whether any attribute is an empty text."""
        return bool(equal(self.attributes.string, "").any())

    @cached_property
    def irregular(self) -> frozenset[int]:
        """Spans that carry a key more than once, or one that begins with ``$``.

        Their attributes are stored as pairs, so that a reference by name would find nothing.
        """
        width = len(self.attributes.keys)
        pairs = self.attributes.row * width + self.attributes.code
        if self.rows * width <= _COUNTABLE_PAIRS:
            repeated = np.flatnonzero(np.bincount(pairs, minlength=1) > 1)
        else:
            found, count = np.unique(pairs, return_counts=True)
            repeated = found[count > 1]
        rows = {int(pair) // width for pair in repeated}
        for key in self.keys:
            if key.startswith("$"):
                rows.update(np.flatnonzero(self.attributes.has(key)).tolist())
        return frozenset(rows)

    def texts(self, key: str) -> Mapping[int, tuple[str, bool]]:
        """Row → what the attribute holds and whether that is text (true) or lossless JSON (false)."""
        if key not in self._texts:
            self._texts[key] = {} if key not in self.keys else self._read_texts(key)
        return self._texts[key]

    def _read_texts(self, key: str) -> dict[int, tuple[str, bool]]:
        entries = self.attributes.entries(key)
        rows = self.attributes.row[entries].tolist()
        column = self.attributes.string.take(pa.array(entries))
        texts = column.to_pylist()
        if not column.null_count:
            return dict(zip(rows, [(text, True) for text in texts], strict=True))
        json = self.attributes.json_at(entries).to_pylist()
        return {
            row: (other, False) if text is None else (text, True)
            for row, text, other in zip(rows, texts, json, strict=True)
        }

    def document(self, key: str, row: int) -> Any:
        """The JSON document that an attribute holds, as a map or as text; None if it cannot be read."""
        place = (key, row)
        if place not in self._documents:
            found = self.texts(key).get(row)
            self._documents[place] = None if found is None else _decoded(*found)
        return self._documents[place]

    def events(self, row: int) -> list[dict[str, Any]]:
        """The span's events."""
        if row not in self._events:
            text = self.facts.events[row].as_py()
            self._events[row] = values.from_json(text) if text else []
        return self._events[row]

    def under(self, prefix: str) -> Mapping[int, Mapping[str, Any]]:
        """Row → its attributes whose keys start with the prefix."""
        if prefix not in self._under:
            rows: dict[int, dict[str, Any]] = {}
            for key in self.attributes.keys_with_prefix(prefix):
                for row, (text, is_text) in self.texts(key).items():
                    rows.setdefault(row, {})[key] = text if is_text else values.from_json(text)
            self._under[prefix] = rows
        return self._under[prefix]


_STATUS_ERROR: Final = 2
_FIRST_UNLIKE_JSON: Final = Type.DOUBLE
"""This type and those after it have values that JSON lacks, or may contain some."""


def _decoded(text: str, is_text: bool) -> Any:  # noqa: FBT001 — a pair from `texts`, passed on whole.
    if not is_text:
        return values.from_json(text)
    try:
        return read_json(text)
    except UnreadableError:
        return None


def follow(document: Any, path: Sequence[str]) -> Any:
    """The value at a path of member names; None where there is none."""
    for member in path:
        if not isinstance(document, dict):
            return None
        document = document.get(member)
    return document


class Promoter:
    """Reads fields from where their sources say they may stand.

    Args:
        spans: the spans.
        speaks: dialect → which spans speak it.
        calls: which spans are model calls.
    """

    def __init__(self, spans: Spans, speaks: Mapping[str, Mask], calls: Mask) -> None:
        self._spans = spans
        self._speaks = speaks
        self._calls = calls

    def text(self, sources: Iterable[Source]) -> pa.StringArray:
        """A text column: first source that says something, per row."""
        return self._coalesce(sources, TEXT, self._text, _path_text)

    def integer(self, sources: Iterable[Source]) -> pa.Int64Array:
        """A column of whole numbers: first source that states one, per row."""
        return self._coalesce(
            sources,
            pa.int64(),
            lambda source: self._spans.attributes.integer(source.key),
            lambda _, value: parsers.integer(value),
        )

    def texts(self, sources: Iterable[Source]) -> pa.ListArray:
        """A column of text lists: first source that states one, per row."""
        return self._coalesce(
            sources,
            TEXTS,
            self._list,
            lambda source, value: parsers.LISTS[source.parser](value),
        )

    def _coalesce(
        self,
        sources: Iterable[Source],
        kind: pa.DataType,
        whole: Callable[[Source], pa.Array],
        inner: Callable[[Source, Any], Any],
    ) -> pa.Array:
        found: pa.Array | None = None
        for source in sources:
            if source.key not in self._spans.keys:
                continue
            if source.path or source.parser == "response_finish_reasons":
                column = self._from_documents(source, found, kind, inner)
            else:
                column = whole(source)
            mask = self._guard(source)
            if mask is not None:
                column = only_where(mask, column)
            found = column if found is None else pc.coalesce(found, column)
            if not found.null_count:
                break
        return pa.nulls(self._spans.rows, kind) if found is None else found

    def _guard(self, source: Source) -> Mask | None:
        mask: Mask | None = None
        if source.only is not None:
            mask = self._speaks[source.only]
        for dialect in source.unless:
            mask = ~self._speaks[dialect] if mask is None else mask & ~self._speaks[dialect]
        if source.failed is not None:
            wanted = self._spans.failed if source.failed else ~self._spans.failed
            mask = wanted if mask is None else mask & wanted
        return mask

    def _text(self, source: Source) -> pa.StringArray:
        column = self._spans.attributes.text(source.key)
        if source.parser == "text":
            return without_empty(column) if self._spans.has_empty_texts else column
        return map_distinct(column, parsers.TEXT[source.parser], TEXT)

    def _list(self, source: Source) -> pa.ListArray:
        parse = parsers.LISTS[source.parser]

        def read(text: str) -> list[str | None] | None:
            return parse(read_json(text))

        return map_distinct(self._spans.attributes.json_of(source.key), read, TEXTS)

    def _from_documents(
        self, source: Source, found: pa.Array | None, kind: pa.DataType, inner: Callable[[Source, Any], Any]
    ) -> pa.Array:
        wanted = self._calls & self._spans.attributes.has(source.key)
        if found is not None:
            wanted = wanted & missing(found)
        cells: list[Any] = [None] * self._spans.rows
        for row in np.flatnonzero(wanted).tolist():
            value = follow(self._spans.document(source.key, row), source.path)
            cells[row] = None if value is None else inner(source, value)
        return pa.array(cells, kind)

    def members(self, field: str, places: Iterable[Members], names: Mapping[str, str]) -> pa.StringArray:
        """A column of JSON objects; where several places state a member, the first counts.

        Args:
            field: the field, for the code of what cannot be read.
            places: where members may stand.
            names: spelling → member name.
        """
        columns = []
        for place in places:
            column = self._members(field, place, names)
            if column is not None:
                if place.only is not None:
                    column = only_where(self._speaks[place.only], column)
                if column.null_count < len(column):
                    columns.append(column)
        if len(columns) <= 1:
            return columns[0] if columns else pa.nulls(self._spans.rows, TEXT)
        merged = pc.coalesce(*columns)
        stated = np.sum([~missing(column) for column in columns], axis=0)
        several = np.flatnonzero(stated > 1).tolist()
        if several:
            cells = merged.to_pylist()
            for row in several:
                together: dict[str, Any] = {}
                for column in reversed(columns):
                    together.update(read_json(column[row].as_py() or "{}"))
                cells[row] = write_json(together)
            merged = pa.array(cells, TEXT)
        return merged

    def _members(self, field: str, place: Members, names: Mapping[str, str]) -> pa.StringArray | None:
        if place.key is not None:
            return self._whole_object(field, place, names) if place.key in self._spans.keys else None
        prefix = place.prefix
        keys = {key: name for key, name in place.keys.items() if key in self._spans.keys}
        if prefix is not None:
            found = sorted(self._spans.attributes.keys_with_prefix(prefix))
            keys |= {key: key[len(prefix) :] for key in found}
        names_of = {key: names.get(spelled, spelled) for key, spelled in keys.items()}
        wanted = {key: name for key, name in names_of.items() if keys[key] not in place.drop}
        return self._object(wanted, json_values=place.json_values) if wanted else None

    def _object(self, keys: Mapping[str, str], *, json_values: bool) -> pa.StringArray:
        """One JSON object per row, from one attribute per member; null where there is none.

        Args:
            keys: attribute → member name.
            json_values: whether each value is JSON text itself.
        """
        attributes = self._spans.attributes
        found = self._first_of_each_name(keys)
        entries = np.concatenate(found)
        member = np.repeat(np.arange(len(found)), [len(part) for part in found])
        rows = attributes.row[entries]
        # In the order received, so that the text does not depend on which other spans came along.
        order = np.argsort(entries, kind="stable")
        text = attributes.json_at(entries[order])
        if json_values:
            text = map_distinct(text, _json_value, TEXT)
        elif (attributes.type[entries] >= _FIRST_UNLIKE_JSON).any() and containing(text, RESERVED).any():
            text = map_distinct(text, plain_json, TEXT)
        labels = pa.array([f"{write_json(name)}:" for name in keys.values()], TEXT)
        pairs = joined(labels.take(pa.array(member[order])), text)
        counts = np.bincount(rows, minlength=self._spans.rows)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        listed = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), pairs), COMMA)
        return joined("{", without_empty(listed), "}")

    def _first_of_each_name(self, keys: Mapping[str, str]) -> list[Rows]:
        """Each key's entries, but for rows that state its member under a key before it."""
        attributes = self._spans.attributes
        before: dict[str, list[str]] = {}
        found = []
        for key, name in keys.items():
            entries = attributes.entries(key)
            for other in before.setdefault(name, []):
                entries = entries[~attributes.has(other)[attributes.row[entries]]]
            before[name].append(key)
            found.append(entries)
        return found

    def _whole_object(self, field: str, place: Members, names: Mapping[str, str]) -> pa.StringArray:
        key = place.key or ""
        cells: list[str | None] = [None] * self._spans.rows
        wanted = self._spans.attributes.has(key)
        if place.only is not None:
            wanted = wanted & self._speaks[place.only]
        if place.path or place.drop:
            wanted = wanted & self._calls
        for row in np.flatnonzero(wanted).tolist():
            document = follow(self._spans.document(key, row), place.path)
            if not isinstance(document, dict):
                text, is_text = self._spans.texts(key)[row]
                if document is None and is_text and text.lstrip().startswith("{"):
                    self._spans.lose(row, f"{field}:unparsable")
                continue
            if place.request_with and place.request_with.isdisjoint(document):
                continue
            members: dict[str, Any] = {}
            for spelled, value in document.items():
                if spelled in place.drop or value is None:
                    continue
                if spelled in place.invented and place.invented[spelled] == value:
                    self._spans.lose(row, f"{field}:defaults_left_out")
                    continue
                members.setdefault(names.get(spelled, spelled), value)
            cells[row] = self._written(field, row, members) if members else None
        return pa.array(cells, TEXT)

    def _written(self, field: str, row: int, value: Any) -> str | None:
        try:
            return write_json(value)
        except UnreadableError:
            self._spans.lose(row, f"{field}:unparsable")
            return None


def _path_text(source: Source, value: Any) -> str | None:
    if isinstance(value, bool) and source.parser != "flag":
        return None
    if not isinstance(value, str | int | float):
        return None
    return parsers.TEXT[source.parser](value if isinstance(value, str) else write_json(value))


def _json_value(json: str) -> str:
    """A member whose text is JSON itself; text that is not stays text."""
    value = values.from_json(json)
    try:
        return write_json(read_json(value)) if isinstance(value, str) else write_json(value)
    except UnreadableError:
        return write_json(value)
