"""Stored attributes back into the form in which they are read: the inverse of ``Attributes.objects``. Pure.

Law: ``attributes_of_json(attributes.objects())`` has the same entries as ``attributes``, in the same order.
Unknown fields, which are stored beside them, are no attributes.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any, Final

import orjson
import pyarrow as pa
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loopgrid_collector.otlp import unknown
from loopgrid_collector.otlp.attributes import Attributes
from loopgrid_collector.otlp.decode import attributes_of_spans

_NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def payloads_of_json(objects: Iterable[str]) -> pa.BinaryArray:
    """Spans, as their bytes, with these attributes and nothing else.

    Args:
        objects: per span, its attributes as stored: one lossless JSON object (``values``).
    """
    spans = [Span(attributes=_members(_sent(orjson.loads(text)))).SerializeToString() for text in objects]
    return pa.array(spans, pa.binary())


def attributes_of_json(objects: Iterable[str]) -> Attributes:
    """Attributes from how they are stored."""
    return attributes_of_spans(payloads_of_json(objects))


def _sent(value: dict[str, Any]) -> dict[str, Any]:
    value.pop(unknown.MEMBER, None)
    return value


def _members(value: dict[str, Any]) -> list[KeyValue]:
    pairs = value["$map"] if list(value) == ["$map"] else value.items()
    return [KeyValue(key=key, value=_any_value(inner)) for key, inner in pairs]


def _any_value(value: Any) -> AnyValue:
    found = AnyValue()
    if isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, str):
        found.string_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    elif isinstance(value, list):
        found.array_value.SetInParent()
        found.array_value.values.extend(_any_value(item) for item in value)
    elif isinstance(value, dict):
        _fill_from_object(found, value)
    return found


def _fill_from_object(found: AnyValue, value: dict[str, Any]) -> None:
    if list(value) == ["$bytes"]:
        found.bytes_value = base64.b64decode(value["$bytes"])
    elif list(value) == ["$double"]:
        found.double_value = _NON_FINITE[value["$double"]]
    else:
        found.kvlist_value.SetInParent()
        found.kvlist_value.values.extend(_members(value))
