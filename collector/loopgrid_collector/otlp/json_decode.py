"""OTLP/JSON request → the same request in protobuf.

OTLP/JSON is proto3 JSON with ids in hexadecimal and enums as integers. The generic parser of the
protobuf runtime takes a hexadecimal id for base64 and stores other bytes, so the mapping is done here,
from the message descriptors: whatever field OTLP has, this knows, under its camelCase and its snake_case
name. Unknown members are passed on as an unknown field (``unknown``), ``null`` means absent, integers are
exact or refused, of a key that occurs twice in one object the last one counts.

The wire bytes are written directly, in the order of the field numbers and without default values, which
is what the runtime would write. A span or log record that does not fit costs itself alone: its place is
taken by its JSON behind ``REFUSED_MARK``, which no protobuf message begins with, so that it reaches the
quarantine with everything else that is refused. Pure: no I/O.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache, lru_cache
from typing import Any, Final, NoReturn

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp import unknown
from loopgrid_collector.otlp.json_scalars import (
    SCALARS,
    Refused,
    Write,
    enum,
    hexadecimal,
    kind,
    string,
    varint,
)

MAX_MESSAGE_DEPTH: Final = 100
"""Messages inside messages: as deep as the protobuf runtime reads the result again."""

REFUSED_MARK: Final = b"\x00otlp/json\x00"
"""What stands before the JSON of an item that was refused. Field number 0 is no protobuf."""

MAX_REFUSED: Final = 10_000
"""Refused items of one request that are kept one by one; with more, the whole is no OTLP/JSON."""

_BOM: Final = b"\xef\xbb\xbf"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_IDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_ITEMS: Final = frozenset(
    {
        ScopeSpans.DESCRIPTOR.fields_by_name["spans"].full_name,
        ScopeLogs.DESCRIPTOR.fields_by_name["log_records"].full_name,
    }
)
# Below request, resource and scope.
_DEPTH_OF_ITEMS: Final = 3
_ITEM_OF: Final = {"traces": Span.DESCRIPTOR, "logs": LogRecord.DESCRIPTOR}

_VARINT_FORM: Final = 0
_64_BIT_FORM: Final = 1
_LENGTH_FORM: Final = 2
_32_BIT_FORM: Final = 5
_FORMS: Final = {
    FieldDescriptor.TYPE_STRING: _LENGTH_FORM,
    FieldDescriptor.TYPE_BYTES: _LENGTH_FORM,
    FieldDescriptor.TYPE_MESSAGE: _LENGTH_FORM,
    FieldDescriptor.TYPE_DOUBLE: _64_BIT_FORM,
    FieldDescriptor.TYPE_FIXED64: _64_BIT_FORM,
    FieldDescriptor.TYPE_SFIXED64: _64_BIT_FORM,
    FieldDescriptor.TYPE_FIXED32: _32_BIT_FORM,
    FieldDescriptor.TYPE_SFIXED32: _32_BIT_FORM,
}
_DEFAULTS: Final = {
    _VARINT_FORM: b"\x00",
    _64_BIT_FORM: bytes(8),
    _LENGTH_FORM: b"\x00",
    _32_BIT_FORM: bytes(4),
}
_CACHED_KEY_CHARACTERS: Final = 128


def traces(body: bytes) -> bytes:
    """``ExportTraceServiceRequest`` in protobuf from the same in OTLP/JSON.

    Raises:
        Undecodable: not OTLP/JSON; the message names the place, as in ``resourceSpans[0].resource``,
            and quotes nothing of the content.
    """
    return _request(trace_service_pb2.ExportTraceServiceRequest, body)


def logs(body: bytes) -> bytes:
    """``ExportLogsServiceRequest`` in protobuf from the same in OTLP/JSON; errors as in ``traces``."""
    return _request(logs_service_pb2.ExportLogsServiceRequest, body)


def metrics(body: bytes) -> bytes:
    """``ExportMetricsServiceRequest`` in protobuf from the same in OTLP/JSON; errors as in ``traces``."""
    return _request(metrics_service_pb2.ExportMetricsServiceRequest, body)


def why_refused(signal: str, payload: bytes) -> str | None:
    """Why an item is not OTLP/JSON, with the place in it; ``None`` if it is, or is no JSON at all.

    Args:
        signal: ``traces`` or ``logs``.
        payload: the item's JSON, as it stands behind ``REFUSED_MARK``.
    """
    try:
        _message(_ITEM_OF[signal])(_loads(payload), _DEPTH_OF_ITEMS)
    except Refused as refused:
        return f"{refused.place() or 'the item'}: {refused.reason}"
    except orjson.JSONDecodeError:
        return None
    return None


def _request(request: type[Message], body: bytes) -> bytes:
    try:
        document = _loads(body.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"The body is not JSON: {error}. Send OTLP/JSON, or OTLP/protobuf.") from error
    try:
        converted = _message(request.DESCRIPTOR)(document, 0)
        if converted.count(REFUSED_MARK) > MAX_REFUSED:
            raise Refused(f"more than {MAX_REFUSED} items do not fit")  # noqa: TRY301 — told like the others
    except Refused as refused:
        place = refused.place() or "the body"
        raise Undecodable(f"The body is not OTLP/JSON: {place}: {refused.reason}.") from refused
    return converted


def _loads(body: bytes) -> Any:
    """A JSON document. Text in it that is no Unicode comes as surrogates, and is refused where it stands.

    Raises:
        orjson.JSONDecodeError: it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if _is_unicode(body) and not _SURROGATE.search(body):
            raise
        text = body.decode("utf-8", "surrogateescape")
        try:
            return json.loads(text, parse_float=_finite, parse_constant=_no_number)
        except (ValueError, RecursionError):
            pass
        raise


