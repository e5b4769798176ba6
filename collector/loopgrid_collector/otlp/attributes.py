"""The attributes of many spans (or log records) as flat columns.

One *entry* is one (row, key) pair, in the order received. Everything that the dialects need is a
selection over entries by key, so that the cost per span is a few vector operations and no loop.
Of duplicate keys in one row the first counts, everywhere; the others stay in the JSON text.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.otlp import scrub, values

ABSENT: Final = 255
"""``type_of`` a row that lacks the key."""

_NEEDS_ESCAPE: Final = r'[\x00-\x1f"\\]'
_CONTROL: Final = r"[\x00-\x1f]"
_FIRST_PRINTABLE: Final = 0x20

# Typed once: a bare Python string is given its type anew on each call, at a cost that shows.
_QUOTE: Final = pa.scalar('"', pa.string())
_OPEN: Final = pa.scalar("{", pa.string())
_CLOSE: Final = pa.scalar("}", pa.string())
_COLON: Final = pa.scalar(":", pa.string())
_COMMA: Final = pa.scalar(",", pa.string())
_NOTHING: Final = pa.scalar("", pa.string())
_JSON_NULL: Final = pa.scalar(values.NULL_JSON, pa.string())

_NOT_SECRET: Final = pa.array(sorted(scrub.NOTHING_TO_HIDE), pa.string())

Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]


class Type(IntEnum):
    """Which member of the AnyValue choice is set."""

    EMPTY = 0
    STRING = 1
    BOOL = 2
    INT = 3
    DOUBLE = 4
    ARRAY = 5
    KVLIST = 6
    BYTES = 7


_MEMBERS: Final = (
    ("string_value", Type.STRING),
    ("bool_value", Type.BOOL),
    ("int_value", Type.INT),
    ("double_value", Type.DOUBLE),
    ("array_value", Type.ARRAY),
    ("kvlist_value", Type.KVLIST),
    ("bytes_value", Type.BYTES),
)


class Attributes:
    """Attributes of ``rows`` spans or log records.

    Attributes:
        rows: how many spans or log records.
        keys: the distinct keys.
        row: entry → row, ascending.
        code: entry → index into ``keys``.
        type: entry → ``Type``.
        string: entry → the text of a STRING value, else null.
        json: entry → the value as lossless JSON text (``values``).
    """

    def __init__(self, column: pa.ListArray) -> None:
        """Flatten a list column of ``KeyValue`` structs as ``ptars`` decodes them.

        Raises:
            google.protobuf.message.DecodeError: a nested value cannot be parsed.
        """
        self.rows: int = len(column)
        entries = column.flatten()
        encoded = entries.field("key").dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        self.keys: list[str] = encoded.dictionary.to_pylist()
        self.code: npt.NDArray[np.int32] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        lengths = np.diff(column.offsets.to_numpy())
        self._lengths = lengths
        self.row: Index = np.repeat(np.arange(self.rows, dtype=np.int64), lengths)
        value = entries.field("value")
        present = _mask(value.is_valid())
        self.type: npt.NDArray[np.uint8] = np.zeros(len(self.code), dtype=np.uint8)
        self._members: dict[Type, pa.Array] = {}
        for name, kind in _MEMBERS:
            member = value.field(name)
            chosen = _mask(member.is_valid()) & present
            if chosen.any():
                self.type[chosen] = kind
                self._members[kind] = member
        self.string: pa.StringArray = (
            self._members[Type.STRING]
            if Type.STRING in self._members
            else pa.nulls(len(self.code), pa.string())
        )
        self._index = {key: position for position, key in enumerate(self.keys)}
        order = np.argsort(self.code, kind="stable")
        self._order = order
        self._starts = np.searchsorted(self.code[order], np.arange(len(self.keys) + 1))

    def scrub(self) -> None:
        """Replace the values of attributes that are known to hold credentials (``scrub``). Before reading."""
        entries = [self._entries(key) for key in self.keys if scrub.is_secret(key)]
        if not entries:
            return
        secret = np.concatenate(entries)
        empty = _mask(pc.is_in(self.string, value_set=_NOT_SECRET))
        secret = secret[~empty[secret] & (self.type[secret] != Type.EMPTY)]
        chosen = np.zeros(len(self.code), dtype=np.bool_)
        chosen[secret] = True
        self.string = pc.if_else(pa.array(chosen), pa.scalar(scrub.SCRUBBED, pa.string()), self.string)
        self.type[secret] = Type.STRING
        self._members[Type.STRING] = self.string

    @cached_property
    def json(self) -> pa.StringArray:
        """Entry → the value as lossless JSON text."""
        pieces = _Pieces()
        for kind, member in self._members.items():
            where = np.flatnonzero(self.type == kind)
            chosen = member.take(pa.array(where, pa.int64()))
            if kind == Type.STRING:
                _add_strings(pieces, where, chosen)
            else:
                pieces.add(where, _TO_JSON[kind](chosen))
        empty = np.flatnonzero(self.type == Type.EMPTY)
        pieces.add(empty, pa.repeat(_JSON_NULL, len(empty)))
        return pieces.joined(len(self.code))

    def objects(self) -> pa.StringArray:
        """Row → all its attributes as one JSON object; ``{}`` where it has none."""
        quoted = _strings_to_json(pa.array(self.keys, pa.string())).take(pa.array(self.code, pa.int32()))
        pairs = pc.binary_join_element_wise(quoted, self.json, _COLON)
        offsets = np.concatenate(([0], np.cumsum(self._lengths))).astype(np.int32)
        joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs), _COMMA)
        plain = pc.binary_join_element_wise(_OPEN, joined, _CLOSE, _NOTHING)
        return self._with_irregular_rows(plain)

    def _with_irregular_rows(self, plain: pa.StringArray) -> pa.StringArray:
        irregular = {int(row) for row in self._rows_with_duplicates()}
        for key in self.keys:
            if key.startswith("$"):
                irregular.update(int(row) for row in self.row[self._entries(key)])
        if not irregular:
            return plain
        text = plain.to_pylist()
        json = self.json
        for row in irregular:
            entries = range(*np.searchsorted(self.row, (row, row + 1)).tolist())
            text[row] = values.map_json((self.keys[self.code[i]], json[int(i)].as_py()) for i in entries)
        return pa.array(text, pa.string())

    def _rows_with_duplicates(self) -> Index:
        pair = self.row * np.int64(len(self.keys) or 1) + self.code
        unique, count = np.unique(pair, return_counts=True)
        return np.unique(unique[count > 1] // (len(self.keys) or 1))

    def _entries(self, key: str) -> Index:
        position = self._index.get(key)
        if position is None:
            return np.empty(0, dtype=np.int64)
        return self._order[self._starts[position] : self._starts[position + 1]]

    def entries(self, key: str) -> Index:
        """Entries that carry the key, the first one of each row, in row order."""
        found = self._entries(key)
        if len(found) > 1:
            rows = self.row[found]
            found = found[np.concatenate(([True], rows[1:] != rows[:-1]))]
        return found

    def has(self, key: str) -> Mask:
        """Row → whether it carries the key."""
        mask = np.zeros(self.rows, dtype=np.bool_)
        mask[self.row[self._entries(key)]] = True
        return mask

    def type_of(self, key: str) -> npt.NDArray[np.uint8]:
        """Row → ``Type`` of the key's value, ``ABSENT`` where it has none."""
        kinds = np.full(self.rows, ABSENT, dtype=np.uint8)
        found = self.entries(key)
        kinds[self.row[found]] = self.type[found]
        return kinds

    def json_of(self, key: str) -> pa.StringArray:
        """Row → JSON text of the key's value; null where absent."""
        found = self.entries(key)
        return _scatter(self.json.take(pa.array(found, pa.int64())), self.row[found], self.rows)

    def text(self, key: str) -> pa.StringArray:
        """Row → a STRING as it is, a BOOL, INT or DOUBLE as JSON text; null for all else."""
        found = self.entries(key)
        kinds = self.type[found]
        scalar = (kinds == Type.BOOL) | (kinds == Type.INT) | (kinds == Type.DOUBLE)
        plain = self.string.take(pa.array(found, pa.int64()))
        if scalar.any():
            plain = pc.if_else(
                pa.array(scalar, pa.bool_()), self.json.take(pa.array(found, pa.int64())), plain
            )
        return _scatter(plain, self.row[found], self.rows)

    def integer(self, key: str) -> pa.Int64Array:
        """Row → an INT, a DOUBLE without fraction, or a STRING of digits; null for all else."""
        found = self.entries(key)
        kinds = self.type[found]
        numbers = pa.nulls(len(found), pa.int64())
        if Type.INT in self._members:
            numbers = self._members[Type.INT].take(pa.array(found, pa.int64()))
        if ((kinds == Type.DOUBLE) | (kinds == Type.STRING)).any():
            parsed = [
                number if kind == Type.INT else _integer(kind, self.json[int(entry)].as_py())
                for entry, kind, number in zip(found, kinds, numbers.to_pylist(), strict=True)
            ]
            numbers = pa.array(parsed, pa.int64())
        return _scatter(numbers, self.row[found], self.rows)

    def keys_with_prefix(self, prefix: str) -> list[str]:
        """Distinct keys that start with the prefix and go on after it."""
        return [key for key in self.keys if key.startswith(prefix) and key != prefix]

    def rows_with_prefix(self, prefix: str) -> Mask:
        """Row → whether any of its keys starts with the prefix."""
        mask = np.zeros(self.rows, dtype=np.bool_)
        for key in self.keys_with_prefix(prefix):
            mask[self.row[self._entries(key)]] = True
        return mask

    def of_row(self, row: int) -> dict[str, Any]:
        """Python values of one row by key: the slow path, for content that has to be assembled."""
        start, stop = np.searchsorted(self.row, (row, row + 1))
        found: dict[str, Any] = {}
        for entry in range(int(start), int(stop)):
            key = self.keys[self.code[entry]]
            if key not in found:
                text = self.string[entry].as_py()
                found[key] = text if text is not None else values.from_json(self.json[entry].as_py())
        return found


