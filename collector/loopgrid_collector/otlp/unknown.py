"""Fields that a sender wrote and this release does not know: found, and kept beside the attributes. Pure.

A later OTLP has fields that this one has not; what nobody reads today is still what was received. A span
(log record, resource, scope) that holds such fields keeps them, as they came, in a member of its JSON that no
sender can write: ``$unknown_fields``, first of the object (``docs/spec/wire.md``).

Looking at every field of every span would cost more than all other reading. Known fields in their plain
form have a size that follows from what was read: arithmetic over columns. Only a span of another size is
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from loopgrid_collector.otlp import values

MEMBER: Final = "$unknown_fields"
"""Member of a JSON object that holds them. No sender can write it: with ``$`` it is in a ``$map``."""

PREFIX: Final = f'{{"{MEMBER}":'
"""How the attributes of an item with such fields begin."""

_LENGTH_FORM: Final = 2
_LAST_NUMBER: Final = 2**29 - 1

# Fields of OTLP that belong to profiles, where an index stands for a text: elsewhere it stands for nothing.
_UNREAD: Final = frozenset({"key_strindex", "string_value_strindex"})

Mask = npt.NDArray[np.bool_]
Sizes = npt.NDArray[np.int64]

_ABSENT: Final = pa.scalar(-1, pa.int32())
_ONE_BYTE: Final = 1 << 7
_TWO_BYTES: Final = 1 << 14
_VARINT_BOUNDS: Final = np.array([1 << 7 * bytes_ for bytes_ in range(1, 10)], dtype=np.uint64)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= _ONE_BYTE:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


_JSON: Final = _LAST_NUMBER << 3 | _LENGTH_FORM
_AROUND: Final = _LAST_NUMBER - 1 << 3 | _LENGTH_FORM


def json_field(members: bytes) -> bytes:
    """Unknown members of an object in OTLP/JSON, as an unknown field of the message that it becomes."""
    return raw_field(_JSON, members)


def raw_field(tag: int, content: bytes) -> bytes:
    """A field with a length, as it stands on the wire."""
    return _varint(tag) + _varint(len(content)) + content


def around_field(fields: bytes) -> bytes:
    """Unknown fields beside a resource or a scope, as an unknown field of it."""
    return raw_field(_AROUND, fields)


def kept(message: Message) -> str | None:
    """What a message holds that is not known, as JSON text; ``None`` if nothing. Changes the message."""
    found = [
        values.map_json([("at", values.text_json(place)), form])
        for place, raw in _raw(message, "")
        for form in _forms(raw)
    ]
    return "[" + ",".join(found) + "]" if found else None


def with_kept(members: str, found: str | None) -> str:
    """An object's JSON text with the unknown fields as its first member."""
    if found is None:
        return members
    return PREFIX + found + ("}" if members == "{}" else "," + members[1:])


def _raw(message: Message, place: str) -> Iterator[tuple[str, bytes]]:
    """The unknown fields of a message and of those in it, each with where it stands."""
    for field, content in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            name = f"{place}.{field.json_name}" if place else field.json_name
            if field.is_repeated:
                for position, inner in enumerate(content):
                    yield from _raw(inner, f"{name}[{position}]")
            else:
                yield from _raw(content, name)
        if field.name not in _UNREAD:
            message.ClearField(field.name)
    raw = message.SerializeToString()
    if raw:
        yield place, raw


def _forms(raw: bytes) -> Iterator[tuple[str, str]]:
    """Unknown fields as members: those that came in JSON as JSON, others as their bytes.

    Ours stand first: the message is written so, and the runtime keeps unknown fields in their order.
    """
    content, raw = _first(raw, _AROUND)
    if content is not None:
        yield from ((f"around_{name}", text) for name, text in _plain_forms(content))
    yield from _plain_forms(raw)


def _plain_forms(raw: bytes) -> Iterator[tuple[str, str]]:
    content, rest = _first(raw, _JSON)
    if content is not None and _is_json(content):
        yield "json", content.decode()
        raw = rest
    if raw:
        yield "protobuf", values.bytes_json(raw)


def _first(raw: bytes, tag: int) -> tuple[bytes | None, bytes]:
    """The content of the first field if it has this tag, and what follows it."""
    if not raw.startswith(_varint(tag)):
        return None, raw
    size, start = _number(raw, len(_varint(tag)))
    return raw[start : start + size], raw[start + size :]


def _is_json(content: bytes) -> bool:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True