def _is_unicode(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _no_number(text)
    return number


def _no_number(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


class _Field:
    """One field of a message: its number, its writer, the choice that it is a member of."""

    __slots__ = ("choice", "name", "number", "write")

    def __init__(self, descriptor: FieldDescriptor) -> None:
        self.name = descriptor.name
        self.number = descriptor.number
        self.choice = descriptor.containing_oneof.name if descriptor.containing_oneof else None
        self.write = _list_of(descriptor) if descriptor.is_repeated else _one(descriptor)


@cache
def _message(descriptor: Descriptor) -> Write:
    """A writer of messages: the bytes of one, without its length."""
    # Filled at the first use: messages contain each other (an AnyValue holds AnyValues).
    fields: dict[str, _Field] = {}

    def write(value: Any, depth: int) -> bytes:
        if type(value) is not dict:
            raise Refused(f"expected an object, found {kind(value)}")
        if depth > MAX_MESSAGE_DEPTH:
            raise Refused(f"nested deeper than {MAX_MESSAGE_DEPTH} messages")
        if not fields:
            fields.update(_fields(descriptor))
        written: dict[int, bytes] = {}
        chosen: dict[str, str] = {}
        strange: dict[str, Any] = {}
        for key, item in value.items():
            if item is None:
                continue
            field = fields.get(key)
            if field is None:
                strange[key] = item
                continue
            if field.choice is not None and chosen.setdefault(field.choice, field.name) != field.name:
                raise Refused(f"only one of {chosen[field.choice]} and {field.name} can be set")
            try:
                written[field.number] = field.write(item, depth + 1)
            except Refused as refused:
                refused.steps.append("." + key)
                raise
        known = b"".join([written[number] for number in sorted(written)])
        return known + unknown.json_field(_dumped(strange)) if strange else known

    return write


def _dumped(members: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(members)
    except orjson.JSONEncodeError:
        try:
            return json.dumps(members).encode("ascii")
        except RecursionError:
            raise Refused("an unknown member is nested too deep to be kept") from None


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    named: dict[str, _Field] = {}
    for field in descriptor.fields:
        named[field.name] = named[field.json_name] = _Field(field)
    return named


def _value(descriptor: FieldDescriptor) -> Write:
    """A writer of what stands behind a field's tag."""
    if descriptor.message_type is not None:
        message = _message(descriptor.message_type)

        def with_length(value: Any, depth: int) -> bytes:
            content = message(value, depth)
            return varint(len(content)) + content

        return with_length
    if descriptor.enum_type is not None:
        return enum(descriptor.enum_type)
    if descriptor.name in _IDS and descriptor.type == FieldDescriptor.TYPE_BYTES:
        return hexadecimal
    return SCALARS[descriptor.type]


def _form(descriptor: FieldDescriptor) -> int:
    return _FORMS.get(descriptor.type, _VARINT_FORM)


def _tag(descriptor: FieldDescriptor, form: int) -> bytes:
    return varint(descriptor.number << 3 | form)


def _one(descriptor: FieldDescriptor) -> Write:
    form = _form(descriptor)
    tag, convert = _tag(descriptor, form), _value(descriptor)
    default = None if descriptor.has_presence else _DEFAULTS[form]

    def write(value: Any, depth: int) -> bytes:
        content = convert(value, depth)
        return b"" if content == default else tag + content

    return write


def _list_of(descriptor: FieldDescriptor) -> Write:
    if descriptor.message_type is not None and descriptor.message_type.name == "KeyValue":
        return _pairs(descriptor)
    convert = _value(descriptor)
    # Inside an array of values null is a value: the empty one.
    holds_values = descriptor.message_type is not None and descriptor.message_type.name == "AnyValue"
    isolates = descriptor.full_name in _ITEMS
    packs = _form(descriptor) != _LENGTH_FORM
    tag = _tag(descriptor, _LENGTH_FORM)

    def write(value: Any, depth: int) -> bytes:
        if type(value) is not list:
            raise Refused(f"expected a list, found {kind(value)}")
        written: list[bytes] = []
        spare = MAX_REFUSED
        for item in value:
            try:
                content = convert({} if item is None and holds_values else item, depth)
            except Refused as refused:
                refused.steps.append(f"[{len(written)}]")
                spare -= 1
                if not isolates or spare < 0:
                    raise
                content = _kept(item, refused)
            written.append(content if packs else tag + content)
        if not packs:
            return b"".join(written)
        packed = b"".join(written)
        return tag + varint(len(packed)) + packed if packed else b""

    return write


def _kept(item: Any, refused: Refused) -> bytes:
    """A refused item in the place of the message that it would have been."""
    try:
        content = REFUSED_MARK + orjson.dumps(item)
    except orjson.JSONEncodeError:
        try:
            content = REFUSED_MARK + json.dumps(item).encode("ascii")
        except RecursionError:
            raise refused from None
    return varint(len(content)) + content


def _pairs(descriptor: FieldDescriptor) -> Write:
    """A writer of attributes, which are most of every request.

    Almost all of them have the shape ``{"key": …, "value": {<one member>: …}}``. That one is written
    without ceremony; whatever else comes, faults included, takes the general way.
    """
    general, tag = _value(descriptor), _tag(descriptor, _LENGTH_FORM)
    value_tag = _tag(KeyValue.DESCRIPTOR.fields_by_name["value"], _LENGTH_FORM)
    text_tag = _tag(AnyValue.DESCRIPTOR.fields_by_name["string_value"], _LENGTH_FORM)

    def quick(item: Any, depth: int, members: dict[str, _Field]) -> bytes:
        ((member, content),) = item["value"].items()
        if member == "stringValue" and type(content) is str:
            text = content.encode()
            written = text_tag + varint(len(text)) + text
        else:
            written = members[member].write(content, depth + 2)
        key = item["key"]
        front = _key(key) if len(key) <= _CACHED_KEY_CHARACTERS else _key.__wrapped__(key)
        pair = front + value_tag + varint(len(written)) + written
        return varint(len(pair)) + pair

    def write(value_list: Any, depth: int) -> bytes:
        if type(value_list) is not list:
            raise Refused(f"expected a list, found {kind(value_list)}")
        members = _fields(AnyValue.DESCRIPTOR)
        shallow = depth + 1 <= MAX_MESSAGE_DEPTH
        written: list[bytes] = []
        for position, item in enumerate(value_list):
            written.append(tag)
            try:
                if not shallow or len(item) != len(("key", "value")):
                    raise KeyError  # noqa: TRY301 — the general way, taken for what is not in this shape
                written.append(quick(item, depth, members))
            except (AttributeError, KeyError, TypeError, ValueError, Refused):
                try:
                    written.append(general(item, depth))
                except Refused as refused:
                    refused.steps.append(f"[{position}]")
                    raise
        return b"".join(written)

    return write


@lru_cache(maxsize=4_096)
def _key(key: str) -> bytes:
    """Field 1 of a KeyValue."""
    content = string(key)
    return b"" if content == b"\x00" else b"\x0a" + content
