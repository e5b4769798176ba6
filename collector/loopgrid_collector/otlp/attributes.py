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
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from loopgrid_collector.otlp import gather, scrub, values

ABSENT: Final = 255
"""``type_of`` a row that lacks the key."""

# Typed once: a bare Python string is given its type anew on each call, at a cost that shows.
_OPEN_LIST: Final = pa.scalar("[", pa.string())
_CLOSE_LIST: Final = pa.scalar("]", pa.string())
_COMMA: Final = pa.scalar(",", pa.string())
_NOTHING: Final = pa.scalar("", pa.string())

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
    def _others(self) -> tuple[pa.StringArray, Index]:
        """JSON text of the values that are no text, and entry → index into it, -1 for a text."""
        place = np.full(len(self.code), -1, dtype=np.int64)
        parts: list[pa.StringArray] = []
        filled = 0
        for kind, member in self._members.items():
            if kind != Type.STRING:
                where = np.flatnonzero(self.type == kind)
                parts.append(_TO_JSON[kind](member.take(pa.array(where, pa.int64()))))
                place[where] = np.arange(filled, filled + len(where))
                filled += len(where)
        place[self.type == Type.EMPTY] = filled
        return pa.concat_arrays([*parts, pa.array([values.NULL_JSON], pa.string())]), place

    def read_nested(self) -> None:
        """Parse the nested values, which may be what cannot be read.

        Raises:
            google.protobuf.message.DecodeError: one of them cannot be.
        """
        self._others  # noqa: B018 — kept for whoever asks next

    def json_at(self, entries: Index) -> pa.StringArray:
        """The values of some entries as lossless JSON text (``values``)."""
        texts, place = self._others
        chosen = place[entries]
        other = texts.take(pa.array(chosen, pa.int64(), mask=chosen < 0))
        if not other.null_count:
            return other
        written = gather.texts(self.string.take(pa.array(entries, pa.int64())))
        return pc.if_else(pa.array(chosen < 0), written, other)

    def objects(self) -> pa.StringArray:
        """Row → all its attributes as one JSON object; ``{}`` where it has none."""
        texts, place = self._others
        plain = gather.objects(self.keys, self.code, self._lengths, self.string, texts, place)
        return self._with_irregular_rows(plain)

    def _with_irregular_rows(self, plain: pa.StringArray) -> pa.StringArray:
        irregular = {int(row) for row in self._rows_with_duplicates()}
        for key in self.keys:
            if key.startswith("$"):
                irregular.update(int(row) for row in self.row[self._entries(key)])
        if not irregular:
            return plain
        text = plain.to_pylist()
        for row in irregular:
            entries = np.arange(*np.searchsorted(self.row, (row, row + 1)).tolist())
            names = (self.keys[code] for code in self.code[entries])
            text[row] = values.map_json(zip(names, self.json_at(entries).to_pylist(), strict=True))
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
        return _scatter(self.json_at(found), self.row[found], self.rows)

    def text(self, key: str) -> pa.StringArray:
        """Row → a STRING as it is, a BOOL, INT or DOUBLE as JSON text; null for all else."""
        found = self.entries(key)
        kinds = self.type[found]
        scalar = (kinds == Type.BOOL) | (kinds == Type.INT) | (kinds == Type.DOUBLE)
        plain = self.string.take(pa.array(found, pa.int64()))
        if scalar.any():
            plain = pc.if_else(pa.array(scalar, pa.bool_()), self.json_at(found), plain)
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
                number if kind == Type.INT else _integer(kind, json)
                for json, kind, number in zip(
                    self.json_at(found).to_pylist(), kinds, numbers.to_pylist(), strict=True
                )
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

    def _json_of_entry(self, entry: int) -> str:
        json: str = self.json_at(np.array([entry]))[0].as_py()
        return json

    def of_row(self, row: int) -> dict[str, Any]:
        """Python values of one row by key: the slow path, for content that has to be assembled."""
        start, stop = np.searchsorted(self.row, (row, row + 1))
        found: dict[str, Any] = {}
        for entry in range(int(start), int(stop)):
            key = self.keys[self.code[entry]]
            if key not in found:
                text = self.string[entry].as_py()
                found[key] = text if text is not None else values.from_json(self._json_of_entry(entry))
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
    """An array of ``length`` with ``part[i]`` at ``rows[i]``, which ascend, and null elsewhere."""
    if len(rows) == length:
        return part
    indices = np.full(length, -1, dtype=np.int64)
    indices[rows] = np.arange(len(rows))
    return part.take(pa.array(indices, pa.int64(), mask=indices < 0))


def _maps(column: pa.StructArray) -> pa.StringArray:
    members = column.field("values").to_pylist()
    return pa.array(map(values.keyed_values_json, members), pa.string())


def _lists(column: pa.StructArray) -> pa.StringArray:
    """Lists as JSON text; a member that occurs again and again (most do) is parsed once."""
    lists = column.field("values")
    members = _each_once(lists.flatten(), lambda payload: values.any_value_json(AnyValue.FromString(payload)))
    joined = pc.binary_join(pa.ListArray.from_arrays(lists.offsets, members), _COMMA)
    return pc.binary_join_element_wise(_OPEN_LIST, joined, _CLOSE_LIST, _NOTHING)


def _doubles(column: pa.DoubleArray) -> pa.StringArray:
    # Told apart by their bits: as numbers, 0.0 and -0.0 would be the same.
    bits = pa.array(column.to_numpy(zero_copy_only=False).view(np.int64), pa.int64())
    return _each_once(bits, lambda value: values.double_json(float(np.int64(value).view(np.float64))))


def _each_once(column: pa.Array, function: Callable[[Any], str]) -> pa.StringArray:
    encoded = column.dictionary_encode()
    return pa.array(map(function, encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices)


_TO_JSON: Final[dict[Type, Callable[[pa.Array], pa.StringArray]]] = {
    Type.BOOL: lambda column: pc.cast(column, pa.string()),
    Type.INT: lambda column: pc.cast(column, pa.string()),
    Type.DOUBLE: _doubles,
    Type.ARRAY: _lists,
    Type.KVLIST: _maps,
    Type.BYTES: lambda column: pa.array([values.bytes_json(x) for x in column.to_pylist()], pa.string()),
}
