"""OTLP protobuf bytes to the received columns of the ledger.

Laws:

* Pure: bytes in, columns out.
* Every item of a request ends in exactly one of two places: a row, or ``refused`` with its bytes
  and the reason. One bad item never costs its neighbours.
* Nothing received is changed or defaulted, but for credentials (``scrub``). An empty string is kept
  apart from an absent one only where protobuf itself can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp import json_decode, scrub, unknown, values
from loopgrid_collector.otlp.attributes import Attributes
from loopgrid_collector.otlp.envelope import Envelope, cut

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8

MAX_REFUSED: Final = 10_000
"""Items of one pass that may go to quarantine; with more, the request is refused as a whole."""

_handlers = ptars.HandlerPool([Span.DESCRIPTOR.file, LogRecord.DESCRIPTOR.file])
_SPAN: Final = _handlers.get_for_message(Span.DESCRIPTOR)
_LOG: Final = _handlers.get_for_message(LogRecord.DESCRIPTOR)
_UNREADABLE: Final = (ValueError, DecodeError)

Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that could not become a row: its bytes, and why."""

    reason_code: str
    reason: str
    signal: str
    payload: bytes
    trace_id: bytes | None = None
    span_id: int | None = None
    resource: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The items of some requests that became rows, and those that did not.

    Attributes:
        columns: the received columns of ``store.spans`` or ``store.logs``, by name.
        attributes: the rows' attributes.
        payloads: each row's own bytes.
        scope_name: per row, the instrumentation scope's name.
        service_name: per row, ``service.name`` of the resource; null where absent.
        unknown: per row, whether it, its resource or its scope holds fields that are not known.
        request: per row, the index of the request that held it.
        refused: everything else that the requests held.
        refused_request: per refused item, the index of the request that held it.
    """

    columns: dict[str, pa.Array]
    attributes: Attributes
    payloads: pa.BinaryArray
    scope_name: pa.StringArray
    service_name: pa.StringArray
    unknown: Mask
    request: Index
    refused: list[Refused]
    refused_request: list[int]

    @property
    def rows(self) -> int:
        """How many items became rows."""
        return self.attributes.rows


def decode_traces(*bodies: bytes) -> Batch:
    """Decode ``ExportTraceServiceRequest`` bodies, together: the cost of a pass is shared.

    Raises:
        Undecodable: at least one of them is not one; it is not said which.
    """
    return _decode(bodies, _Form("traces", Span, _SPAN, unknown.suspects_among, _span_faults, _span_columns))


def decode_logs(*bodies: bytes) -> Batch:
    """Decode ``ExportLogsServiceRequest`` bodies, together.

    Raises:
        Undecodable: at least one of them is not one; it is not said which.
    """
    return _decode(bodies, _Form("logs", LogRecord, _LOG, _all_suspect, _log_faults, _log_columns))


_Columns = Callable[[pa.RecordBatch, pa.BinaryArray], dict[str, pa.Array]]


@dataclass(frozen=True, slots=True)
class _Form:
    """How the items of one signal are read."""

    signal: str
    message: type[Message]
    handler: Any
    suspects: Callable[[pa.RecordBatch, pa.BinaryArray], tuple[Mask, Mask]]
    faults: Callable[[pa.RecordBatch], list[tuple[str, Mask]]]
    columns: _Columns


@dataclass(frozen=True, slots=True)
class _Read:
    """Items that were read, and which of those asked for they are."""

    kept: Mask
    attributes: Attributes
    columns: dict[str, pa.Array]
    unknown: dict[int, str]
    refused: list[tuple[int, Refused]]


def _decode(bodies: Sequence[bytes], form: _Form) -> Batch:
    envelope = cut(bodies)
    surroundings, readable, refused = _surroundings(envelope, form.signal)
    places = np.flatnonzero(readable)
    items = _chosen(envelope.items, readable)
    try:
        read = _read(items, form)
    except _UNREADABLE:
        readable, unreadable = _told_apart(items, form)
        refused += [(int(places[place]), item) for place, item in unreadable]
        places, items = places[readable], _chosen(items, readable)
        read = _read(items, form)
    refused += [(int(places[place]), item) for place, item in read.refused]
    places = places[read.kept]

    scope = pa.array(envelope.scope[places], pa.int64())
    columns = read.columns
    columns["attributes"] = _with_unknown(read.attributes.objects(), read.unknown)
    columns["resource"] = pa.array(surroundings.resource, pa.string()).take(scope)
    columns["scope"] = pa.array(surroundings.scope, pa.string()).take(scope)
    return Batch(
        columns=columns,
        attributes=read.attributes,
        payloads=_chosen(items, read.kept),
        scope_name=pa.array(surroundings.scope_name, pa.string()).take(scope),
        service_name=pa.array(surroundings.service_name, pa.string()).take(scope),
        unknown=_marked(read.unknown, np.array(surroundings.unknown, dtype=np.bool_)[envelope.scope[places]]),
        request=envelope.request[places],
        refused=[item for _, item in refused],
        refused_request=[int(envelope.request[place]) for place, _ in refused],
    )


def _chosen(items: pa.BinaryArray, mask: Mask) -> pa.BinaryArray:
    # Nearly always all of them; a copy of all content would be the price of asking Arrow.
    return items if mask.all() else items.filter(pa.array(mask, pa.bool_()))


def _read(items: pa.BinaryArray, form: _Form) -> _Read:
    """Read items all at once.

    Raises:
        ValueError, DecodeError: at least one of them cannot be read; it is not said which.
    """
    decoded = form.handler.array_to_record_batch(items)
    bad = np.zeros(len(items), dtype=np.bool_)
    refused: list[tuple[int, Refused]] = []
    faults = form.faults(decoded)
    _not_too_many(np.logical_or.reduce([mask for _, mask in faults]), faults)
    for reason, mask in faults:
        refused += [
            (int(row), Refused("invalid", reason, form.signal, items[int(row)].as_py()))
            for row in np.flatnonzero(mask & ~bad)
        ]
        bad |= mask
    if bad.any():
        items, decoded = _chosen(items, ~bad), decoded.filter(pa.array(~bad, pa.bool_()))
    attributes = Attributes(decoded.column("attributes"))
    attributes.scrub()
    attributes.read_nested()
    found = unknown.of_items(form.message, items, *form.suspects(decoded, items))
    return _Read(~bad, attributes, form.columns(decoded, items), found, refused)


def _all_suspect(batch: pa.RecordBatch, _: pa.BinaryArray) -> tuple[Mask, Mask]:
    """Log records are parsed one by one anyway, for their bodies."""
    return np.ones(len(batch), dtype=np.bool_), np.zeros(len(batch), dtype=np.bool_)


def _with_unknown(objects: pa.StringArray, found: dict[int, str]) -> pa.StringArray:
    if not found:
        return objects
    texts = objects.to_pylist()
    for row, text in found.items():
        texts[row] = unknown.with_kept(texts[row], text)
    return pa.array(texts, pa.string())


def _marked(found: dict[int, str], around: Mask) -> Mask:
    around[list(found)] = True
    return around


def _not_too_many(bad: Mask, faults: Sequence[tuple[str, Mask]]) -> None:
    """Each refused item is kept with its bytes and its reason; beyond a point that is an attack."""
    if np.count_nonzero(bad) > MAX_REFUSED:
        reason = next(reason for reason, mask in faults if mask.any())
        raise Undecodable(
            f"More than {MAX_REFUSED} items of the request cannot be stored ({reason}). Mend the exporter."
        )


def _told_apart(items: pa.BinaryArray, form: _Form) -> tuple[Mask, list[tuple[int, Refused]]]:
    """Which items can be read, and the others with the reason: each is tried alone."""
    readable, refused = _apart_from_json(items, form.signal)
    if refused and _can_read(_chosen(items, readable), form):
        return readable, refused
    for place in np.flatnonzero(readable):
        row = int(place)
        try:
            _read(items.slice(row, 1), form)
        except _UNREADABLE as error:
            readable[row] = False
            reason = f"the item's bytes cannot be read: {error}"
            refused.append((row, Refused("unreadable", reason, form.signal, items[row].as_py())))
    return readable, refused


def _can_read(items: pa.BinaryArray, form: _Form) -> bool:
    try:
        _read(items, form)
    except _UNREADABLE:
        return False
    return True


def _apart_from_json(items: pa.BinaryArray, signal: str) -> tuple[Mask, list[tuple[int, Refused]]]:
    """Items that the JSON decoder refused and passed on as they came: their payload is their JSON."""
    readable = np.ones(len(items), dtype=np.bool_)
    refused: list[tuple[int, Refused]] = []
    marked = pc.starts_with(items, pattern=json_decode.REFUSED_MARK).to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(marked):
        row = int(place)
        payload = items[row].as_py().removeprefix(json_decode.REFUSED_MARK)
        reason = json_decode.why_refused(signal, payload)
        if reason is not None:
            readable[row] = False
            refused.append((row, Refused("invalid", reason, signal, payload)))
    return readable, refused


def attributes_of_spans(payloads: pa.BinaryArray) -> Attributes:
    """The attributes of spans that were read before, from their own bytes."""
    return _scrubbed(Attributes(_SPAN.array_to_record_batch(payloads).column("attributes")))


def attributes_of_logs(payloads: pa.BinaryArray) -> Attributes:
    """The attributes of log records that were read before, from their own bytes."""
    return _scrubbed(Attributes(_LOG.array_to_record_batch(payloads).column("attributes")))


def _scrubbed(attributes: Attributes) -> Attributes:
    attributes.scrub()
    return attributes


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What stands around the items, one entry per scope."""

    resource: list[str]
    scope: list[str]
    scope_name: list[str]
    service_name: list[str | None]
    unknown: list[bool]


