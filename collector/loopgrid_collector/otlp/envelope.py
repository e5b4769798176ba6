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
import pyarrow as pa
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp import unknown

MAX_SURROUNDINGS: Final = 100_000
"""Resources and scopes of one request."""

MAX_ITEMS: Final = 1_000_000
"""Spans or log records of one request. An empty one takes two bytes on the wire and hundreds in memory."""

MAX_GROUPS: Final = 90
"""Groups in groups that are walked through; the runtime refuses some more."""

_LARGEST_FIELD: Final = 2**29 - 1
_LENGTH: Final = 2
_GROUP: Final = 3
_GROUP_END: Final = 4
_FIXED_BYTES: Final = {1: 8, 5: 4}
_MORE: Final = 0x80
_LONGEST_NUMBER_BITS: Final = 63

# Tags of the length-delimited fields that matter, by level: request, resource, scope.
_INWARDS: Final = 1 << 3 | _LENGTH, 2 << 3 | _LENGTH, 2 << 3 | _LENGTH
_OWN: Final = 1 << 3 | _LENGTH
_SCHEMA_URL: Final = 3 << 3 | _LENGTH

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


def _request_class() -> Any:
    file = FileDescriptorProto(name="loopgrid/envelope.proto", package="loopgrid", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label, type_name in fields:
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name or None)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("loopgrid.Request"))


