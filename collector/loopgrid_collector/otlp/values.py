"""OTLP ``AnyValue`` to lossless JSON text, and back.

Law: two values that differ in OTLP differ in JSON. JSON has no bytes, no NaN and no 64-bit
certainty about what is an integer, so the few shapes it lacks are objects with one key that starts
with ``$`` (docs/spec/wire.md):

====================================  =====================================
OTLP                                  JSON
====================================  =====================================
string, bool, array                   itself
int                                   number without point or exponent
double                                number with point or exponent
NaN, Infinity, -Infinity              ``{"$double": "NaN"}`` …
bytes                                 ``{"$bytes": "<base64>"}``
map, keys distinct, none with ``$``   object
any other map                         ``{"$map": [[key, value], …]}``
no member set                         ``null``
====================================  =====================================
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

NULL_JSON: Final = "null"
_RESERVED: Final = "$"
_NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def text_json(text: str) -> str:
    """JSON text of a string."""
    return orjson.dumps(text).decode()


def double_json(value: float) -> str:
    """JSON text of a double; the shortest that reads back as the same double."""
    if math.isnan(value):
        return '{"$double":"NaN"}'
    if math.isinf(value):
        return '{"$double":"Infinity"}' if value > 0 else '{"$double":"-Infinity"}'
    return repr(value)


def bytes_json(value: bytes) -> str:
    """JSON text of bytes."""
    return '{"$bytes":"' + base64.b64encode(value).decode() + '"}'


def map_json(members: Iterable[tuple[str, str]]) -> str:
    """JSON text of a map whose values are JSON text already; order and duplicates are kept."""
    pairs = list(members)
    keys = [key for key, _ in pairs]
    if len(set(keys)) == len(keys) and not any(key.startswith(_RESERVED) for key in keys):
        return "{" + ",".join(f"{text_json(key)}:{value}" for key, value in pairs) + "}"
    return '{"$map":[' + ",".join(f"[{text_json(key)},{value}]" for key, value in pairs) + "]}"


def _keyed_json(members: Iterable[KeyValue]) -> str:
    return map_json((member.key, any_value_json(member.value)) for member in members)


_ENCODERS: Final[dict[str, Callable[[AnyValue], str]]] = {
    "string_value": lambda value: text_json(value.string_value),
    "bool_value": lambda value: "true" if value.bool_value else "false",
    "int_value": lambda value: str(value.int_value),
    "double_value": lambda value: double_json(value.double_value),
    "bytes_value": lambda value: bytes_json(value.bytes_value),
    "array_value": lambda value: "[" + ",".join(map(any_value_json, value.array_value.values)) + "]",
    "kvlist_value": lambda value: _keyed_json(value.kvlist_value.values),
}


def any_value_json(value: AnyValue) -> str:
    """JSON text of an AnyValue. Depth is bounded by the protobuf runtime that parsed it (100)."""
    encoder = _ENCODERS.get(value.WhichOneof("value") or "")
    return NULL_JSON if encoder is None else encoder(value)


def keyed_values_json(payloads: Iterable[bytes]) -> str:
    """JSON text of a map whose members arrive as serialised ``KeyValue`` messages.

    Raises:
        google.protobuf.message.DecodeError: a member cannot be parsed (for instance over-deep).
    """
    return _keyed_json(KeyValue.FromString(payload) for payload in payloads)


def from_json(text: str) -> Any:
    """The Python value of lossless JSON text: the inverse of this module's encoders.

    Maps become ``dict`` (of duplicate keys the first is kept), bytes ``bytes``.
    """
    return _revive(orjson.loads(text))


def _revive(value: Any) -> Any:
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == "$bytes":
            return base64.b64decode(inner)
        if key == "$double":
            return _NON_FINITE[inner]
        if key == "$map":
            revived: dict[str, Any] = {}
            for name, item in inner:
                revived.setdefault(name, _revive(item))
            return revived
    return {key: _revive(item) for key, item in value.items()}