def _surroundings(envelope: Envelope, signal: str) -> tuple[_Surroundings, Mask, list[tuple[int, Refused]]]:
    # Exporters repeat themselves: requests decoded together mostly share resource and scope.
    resource_of, scope_of = cache(_resource), cache(_scope)
    found = _Surroundings([], [], [], [], [])
    broken = np.zeros(len(envelope.scopes), dtype=np.bool_)
    for position, (owner, payload, schema_url) in enumerate(envelope.scopes):
        resource, scope = resource_of(*envelope.resources[owner]), scope_of(payload, schema_url)
        broken[position] = resource is None or scope is None
        found.resource.append(resource[0] if resource else "")
        found.service_name.append(resource[1] if resource else None)
        found.scope.append(scope[0] if scope else "")
        found.scope_name.append(scope[1] if scope else "")
        found.unknown.append(
            any(around and around[0].startswith(unknown.PREFIX) for around in (resource, scope))
        )
    lost = broken[envelope.scope]
    reason = "the resource or scope around the item cannot be read"
    refused = [
        (int(place), Refused("unreadable", reason, signal, envelope.items[int(place)].as_py()))
        for place in np.flatnonzero(lost)
    ]
    return found, ~lost, refused


def _resource(payload: bytes, schema_url: str) -> tuple[str, str | None] | None:
    try:
        resource = Resource.FromString(payload)
    except DecodeError:
        return None
    members = [("attributes", _attributes_json(resource.attributes))]
    members += _optional_members(schema_url, resource.dropped_attributes_count)
    if resource.entity_refs:
        entities = [
            values.map_json(
                [
                    ("type", values.text_json(entity.type)),
                    ("schema_url", values.text_json(entity.schema_url)),
                    ("id_keys", _texts_json(entity.id_keys)),
                    ("description_keys", _texts_json(entity.description_keys)),
                ]
            )
            for entity in resource.entity_refs
        ]
        members.append(("entities", "[" + ",".join(entities) + "]"))
    service = next((kv.value for kv in resource.attributes if kv.key == "service.name"), None)
    named = service is not None and service.WhichOneof("value") == "string_value"
    service_name = service.string_value if service is not None and named else None
    text = unknown.with_kept(values.map_json(members), unknown.kept(resource))
    return text, service_name


