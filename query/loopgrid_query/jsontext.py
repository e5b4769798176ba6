"""JSON text in and out, nothing lost on the way. Pure.

Recorded content is passed on as the text it is stored as (``Json``), so that numbers beyond 64
bits, long nesting and the order of members survive. It is parsed only where it must be compared.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import orjson

from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.instants import format_instant

Json = orjson.Fragment
"""JSON text that is part of an answer as it stands."""

MAX_DEPTH: Final = 100
"""Levels of lists and objects in a value that is recorded through the API."""

_TOO_DEEP: Final = "The recorded content is nested too deeply to be compared; read it through /v1/sql."
_TOO_LONG_A_NUMBER: Final = (
    "The recorded content holds a number too long to be compared; read it through /v1/sql."
)
_SURROGATES: Final = range(0xD800, 0xE000)
_INTEGERS: Final = range(-(2**63), 2**64)


def stored(text: str | None) -> Json | None:
    """A JSON column's text as part of an answer; ``None`` stays ``None``."""
    return None if text is None else Json(text)


def parse(text: str) -> Any:
    """The value of stored JSON text.

    Raises:
        Invalid: it is nested too deeply to be looked into, or holds an integer of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise Invalid(_TOO_DEEP) from error
    except ValueError as error:
        raise Invalid(_TOO_LONG_A_NUMBER) from error


def write(value: Any) -> Json:
    """A parsed value as part of an answer; integers of any size stay integers.

    A number that Python takes for infinite becomes null, half of a surrogate pair stays the escape it was.

    Raises:
        Invalid: it is nested too deeply to be written.
    """
    try:
        try:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError as error:
        raise Invalid(_TOO_DEEP) from error
    if not text.isascii() and any(ord(letter) in _SURROGATES for letter in text):
        text = json.dumps(json.loads(text), separators=(",", ":"))
    return Json(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and value - value != 0 else value


def answer(value: Any) -> bytes:
    """The bytes of an answer. Non-finite numbers become null: JSON has no others."""
    return orjson.dumps(value, default=_other, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _other(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON for {type(value).__name__}")


def text_of(value: Any, field: str, *, max_depth: int = MAX_DEPTH) -> str:
    """JSON text of a value that came with a request.

    Args:
        value: what the request's JSON parser made of it.
        field: where it stood, for the error.
        max_depth: levels of lists and objects it may have.

    Raises:
        Invalid: it holds NaN or Infinity, an integer beyond 64 bits, half a surrogate pair, or more
            levels than allowed.
    """
    check(value, field, max_depth=max_depth)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def check(value: Any, field: str, *, max_depth: int = MAX_DEPTH) -> None:
    """Refuse what JSON, Unicode or the ledger cannot keep.

    Raises:
        Invalid: as ``text_of``.
    """
    open_values: list[tuple[Any, int]] = [(value, 1)]
    while open_values:
        item, depth = open_values.pop()
        fault = _fault(item)
        if fault is None and isinstance(item, dict):
            fault = next((found for key in item if (found := _fault(key))), None)
        if isinstance(item, dict | list):
            if depth > max_depth:
                fault = f"is nested more than {max_depth} levels deep; record it flatter, or as text"
            else:
                members = item.values() if isinstance(item, dict) else item
                open_values.extend((member, depth + 1) for member in members)
        if fault is not None:
            raise Invalid.of([FieldError(field, fault)])


def printable(text: str) -> str:
    """The text with what is no Unicode written out: a message may quote what it complains of."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _fault(item: Any) -> str | None:
    if isinstance(item, str) and not item.isascii() and any(ord(letter) in _SURROGATES for letter in item):
        return "holds half of a surrogate pair, which is no Unicode text"
    if isinstance(item, float) and item - item != 0:
        return "holds NaN or Infinity, which JSON has no number for; send null or text"
    if isinstance(item, int) and item not in _INTEGERS:
        return "holds an integer of more than 64 bits; send it as text"
    return None
