"""The outer layers of an export request, with every span (or log record) left as its own bytes.

Traces and logs share one shape on the wire: request → resource → scope → item. Declaring the item,
the resource and the scope as ``bytes`` lets the native decoder cut a request into pieces without
looking inside them. That gives each item's exact bytes (for quarantine and conflicts), and a broken
item cannot spoil its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from loopgrid_collector.errors import Undecodable

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


def _owners(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    """For each member of the lists, the index of the list that holds it."""
    return np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