def _scope(payload: bytes, schema_url: str) -> tuple[str, str] | None:
    try:
        scope = InstrumentationScope.FromString(payload)
    except DecodeError:
        return None
    for attribute in scope.attributes:
        if scrub.is_secret_of_scope(scope.name, attribute.key):
            attribute.value.string_value = scrub.SCRUBBED
    members = [
        ("name", values.text_json(scope.name)),
        ("version", values.text_json(scope.version)),
        ("attributes", _attributes_json(scope.attributes)),
        *_optional_members(schema_url, scope.dropped_attributes_count),
    ]
    name = scope.name
    return unknown.with_kept(values.map_json(members), unknown.kept(scope)), name


def _optional_members(schema_url: str, dropped: int) -> list[tuple[str, str]]:
    members = []
    if schema_url:
        members.append(("schema_url", values.text_json(schema_url)))
    if dropped:
        members.append(("dropped_attributes", str(dropped)))
    return members


def _attributes_json(attributes: Sequence[KeyValue]) -> str:
    return values.map_json((kv.key, values.any_value_json(kv.value)) for kv in attributes)


def _texts_json(texts: Sequence[str]) -> str:
    return "[" + ",".join(map(values.text_json, texts)) + "]"


def _id_faults(column: pa.Array, size: int, name: str) -> tuple[str, Mask]:
    wrong = pc.or_(
        pc.not_equal(pc.binary_length(column), pa.scalar(size, pa.int32())),
        pc.equal(column, pa.scalar(bytes(size), pa.binary())),
    )
    return f"{name} must be {size} bytes and not all zero", wrong.to_numpy(zero_copy_only=False)


