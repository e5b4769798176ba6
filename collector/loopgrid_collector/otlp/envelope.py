"""The outer layers of an export request, with every span (or log record) left as its own bytes.

Traces and logs share one shape on the wire: request → resource → scope → item. Declaring the item,
the resource and the scope as ``bytes`` lets the native decoder cut a request into pieces without
looking inside them. That gives each item's exact bytes (for quarantine and conflicts), and a broken
item cannot spoil its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from loopgrid_collector.errors import Undecodable

MAX_SURROUNDINGS: Final = 100_000
"""Resources and scopes of one request."""

MAX_ITEMS: Final = 1_000_000
"""Spans or log records of one request. An empty one takes two bytes on the wire and hundreds in memory."""

_LENGTH: Final = 2
_FIXED_BYTES: Final = {1: 8, 5: 4}
_MORE: Final = 0x80
# Tags of the fields that lead inwards: request → resource → scope → item.
_DEEPER: Final = (1 << 3 | _LENGTH, 2 << 3 | _LENGTH, 2 << 3 | _LENGTH)
_ITEM_LEVEL: Final = 2

_OPTIONAL: Final = FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED: Final = FieldDescriptorProto.LABEL_REPEATED
_BYTES: Final = FieldDescriptorProto.TYPE_BYTES
_STRING: Final = FieldDescriptorProto.TYPE_STRING
_MESSAGE: Final = FieldDescriptorProto.TYPE_MESSAGE

# Field numbers of opentelemetry/proto/{trace,logs}/v1, identical for both signals.
_MESSAGES: Final = {
    "Scope": (
        ("scope", 1, _BYTES, _OPTIONAL, ""),
        ("items", 2, _BYTES, _REPEATED, ""),
        ("schema_url", 3, _STRING, _OPTIONAL, ""),
    ),
    "Resource": (
        ("resource", 1, _BYTES, _OPTIONAL, ""),
        ("scopes", 2, _MESSAGE, _REPEATED, ".loopgrid.Scope"),
        ("schema_url", 3, _STRING, _OPTIONAL, ""),
    ),
    "Request": (("resources", 1, _MESSAGE, _REPEATED, ".loopgrid.Resource"),),
}


def _handler() -> Any:
    file = FileDescriptorProto(name="loopgrid/envelope.proto", package="loopgrid", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label, type_name in fields:
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name or None)
    pool = DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("loopgrid.Request")
    return ptars.HandlerPool([descriptor.file]).get_for_message(descriptor)


_REQUEST: Final = _handler()


@dataclass(frozen=True, slots=True)
class Envelope:
    """Some requests, cut up.

    Attributes:
        items: serialised spans or log records, in the order sent.
        request: item → index of the request that held it.
        scope: item → index into ``scopes``.
        scopes: per scope: its resource's index, its own serialised bytes, its schema URL.
        resources: per resource: its serialised bytes and schema URL.
    """

    items: pa.BinaryArray
    request: npt.NDArray[np.int64]
    scope: npt.NDArray[np.int64]
    scopes: list[tuple[int, bytes, str]]
    resources: list[tuple[bytes, str]]


def cut(bodies: Sequence[bytes]) -> Envelope:
    """Cut export requests into their items.

    Raises:
        Undecodable: at least one body is not a protobuf message of this shape; it is not said which.
    """
    for body in bodies:
        _check_counts(body)
    try:
        batch = _REQUEST.list_to_record_batch(list(bodies))
    except ValueError as error:
        raise Undecodable(
            "The body is not an OTLP protobuf export request. Check that the path matches the signal "
            "and the content type matches the encoding."
        ) from error
    resource_lists = batch.column(0)
    resources = resource_lists.flatten()
    scope_lists = resources.field("scopes")
    scopes = scope_lists.flatten()
    item_lists = scopes.field("items")
    resource_of_scope = _owners(scope_lists)
    scope_of_item = _owners(item_lists)
    return Envelope(
        items=item_lists.flatten(),
        request=_owners(resource_lists)[resource_of_scope][scope_of_item],
        scope=scope_of_item,
        scopes=list(
            zip(
                resource_of_scope.tolist(),
                [payload or b"" for payload in scopes.field("scope").to_pylist()],
                scopes.field("schema_url").to_pylist(),
                strict=True,
            )
        ),
        resources=list(
            zip(
                [payload or b"" for payload in resources.field("resource").to_pylist()],
                resources.field("schema_url").to_pylist(),
                strict=True,
            )
        ),
    )


def _check_counts(body: bytes) -> None:
    """Refuse a body of countless empty messages before it is unfolded: two bytes there are hundreds here.

    A body that is broken is let through: the decoder says what is wrong with it.
    """
    held, items = 0, 0
    waiting = [(0, len(body), 0)]
    while waiting:
        at, end, level = waiting.pop()
        try:
            for start, stop in _members(body, at, end, _DEEPER[level]):
                if level == _ITEM_LEVEL:
                    items += 1
                else:
                    held += 1
                    waiting.append((start, stop, level + 1))
                if held > MAX_SURROUNDINGS or items > MAX_ITEMS:
                    raise Undecodable(
                        f"The request holds more than {MAX_SURROUNDINGS} resources and scopes, or more than "
                        f"{MAX_ITEMS} items. Send smaller batches."
                    )
        except IndexError:
            return


def _members(body: bytes, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the wanted length-delimited fields of a message lie. Ends early where the bytes are no message.

    Raises:
        IndexError: the bytes end in the middle of a number.
    """
    while at < end:
        tag, at = _number(body, at)
        wire = tag & 7
        if wire == _LENGTH:
            size, at = _number(body, at)
            stop = at + size
            if stop > end:
                return
            if tag == wanted:
                yield at, stop
            at = stop
        elif wire == 0:
            _, at = _number(body, at)
        elif wire in _FIXED_BYTES:
            at += _FIXED_BYTES[wire]
        else:
            return


def _number(body: bytes, at: int) -> tuple[int, int]:
    byte = body[at]
    at += 1
    if byte < _MORE:
        return byte, at
    value, shift = byte & 0x7F, 7
    while byte >= _MORE:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at


def _owners(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    """For each member of the lists, the index of the list that holds it."""
    return np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