def _integer(kind: int, json: str) -> int | None:
    value = orjson.loads(json)
    try:
        number = float(value) if kind in (Type.DOUBLE, Type.STRING) else None
    except (ValueError, TypeError):
        return None
    if number is None or not number.is_integer():
        return None
    exact = int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() else int(number)
    return exact if -(2**63) <= exact < 2**63 else None


def _mask(array: pa.Array) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _scatter(part: pa.Array, rows: Index, length: int) -> Any:
    """An array of ``length`` with ``part[i]`` at ``rows[i]`` and null elsewhere."""
    indices = np.full(length, -1, dtype=np.int64)
    indices[rows] = np.arange(len(rows))
    return part.take(pa.array(indices, pa.int64(), mask=indices < 0))


class _Pieces:
    """Parts of one array, each for some places of it, put together with a single copy."""

    def __init__(self) -> None:
        self._where: list[Index] = []
        self._parts: list[pa.Array] = []

    def add(self, where: Index, part: pa.Array) -> None:
        """``part[i]`` stands at ``where[i]``."""
        self._where.append(where)
        self._parts.append(part)

    def joined(self, length: int) -> Any:
        """The array; every place must have been filled."""
        order = np.empty(length, dtype=np.int64)
        order[np.concatenate(self._where)] = np.arange(length)
        return pa.concat_arrays(self._parts).take(pa.array(order, pa.int64()))