def _span_faults(batch: pa.RecordBatch) -> list[tuple[str, Mask]]:
    parent = pc.binary_length(batch.column("parent_span_id")).to_numpy(zero_copy_only=False)
    return [
        _id_faults(batch.column("trace_id"), TRACE_ID_BYTES, "trace_id"),
        _id_faults(batch.column("span_id"), SPAN_ID_BYTES, "span_id"),
        ("parent_span_id must be 8 bytes, or absent", (parent != 0) & (parent != SPAN_ID_BYTES)),
    ]


def _log_faults(batch: pa.RecordBatch) -> list[tuple[str, Mask]]:
    trace = pc.binary_length(batch.column("trace_id")).to_numpy(zero_copy_only=False)
    span = pc.binary_length(batch.column("span_id")).to_numpy(zero_copy_only=False)
    return [
        ("trace_id must be 16 bytes, or absent", (trace != 0) & (trace != TRACE_ID_BYTES)),
        ("span_id must be 8 bytes, or absent", (span != 0) & (span != SPAN_ID_BYTES)),
    ]


def _uuids(column: pa.BinaryArray, *, optional: bool = False) -> pa.Array:
    if optional:
        column = _or_null(column)
    return pa.ExtensionArray.from_storage(pa.uuid(), column.cast(pa.binary(TRACE_ID_BYTES)))


def _span_ids(column: pa.BinaryArray, *, optional: bool = False) -> pa.Array:
    if optional:
        absent = pc.equal(pc.binary_length(column), _NO_LENGTH)
        column = pc.if_else(absent, pa.scalar(bytes(SPAN_ID_BYTES), pa.binary()), column)
    joined = b"".join(column.to_pylist())
    numbers = np.frombuffer(joined, dtype=">u8").astype(np.uint64)
    return pa.array(numbers, pa.uint64(), mask=numbers == 0 if optional else None)


# Typed once: a bare Python value is given its type anew on each call, at a cost that shows.
_EMPTY: Final = {
    kind: (pa.scalar(empty, kind), pa.scalar(None, kind))
    for kind, empty in ((pa.string(), ""), (pa.uint32(), 0), (pa.binary(), b""))
}
_NO_LENGTH: Final = pa.scalar(0, pa.int32())
_STATUS_UNSET: Final = pa.scalar(0, pa.int32())


def _or_null(column: pa.Array) -> pa.Array:
    """Protobuf cannot tell an empty string (or a zero counter) from an absent one; nor do we claim to."""
    empty, nothing = _EMPTY[column.type]
    return pc.if_else(pc.equal(column, empty), nothing, column)