_REQUEST: Final = _request_class()


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
        Undecodable: at least one body is not a protobuf message of this shape, or holds countless empty
            ones; it is not said which.
    """
    walks = [_Walk(body) for body in bodies]
    if all(walk.regular for walk in walks):
        return _from_walks(walks)
    return _from_messages(bodies)


class _Own:
    """What a message on the way holds itself.

    Attributes:
        fields: tag → where its content lies.
        strange: fields that are not known, as they came.
    """

    __slots__ = ("fields", "strange")

    def __init__(self) -> None:
        self.fields: dict[int, tuple[int, int]] = {}
        self.strange = bytearray()


class _Walk:
    """Where the items of one body lie, and what stands around them.

    Counts before anything is unfolded: two bytes of an empty message are hundreds once it is.

    Attributes:
        regular: whether the body is plainly what exporters send, so that what was found is all of it. Of any
            other (a field twice, a group, a torn message) the protobuf decoder decides what it means.
    """

    def __init__(self, body: bytes) -> None:
        """Walk through a body.

        Raises:
            Undecodable: it holds too many resources, scopes or items.
        """
        self.body = body
        self.regular = True
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.items_of_scope: list[int] = []
        self.scopes: list[tuple[int, bytes, str]] = []
        self.resources: list[tuple[bytes, str]] = []
        try:
            self._request()
        except (IndexError, UnicodeDecodeError):
            self.regular = False

    def _request(self) -> None:
        for start, end in self._members(0, len(self.body), _INWARDS[0], _Own()):
            own = _Own()
            owner = len(self.resources)
            self.resources.append((b"", ""))
            self._check_surroundings()
            for scope_start, scope_end in self._members(start, end, _INWARDS[1], own):
                self._scope(owner, scope_start, scope_end)
            self.resources[owner] = self._surroundings(own)

    def _scope(self, owner: int, start: int, end: int) -> None:
        own = _Own()
        before = len(self.starts)
        # The one loop that turns for every item; as plain as it can be.
        starts, ends = self.starts.append, self.ends.append
        left = MAX_ITEMS - before
        for item_start, item_end in self._members(start, end, _INWARDS[2], own):
            starts(item_start)
            ends(item_end)
            left -= 1
            if left < 0:
                raise _too_many()
        self.items_of_scope.append(len(self.starts) - before)
        self.scopes.append((owner, *self._surroundings(own)))
        self._check_surroundings()

    def _check_surroundings(self) -> None:
        if len(self.scopes) + len(self.resources) > MAX_SURROUNDINGS:
            raise _too_many()

    def _surroundings(self, own: _Own) -> tuple[bytes, str]:
        start, end = own.fields.get(_OWN, (0, 0))
        url_start, url_end = own.fields.get(_SCHEMA_URL, (0, 0))
        around = unknown.around_field(bytes(own.strange)) if own.strange else b""
        return around + self.body[start:end], self.body[url_start:url_end].decode()

    def _members(self, at: int, end: int, inwards: int, own: _Own) -> Iterator[tuple[int, int]]:
        """Where the fields that lead inwards lie; the message's own fields are put into ``own``.

        Ends early where the bytes are no message.

        Raises:
            IndexError: the bytes end in the middle of a number.
        """
        body = self.body
        while at < end:
            begun = at
            tag = body[at]
            at += 1
            if tag & 7 != _LENGTH or tag >= _MORE:
                at = self._skip(begun)
                own.strange += body[begun:at]
                continue
            size = body[at]
            at += 1
            if size >= _MORE:
                size, at = _number(body, at - 1)
            stop = at + size
            if stop > end:
                self.regular = False
                return
            if tag == inwards:
                yield at, stop
            elif tag in (_OWN, _SCHEMA_URL):
                self.regular = self.regular and tag not in own.fields
                own.fields[tag] = (at, stop)
            else:
                own.strange += body[begun:stop]
            at = stop
        self.regular = self.regular and at == end

    def _skip(self, at: int, groups: int = 0) -> int:
        """Past a field that is none of ours.

        Raises:
            IndexError: it is no field.
        """
        tag, at = _number(self.body, at)
        if not 0 < tag >> 3 <= _LARGEST_FIELD:
            raise IndexError
        wire = tag & 7
        # A field of ours in another shape, or with a needlessly long tag.
        self.regular = self.regular and (groups > 0 or tag >> 3 > _SCHEMA_URL >> 3)
        if wire == 0:
            return _number(self.body, at)[1]
        if wire == _LENGTH:
            size, at = _number(self.body, at)
            return at + size
        if wire in _FIXED_BYTES:
            return at + _FIXED_BYTES[wire]
        if wire == _GROUP and groups < MAX_GROUPS:
            return self._skip_group(tag >> 3, at, groups + 1)
        raise IndexError

    def _skip_group(self, number: int, at: int, groups: int) -> int:
        while True:
            tag, after = _number(self.body, at)
            if tag & 7 == _GROUP_END:
                if tag >> 3 != number:
                    raise IndexError
                return after
            at = self._skip(at, groups)


def _too_many() -> Undecodable:
    return Undecodable(
        f"The request holds more than {MAX_SURROUNDINGS} resources and scopes, or more than "
        f"{MAX_ITEMS} items. Send smaller batches."
    )


def _number(body: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, at
        shift += 7
        if shift > _LONGEST_NUMBER_BITS:
            raise IndexError


def _from_walks(walks: Sequence[_Walk]) -> Envelope:
    data = walks[0].body if len(walks) == 1 else b"".join(walk.body for walk in walks)
    shift = 0
    bounds: list[npt.NDArray[np.int64]] = []
    scopes: list[tuple[int, bytes, str]] = []
    resources: list[tuple[bytes, str]] = []
    for walk in walks:
        bounds.append(np.array([walk.starts, walk.ends], dtype=np.int64).T.ravel() + shift)
        shift += len(walk.body)
        scopes += [(owner + len(resources), payload, url) for owner, payload, url in walk.scopes]
        resources += walk.resources
    counts = [count for walk in walks for count in walk.items_of_scope]
    return Envelope(
        items=_slices(data, np.concatenate(bounds)),
        request=np.repeat(np.arange(len(walks)), [len(walk.starts) for walk in walks]),
        scope=np.repeat(np.arange(len(scopes)), np.array(counts, dtype=np.int64)),
        scopes=scopes,
        resources=resources,
    )


def _slices(data: bytes, bounds: npt.NDArray[np.int64]) -> pa.BinaryArray:
    """The bytes from each even bound to the odd one after it."""
    count = len(bounds) // 2
    if not count:
        return pa.array([], pa.binary())
    buffers = [None, pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(data)]
    pieces = pa.Array.from_buffers(pa.binary(), len(bounds) - 1, buffers)
    return pieces.take(pa.array(np.arange(0, len(bounds), 2)))


def _from_messages(bodies: Sequence[bytes]) -> Envelope:
    """What the protobuf runtime makes of bodies that are not plainly what exporters send."""
    items: list[bytes] = []
    requests: list[int] = []
    counts: list[int] = []
    scopes: list[tuple[int, bytes, str]] = []
    resources: list[tuple[bytes, str]] = []
    for body in bodies:
        before = len(items)
        for resource in _parsed(body).resources:
            for scope in resource.scopes:
                if len(items) - before + len(scope.items) > MAX_ITEMS:
                    raise _too_many()
                items += scope.items
                counts.append(len(scope.items))
                own, url = scope.scope, scope.schema_url
                scopes.append((len(resources), _around(scope) + own, url))
            own, url = resource.resource, resource.schema_url
            resources.append((_around(resource) + own, url))
        requests.append(len(items) - before)
    return Envelope(
        items=pa.array(items, pa.binary()),
        request=np.repeat(np.arange(len(bodies)), np.array(requests, dtype=np.int64)),
        scope=np.repeat(np.arange(len(scopes)), np.array(counts, dtype=np.int64)),
        scopes=scopes,
        resources=resources,
    )


def _parsed(body: bytes) -> Any:
    try:
        return _REQUEST.FromString(body)
    except DecodeError as error:
        raise Undecodable(
            "The body is not an OTLP protobuf export request. Check that the path matches the signal "
            "and the content type matches the encoding."
        ) from error


def _around(message: Message) -> bytes:
    """The unknown fields beside a resource or a scope, kept as ``_Walk`` keeps them. Empties the message."""
    for field in message.DESCRIPTOR.fields:
        message.ClearField(field.name)
    raw = message.SerializeToString()
    return unknown.around_field(raw) if raw else b""
