"""JSON values → protobuf wire bytes, for every scalar type that OTLP has.

A string and a bytes value come with their length in front; numbers are exact or refused. Pure: no I/O.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

_MAX_EXACT_FLOAT: Final = 2**53
_MAX_NUMBER_CHARACTERS: Final = 40
# Four digits of exponent are plenty, and keep an integer written with one from filling the memory.
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TO_STANDARD_BASE64: Final = str.maketrans("-_", "+/")
_UNSIGNED_64: Final = 2**64 - 1
_LOW_7_BITS: Final = 0x7F
_MORE_FOLLOWS: Final = 0x80

Write = Callable[[Any, int], bytes]
"""(JSON value, depth of the message that it is in) → wire bytes without the field's tag."""


class Refused(Exception):
    """A value does not fit its field. The path is collected while the error rises.

    The reason quotes nothing of the content.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def place(self) -> str:
        """The path to the value, as in ``resourceSpans[0].resource``; empty for the whole."""
        return "".join(reversed(self.steps)).removeprefix(".")


def kind(value: Any) -> str:
    """The name of a JSON value's type, for a message."""
    return _KINDS[type(value)]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _LOW_7_BITS:
        out.append(number & _LOW_7_BITS | _MORE_FOLLOWS)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT_VARINTS: Final = tuple(map(_varint, range(2**14)))


def varint(number: int) -> bytes:
    """An unsigned number in protobuf's variable-length form."""
    return _SHORT_VARINTS[number] if number < len(_SHORT_VARINTS) else _varint(number)


def string(value: Any, _: int = 0) -> bytes:
    """Text, its length in front."""
    if type(value) is not str:
        raise Refused(f"expected a string, found {kind(value)}")
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        raise Refused("expected text, found bytes or half a surrogate pair that are none") from error
    return varint(len(text)) + text


def _bool(value: Any, _: int) -> bytes:
    if type(value) is not bool:
        raise Refused(f"expected true or false, found {kind(value)}")
    return b"\x01" if value else b"\x00"


def _integer(low: int, high: int, to_wire: Callable[[int], bytes]) -> Write:
    def write(value: Any, _: int) -> bytes:
        number = value if type(value) is int else _exact_integer(value)
        if not low <= number <= high:
            raise Refused(f"expected an integer from {low} to {high}")
        return to_wire(number)

    return write


def _exact_integer(value: Any) -> int:
    if type(value) is float:
        if not value.is_integer():
            raise Refused("expected an integer, found a fraction")
        if abs(value) > _MAX_EXACT_FLOAT:
            raise Refused("too large to be exact in this notation; send it as a string of digits")
        return int(value)
    if type(value) is not str:
        raise Refused(f"expected an integer, found {kind(value)}")
    short = len(value) <= _MAX_NUMBER_CHARACTERS
    if short and value.isdecimal() and value.isascii():
        return int(value)
    if not short or not _NUMBER.fullmatch(value):
        raise Refused("expected an integer, found a string that is not one")
    number = Decimal(value)
    if number != number.to_integral_value():
        raise Refused("expected an integer, found a fraction")
    return int(number)


def _double(value: Any, _: int) -> bytes:
    return _DOUBLE(value if type(value) is float else _number(value))


def _number(value: Any) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise Refused("the number is out of range") from error
    if type(value) is not str:
        raise Refused(f"expected a number, found {kind(value)}")
    if value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if not _NUMBER.fullmatch(value):
        raise Refused("expected a number, found a string that is not one")
    number = float(value)
    if math.isinf(number):
        raise Refused("the number is out of range")
    return number


def _bytes(value: Any, _: int) -> bytes:
    if type(value) is not str:
        raise Refused(f"expected base64 text, found {kind(value)}")
    text = value.rstrip("=").translate(_TO_STANDARD_BASE64)
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise Refused("expected base64 text, found other characters or a wrong length") from error
    return varint(len(content)) + content


def hexadecimal(value: Any, _: int) -> bytes:
    """An id. One of the wrong length passes as it is: ingest refuses its span alone and keeps its bytes."""
    if type(value) is not str:
        raise Refused(f"expected hexadecimal digits, found {kind(value)}")
    try:
        content = binascii.unhexlify(value)
    except ValueError as error:
        raise Refused("expected an even number of hexadecimal digits") from error
    return varint(len(content)) + content


def enum(descriptor: EnumDescriptor) -> Write:
    """A writer of an enum's numbers, known or not, and of its names."""
    numbers = {name: value.number for name, value in descriptor.values_by_name.items()}

    def write(value: Any, depth: int) -> bytes:
        if type(value) is not str or _NUMBER.fullmatch(value):
            return _INT32(value, depth)
        if value not in numbers:
            near = difflib.get_close_matches(value[:_MAX_NUMBER_CHARACTERS], numbers, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(f"not a name of {descriptor.name}{hint}")
        return varint(numbers[value])

    return write


_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}

_DOUBLE: Final = struct.Struct("<d").pack


def _signed_varint(number: int) -> bytes:
    return varint(number & _UNSIGNED_64)


def _zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


_INT32: Final = _integer(-(2**31), 2**31 - 1, _signed_varint)
SCALARS: Final[dict[int, Write]] = {
    FieldDescriptor.TYPE_STRING: string,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _integer(-(2**31), 2**31 - 1, _zigzag),
    FieldDescriptor.TYPE_SFIXED32: _integer(-(2**31), 2**31 - 1, struct.Struct("<i").pack),
    FieldDescriptor.TYPE_INT64: _integer(-(2**63), 2**63 - 1, _signed_varint),
    FieldDescriptor.TYPE_SINT64: _integer(-(2**63), 2**63 - 1, _zigzag),
    FieldDescriptor.TYPE_SFIXED64: _integer(-(2**63), 2**63 - 1, struct.Struct("<q").pack),
    FieldDescriptor.TYPE_UINT32: _integer(0, 2**32 - 1, varint),
    FieldDescriptor.TYPE_FIXED32: _integer(0, 2**32 - 1, struct.Struct("<I").pack),
    FieldDescriptor.TYPE_UINT64: _integer(0, 2**64 - 1, varint),
    FieldDescriptor.TYPE_FIXED64: _integer(0, 2**64 - 1, struct.Struct("<Q").pack),
}
"""The writer of each scalar type."""