def _span_columns(batch: pa.RecordBatch, items: pa.BinaryArray) -> dict[str, pa.Array]:
    status = batch.column("status")
    code = status.field("code").fill_null(_STATUS_UNSET)
    events, links = _events_and_links(batch, items)
    return {
        "trace_id": _uuids(batch.column("trace_id")),
        "span_id": _span_ids(batch.column("span_id")),
        "parent_span_id": _span_ids(batch.column("parent_span_id"), optional=True),
        "trace_state": _or_null(batch.column("trace_state")),
        "flags": _or_null(batch.column("flags")),
        "name": batch.column("name"),
        "span_kind": batch.column("kind"),
        "start_ns": batch.column("start_time_unix_nano"),
        "end_ns": batch.column("end_time_unix_nano"),
        "status_code": code,
        "status_message": _or_null(status.field("message").fill_null(_EMPTY[pa.string()][0])),
        "events": events,
        "links": links,
        "dropped_attributes": _or_null(batch.column("dropped_attributes_count")),
        "dropped_events": _or_null(batch.column("dropped_events_count")),
        "dropped_links": _or_null(batch.column("dropped_links_count")),
    }


def _events_and_links(batch: pa.RecordBatch, items: pa.BinaryArray) -> tuple[pa.Array, pa.Array]:
    """JSON lists of events and links. Few spans have any, so those few are parsed one by one."""
    events: list[str | None] = [None] * len(items)
    links: list[str | None] = [None] * len(items)
    counts = pc.add(pc.list_value_length(batch.column("events")), pc.list_value_length(batch.column("links")))
    for row in np.flatnonzero(counts.to_numpy(zero_copy_only=False)):
        span = Span.FromString(items[int(row)].as_py())
        if span.events:
            events[row] = "[" + ",".join(map(_event_json, span.events)) + "]"
        if span.links:
            links[row] = "[" + ",".join(map(_link_json, span.links)) + "]"
    return pa.array(events, pa.string()), pa.array(links, pa.string())


def _event_json(event: Span.Event) -> str:
    members = [
        ("name", values.text_json(event.name)),
        ("time_ns", str(event.time_unix_nano)),
        ("attributes", _attributes_json(event.attributes)),
        *_optional_members("", event.dropped_attributes_count),
    ]
    return values.map_json(members)


def _link_json(link: Span.Link) -> str:
    members = [
        ("trace_id", values.text_json(link.trace_id.hex())),
        ("span_id", values.text_json(link.span_id.hex())),
        ("attributes", _attributes_json(link.attributes)),
        *_optional_members("", link.dropped_attributes_count),
    ]
    if link.trace_state:
        members.append(("trace_state", values.text_json(link.trace_state)))
    if link.flags:
        members.append(("flags", str(link.flags)))
    return values.map_json(members)


def _log_columns(batch: pa.RecordBatch, items: pa.BinaryArray) -> dict[str, pa.Array]:
    return {
        "trace_id": _uuids(_not_zero(batch.column("trace_id")), optional=True),
        "span_id": _span_ids(batch.column("span_id"), optional=True),
        "flags": _or_null(batch.column("flags")),
        "time_ns": batch.column("time_unix_nano"),
        "observed_ns": batch.column("observed_time_unix_nano"),
        "severity_number": batch.column("severity_number"),
        "severity_text": _or_null(batch.column("severity_text")),
        "event_name": _or_null(batch.column("event_name")),
        "body": _bodies(items),
        "dropped_attributes": _or_null(batch.column("dropped_attributes_count")),
    }


def _not_zero(column: pa.BinaryArray) -> pa.BinaryArray:
    """The specification: a log record's all-zero trace id means that it has none."""
    zero = pa.scalar(bytes(TRACE_ID_BYTES), pa.binary())
    return pc.if_else(pc.equal(column, zero), pa.scalar(b"", pa.binary()), column)


def _bodies(items: pa.BinaryArray) -> pa.StringArray:
    records = map(LogRecord.FromString, items.to_pylist())
    return pa.array(
        [values.any_value_json(record.body) if record.HasField("body") else None for record in records],
        pa.string(),
    )