def _add_strings(pieces: _Pieces, where: Index, strings: pa.StringArray) -> None:
    special = pc.match_substring_regex(strings, _NEEDS_ESCAPE)
    plain = strings.filter(pc.invert(special))
    pieces.add(where[~_mask(special)], _quoted(plain))
    where, strings = where[_mask(special)], strings.filter(special)
    if _has_control_characters(strings):
        control = pc.match_substring_regex(strings, _CONTROL)
        odd = [orjson.dumps(text).decode() for text in strings.filter(control).to_pylist()]
        pieces.add(where[_mask(control)], pa.array(odd, pa.string()))
        where, strings = where[~_mask(control)], strings.filter(pc.invert(control))
    # Content is mostly JSON in a string: quotes and backslashes, which two passes over the buffer escape
    # several times faster than an encoder called for each string.
    escaped = pc.replace_substring(strings, "\\", "\\\\")
    pieces.add(where, _quoted(pc.replace_substring(escaped, '"', '\\"')))


def _quoted(strings: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise(_QUOTE, strings, _QUOTE, _NOTHING)


def _has_control_characters(strings: pa.StringArray) -> bool:
    _, offsets, data = strings.buffers()
    if data is None or not len(strings):
        return False
    ends = np.frombuffer(offsets, dtype=np.int32)[strings.offset : strings.offset + len(strings) + 1]
    text = np.frombuffer(data, dtype=np.uint8)[ends[0] : ends[-1]]
    return bool(len(text)) and int(text.min()) < _FIRST_PRINTABLE


def _strings_to_json(strings: pa.StringArray) -> Any:
    pieces = _Pieces()
    _add_strings(pieces, np.arange(len(strings)), strings)
    return pieces.joined(len(strings))


def _map_to_json(column: pa.Array) -> pa.StringArray:
    return _nested(column, is_map=True)


def _array_to_json(column: pa.Array) -> pa.StringArray:
    return _nested(column, is_map=False)


def _nested(column: pa.Array, *, is_map: bool) -> pa.StringArray:
    members = column.field("values").to_pylist()
    return pa.array([values.keyed_values_json(payloads, is_map=is_map) for payloads in members], pa.string())


_TO_JSON: Final[dict[Type, Callable[[pa.Array], pa.StringArray]]] = {
    Type.BOOL: lambda column: pc.cast(column, pa.string()),
    Type.INT: lambda column: pc.cast(column, pa.string()),
    Type.DOUBLE: lambda column: pa.array([values.double_json(x) for x in column.to_pylist()], pa.string()),
    Type.ARRAY: _array_to_json,
    Type.KVLIST: _map_to_json,
    Type.BYTES: lambda column: pa.array([values.bytes_json(x) for x in column.to_pylist()], pa.string()),
}
