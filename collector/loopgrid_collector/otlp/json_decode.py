"""OTLP/JSON request → the same request in protobuf.

OTLP/JSON is proto3 JSON with ids in hexadecimal and enums as integers. The generic parser of the
protobuf runtime takes a hexadecimal id for base64 and stores other bytes, so the mapping is done here,
from the message descriptors: whatever field OTLP has, this knows, under its camelCase and its snake_case
name. Unknown fields are ignored, ``null`` means absent, integers are exact or refused, of a key that
occurs twice in one object the last one counts. Pure: no I/O.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final

import orjson
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from loopgrid_collector.errors import Undecodable

MAX_MESSAGE_DEPTH: Final = 100
"""Messages inside messages: as deep as the protobuf runtime reads the result again."""

_MAX_EXACT_FLOAT: Final = 2**53
_MAX_NUMBER_CHARACTERS: Final = 40
_BOM: Final = b"\xef\xbb\xbf"
# Four digits of exponent are plenty, and keep an integer written with one from filling the memory.
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TO_STANDARD_BASE64: Final = str.maketrans("-_", "+/")
_IDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})

_Convert = Callable[[Any, int], Any]
"""(JSON value, depth of the message that it is in) → what the protobuf constructor takes."""


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


def _request(kind: type[Message], body: bytes) -> bytes:
    try:
        document = orjson.loads(body.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"The body is not JSON: {error}. Send OTLP/JSON, or OTLP/protobuf.") from error
    try:
        fields = _message(kind.DESCRIPTOR)(document, 0)
    except _Refused as refused:
        raise Undecodable(f"The body is not OTLP/JSON: {refused.place()}: {refused.reason}.") from refused
    return kind(**fields).SerializeToString()


class _Refused(Exception):
    """A value does not fit its field. The path is collected while the error rises."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def place(self) -> str:
        return "".join(reversed(self.steps)).removeprefix(".") or "the body"


class _Field:
    """One field of a message: its protobuf name, its converter, the choice that it is a member of."""

    __slots__ = ("choice", "convert", "name")

    def __init__(self, descriptor: FieldDescriptor) -> None:
        self.name = descriptor.name
        self.choice = descriptor.containing_oneof.name if descriptor.containing_oneof else None
        convert = _single(descriptor)
        self.convert = _list_of(convert, descriptor) if descriptor.is_repeated else convert


@cache
def _message(descriptor: Descriptor) -> _Convert:
    # Filled at the first use: messages contain each other (an AnyValue holds AnyValues).
    fields: dict[str, _Field] = {}

    def convert(value: Any, depth: int) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Refused(f"expected an object, found {_kind(value)}")
        if depth > MAX_MESSAGE_DEPTH:
            raise _Refused(f"nested deeper than {MAX_MESSAGE_DEPTH} messages")
        if not fields:
            fields.update(_fields(descriptor))
        converted: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for key, item in value.items():
            field = fields.get(key)
            if field is None or item is None:
                continue
            if field.choice is not None and chosen.setdefault(field.choice, field.name) != field.name:
                raise _Refused(f"only one of {chosen[field.choice]} and {field.name} can be set")
            try:
                converted[field.name] = field.convert(item, depth + 1)
            except _Refused as refused:
                refused.steps.append("." + key)
                raise
        return converted

    return convert


def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    named: dict[str, _Field] = {}
    for field in descriptor.fields:
        named[field.name] = named[field.json_name] = _Field(field)
    return named


def _single(descriptor: FieldDescriptor) -> _Convert:
    if descriptor.message_type is not None:
        return _message(descriptor.message_type)
    if descriptor.enum_type is not None:
        return _enum(descriptor.enum_type)
    if descriptor.name in _IDS and descriptor.type == FieldDescriptor.TYPE_BYTES:
        return _hexadecimal
    return _SCALARS[descriptor.type]


def _list_of(convert: _Convert, descriptor: FieldDescriptor) -> _Convert:
    # Inside an array of values null is a value: the empty one.
    holds_values = descriptor.message_type is not None and descriptor.message_type.name == "AnyValue"

    def convert_list(value: Any, depth: int) -> list[Any]:
        if type(value) is not list:
            raise _Refused(f"expected a list, found {_kind(value)}")
        converted: list[Any] = []
        for item in value:
            try:
                converted.append(convert({} if item is None and holds_values else item, depth))
            except _Refused as refused:
                refused.steps.append(f"[{len(converted)}]")
                raise
        return converted

    return convert_list


def _string(value: Any, _: int) -> str:
    if type(value) is not str:
        raise _Refused(f"expected a string, found {_kind(value)}")
    return value


def _bool(value: Any, _: int) -> bool:
    if type(value) is not bool:
        raise _Refused(f"expected true or false, found {_kind(value)}")
    return value


def _integer(low: int, high: int) -> _Convert:
    def convert(value: Any, _: int) -> int:
        number = value if type(value) is int else _exact_integer(value)
        if not low <= number <= high:
            raise _Refused(f"expected an integer from {low} to {high}")
        return number

    return convert


def _exact_integer(value: Any) -> int:
    if type(value) is float:
        if not value.is_integer():
            raise _Refused("expected an integer, found a fraction")
        if abs(value) > _MAX_EXACT_FLOAT:
            raise _Refused("too large to be exact in this notation; send it as a string of digits")
        return int(value)
    if type(value) is not str:
        raise _Refused(f"expected an integer, found {_kind(value)}")
    if len(value) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(value):
        raise _Refused("expected an integer, found a string that is not one")
    number = Decimal(value)
    if number != number.to_integral_value():
        raise _Refused("expected an integer, found a fraction")
    return int(number)


def _double(value: Any, _: int) -> float:
    if type(value) in (int, float):
        return float(value)
    if type(value) is not str:
        raise _Refused(f"expected a number, found {_kind(value)}")
    if value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if not _NUMBER.fullmatch(value):
        raise _Refused("expected a number, found a string that is not one")
    number = float(value)
    if math.isinf(number):
        raise _Refused("the number is out of range")
    return number


def _bytes(value: Any, _: int) -> bytes:
    if type(value) is not str:
        raise _Refused(f"expected base64 text, found {_kind(value)}")
    text = value.rstrip("=").translate(_TO_STANDARD_BASE64)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise _Refused("expected base64 text, found other characters or a wrong length") from error


def _hexadecimal(value: Any, _: int) -> bytes:
    """An id. One of the wrong length passes as it is: ingest refuses its span alone and keeps its bytes."""
    if type(value) is not str:
        raise _Refused(f"expected hexadecimal digits, found {_kind(value)}")
    try:
        return binascii.unhexlify(value)
    except ValueError as error:
        raise _Refused("expected an even number of hexadecimal digits") from error


def _enum(descriptor: EnumDescriptor) -> _Convert:
    numbers = {name: value.number for name, value in descriptor.values_by_name.items()}
    integer = _integer(-(2**31), 2**31 - 1)

    def convert(value: Any, depth: int) -> int:
        if type(value) is not str or _NUMBER.fullmatch(value):
            return int(integer(value, depth))
        if value not in numbers:
            near = difflib.get_close_matches(value, numbers, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _Refused(f"not a name of {descriptor.name}{hint}")
        return numbers[value]

    return convert


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}

_INT32: Final = _integer(-(2**31), 2**31 - 1)
_INT64: Final = _integer(-(2**63), 2**63 - 1)
_UINT32: Final = _integer(0, 2**32 - 1)
_UINT64: Final = _integer(0, 2**64 - 1)
_SCALARS: Final[dict[int, _Convert]] = {
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
}