def _number(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(raw):
        value |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if raw[at - 1] < _ONE_BYTE:
            break
    return value, at


def of_items(message: type[Message], items: pa.BinaryArray, suspects: Mask, indexed: Mask) -> dict[int, str]:
    """Row → its unknown fields as JSON text, for those that have any.

    Args:
        message: what the items are.
        items: their bytes.
        suspects: which rows may have some.
        indexed: which of them have a text by index, which only profiles have.
    """
    found: dict[int, str] = {}
    for row in np.flatnonzero(suspects | indexed).tolist():
        item = items[row].as_py()
        looked_at = indexed[row] or _holds_unknown(message.FromString(item))
        text = kept(message.FromString(item)) if looked_at else None
        if text is not None:
            found[row] = text
    return found


def _holds_unknown(message: Message) -> bool:
    """Quicker than looking for them. Changes the message."""
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() != size


def suspects_among(spans: pa.RecordBatch, items: pa.BinaryArray) -> tuple[Mask, Mask]:
    """Spans whose bytes are not just what was read of them, and spans that have texts by index.

    The first have unknown fields, or known ones in another than the plain form; or events or links.
    """
    size, irregular, indexed = _attribute_sizes(spans.column("attributes"))
    for name in ("trace_id", "span_id", "trace_state", "parent_span_id", "name"):
        size += _text_sizes(spans.column(name))
    for name in ("kind", "dropped_attributes_count", "dropped_events_count", "dropped_links_count"):
        size += _number_sizes(spans.column(name))
    for name in ("start_time_unix_nano", "end_time_unix_nano"):
        size += 9 * (_integers(spans.column(name)) != 0)
    size += 6 * (_integers(spans.column("flags")) != 0)
    status = spans.column("status")
    if status.null_count < len(status):
        inner = _text_sizes(status.field("message").fill_null("")) + _number_sizes(
            status.field("code").fill_null(pa.scalar(0, pa.int32()))
        )
        size += np.where(_mask(status.is_valid()), _framed(inner), 0)
    others = pc.add(pc.list_value_length(spans.column("events")), pc.list_value_length(spans.column("links")))
    differ = _integers(pc.binary_length(items)) != size
    return differ | irregular | (_integers(others) != 0), indexed


def _attribute_sizes(column: pa.ListArray) -> tuple[Sizes, Mask, Mask]:
    """Row → bytes that its attributes take; has a nested value in no plain form; has a text by index."""
    entries = column.flatten()
    value = entries.field("value")
    size = np.zeros(len(entries), dtype=np.int64)
    odd = np.zeros(len(entries), dtype=np.bool_)
    for name in ("string_value", "bytes_value"):
        member = value.field(name)
        if member.null_count < len(member):
            lengths = _integers(pc.binary_length(member).fill_null(_ABSENT))
            size += np.where(lengths < 0, 0, _framed(lengths))
    for name, fixed in (("bool_value", 2), ("double_value", 9)):
        member = value.field(name)
        if member.null_count < len(member):
            size += fixed * _mask(member.is_valid())
    whole = value.field("int_value")
    if whole.null_count < len(whole):
        numbers = _integers(whole.fill_null(0)).view(np.uint64)
        size += np.where(_mask(whole.is_valid()), 1 + _varint_sizes(numbers), 0)
    for name, kind in (("array_value", AnyValue), ("kvlist_value", KeyValue)):
        member = value.field(name)
        if member.null_count < len(member):
            where = np.flatnonzero(_mask(member.is_valid()))
            size[where], odd[where] = _nested_sizes(member.take(pa.array(where)).field("values"), kind)
    indexed = _mask(value.field("string_value_strindex").is_valid())
    indexed |= _integers(entries.field("key_strindex")) != 0
    pair = _text_sizes(entries.field("key")) + np.where(_mask(value.is_valid()), _framed(size), 0)
    bounds = column.offsets.to_numpy().astype(np.int64) - column.offsets[0].as_py()
    return _per_row(_framed(pair), bounds), _per_row(odd, bounds) > 0, _per_row(indexed, bounds) > 0


def _nested_sizes(lists: pa.ListArray, kind: type[Message]) -> tuple[Sizes, Mask]:
    """List → bytes that it takes inside a value, and whether a member of it is in no plain form."""
    members = lists.flatten()
    bounds = np.concatenate(([0], np.cumsum(_integers(pc.list_value_length(lists)))))
    distinct = members.dictionary_encode()
    odd = np.array([_irregular(kind, payload) for payload in distinct.dictionary.to_pylist()], dtype=np.bool_)
    of_members = odd[distinct.indices.to_numpy()] if len(members) else np.zeros(0, dtype=np.bool_)
    inner = _per_row(_framed(_integers(pc.binary_length(members))), bounds)
    return _framed(inner), _per_row(of_members, bounds) > 0


def _irregular(kind: type[Message], payload: bytes) -> bool:
    message = kind.FromString(payload)
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != len(payload))


def _per_row(numbers: npt.NDArray[Any], bounds: Sizes) -> Sizes:
    sums = np.concatenate(([0], np.cumsum(numbers, dtype=np.int64)))
    found: Sizes = sums[bounds[1:]] - sums[bounds[:-1]]
    return found


def _framed(lengths: Sizes) -> Sizes:
    """Size of a field of so many bytes, with a tag of one byte and its length."""
    found: Sizes = 1 + _varint_sizes(lengths) + lengths
    return found


def _varint_sizes(numbers: npt.NDArray[Any]) -> Sizes:
    largest = numbers.max() if len(numbers) else 0
    if largest < _TWO_BYTES:
        # Nearly always; and a search takes ten times as long as a comparison.
        return 1 + (numbers >= _ONE_BYTE)
    return 1 + np.searchsorted(_VARINT_BOUNDS, numbers.astype(np.uint64), side="right")


def _text_sizes(column: pa.Array) -> Sizes:
    lengths = _integers(pc.binary_length(column))
    return np.where(lengths == 0, 0, _framed(lengths))


def _number_sizes(column: pa.Array) -> Sizes:
    numbers = _integers(column)
    return np.where(numbers == 0, 0, 1 + _varint_sizes(numbers.view(np.uint64)))


def _integers(column: pa.Array) -> Sizes:
    found: Sizes = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _mask(column: pa.Array) -> Mask:
    found: Mask = column.to_numpy(zero_copy_only=False)
    return found
